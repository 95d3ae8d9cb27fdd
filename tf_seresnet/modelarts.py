"""Runs on the ModelArts service: data is copied in from object storage, results are copied out.

The service passes `--data_url` and `--train_url`. URLs of its object storage (`obs://`, `s3://`) go through its package
`moxing`; local paths are used directly, so that the same command works on any machine.
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
        raise UsageError(
            "several ranks do not copy from or to object storage; copy the data first and give --data-path and"
            " --output-dir, or let the service start its own processes"
        )


def with_local_data(config: RunConfig) -> RunConfig:
    """The config with --data_url as its data path, copied from object storage first if necessary.

    --data-path overrides --data_url. Raises UsageError if a URL needs moxing and it is missing.
    """
    if config.data_url is None or config.data_path is not None:
        return config
    if not config.data_url.startswith(REMOTE):
        return dataclasses.replace(config, data_path=config.data_url)
    _copy(config.data_url, config.modelarts_data_dir)
    return dataclasses.replace(config, data_path=config.modelarts_data_dir)


@contextlib.contextmanager
def staged(config: RunConfig) -> Iterator[RunConfig]:
    """Yields the config with local data and a local output folder; copies that folder to --train_url at the end.

    The folder is copied after a failure, too. Raises UsageError if a URL needs moxing and it is missing.
    """
    config = with_local_data(config)
    url, folder = config.train_url, config.output_dir
    if folder is None:
        folder = config.modelarts_result_dir
    if url is not None and folder is None:
        folder = "/cache/output" if url.startswith(REMOTE) else url
    if url is not None and url.startswith(REMOTE):
        _moxing()  # fail before hours of training, not after
    elif url is not None and url != folder:
        refuse_others(Path(url), "tf_seresnet", config.mode, "--train_url")
    try:
        yield dataclasses.replace(config, output_dir=folder)
    finally:
        if url is not None and folder is not None and url != folder and os.path.isdir(folder):
            _copy(folder, url)


def _copy(source: str, target: str) -> None:
    if source.startswith(REMOTE) or target.startswith(REMOTE):
        _moxing().file.copy_parallel(source, target)
    else:
        _copy_local(source, target)


def _copy_local(source: str, target: str) -> None:
    """Copy a folder into one that may exist already (shutil.copytree can since Python 3.8).

    `last` and `best` keep pointing to checkpoints. Times and permissions are kept if the file system supports them.
    """
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
        raise UsageError(
            "moxing is not importable, and obs:// paths need it; run on ModelArts, or give local paths with --data-path"
            " and --output-dir"
        ) from error
    return moxing
