"""The folder of a run: where it is, what to do with an earlier run in it, and which run is the newest."""

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
# What a run writes into its folder: of every mode, besides by half, and by mode.
_EVERY = ("config.json", "train.log", "events.jsonl", "tensorboard", "result.json", "examples.json")
_TRAINED = {
    "tf_seresnet": ("checkpoints", "model.ckpt.*"),
    "torch_imagenet": ("checkpoints", "model.pth", "model_best.pth.tar", "checkpoint.pth.tar"),
}
_OF_MODE = {"profile": ("output.prof",)}
_OF_A_CONFIG = {"command", "recipe", "network", "options", "versions"}


def run_folder(output_dir: Optional[str], name: str) -> Path:
    """--output-dir, or a new folder under runs/ named after `name`.

    Raises UsageError where it cannot be written, where what a run writes there would go elsewhere, and where another
    process writes a run into it.
    """
    folder = make_folder(new_folder_name(name) if output_dir is None else output_dir)
    patterns = {pattern for half in _TRAINED for mode in ("train", "profile") for pattern in written(half, mode)}
    for path in sorted(folder.iterdir()):
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns) and not _is_plain(path):
            raise UsageError(
                f"{path} is a link or a device where a run writes; remove it, or choose another --output-dir"
            )
    refuse_taken(folder)
    return folder


def _is_plain(path: Path) -> bool:
    """Neither a link, which leads out of a folder that somebody else has made, nor a pipe, which nobody reads."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def new_folder_name(name: str) -> Path:
    """A folder under runs/ that no other run has; it is not made yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(RUNS) / f"{stamp}-{name}-{os.getpid()}"


def written(half: str, mode: str) -> Tuple[str, ...]:
    """The names, with wildcards, of what a run of this half and mode leaves in its folder."""
    return _EVERY + (_TRAINED[half] if mode in ("train", "finetune") else _OF_MODE.get(mode, ()))


def set_aside(folder: Path, half: str, mode: str) -> Optional[Path]:
    """Make room for a run: an earlier run in this folder moves to a folder previous-N in it; None where there was none.

    What moves is what the earlier run's config.json, or its record, vouches for. So starting the same command twice
    loses nothing, and nobody else's `checkpoints/` is taken for a run's. Raises UsageError where the new run would
    write over something that nothing vouches for, and where the earlier run cannot be moved.
    """
    refuse_others(folder, half, mode)
    return move_to_previous(folder, _vouched(folder))


def refuse_others(folder: Path, half: str, mode: str, option: str = "--output-dir") -> None:
    """Raise UsageError where a run of this half and mode would write over something that no run vouches for."""
    own = _matching(folder, _vouched(folder))
    for path in _matching(folder, written(half, mode)):
        if path not in own and not _is_empty(path):
            raise UsageError(
                f"{folder} holds {path.name}, and no config.json of a run that has written it; choose another"
                f" {option}, or move it elsewhere"
            )


def _vouched(folder: Path) -> Tuple[str, ...]:
    """What the run has written that has left its config.json here; one that only measured once left a record alone."""
    config, record = _json(folder / "config.json"), _json(folder / "result.json")
    if set(config) >= _OF_A_CONFIG and isinstance(config["options"], dict) and isinstance(config["network"], dict):
        half = "tf_seresnet" if "depth" in config["network"] else "torch_imagenet"
        return written(half, str(config["options"].get("mode", "train")))
    if record.get("half") in _TRAINED and {"schema", "mode", "versions", "started"} <= set(record):
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
    """Whether nobody's work is in it: a file without bytes, a folder without files."""
    return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0


def moved_with(path: Path, folder: Path) -> Path:
    """Where the files that begin with `path` are now, if `set_aside` has moved them with the run in this folder."""
    newest_first = sorted(folder.glob("previous-*"), key=lambda aside: aside.stat().st_mtime, reverse=True)
    inside = os.path.relpath(os.path.realpath(str(path)), os.path.realpath(str(folder)))
    places = [path, *(aside / inside for aside in newest_first)]
    return next((place for place in places if any(place.parent.glob(glob.escape(place.name) + "*"))), path)


def move_to_previous(folder: Path, patterns: Sequence[str]) -> Optional[Path]:
    """Move what has these names, with wildcards, to a folder previous-N; None where there is nothing.

    Raises UsageError where it cannot be moved.
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
    runs = [folder.parent for folder in Path(RUNS).glob(f"*/{FOLDER}")]
    found = [(run, last) for run, last in ((run, newest(run)) for run in runs) if last and any(last.glob(weights))]
    if not found:
        raise UsageError(f"no checkpoint under ./{RUNS}; train first, or name one with --checkpoint PATH")
    return max(found, key=lambda pair: pair[1].stat().st_mtime)[0]
