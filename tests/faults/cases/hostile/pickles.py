"""Pickles and archives that would execute or write something, for every reader of untrusted files."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from tests.faults.case import SHARED, TORCH, Case
from tests.faults.cases.fuzz import cifar_batches
from tests.faults.isolated import failure_of


class _Payload:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        return self._call


def payloads(marker: Path) -> Dict[str, Any]:
    """Objects that create the marker when the standard unpickler loads them."""
    touch = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": _Payload(os.system, f"touch '{marker}'"),
        "eval": _Payload(eval, touch),
        "exec": _Payload(exec, touch),
        "open": _Payload(open, str(marker), "w"),
        "makedirs": _Payload(os.makedirs, str(marker)),
    }


def _check_payloads(marker: Path) -> str:
    """Each payload must work with the standard unpickler."""
    for name, payload in payloads(marker).items():
        pickle.loads(pickle.dumps(payload))
        if not marker.exists():
            return f"the payload {name} does nothing"
        marker.rmdir() if marker.is_dir() else marker.unlink()
    return ""


def _batches(folder: Path, rng: random.Random) -> str:
    """Instead of each CIFAR-10 file: alone or as a value, in every protocol."""
    from shared import cifar10

    marker = folder / "marker"
    lost = _check_payloads(marker)
    good = cifar_batches.write_set(folder / "set", rng)
    for path in sorted(good.iterdir()):
        kept = path.read_bytes()
        for name, payload in payloads(marker).items():
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                values = {"data": payload, "labels": [0, 1, 2, 0], "label_names": payload, "num_vis": 3072}
                path.write_bytes(pickle.dumps(rng.choice((payload, values, [payload])), protocol))
                lost = lost or _refused(lambda: cifar10.load(good), marker, f"{name} in {path.name}")
        path.write_bytes(kept)
    return lost


def _refused(read: Callable[[], Any], marker: Path, what: str) -> str:
    """Reading raises UsageError and does not create the marker."""

    def accepted() -> str:
        read()
        return "it is accepted"

    lost = failure_of(accepted)
    return f"{what} is executed" if marker.exists() else lost and f"{what}: {lost}"


def _weights(folder: Path, rng: random.Random) -> str:
    """As a weight file in both of torch's formats, as a bare pickle, and as a checkpoint's training.pth."""
    import torch

    from torch_imagenet.run.checkpoints import read_training

    marker, lost = folder / "marker", _check_payloads(folder / "marker")
    for name, payload in payloads(marker).items():
        for form, write in _forms().items():
            for value in (payload, {"state_dict": {"fc.weight": torch.zeros(2)}, "epoch": payload}):
                for file in ("weights.pth", "weights.pth.tar", "training.pth"):
                    (folder / file).write_bytes(write(value))
                    read = read_training if file == "training.pth" else functools.partial(_read_file, file)
                    lost = lost or _refused(lambda: read(folder), marker, f"{name} as {form} in {file}")  # noqa: B023
    return lost


def _read_file(name: str, folder: Path) -> Any:
    from torch_imagenet.weights.files import read_weight_file

    return read_weight_file(folder / name)


def _forms() -> Dict[str, Callable[[Any], bytes]]:
    import torch

    def saved(value: Any, zipped: bool) -> bytes:
        file = io.BytesIO()
        torch.save(value, file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    def with_names(value: Any) -> bytes:
        """A torch archive with member paths outside it."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in ("archive/data.pkl", "../../escaped", "/tmp/escaped-absolute", "archive/../../../escaped"):
                archive.writestr(name, pickle.dumps(value, 2))
            archive.writestr("archive/version", "3\n")
        return file.getvalue()

    return {
        "zip": lambda value: saved(value, True),
        "legacy": lambda value: saved(value, False),
        "pickle": lambda value: pickle.dumps(value, 2),
        "zip with ../ in its names": with_names,
    }


# -- archives --------------------------------------------------------------------------------------------------


def _shards(folder: Path, rng: random.Random) -> str:
    """Shards whose members have paths outside, or are links, devices or pipes: refused, and nothing is written."""
    from shared import imagenet

    lost = ""
    for number, (name, kind, target) in enumerate(_MEMBERS):
        shards = folder / f"set{number}"
        shards.mkdir()
        for split in ("train", "val"):
            with tarfile.open(str(shards / f"{split}-000000.tar"), "w") as archive:
                _add(archive, "0.jpg", b"x")
                _add(archive, "0.cls", b"0")
                _add(archive, name, b"x", kind, target)
                _add(archive, os.path.splitext(name)[0] + ".cls", b"0")
        before = _all_under(folder)
        lost = lost or _refused(lambda: imagenet.load(shards, cache=folder / "cache"), folder / "escaped", name)  # noqa: B023
        after = [path for path in _all_under(folder) if path not in before and "cache" not in path]
        lost = lost or (f"{name}: {after} written" if after else "")
    return lost


_MEMBERS: Tuple[Tuple[str, bytes, str], ...] = (
    ("../escaped.jpg", tarfile.REGTYPE, ""),
    ("/tmp/escaped.jpg", tarfile.REGTYPE, ""),
    ("a/../../escaped.jpg", tarfile.REGTYPE, ""),
    ("1.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    ("1.jpg", tarfile.LNKTYPE, "../escaped"),
    ("1.jpg", tarfile.FIFOTYPE, ""),
    ("1.jpg", tarfile.CHRTYPE, ""),
    ("1.jpg", tarfile.BLKTYPE, ""),
)


def _add(archive: tarfile.TarFile, name: str, content: bytes, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    archive.addfile(info, io.BytesIO(content))


def _all_under(folder: Path) -> List[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def _index(folder: Path, rng: random.Random) -> str:
    """A shard index that names files elsewhere, and one whose arrays are a pickle."""
    import numpy as np

    from shared import imagenet

    marker, lost = folder / "marker", ""
    arrays = io.BytesIO()
    np.savez(arrays, counts=np.array([payloads(marker)["open"]], object))
    entry = {"bytes": 10, "sha256": "0" * 64}
    for name in ("../../escaped", "/etc/passwd", "train-index.npz", "a\nb.npz", "x" * 10_000):
        split = {"images": 1, "index": dict(entry, name=name), "shards": [dict(entry, name=name, images=1)]}
        content = {
            "format": "se-pnas-kit-shards",
            "version": 1,
            "name": "x",
            "classes": ["a"],
            "splits": {"train": split, "val": split},
        }
        (folder / "shards.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "train-index.npz").write_bytes(arrays.getvalue())
        lost = lost or _refused(lambda: imagenet.load(folder), marker, f"an index with {name[:40]!r}")
    (folder / "shards.json").write_text("[" * 200_000, encoding="utf-8")
    return lost or _refused(lambda: imagenet.load(folder), marker, "a deeply nested index")


CASES = [
    Case("pickles that run something as CIFAR-10 files", SHARED, _batches, rounds=5),
    Case("pickles that run something as weights and checkpoints", TORCH, _weights),
    Case("shards that lead out of their folder", SHARED, _shards),
    Case("an index of shards that leads out of its folder", SHARED, _index),
]
