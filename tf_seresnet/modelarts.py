"""The ModelArts way of starting: data copied in from object storage, results copied out.

`--data_url` and `--train_url` are what the service passes. Paths of the service's object storage (`obs://`, `s3://`)
go through its `moxing`; local paths are used as they are, so the same command works on one's own machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path
from typing import Any, Iterator

from shared.checkpoint import names
from shared.errors import UsageError
from shared.run.folder import refuse_others
from shared.system.paths import expanded

REMOTE = ("obs://", "s3://")
LOCAL_DATA = "/cache/cifar-10-batches-py"  # the original's default of --modelarts_data_dir


def add_options(group: Any) -> None:
    """The documented flags of the original's modelart_senet.py."""
    add = functools.partial(group.add_argument, type=expanded)
    add("--data_url", metavar="URL", help="data set in object storage, or a folder")
    add("--train_url", metavar="URL", help="where the run's folder is copied to at the end")
    add("--modelarts_data_dir", metavar="DIR", default=LOCAL_DATA, help=f"default: {LOCAL_DATA}")
    add("--modelarts_result_dir", metavar="DIR", help="the run's folder before it is copied out")


def refuse_remote(options: Any) -> None:
    """Raise UsageError where several processes would each copy from or to object storage."""
    if any((url or "").startswith(REMOTE) for url in (options.data_url, options.train_url)):
        raise UsageError(
            "several ranks do not copy from or to object storage; copy the data first and give --data-path and"
            " --output-dir, or let the service start its own processes"
        )


def stage_data(options: Any) -> None:
    """Let --data-path be what --data_url names, copied here from object storage. Raises as `staged`."""
    if options.data_url is not None and options.data_path is None:
        options.data_path = options.data_url
        if options.data_url.startswith(REMOTE):
            _copy(options.data_url, options.modelarts_data_dir)
            options.data_path = options.modelarts_data_dir


@contextlib.contextmanager
def staged(options: Any) -> Iterator[None]:
    """Around a run: the data set is local when it starts; afterwards, even after a failure, results are copied out.

    Raises UsageError where a URL needs moxing and it is not there.
    """
    stage_data(options)
    if options.output_dir is None:
        options.output_dir = options.modelarts_result_dir
    if options.train_url is not None and options.output_dir is None:
        options.output_dir = "/cache/output" if options.train_url.startswith(REMOTE) else options.train_url
    if options.train_url is not None and options.train_url.startswith(REMOTE):
        _moxing()  # hours of training must not end in "no moxing"
    elif options.train_url not in (None, options.output_dir):
        refuse_others(Path(options.train_url), "tf_seresnet", options.mode, "--train_url")
    try:
        yield
    finally:
        if options.train_url not in (None, options.output_dir) and os.path.isdir(options.output_dir):
            _copy(options.output_dir, options.train_url)


def _copy(source: str, target: str) -> None:
    if source.startswith(REMOTE) or target.startswith(REMOTE):
        _moxing().file.copy_parallel(source, target)
    else:
        _copy_local(source, target)


def _copy_local(source: str, target: str) -> None:
    """Copy a folder into one that may exist (shutil.copytree can do that from Python 3.8 on).

    `last` and `best` stay names of checkpoints; a file system that keeps no times or permissions does without.
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
        for name in filter(names.NAMES.__contains__, folders):
            if os.path.islink(os.path.join(folder, name)):
                names.point(Path(copy), name, os.readlink(os.path.join(folder, name)))


def _moxing() -> Any:
    try:
        import moxing
    except ImportError as error:
        raise UsageError(
            "moxing is not importable, and obs:// paths need it; run on ModelArts, or give local paths with --data-path"
            " and --output-dir"
        ) from error
    return moxing
