"""Is this folder ImageNet, whole and undamaged? Every image is opened and decoded.

The index is made anew, so that files rewritten in place are seen. A fault is what training would stop at; a remark is
what is unusual and harmless, such as the official set's grey and CMYK images.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import UsageError, fault, one_line
from shared.imagenet_image import Finding, inspect
from shared.imagenet_layout import OFFICIAL_NAME, counted, faults, find, is_official, name_of, remarks
from shared.imagenet_split import Split, scan

_SHOWN = 20  # lines of one kind
_CHUNK = 32  # images that a process gets at once
_PROGRESS_SECONDS = 10.0


def check(
    path: Union[str, Path],
    workers: int,
    say: Callable[[str], None],
    name: Optional[str] = None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Say what is there, every fault and remark, the verdict last. Raises DataError if there was a fault.

    `workers` processes decode the images; with 1, this process does. `name` takes the place of the name that the set
    would get. `pause` is called every few images and may raise to end the check.
    """
    _need_pillow()
    root = find(path)
    parts = [scan(str(root / split)) for split in ("train", "val")]
    say(f"folder {root}")
    for part in parts:
        say(_counts(part))
    report = _Report(say)
    for line in faults(parts):
        report.layout(line)
    for line in remarks(parts):
        say(f"remark: {line}")
    _read_images(parts, workers, report, pause)
    report.close()
    official = is_official(parts)
    name = name or name_of(root, official)
    if report.faults:
        raise fault(f"{name}: {counted(report.faults, 'fault')}, the first: {report.first}; mend what is named above")
    say(f"{name}: complete" + (", the official counts" if name == OFFICIAL_NAME else ""))


class _Report:
    """Says each finding, up to 20 of one kind, and counts them all."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.faults = 0
        self.first = ""
        self._kinds: Dict[Tuple[bool, str], int] = {}

    def layout(self, line: str) -> None:
        """A fault of the folders, "what is wrong; what to do"."""
        self.say(one_line(f"fault: {line}"))
        self._count(line.split("; ")[0])

    def image(self, name: str, finding: Finding) -> None:
        """A fault or a remark about one image."""
        key = (finding.is_fault, finding.kind)
        self._kinds[key] = self._kinds.get(key, 0) + 1
        detail = f"{finding.kind} ({finding.detail})" if finding.detail else finding.kind
        if self._kinds[key] <= _SHOWN:
            self.say(one_line(f"{'fault' if finding.is_fault else 'remark'}: {name}: {detail}"))
        if finding.is_fault:
            self._count(f"{name}: {detail}")

    def close(self) -> None:
        """Say how many there are that have not been named."""
        for (is_fault, kind), number in sorted(self._kinds.items()):
            if number > _SHOWN:
                self.say(f"{'fault' if is_fault else 'remark'}: ... and {number - _SHOWN:,} more: {kind}")

    def _count(self, what: str) -> None:
        self.faults += 1
        self.first = self.first or what


# -- images --------------------------------------------------------------------------------------


def _read_images(parts: Sequence[Split], workers: int, report: _Report, pause: Callable[[], None]) -> None:
    total, done, spoken = sum(map(len, parts)), 0, time.monotonic()
    for part, start, findings in _inspected(parts, workers):
        for index, found in enumerate(findings, start):
            for finding in found:
                report.image(f"{Path(part.folder).name}/{part.name(index)}", finding)
        done += len(findings)
        if time.monotonic() - spoken >= _PROGRESS_SECONDS:
            spoken = time.monotonic()
            report.say(f"read {done:,} of {total:,} images")
        pause()


def _inspected(parts: Sequence[Split], workers: int) -> Iterator[Tuple[Split, int, List[List[Finding]]]]:
    """What was found in each image, chunk by chunk and in order."""
    chunks = [(part, start) for part in parts for start in range(0, len(part), _CHUNK)]
    if workers == 1:
        for part, start in chunks:
            yield part, start, inspect_all(_paths(part, start))
        return
    with ProcessPoolExecutor(workers, initializer=_leave_signals) as processes:
        running: Deque[Tuple[Split, int, Future[List[List[Finding]]]]] = deque()
        try:
            for part, start in chunks:
                running.append((part, start, processes.submit(inspect_all, _paths(part, start))))
                if len(running) >= 4 * workers:
                    yield _result(*running.popleft())
            while running:
                yield _result(*running.popleft())
        finally:
            for _, _, future in running:
                future.cancel()


def _result(part: Split, start: int, future: Future[List[List[Finding]]]) -> Tuple[Split, int, List[List[Finding]]]:
    try:
        return part, start, future.result()
    except BrokenProcessPool as error:
        raise fault(
            f"a process died near {part.path(start)}, out of memory or of a hostile file; try --workers 1"
        ) from error


def _leave_signals() -> None:
    """Ctrl-C is for the process that started this one, and SIGTERM ends it, whatever handlers it has inherited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def inspect_all(paths: Sequence[str]) -> List[List[Finding]]:
    """Return what is to be said of each image. A function of its own because another process runs it."""
    return [inspect(path) for path in paths]


def _paths(part: Split, start: int) -> List[str]:
    return [part.path(index) for index in range(start, min(start + _CHUNK, len(part)))]


# -- text ----------------------------------------------------------------------------------------


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise UsageError("reading images needs Pillow; pip install Pillow") from error


def _counts(part: Split) -> str:
    name, counts = Path(part.folder).name, part.class_counts()
    line = f"{name}: {counted(len(part), 'image')} in {counted(len(counts), 'class', 'classes')}"
    if not len(counts):
        return line
    return f"{line}, per class {counts.min():,} to {counts.max():,}, median {np.median(counts):,.1f}"
