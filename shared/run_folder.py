"""The folder of a run: where it is, what to do with an earlier run in it, and which run is the newest."""

from __future__ import annotations

import datetime
import fnmatch
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Optional, Sequence, Union

from shared.errors import UsageError, one_line
from shared.files import make_folder

RUNS = "runs"
# What a run of either half writes into its folder.
FILES = (
    "config.json", "train.log", "events.jsonl", "tensorboard", "checkpoints", "result.json", "examples.json",
    "model.ckpt.*",  # tf_seresnet
    "model.pth", "model_best.pth.tar", "checkpoint.pth.tar", "output.prof", "models",  # torch_imagenet
)  # fmt: skip


def run_folder(output_dir: Optional[str], name: str) -> Path:
    """--output-dir, or a new folder under runs/ named after `name`.

    Raises UsageError where it cannot be written, or where what a run writes there would go elsewhere.
    """
    folder = make_folder(new_folder_name(name) if output_dir is None else output_dir)
    for path in sorted(folder.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in FILES) and not _is_plain(path):
            raise UsageError(
                one_line(f"{path} is a link or a device where a run writes; remove it, or choose another --output-dir")
            )
    return folder


def _is_plain(path: Path) -> bool:
    """Neither a link, which leads out of a folder that somebody else has made, nor a pipe, which nobody reads."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def new_folder_name(name: str) -> Path:
    """A folder under runs/ that no other run has; it is not made yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(RUNS) / f"{stamp}-{name}-{os.getpid()}"


def set_aside(folder: Path, files: Sequence[str] = FILES) -> Optional[Path]:
    """Move the files of an earlier run in this folder to a folder previous-N in it; None where there was none.

    `files` are the names, with wildcards, of what a run leaves there. They then belong to one run, and starting the
    same command twice loses nothing. Raises UsageError where they cannot be moved.
    """
    earlier = sorted({path for pattern in files for path in folder.glob(pattern)})
    if not earlier:
        return None
    number = 1
    while (folder / f"previous-{number}").exists():
        number += 1
    target = folder / f"previous-{number}"
    try:
        target.mkdir()
        for path in earlier:
            os.rename(str(path), str(target / path.name))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot move the run that is in {folder} to {target} ({reason}); choose another --output-dir"
        ) from error
    return target


def run_of(checkpoint: Union[str, Path]) -> Path:
    """The folder of the run whose checkpoint stands in this folder, RUN/checkpoints/step-NNNNNNNN.

    Raises UsageError for one that stands elsewhere: where its run is to be written, its place does not say.
    """
    folder = Path(os.path.abspath(str(checkpoint))).parent  # of links in the run's folder, the place that was named
    if folder.name != "checkpoints":
        folder = Path(checkpoint).resolve().parent
    if folder.name != "checkpoints":
        raise UsageError(f"{checkpoint} is not in the folder of a run; say with --output-dir where to go on")
    return folder.parent


def is_run_of(folder: Path, checkpoint: Union[str, Path]) -> bool:
    """Whether the checkpoint in this folder is one of the run in `folder`."""
    place = Path(checkpoint).resolve().parent
    return place.name == "checkpoints" and place.parent == folder.resolve()


def named_weights(options: Any, weights: str) -> Union[str, Path]:
    """What --checkpoint names, or --resume, else the newest run whose last checkpoint holds a file like `weights`.

    Raises UsageError where there is none, or where both options are given.
    """
    named = [path for path in (options.checkpoint, options.resume) if path is not None]
    if len(named) > 1:
        raise UsageError("--checkpoint and --resume both name the weights; give one of them")
    return named[0] if named else newest_run(weights)


def newest_run(weights: str) -> Path:
    """The run under runs/ whose checkpoint is the newest, of those whose last one holds a file like `weights`.

    Each half names its own file, so that neither picks up the other's run. Raises UsageError where there is none.
    """
    found = [path.parent for path in Path(RUNS).glob(f"*/checkpoints/last/{weights}")]
    if not found:
        raise UsageError(f"no checkpoint under ./{RUNS}; train first, or name one with --checkpoint PATH")
    return max(found, key=lambda path: path.stat().st_mtime).parent.parent


def command() -> str:
    """The command line as it could be typed again."""
    return " ".join(shlex.quote(word) for word in [Path(sys.executable).name, *sys.argv])
