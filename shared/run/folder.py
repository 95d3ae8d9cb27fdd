"""The folder of a run: its location, an earlier run in it, and the newest run."""

from __future__ import annotations

import datetime
import fnmatch
import glob
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from shared.checkpoint.folder import FOLDER, newest
from shared.errors import UsageError
from shared.run.folder_lock import refuse_taken
from shared.system.atomic_files import make_folder

RUNS = "runs"
# Files of a run: of every mode, of trainings by half, and of other modes.
_ALWAYS = ("config.json", "train.log", "events.jsonl", "tensorboard", "result.json", "examples.json")
_BY_TRAINING = {
    "tf_seresnet": ("checkpoints", "model.ckpt.*"),
    "torch_imagenet": ("checkpoints", "model.pth", "model_best.pth.tar", "checkpoint.pth.tar"),
}
_BY_MODE = {"profile": ("output.prof",), "check-port": ("port.json",)}
_CONFIG_KEYS = {"command", "recipe", "network", "options", "versions"}


def run_folder(output_dir: Optional[str], name: str) -> Path:
    """--output-dir, or a new folder under runs/ named after `name`.

    Raises UsageError if it cannot be written, if a file of a run is a link or a device there, and if another process is
    writing a run into it.
    """
    folder = make_folder(new_folder_name(name) if output_dir is None else output_dir)
    patterns = {pattern for half in _BY_TRAINING for mode in ("train", "profile") for pattern in written(half, mode)}
    for path in sorted(folder.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns) and not _is_plain(path):
            raise UsageError(
                f"{path} is a link or a device where a run writes; remove it, or choose another --output-dir"
            )
    refuse_taken(folder)
    return folder


def _is_plain(path: Path) -> bool:
    """Neither a link, which leads out of the folder, nor a pipe, which blocks."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def new_folder_name(name: str) -> Path:
    """The name of a new folder under runs/, which is not made yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(RUNS) / f"{stamp}-{name}-{os.getpid()}"


def written(half: str, mode: str) -> Tuple[str, ...]:
    """The patterns of the files that a run of this half and mode leaves in its folder."""
    return _ALWAYS + (_BY_TRAINING[half] if mode in ("train", "finetune") else _BY_MODE.get(mode, ()))


def set_aside(folder: Path, half: str, mode: str) -> Optional[Path]:
    """Move an earlier run in this folder to a folder previous-N in it, and return that; None if there is no run.

    The files moved are those of the run of the earlier config.json or record, so that starting a command twice loses
    nothing and foreign files stay. Raises UsageError if the new run would overwrite a foreign file or the earlier run
    cannot be moved.
    """
    refuse_others(folder, half, mode)
    return move_to_previous(folder, _patterns_of_run_in(folder))


def refuse_others(folder: Path, half: str, mode: str, option: str = "--output-dir") -> None:
    """Raise UsageError if a run of this half and mode would overwrite a file that is no earlier run's."""
    own = _matching(folder, _patterns_of_run_in(folder))
    for path in _matching(folder, written(half, mode)):
        if path not in own and not _is_empty(path):
            raise UsageError(
                f"{folder} holds {path.name}, and no config.json of a run that has written it; choose another"
                f" {option}, or move it elsewhere"
            )


def _patterns_of_run_in(folder: Path) -> Tuple[str, ...]:
    """The patterns of the files of the run whose config.json, or record alone, is in this folder."""
    config, record = _json(folder / "config.json"), _json(folder / "result.json")
    if set(config) >= _CONFIG_KEYS and isinstance(config["options"], dict) and isinstance(config["network"], dict):
        half = "tf_seresnet" if "depth" in config["network"] else "torch_imagenet"
        return written(half, str(config["options"].get("mode", "train")))
    if record.get("half") in _BY_TRAINING and {"schema", "mode", "versions", "started"} <= set(record):
        return written(record["half"], str(record["mode"]))
    return ()


def _json(path: Path) -> Dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _matching(folder: Path, patterns: Sequence[str]) -> List[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _is_empty(path: Path) -> bool:
    """Whether it is a file without bytes or a folder without entries."""
    return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0


def moved_with(path: Path, folder: Path) -> Path:
    """The path of the files that begin with `path`, after `set_aside` may have moved them."""
    newest_first = sorted(folder.glob("previous-*"), key=lambda aside: aside.stat().st_mtime, reverse=True)
    inside = os.path.relpath(os.path.realpath(str(path)), os.path.realpath(str(folder)))
    candidates = [path, *(aside / inside for aside in newest_first)]
    return next((one for one in candidates if any(one.parent.glob(glob.escape(one.name) + "*"))), path)


def move_to_previous(folder: Path, patterns: Sequence[str]) -> Optional[Path]:
    """Move the files that match these patterns to a folder previous-N, and return that; None if there are none.

    Raises UsageError if they cannot be moved.
    """
    earlier = _matching(folder, patterns)
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
    """The folder RUN of the checkpoint RUN/checkpoints/step-NNNNNNNN. Raises UsageError for any other path."""
    folder = Path(os.path.abspath(str(checkpoint))).parent  # of a link, its own folder
    if folder.name != "checkpoints":
        folder = Path(checkpoint).resolve().parent
    if folder.name != "checkpoints":
        raise UsageError(f"{checkpoint} is not in the folder of a run; say with --output-dir where to continue")
    return folder.parent


def is_run_of(folder: Path, checkpoint: Union[str, Path]) -> bool:
    """Whether the checkpoint in this folder is one of the run in `folder`."""
    checkpoints = Path(checkpoint).resolve().parent
    return checkpoints.name == "checkpoints" and checkpoints.parent == folder.resolve()


def named_weights(checkpoint: Optional[str], resume: Optional[str], weights: str) -> Union[str, Path]:
    """The path of --checkpoint or --resume, else the newest run whose last checkpoint has a file matching `weights`.

    Raises UsageError if there is none or both options are given.
    """
    named = [path for path in (checkpoint, resume) if path is not None]
    if len(named) > 1:
        raise UsageError("--checkpoint and --resume both name the weights; give one of them")
    return named[0] if named else newest_run(weights)


def newest_run(weights: str) -> Path:
    """The run under runs/ with the newest checkpoint, of those whose last one has a file that matches `weights`.

    The halves have different files, so that neither picks up the other's run. Raises UsageError if there is none.
    """
    runs = [folder.parent for folder in Path(RUNS).glob(f"*/{FOLDER}")]
    found = [(run, last) for run, last in ((run, newest(run)) for run in runs) if last and any(last.glob(weights))]
    if not found:
        raise UsageError(f"no checkpoint under ./{RUNS}; train first, or name one with --checkpoint PATH")
    return max(found, key=lambda pair: pair[1].stat().st_mtime)[0]


def open_folder(
    half: str, mode: str, name: str, output_dir: Optional[str], resumed: Optional[Path]
) -> Tuple[Path, List[str]]:
    """The folder of a run, `output_dir` or a new one, and a line for the log where an earlier run was moved.

    The run whose checkpoint, in the folder `resumed`, is continued stays where it is. Raises UsageError where the
    folder cannot be used.
    """
    folder = run_folder(output_dir, name)
    aside = None if resumed and is_run_of(folder, resumed) else set_aside(folder, half, mode)
    return folder, [f"note: the run that was in {folder} is now in {aside}"] if aside else []
