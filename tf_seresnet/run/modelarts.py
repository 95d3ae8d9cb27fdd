"""Runs on the ModelArts service: data is copied in from object storage, results are copied out.

URLs of its object storage (`obs://`, `s3://`) go through its package `moxing`; local paths are used directly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any, Iterator

from shared.checkpoint.folder import NAMES, point
from shared.errors import UsageError
from shared.run.folder import refuse_others
from tf_seresnet.options import RunConfig

REMOTE = ("obs://", "s3://")


def refuse_remote(config: RunConfig) -> None:
    """Raise UsageError if several ranks would each copy from or to object storage."""
    if any((url or "").startswith(REMOTE) for url in (config.data_url, config.train_url)):
        raise UsageError("several ranks do not copy from or to object storage; give --data-path and --output-dir")


def with_local_data(config: RunConfig) -> RunConfig:
    """The config with --data_url as its data path, copied from object storage first; --data-path overrides it."""
    if config.data_url is None or config.data_path is not None:
        return config
    folder = config.data_url
    if folder.startswith(REMOTE):
        folder = config.modelarts_data_dir
        _copy(config.data_url, folder)
    return dataclasses.replace(config, data_path=folder)


@contextlib.contextmanager
def staged(config: RunConfig) -> Iterator[RunConfig]:
    """Yields the config with local data and output folders; copies the latter to --train_url, also after a failure.

    Raises UsageError if a URL needs moxing and it is missing.
    """
    config = with_local_data(config)
    url, folder = config.train_url, config.output_dir or config.modelarts_result_dir
    if url is not None and url.startswith(REMOTE):
        folder = folder or "/cache/output"
        _moxing()  # fail before hours of training, not after
    elif url is not None:
        folder = folder or url
        if url != folder:
            refuse_others(Path(url), "tf_seresnet", config.mode, "--train_url")
    try:
        yield dataclasses.replace(config, output_dir=folder)
    finally:
        if url is not None and folder is not None and url != folder and os.path.isdir(folder):
            _copy(folder, url)


def _copy(source: str, target: str) -> None:
    """Copy a folder into one that may exist. Local copies keep `last` and `best`, and times where the disk can."""
    if source.startswith(REMOTE) or target.startswith(REMOTE):
        _moxing().file.copy_parallel(source, target)
        return
    if os.path.realpath(source) == os.path.realpath(target):
        return
    for folder, folders, files in os.walk(source):
        copy = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(copy, exist_ok=True)
        for name in files:
            shutil.copyfile(os.path.join(folder, name), os.path.join(copy, name))
            with contextlib.suppress(OSError):
                shutil.copystat(os.path.join(folder, name), os.path.join(copy, name))
        for name in filter(NAMES.__contains__, folders):
            if os.path.islink(os.path.join(folder, name)):
                point(Path(copy), name, os.readlink(os.path.join(folder, name)))


def _moxing() -> Any:
    try:
        import moxing
    except ImportError as error:
        raise UsageError("moxing is not importable, and obs:// needs it; run on ModelArts, or copy first") from error
    return moxing
