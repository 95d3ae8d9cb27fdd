"""Verify tar shards: each is read to its end and compared with the index. Readable images are yielded for decoding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import DataError, UsageError
from shared.imagenet.download_cache import Remote, ShardCache, digest, fetch
from shared.imagenet.layout import counted
from shared.imagenet.report import Report
from shared.imagenet.shards.dataset import ShardSet, has_index, load_shards, plain_shards
from shared.imagenet.shards.split import Shard, ShardSplit
from shared.imagenet.shards.tar_scan import Sample, samples
from shared.imagenet.split import Split
from shared.system.processes import ProcessPool


class _Task(NamedTuple):
    """A shard to verify, and its samples according to the index; None without an index."""

    shard: Shard
    expected: Optional[List[Sample]]


class _Verdict(NamedTuple):
    faults: List[str]  # "what is wrong; what to do"
    notes: List[str]
    readable: bool  # whether the images are where the index says


def shards_to_check(
    path: Union[str, Path],
    pool: ProcessPool,
    report: Report,
    shard_cache: Optional[ShardCache],
    pause: Callable[[], None],
) -> ShardSet:
    """Load the set; without an index, scan its headers again. Raises DataError if it cannot be loaded.

    Without an index one faulty shard prevents loading, so the faults of all shards are reported first.
    """
    if not has_index(path):
        tasks = [
            (name, _Task(Shard(os.path.basename(name), name, os.path.getsize(name)), None))
            for name in plain_shards(path)
        ]
        for _, verdict in pool.results(verify, tasks, 2 * pool.workers, str):
            _report(verdict, report)
            pause()
        if report.faults:
            faults = counted(report.faults, "fault")
            raise DataError(f"{path}: {faults}, the first: {report.first}; mend what is named above")
    found = load_shards(path, None, None, shard_cache, pause)
    for part in found.parts.values():
        repeated = _repeated_keys(part)
        if repeated:
            report.say(f"remark: {part.subset}: {counted(repeated, 'image')} with a key that another shard has too")
    return found


def readable(parts: Sequence[ShardSplit], pool: ProcessPool, report: Report) -> Iterator[Tuple[Split, np.ndarray]]:
    """Verify and report each shard; yield the indices of its images, in the shard's order, if they can be read."""
    for part in parts:
        tasks = _tasks(part)
        for (_, indices), verdict in pool.results(verify, tasks, pool.workers, _name):
            _report(verdict, report)
            if verdict.readable:
                yield part, indices


def _tasks(part: ShardSplit) -> Iterator[Tuple[Tuple[str, np.ndarray], _Task]]:
    order = np.lexsort((part.starts, part.shard))
    ends = np.searchsorted(part.shard[order], np.arange(len(part.shards) + 1))
    for number, shard in enumerate(part.shards):
        indices = order[ends[number] : ends[number + 1]]
        expected = None
        if shard.sha256:
            expected = [
                Sample(part.member(index), int(part.starts[index]), int(part.sizes[index]), int(part.labels[index]))
                for index in indices.tolist()
            ]
        yield (shard.name, indices), _Task(shard, expected)


def _name(tag: Tuple[str, np.ndarray]) -> str:
    return tag[0]


def _report(verdict: _Verdict, report: Report) -> None:
    for line in verdict.notes:
        report.say(line)
    for line in verdict.faults:
        report.layout(line)


def _repeated_keys(part: ShardSplit) -> int:
    """The number of images whose member has the name of another one. Numbered members have unique names."""
    if part.numbered:
        return 0
    names = [part.member(index) for index in range(len(part))]
    return len(names) - len(set(names))


# -- one shard -------------------------------------------------------------------------------------


def verify(task: _Task) -> _Verdict:
    """Read a shard to its end and verify size, SHA-256, headers and samples. Worker processes run this.

    A remote shard is fetched again, which verifies size and SHA-256.
    """
    shard = task.shard
    notes: List[str] = []
    try:
        if isinstance(shard.file, Remote):
            fetch(shard.file, notes, anew=True)
            path = shard.file.path
        else:
            path = shard.file
        found = list(samples(path, shard.name))
    except UsageError as error:
        return _Verdict([str(error)], notes, False)
    faults = []
    if not isinstance(shard.file, Remote) and shard.sha256:
        size, sha256 = digest(path)
        if (size, sha256) != (shard.size, shard.sha256):
            faults.append(f"{shard.name} is damaged, its SHA-256 is not the index's; copy it anew, or write it anew")
    if task.expected is not None and found != task.expected:
        return _Verdict([*faults, _difference(shard, found, task.expected)], notes, False)
    return _Verdict(faults, notes, True)


def _difference(shard: Shard, found: Sequence[Sample], expected: Sequence[Sample]) -> str:
    if len(found) != len(expected):
        detail = f"{counted(len(found), 'image')} in place of {len(expected):,}"
    else:
        member = next(one.member for one, other in zip(expected, found) if one != other)
        detail = f"the first that differs is {member}"
    return f"{shard.name} does not hold what its index says ({detail}); write it anew"
