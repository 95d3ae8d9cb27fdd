"""The mode check-data of ImageNet: decode every image, and read every shard to its end.

The folders are scanned again, so that files rewritten in place are noticed. A fault would stop a training; a remark is
unusual but harmless, such as the grey and CMYK images of the official set.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import UsageError
from shared.imagenet.decode import Finding, inspect
from shared.imagenet.download_cache import ShardCache, shown
from shared.imagenet.extent_reader import Extent, ExtentReader
from shared.imagenet.layout import OFFICIAL_NAME, counted, faults, find, is_official, name_of, present, remarks
from shared.imagenet.report import Report
from shared.imagenet.shards.check import readable, shards_to_check
from shared.imagenet.shards.dataset import holds_shards
from shared.imagenet.split import Split, scan
from shared.system.processes import ProcessPool

_CHUNK = 32  # images per task of a worker process
_PROGRESS_SECONDS = 10.0

Say = Callable[[str], None]
Pause = Callable[[], None]


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
    _need_pillow()
    report = Report(say)
    with ProcessPool(workers) as pool:
        found = _opened(path, pool, report, shard_cache, pause)
        for part in found.parts:
            say(_counts(part))
        for line in faults(found.parts):
            report.layout(line)
        for line in remarks(found.parts):
            say(f"remark: {line}")
        _read_images(found.groups, sum(map(len, found.parts)), pool, report, pause)
    official = is_official(found.parts)
    name = name or (OFFICIAL_NAME if official else found.name)
    report.close(name)
    if len(found.parts) == 1:
        say("remark: there is no train part, which training needs; val alone can be evaluated on")
    say(f"{name}: complete" + (", the official counts" if name == OFFICIAL_NAME else ""))


class _Found(NamedTuple):
    name: str
    parts: Sequence[Split]
    groups: Iterator[Tuple[Split, np.ndarray]]  # indices of readable images, split by split or shard by shard


def _opened(
    path: Union[str, Path], pool: ProcessPool, report: Report, shard_cache: Optional[ShardCache], pause: Pause
) -> _Found:
    if holds_shards(path):
        found = shards_to_check(path, pool, report, shard_cache, pause)
        report.say(f"shards in {shown(found.where)}")
        parts = list(found.parts.values())
        return _Found(found.name or name_of(Path(found.where)), parts, readable(parts, pool, report))
    root = find(path, ("val",))
    folders = [scan(str(root / split)) for split in present(root)]
    report.say(f"folder {root}")
    return _Found(name_of(root), folders, ((part, np.arange(len(part))) for part in folders))


# -- images --------------------------------------------------------------------------------------

Item = Tuple[Extent, str]  # the location of an image, and its class and file name


class _Chunk(NamedTuple):
    """The images of one task of a worker process."""

    part: Split
    indices: List[int]


def _read_images(
    groups: Iterator[Tuple[Split, np.ndarray]], total: int, pool: ProcessPool, report: Report, pause: Pause
) -> None:
    done, spoken = 0, time.monotonic()
    for part, indices in groups:
        for chunk, findings in pool.results(inspect_all, _chunks(part, indices), 4 * pool.workers, _place):
            for index, found in zip(chunk.indices, findings):
                for finding in found:
                    report.image(part.full_name(index), finding)
            done += len(findings)
            if time.monotonic() - spoken >= _PROGRESS_SECONDS:
                spoken = time.monotonic()
                report.say(f"read {done:,} of {total:,} images")
            pause()


def _chunks(part: Split, indices: np.ndarray) -> Iterator[Tuple[_Chunk, List[Item]]]:
    for start in range(0, len(indices), _CHUNK):
        some = indices[start : start + _CHUNK].tolist()
        yield _Chunk(part, some), [(part.extent(index), part.relative_name(index)) for index in some]


def _place(chunk: _Chunk) -> str:
    return chunk.part.path(chunk.indices[0])


def inspect_all(items: Sequence[Item]) -> List[List[Finding]]:
    """Return the findings of each image. A module-level function, because worker processes run it."""
    found = []
    with ExtentReader() as reader:
        for extent, name in items:
            try:
                found.append(inspect(reader.source(extent), name))
            except UsageError as error:
                found.append([Finding(True, "cannot be read", str(error).split("; ")[0])])
    return found


# -- text ----------------------------------------------------------------------------------------


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise UsageError("reading images needs Pillow; pip install Pillow") from error


def _counts(part: Split) -> str:
    counts = part.class_counts()
    line = f"{part.subset}: {counted(len(part), 'image')} in {counted(len(counts), 'class', 'classes')}"
    if not len(counts):
        return line
    return f"{line}, per class {counts.min():,} to {counts.max():,}, median {np.median(counts):,.1f}"
