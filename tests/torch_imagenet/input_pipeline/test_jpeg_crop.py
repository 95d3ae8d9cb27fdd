"""A part of a JPEG has the pixels that Pillow has; any other file is left to it; there may be no compiler."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from shared import imagenet  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.imagenet.decode import BadImage, read_rgb  # noqa: E402
from shared.imagenet.shards.write import write_shards  # noqa: E402
from shared.system import c_library  # noqa: E402
from torch_imagenet.input_pipeline import jpeg_crop  # noqa: E402
from torch_imagenet.input_pipeline.dataset import load_data  # noqa: E402
from torch_imagenet.input_pipeline.jpeg_crop import Box, NotDecoded, Unavailable, make_cropper  # noqa: E402
from torch_imagenet.input_pipeline.loader import EvaluationInput, Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402

DATA = Path(os.environ.get("KIT_TEST_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
NATIVE = DATA / "imagenet-native"


@pytest.fixture(scope="module")
def cropper():
    try:
        return make_cropper()
    except Unavailable as error:
        if any(map(shutil.which, ("cc", "gcc", "clang"))):
            raise  # where it can be made it must be
        pytest.skip(str(error))


def _picture(width, height, seed=0):
    """Soft shapes, edges and noise in colours that differ from pixel to pixel."""
    y, x, colour = np.ogrid[:height, :width, :3]
    noise = np.random.RandomState(seed).randint(-20, 20, (height, width, 3))
    shapes = 128 + 90 * np.sin(x / 9 + colour) * np.cos(y / 7 - colour) + 40 * ((x // 16 + y // 24 + colour) % 2)
    return Image.fromarray(np.clip(shapes + noise, 0, 255).astype(np.uint8))


def _jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def _noise(width, height):
    """Of which a JPEG at quality 100 has the largest coefficients, and with its own tables the longest codes."""
    return Image.fromarray(np.random.RandomState(2).randint(0, 2, (height, width, 3)).astype(np.uint8) * 255)


def _without_tables(content):
    """A frame of Motion JPEG has the tables of the standard, which are not in the file."""
    while b"\xff\xc4" in content[:640]:
        at = content.index(b"\xff\xc4")
        content = content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]
    return content


PLAIN = [
    _jpeg(_picture(width, height), subsampling=subsampling, **options)
    for width, height in ((181, 120), (120, 333), (17, 40), (224, 224))
    for subsampling in (0, 1, 2)
    for options in ({}, {"restart_marker_blocks": 3, "optimize": True})
]


def _outcome(cropper, content, transform, index=0):
    """The pixels, or why there are none, as a batch has them."""
    jpeg = cropper.open(content) if cropper is not None else None
    if jpeg is not None:
        try:
            return transform(jpeg, 5, 1, index).tobytes()
        except NotDecoded:
            pass
    try:
        return transform(read_rgb(io.BytesIO(content)), 5, 1, index).tobytes()
    except BadImage as error:
        return str(error)


# -- the same pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", PLAIN)
def test_any_box_of_any_plain_jpeg_has_pillows_pixels(content, cropper):
    random, jpeg, image = np.random.RandomState(1), cropper.open(content), read_rgb(io.BytesIO(content))
    assert jpeg[2:4] == image.size
    for _ in range(12):
        across, down = random.randint(1, image.width + 1), random.randint(1, image.height + 1)
        box = Box(random.randint(image.width - across + 1), random.randint(image.height - down + 1), across, down)
        size = (int(random.randint(1, 97)), int(random.randint(1, 97)))
        corners = (box.left, box.top, box.left + across, box.top + down)
        expected = image.resize(size, Image.Resampling.BILINEAR, box=corners)
        left, top = size[0] // 3, size[1] // 4
        part = Box(left, top, size[0] - left, size[1] - top)
        assert np.array_equal(jpeg.resized(box, size), np.asarray(expected)), (box, size)
        mirrored = expected.crop((left, top, *size)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.array_equal(jpeg.resized(box, size, part, mirrored=True), np.asarray(mirrored)), (box, size)


@pytest.mark.parametrize(
    "transform", [TrainTransform(48), EvalTransform(48), EvalTransform(40, 0.6), EvalTransform(48, keep_aspect=False)]
)
def test_training_and_evaluation_get_pillows_pixels(transform, cropper):
    for index, content in enumerate(PLAIN):
        image = transform(read_rgb(io.BytesIO(content)), 5, 1, index)
        assert np.array_equal(transform(cropper.open(content), 5, 1, index), image)


def test_randaugment_gets_pillows_pixels(torchvision, cropper):
    transform = TrainTransform(32, randaugment=(2, 9))
    for index, content in enumerate(PLAIN[:4]):
        assert _outcome(cropper, content, transform, index) == _outcome(None, content, transform, index)


@pytest.mark.parametrize("transform", [TrainTransform(224), EvalTransform(224)])
def test_photographs_of_imagenet_get_pillows_pixels(transform, cropper):
    files = sorted(NATIVE.glob("*/*"))[::16]
    if not files:
        pytest.skip("no photographs here")
    for index, file in enumerate(files):
        content = file.read_bytes()
        assert _outcome(cropper, content, transform, index) == _outcome(None, content, transform, index), file.name


@pytest.fixture
def mixed(tmp_path):
    """Images of all kinds, as files and as shards."""
    contents = (
        PLAIN[0],
        PLAIN[8],
        _jpeg(_picture(50, 70).convert("L")),
        _png(),
        _jpeg(_picture(60, 40), progressive=1),
    )
    for split in ("train", "val"):
        for label in ("a", "b"):
            _write(tmp_path / "files" / split / label, contents)
    data = imagenet.load(tmp_path / "files")
    write_shards(data.name, (data.train, data.val), tmp_path / "shards", 20_480, lambda text: None)
    return data, imagenet.load(tmp_path / "shards")


def _write(folder, contents):
    folder.mkdir(parents=True)
    for number, content in enumerate(contents):
        (folder / f"{number}.JPEG").write_bytes(content)


def test_batches_of_files_and_of_shards_with_workers_and_without_are_pillows(mixed, cropper):
    def pixels(data, workers, used):
        loading = Loading(workers, cropper=used)
        with TrainingInput(data.train, TrainTransform(32), 5, 0, loading) as images:
            trained = [batch.images.numpy().tobytes() for batch in images.epoch(0)]
        with EvaluationInput(data.val, EvalTransform(32), 5, loading) as images:
            return trained + [batch.images.numpy().tobytes() for batch in images]

    files, shards = mixed
    expected = pixels(files, 0, None)
    assert len(expected) == 4
    assert pixels(files, 1, cropper) == expected
    assert pixels(shards, 0, pickle.loads(pickle.dumps(cropper))) == expected


def _png():
    file = io.BytesIO()
    _picture(40, 30).save(file, "PNG")
    return file.getvalue()


BY_LIBJPEG = [  # wholly
    PLAIN[1],
    _without_tables(_jpeg(_picture(90, 70))),
]
UNUSUAL = [
    *BY_LIBJPEG,
    *(_jpeg(_noise(75, 66), quality=100, subsampling=kind, optimize=True) for kind in (0, 1, 2)),
    *(_jpeg(_picture(90, 70), quality=quality, optimize=True) for quality in (1, 30, 97)),
    _jpeg(Image.new("RGB", (40, 50), (200, 30, 90))),
    _jpeg(_picture(60, 60), quality=100, qtables=[[255] * 64, [1] * 64]),
    _jpeg(_picture(60, 60), keep_rgb=True),
]


@pytest.mark.parametrize("content", UNUSUAL)
def test_coefficients_are_libjpegs(content, cropper):
    jpeg, image = cropper.open(content), read_rgb(io.BytesIO(content))
    whole = Box(0, 0, *image.size)
    assert np.array_equal(jpeg.resized(whole, image.size), np.asarray(image))
    result = np.empty((*image.size[::-1], 3), np.uint8)
    assert cropper.decode(content, whole, image.size, whole, False, result) == (1 if content in BY_LIBJPEG else 2)


# -- what is left to Pillow ------------------------------------------------------------------------------------


def _with_profile(content):
    """With a colour profile that is cut short, at which Pillow's reader of headers gives up."""
    return content[:2] + b"\xff\xe2\x00\x0fICC_PROFILE\x00\x01" + content[2:]


LEFT = {
    "empty": b"",
    "text": b"no image",
    "png": _png(),
    "grey": _jpeg(_picture(40, 30).convert("L")),
    "cmyk": _jpeg(_picture(40, 30).convert("CMYK")),
    "progressive": _jpeg(_picture(40, 30), progressive=True),
    "cut short": PLAIN[0][:-700],
    "without its end": PLAIN[0][:-2],
    "with more behind it": PLAIN[0] + b"more",
    "a second image behind it": PLAIN[0] + PLAIN[1],
    "an end in the middle": PLAIN[0][:-900] + b"\xff\xd9" + PLAIN[0][-900:],
    "a header in the middle": PLAIN[0][:-900] + b"\xff\xc0" + PLAIN[0][-900:],
    "a marker in the header": PLAIN[0][:2] + b"\xff\x01" + PLAIN[0][2:],
    "half a colour profile": _with_profile(PLAIN[0]),
    "the header alone": PLAIN[0][:200],
}


@pytest.mark.parametrize("kind", LEFT)
def test_other_and_damaged_files_are_left_to_pillow(kind, cropper):
    assert cropper.open(LEFT[kind]) is None


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        (False, {}),
        (False, {"comment": b"seen", "icc_profile": bytes(range(200)), "dpi": (72, 72)}),
        (False, {"icc_profile": bytes(70_000)}),  # in two segments
        (True, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
        (True, {"icc_profile": bytes(200), "xmp": b"text"}),
    ],
)
def test_pillow_is_asked_about_headers_that_are_not_plain(asked, more, cropper, monkeypatch):
    content, calls = _jpeg(_picture(60, 40), **more), []
    monkeypatch.setattr(jpeg_crop, "_is_opened", lambda header: calls.append(header) or True)
    assert cropper.open(content)[2:4] == (60, 40)
    assert calls == [content] * asked


def test_a_damaged_file_has_the_outcome_that_it_has_with_pillow(cropper):
    """Damage of five kinds at random places; what is decoded here must be as there, and what fails there must fail."""
    random, decoded = np.random.RandomState(3), 0
    for attempt in range(250):
        content = bytearray(PLAIN[attempt % len(PLAIN)])
        at = int(random.randint(len(content)))
        if attempt % 5 == 0:
            content[at] = random.randint(256)
        elif attempt % 5 == 1:
            content[at : at + 40] = bytes(len(content[at : at + 40]))
        elif attempt % 5 == 2:
            content[at:at] = bytes((0xFF, random.choice([0xD9, 0xD8, 0xC0, 0xDA, 0xD0, 0xD5, 1])))
        elif attempt % 5 == 3:
            content[min(at, 600)] ^= 1 << random.randint(8)
        else:
            del content[at : at + 1 + attempt % 3]
        transform = TrainTransform(24) if attempt % 2 else EvalTransform(24)
        damaged = bytes(content)
        decoded += cropper.open(damaged) is not None
        assert _outcome(cropper, damaged, transform, attempt) == _outcome(None, damaged, transform, attempt), attempt
    assert 50 < decoded < 200  # or this test says nothing


def test_what_fails_after_the_header_is_decoded_by_pillow(cropper, tmp_path):
    """Zeros within the data are errors of the Huffman code, which libjpeg tells while it decodes."""
    content = bytearray(PLAIN[0])
    middle = len(content) // 2
    content[middle : middle + 400] = b"\x55" * 400
    jpeg = cropper.open(bytes(content))
    with pytest.raises(NotDecoded):
        jpeg.resized(Box(0, 0, *jpeg[2:4]), (16, 16))
    for split in ("train", "val"):
        _write(tmp_path / split / "a", [bytes(content)])
    split = imagenet.load(tmp_path).val
    with EvaluationInput(split, EvalTransform(32), 1, Loading(0, cropper=cropper)) as images:
        (batch,) = images
    assert np.array_equal(batch.images[0], EvalTransform(32)(read_rgb(io.BytesIO(bytes(content)))))


def test_a_file_that_is_gone_is_a_bad_image(tmp_path, cropper):
    for split in ("train", "val"):
        _write(tmp_path / split / "a", [PLAIN[0]])
    split = imagenet.load(tmp_path).val
    (tmp_path / "val" / "a" / "0.JPEG").unlink()
    with EvaluationInput(split, EvalTransform(32), 1, Loading(0, skip_bad=True, cropper=cropper)) as images:
        (batch,) = images
    assert batch.bad == ("a/0.JPEG (No such file or directory)",)


def test_a_crop_larger_than_the_image_is_left_to_pillow(cropper):
    transform = EvalTransform(64, crop_fraction=1.5)
    with pytest.raises(NotDecoded):
        transform(cropper.open(PLAIN[0]))


@pytest.mark.parametrize("box", [(-1, 0, 9, 9), (0, 0, 182, 9), (0, 119, 9, 2), (0, 0, 0, 9)])
def test_a_box_outside_the_image_is_refused(box, cropper):
    with pytest.raises(ValueError, match="is not within"):
        cropper.open(PLAIN[0]).resized(Box(*box), (8, 8))


# -- compiling -------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache, and no second one."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(c_library, "places", lambda name: [tmp_path / "cache" / name])
    return tmp_path / "cache" / "compiled"


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("false", "false failed"),
        ("no-such-compiler", "No such file"),
        ("python -c 1/0", "python failed"),
        ("'cc", "quotation"),
    ],
)
def test_a_compiler_that_fails_is_a_reason_and_leaves_nothing(compiler, reason, fresh_cache, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(Unavailable, match=reason):
        make_cropper()
    assert os.listdir(fresh_cache) == []


def test_without_a_compiler_pillow_decodes_and_the_log_says_so(fresh_cache, monkeypatch, tiny):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(c_library.shutil, "which", lambda name: None)
    data = load_data(RunConfig.from_argv(["--data-path", str(tiny.folder)]))
    assert (data.cropper, data.decoder) == (None, "pillow")
    assert data.lines[-1].startswith("decoder: pillow; the faster one (--decoder crop) cannot be had: there is no C")
    with pytest.raises(UsageError, match="--decoder crop cannot be had: there is no C compiler"):
        load_data(RunConfig.from_argv(["--data-path", str(tiny.folder), "--decoder", "crop"]))


def test_pillow_as_asked_for_needs_no_compiler_and_no_line(fresh_cache, monkeypatch, tiny):
    monkeypatch.setenv("CC", "false")
    data = load_data(RunConfig.from_argv(["--data-path", str(tiny.folder), "--decoder", "pillow"]))
    assert data.cropper is None
    assert not any("decoder" in line for line in data.lines)


def test_the_data_set_of_a_run_has_the_decoder(cropper, tiny):
    data = load_data(RunConfig.from_argv(["--data-path", str(tiny.folder)]))
    assert data.decoder == "crop"
    assert data.lines[-1].startswith("decoder: crop")


def test_it_is_compiled_once_also_by_threads_at_the_same_time(cropper, fresh_cache, monkeypatch):
    made = []
    threads = [threading.Thread(target=lambda: made.append(jpeg_crop.made_library())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert os.listdir(fresh_cache) == [os.path.basename(made[0])]
    monkeypatch.setenv("CC", "false")
    make_cropper()


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_program_that_is_damaged_or_that_others_may_change_is_made_anew(mode, cropper, fresh_cache):
    fresh_cache.mkdir(parents=True)
    planted = fresh_cache / os.path.basename(cropper._made_of[0])
    if mode == 0o755:
        planted.write_bytes(b"damaged")
    else:
        shutil.copy(cropper._made_of[0], planted)
        with planted.open("ab") as file:
            file.write(b"changed")
    planted.chmod(mode)
    assert jpeg_crop.made_library() == str(planted)
    assert planted.read_bytes() == Path(cropper._made_of[0]).read_bytes()
    assert planted.stat().st_mode & 0o777 == 0o755


def test_a_pillow_with_other_pixels_keeps_them(cropper, monkeypatch):
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda *given, **named: resize(*given, **named).point(lambda v: v ^ 1))
    with pytest.raises(Unavailable, match="not those of this Pillow"):
        make_cropper()


def test_a_libjpeg_without_what_is_needed_is_a_reason(cropper):
    program, _, tall_first = cropper._made_of
    with pytest.raises(Unavailable, match="lacks jpeg_std_error"):
        jpeg_crop.JpegCropper(program, "libc.so.6", tall_first)
    with pytest.raises(Unavailable, match="does not load"):
        jpeg_crop.JpegCropper(__file__, "libc.so.6", tall_first)
