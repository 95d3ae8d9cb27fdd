"""Mutated images: training, evaluation and check-data agree on whether an image is valid or damaged."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any, Dict, List, Tuple

from tests.faults.case import TORCH, Case
from tests.faults.isolated import first_failure
from tests.faults.mutations import batch, mutated

PER_ROUND = 100
_FORMATS: Tuple[Tuple[str, str, Dict[str, Any]], ...] = (
    ("JPEG", "RGB", {"quality": 90}),
    ("JPEG", "RGB", {"quality": 50, "progressive": True}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"restart_marker_rows": 1, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0"}),
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("BMP", "RGB", {}),
    ("PPM", "RGB", {}),
    ("GIF", "P", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("WEBP", "RGB", {}),
)


def good_images(rng: random.Random) -> List[bytes]:
    """One small picture in each format; two thirds of the results are JPEG."""
    from PIL import Image

    width, height = rng.randrange(24, 72), rng.randrange(24, 72)
    noise = Image.frombytes("RGB", (8, 8), bytes(rng.randrange(256) for _ in range(192)))
    picture, contents = noise.resize((width, height), Image.Resampling.BICUBIC), []
    for kind, mode, settings in _FORMATS:
        file = io.BytesIO()
        picture.convert(mode).save(file, kind, **settings)
        contents += [file.getvalue()] * (3 if kind == "JPEG" else 1)
    return contents


def _read_alike(item: Tuple[bytes, str]) -> str:
    """Training's reader and check-data agree on whether this is an image; an image has all its pixels."""
    from shared.imagenet.decode import BadImage, inspect, read_rgb

    content, _ = item
    faults = [finding for finding in inspect(io.BytesIO(content), "n01440764/n01440764_1.JPEG") if finding.is_fault]
    try:
        image = read_rgb(io.BytesIO(content))
    except BadImage as error:
        if not str(error) or len(str(error)) > 200:
            return f"no reason of readable length: {str(error)[:300]!r}"
        return "" if faults else f"check-data finds no fault, but training says {error}"
    if faults:
        return f"training reads it, but check-data says {faults[0]}"
    pixels = image.tobytes()
    if image.mode != "RGB" or len(pixels) != 3 * image.width * image.height or not pixels:
        return f"{image.mode} of {image.size} has {len(pixels)} bytes"
    return ""


def _mutated_images(folder: Path, rng: random.Random) -> str:
    return first_failure(batch(good_images(rng), PER_ROUND, rng), _read_alike, folder)


# -- counting --------------------------------------------------------------------------------------------------


def _counted(folder: Path, rng: random.Random) -> str:
    """A folder with many damaged images: both inputs read or report each image exactly once."""
    import torch_imagenet.input_pipeline  # noqa: F401  # torch, before the fork

    contents = good_images(rng)
    for split in ("train", "val"):
        for number in range(PER_ROUND // 2):
            content = mutated(rng.choice(contents), rng.choice(contents), rng)[0]
            target = folder / "set" / split / f"class{number % 3}"
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{number}.JPEG").write_bytes(content if number % 4 else contents[0])
    return first_failure([str(folder / "set")], _every_image_once, folder)


def _every_image_once(path: str) -> str:
    import numpy as np

    from shared import imagenet
    from torch_imagenet.input_pipeline.loader import EvaluationInput, Loading, TrainingInput
    from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform

    data = imagenet.load(path, cache=path + "-cache")
    assert data.train is not None
    with EvaluationInput(data.val, EvalTransform(32, 0.875), 7, Loading(0, skip_bad=True)) as evaluation, TrainingInput(
        data.train, TrainTransform(32), 10, 0, Loading(0, skip_bad=True)
    ) as training:
        inputs = {"evaluation": (data.val, list(evaluation)), "training": (data.train, list(training.epoch(0)))}
    for name, (split, batches) in inputs.items():
        read = sum(len(each.labels) for each in batches)
        bad = [text for each in batches for text in each.bad]
        if read + len(bad) != len(split) or len(set(bad)) != len(bad) or not bad:
            return f"{name}: {read} images read and {len(bad)} bad of {len(split)}"
        if any(each.images.shape != (len(each.labels), 32, 32, 3) for each in batches):
            return f"{name}: a batch has another shape"
        reported = {text.split(" (")[0] for text in bad}
        labels = np.bincount([split.labels[i] for i in range(len(split)) if split.name(i) not in reported], minlength=3)
        found = np.bincount([int(label) for each in batches for label in each.labels], minlength=3)
        if labels.tolist() != found.tolist():
            return f"{name}: labels {found.tolist()} where the other images have {labels.tolist()}"
    return ""


# -- decompression bombs ---------------------------------------------------------------------------------------


def _bombs(rng: random.Random) -> List[Tuple[bytes, str]]:
    """Small files whose headers claim a huge size, with matching data (PNG) or without."""
    good = {content[:2]: bytearray(content) for content in good_images(rng)}
    bombs = []
    for width, height in ((65_500, 65_500), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)):
        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        zeros = zlib.compress(bytes(min(2**24, width * height)), 9)
        chunks = b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in ((b"IHDR", head), (b"IDAT", zeros), (b"IEND", b""))
        )
        bombs.append((b"\x89PNG\r\n\x1a\n" + chunks, f"PNG of {width} x {height}"))
        if max(width, height) < 65_536:
            jpeg = bytearray(good[b"\xff\xd8"])
            frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
            jpeg[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
            bombs.append((bytes(jpeg), f"JPEG of {width} x {height}"))
        bitmap = good[b"BM"][:]
        bitmap[18:26] = struct.pack("<ii", width, height)
        bombs.append((bytes(bitmap), f"BMP of {width} x {height}"))
        bombs.append((b"P6\n%d %d\n255\n" % (width, height) + bytes(4096), f"PPM of {width} x {height}"))
    return bombs


def _refused_bombs(folder: Path, rng: random.Random) -> str:
    return first_failure(_bombs(rng), _refused_before_memory, folder)


def _refused_before_memory(item: Tuple[bytes, str]) -> str:
    """Both readers refuse the file without allocating the memory that it claims to need."""
    import resource

    from shared.imagenet.decode import BadImage, read_rgb

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what = _read_alike(item)
    try:
        image = read_rgb(io.BytesIO(item[0]))
        return f"{item[1]} is read as {image.size}"
    except BadImage:
        spent = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        return what or (f"refused after {spent:.0f} MiB had been spent" if spent > 64 else "")


CASES = [
    Case("mutated image files, 100 a round", TORCH, _mutated_images, rounds=20),
    Case("damaged images counted and named once, 100 a round", TORCH, _counted, rounds=5, slow=True),
    Case("decompression bombs", TORCH, _refused_bombs),
]
