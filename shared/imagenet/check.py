"""The mode check-data of ImageNet: decode every image, and read every shard to its end.

The folders are scanned again, so that files rewritten in place are noticed. A fault would stop a training; a remark is
unusual but harmless, such as the grey and CMYK images of the official set.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError, UsageError, one_line
from shared.imagenet.decode import Finding, check_pillow, inspect
from shared.imagenet.download_cache import Remote, ShardCache, digest, fetch, shown
from shared.imagenet.extent_reader import Extent, ExtentReader
from shared.imagenet.layout import OFFICIAL_NAME, counted, faults, find, is_official, name_of, present, remarks
from shared.imagenet.shards.dataset import has_index, holds_shards, load_shards, plain_shards
from shared.imagenet.shards.split import Shard, ShardSplit
from shared.imagenet.shards.tar_scan import Sample, samples
from shared.imagenet.split import Split, scan
from shared.system.processes import ProcessPool

_CHUNK = 32  # images per task of a worker process
_PROGRESS_SECONDS = 10.0
_SHOWN = 20  # lines of one kind

Say = Callable[[str], None]
Pause = Callable[[], None]
Indices = Tuple[Split, np.ndarray]  # images of a split, int64 [images]


def check(
    path: Union[str, Path],
    workers: int,
    say: Say,
    name: Optional[str] = None,
    pause: Pause = lambda: None,
    shard_cache: Optional[ShardCache] = None,
) -> None:
    """Say the contents, every fault and remark, and last the verdict. Raises DataError if there was a fault.

    train/ may be missing, as for an evaluation. `workers` processes decode the images; with 1, this process does.
    `name` replaces the name of the set. `pause` is called every few images and may raise to stop the check. Remote
    shards are fetched again, into `shard_cache`.
    """
    check_pillow()
    report = _Report(say)
    with ProcessPool(workers) as pool:
        parts: List[Split]
        groups: Iterable[Indices]
        if holds_shards(path):
            own_name, shard_parts = _load_shards(path, report, shard_cache, pause)
            parts, groups = [*shard_parts], _readable(shard_parts, pool, report)
        else:
            root = find(path, ("val",))
            say(f"folder {root}")
            parts, own_name = [scan(str(root / split)) for split in present(root)], name_of(root)
            groups = [(part, np.arange(len(part))) for part in parts]
        for part in parts:
            say(_counts(part))
        for line in faults(parts):
            report.fault(line)
        for line in remarks(parts):
            say(f"remark: {line}")
        _read_images(groups, sum(map(len, parts)), pool, report, pause)
    name = name or (OFFICIAL_NAME if is_official(parts) else own_name)
    report.close(name)
    if len(parts) == 1:
        say("remark: there is no train part, which training needs; val alone can be evaluated on")
    say(f"{name}: complete" + (", the official counts" if name == OFFICIAL_NAME else ""))


class _Report:
    """Passes each finding to `say`, up to 20 of a kind, and counts all."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._faults = 0
        self._first = ""
        self._kinds: Counter[Tuple[str, str]] = Counter()

    def fault(self, line: str) -> None:
        """A fault of folders or shards, "what is wrong; what to do"."""
        self.say(one_line(f"fault: {line}"))
        self._count(line.split("; ")[0])

    def image(self, name: str, finding: Finding) -> None:
        key = ("fault" if finding.is_fault else "remark", finding.kind)
        self._kinds[key] += 1
        detail = f"{finding.kind} ({finding.detail})" if finding.detail else finding.kind
        if self._kinds[key] <= _SHOWN:
            self.say(one_line(f"{key[0]}: {name}: {detail}"))
        if finding.is_fault:
            self._count(f"{name}: {detail}")

    def close(self, name: str) -> None:
        """Say how many findings were not printed. Raises DataError about the set `name` if there was a fault."""
        for (what, kind), number in sorted(self._kinds.items()):
            if number > _SHOWN:
                self.say(f"{what}: ... and {number - _SHOWN:,} more: {kind}")
        if self._faults:
            found = counted(self._faults, "fault")
            raise DataError(f"{name}: {found}, the first: {self._first}; mend what is named above")

    def _count(self, what: str) -> None:
        self._faults += 1
        self._first = self._first or what


def _counts(part: Split) -> str:
    counts = part.class_counts()
    line = f"{part.subset}: {counted(len(part), 'image')} in {counted(len(counts), 'class')}"
    spread = f", per class {counts.min():,} to {counts.max():,}, median {np.median(counts):,.1f}" if len(counts) else ""
    return line + spread


# -- images --------------------------------------------------------------------------------------


def _read_images(groups: Iterable[Indices], total: int, pool: ProcessPool, report: _Report, pause: Pause) -> None:
    done, spoken = 0, time.monotonic()
    for part, indices in groups:
        chunks = _chunks(part, indices)
        for (_, chunk), findings in pool.results(inspect_all, chunks, 4 * pool.workers, lambda tag: tag[0]):
            for index, found in zip(chunk, findings):
                for finding in found:
                    report.image(part.full_name(index), finding)
            done += len(findings)
            if time.monotonic() - spoken >= _PROGRESS_SECONDS:
                spoken = time.monotonic()
                report.say(f"read {done:,} of {total:,} images")
            pause()


def _chunks(part: Split, indices: np.ndarray) -> Iterator[Tuple[Tuple[str, List[int]], List[Tuple[Extent, str]]]]:
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK].tolist()
        yield (part.path(chunk[0]), chunk), [(part.extent(index), part.relative_name(index)) for index in chunk]


def inspect_all(items: Sequence[Tuple[Extent, str]]) -> List[List[Finding]]:
    """The findings of each image, given by its location and its class and file name. Worker processes run this."""
    found = []
    with ExtentReader() as reader:
        for extent, name in items:
            try:
                found.append(inspect(reader.source(extent), name))
            except UsageError as error:
                found.append([Finding(True, "cannot be read", str(error).split("; ")[0])])
    return found


# -- shards --------------------------------------------------------------------------------------


Task = Tuple[Shard, List[Sample]]  # a shard to verify, and its samples according to the index


class _Verdict(NamedTuple):
    faults: List[str]  # "what is wrong; what to do"
    notes: List[str]
    readable: bool  # whether the images are where the index says


def _load_shards(
    path: Union[str, Path], report: _Report, shard_cache: Optional[ShardCache], pause: Pause
) -> Tuple[str, List[ShardSplit]]:
    """The name and the splits of a set. Without an index one faulty shard prevents loading: all are read before."""
    for shard in [] if has_index(path) else plain_shards(path):
        try:
            for _ in samples(shard, os.path.basename(shard)):
                pause()
        except DataError as error:
            report.fault(str(error))
    report.close(str(path))
    found = load_shards(path, None, None, shard_cache)
    for part in found.parts.values():
        repeated = 0 if part.numbered else len(part) - len({part.member(index) for index in range(len(part))})
        if repeated:
            report.say(f"remark: {part.subset}: {counted(repeated, 'image')} with a key that another shard has too")
    report.say(f"shards in {shown(found.where)}")
    return found.name or name_of(Path(found.where)), list(found.parts.values())


def _readable(parts: Sequence[ShardSplit], pool: ProcessPool, report: _Report) -> Iterator[Indices]:
    """Verify and report each shard of an index; yield the images of each, in its order, if they can be read."""
    for part in parts:
        for (_, indices), verdict in pool.results(verify, _tasks(part), pool.workers, lambda tag: tag[0]):
            for line in verdict.notes:
                report.say(line)
            for line in verdict.faults:
                report.fault(line)
            if verdict.readable:
                yield part, indices


def _tasks(part: ShardSplit) -> Iterator[Tuple[Tuple[str, np.ndarray], Task]]:
    order = np.lexsort((part.starts, part.shard))
    ends = np.searchsorted(part.shard[order], np.arange(len(part.shards) + 1))
    for number, shard in enumerate(part.shards):
        indices = order[ends[number] : ends[number + 1]]
        expected = [
            Sample(part.member(index), int(part.starts[index]), int(part.sizes[index]), int(part.labels[index]))
            for index in indices.tolist()
        ]
        yield (shard.name, indices), (shard, expected)


def verify(task: Task) -> _Verdict:
    """Read a shard with an index to its end, or fetch it anew, and verify all of it. Worker processes run this."""
    shard, expected = task
    notes: List[str] = []
    if not shard.sha256:
        return _Verdict([], notes, True)
    try:
        if isinstance(shard.file, Remote):
            fetch(shard.file, notes, anew=True)
        path = shard.file.path if isinstance(shard.file, Remote) else shard.file
        found = list(samples(path, shard.name))
    except UsageError as error:
        return _Verdict([str(error)], notes, False)
    faults = []
    if isinstance(shard.file, str) and digest(path) != (shard.size, shard.sha256):
        faults.append(f"{shard.name} is damaged, its SHA-256 is not the index's; copy it anew, or write it anew")
    if len(found) != len(expected):
        difference = f"{counted(len(found), 'image')} in place of {len(expected):,}"
    else:
        difference = next((f"the first that differs is {a.member}" for a, b in zip(expected, found) if a != b), "")
    if difference:
        faults.append(f"{shard.name} does not hold what its index says ({difference}); write it anew")
    return _Verdict(faults, notes, not difference)
