"""Disks that fail: the training continues without the file and reports it, or ends with one error line.

In both cases all existing checkpoints stay complete and no partial file remains. When there is space again, the run
continues to the weights, the optimizer state and the logged losses of the undisturbed run, bit for bit.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import random
from pathlib import Path
from typing import Any, List, Tuple
from unittest import mock

from tests.faults.case import SHARED, TF, TORCH, Case
from tests.faults.small_filesystems import in_child, server


def on_a_disk(half: str, case: str, disk: str, folder: Path, rng: random.Random) -> str:
    """A round of `tests.faults.disk_rounds`, in its own process."""
    return server(half).run(case, disk, rng.getrandbits(32), folder)


def a_cache_that_is_full(folder: Path, rng: random.Random) -> str:
    """The cache of the embedded sample is full: another folder is used, or one error line says so."""
    return in_child(lambda: _cache(folder, rng), folder)


def _cache(folder: Path, rng: random.Random) -> str:
    from shared import sample
    from shared.errors import UsageError
    from tests.faults.small_filesystems import disk

    full = disk(rng.choice(["full disk", "no more files"]), folder / "disk")
    full.begin(rng.random())
    elsewhere = rng.random() < 0.5
    with mock.patch.dict(os.environ, TMPDIR=str(folder if elsewhere else full.folder)):
        import tempfile

        with mock.patch.object(tempfile, "tempdir", str(folder if elsewhere else full.folder)):
            try:
                found = sample.cifar10_folder(str(full.folder))
            except UsageError as error:
                left = [path.name for path in full.folder.rglob(".*")]
                line = "cannot write the embedded sample" in str(error) and "set KIT_CACHE" in str(error)
                return "" if line and not elsewhere and not left else f"{error}; left: {left}"
    return "" if elsewhere and len(list(found.iterdir())) > 5 else f"it was found in {found}"


def a_log_that_fails_at_any_byte(folder: Path, rng: random.Random) -> str:
    """A write to a log is partial and the following ones fail: at any time the files contain whole lines only."""
    from shared.run.log import RunLog

    console = io.StringIO()
    fails = {"from": rng.randint(0, 8), "writes": rng.randint(1, 20), "taken": rng.randint(0, 60)}
    number = rng.choice((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS))
    with RunLog(folder, console=console) as log:
        for file in (log._text, log._events, log._tensorboard):
            if file is not None:
                file._file = _Failing(file._file, dict(fails), number)  # type: ignore[assignment]
        for step in range(1, 41):
            log.event("step", step, {"loss": 0.5}, {"train/loss": 0.5})
            log.line(f"step {step}")
            for name in ("train.log", "events.jsonl"):
                content = (folder / name).read_bytes()
                if content and not content.endswith(b"\n"):
                    return f"{fails}: half a line in {name} after step {step}: {content[-60:]!r}"
    lines = [line for line in (folder / "train.log").read_text().splitlines() if line.startswith("step ")]
    if lines != [f"step {step}" for step in range(1, 41)]:
        return f"{fails}: train.log has {len(lines)} of 40 lines"
    if len((folder / "events.jsonl").read_text().splitlines()) != 40:
        return f"{fails}: events.jsonl lacks some"
    for name in ("train.log", "events.jsonl"):
        count = console.getvalue().count(f"{folder / name} cannot be written ({os.strerror(number)})")
        if count != 1:
            return f"{fails}: the error about {name} is printed {count} times"
    return ""


class _Failing:
    """A file whose writes fail for a while, the first one after a partial write."""

    def __init__(self, file: Any, fails: Any, number: int) -> None:
        self._file, self._fails, self._number, self._count = file, fails, number, 0

    def write(self, data: bytes) -> int:
        self._count += 1
        since = self._count - 1 - self._fails["from"]
        if since == 0 and 0 < self._fails["taken"] < len(data):
            return int(self._file.write(data[: self._fails["taken"]]))
        if 0 <= since <= self._fails["writes"]:
            raise OSError(self._number, os.strerror(self._number))
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _on(name: str, case: str, disk: str, quick: Tuple[str, ...] = (), **rounds: int) -> List[Case]:
    """A case of both halves. A round of the CIFAR half takes ten times as long: it builds two graphs."""
    return [
        Case(name, half, functools.partial(on_a_disk, half, case, disk), rounds=rounds[half], quick=half in quick)
        for half in (TF, TORCH)
    ]


CASES = [
    *_on("a full disk", "training", "full disk", (TORCH,), tf_seresnet=12, torch_imagenet=40),
    *_on("a quota of files", "training", "no more files", tf_seresnet=4, torch_imagenet=20),
    *_on("a limit on the size of files", "training", "small files", tf_seresnet=4, torch_imagenet=20),
    *_on("a folder that becomes read-only", "training", "read-only", (TORCH,), tf_seresnet=4, torch_imagenet=20),
    *_on("a console on a full disk", "console", "", (TORCH,), tf_seresnet=1, torch_imagenet=1),
    *_on("a disk that is read-only from the start", "read_only_disk", "", tf_seresnet=1, torch_imagenet=2),
    Case("a cache on a full disk", SHARED, a_cache_that_is_full, rounds=20),
    *(Case("a log that fails at any byte", half, a_log_that_fails_at_any_byte, rounds=100) for half in (SHARED, TORCH)),
]
