"""The folder of a run: its location, its lock, an earlier run in it, and the newest run."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import glob
import itertools
import os
import socket
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple, Union

from shared.checkpoint.folder import FOLDER, newest
from shared.errors import UsageError, reason
from shared.system.atomic_files import make_folder
from shared.system.strict_json import json_object

RUNS = "runs"
CARD = "model-card"  # of `python -m shared.results --publish RUN --model-card`
# Files of a run: of every mode, of trainings by half, and of other modes.
_ALWAYS = ("config.json", "train.log", "events.jsonl", "tensorboard", "result.json", "examples.json")
_BY_TRAINING = {
    "tf_seresnet": ("checkpoints", "model.ckpt.*", "model.weights.h5", CARD),
    "torch_imagenet": ("checkpoints", "model.pth", "model_best.pth.tar", "checkpoint.pth.tar", CARD),
}
_BY_MODE = {"profile": ("output.prof",), "check-port": ("port.json",)}
_LOCK = ".lock"
_CONFIG_KEYS = {"command", "recipe", "network", "options", "versions"}


def open_folder(
    half: str, mode: str, name: str, output_dir: Optional[str], resumed: Optional[Path]
) -> Tuple[Path, List[str]]:
    """The folder of a run, `output_dir` or a new one, and a line for the log where an earlier run was moved.

    The run whose checkpoint `resumed` is stays where it is. Raises UsageError where the folder cannot be used.
    """
    folder = run_folder(output_dir, name)
    if _goes_on_in(folder, resumed):
        return folder, []
    aside = set_aside(folder, half, mode)
    return folder, [f"note: the run that was in {folder} is now in {aside}"] if aside else []


def _goes_on_in(folder: Path, resumed: Optional[Path]) -> bool:
    return resumed is not None and resumed.resolve().parent == (folder / FOLDER).resolve()


def refuse_training(folder: Path) -> None:
    """Raise UsageError where an evaluation would replace the record of a training."""
    if (folder / FOLDER).exists():
        raise UsageError(f"{folder} holds a training run; choose another folder for the evaluation with --output-dir")


def would_be_written(half: str, mode: str, output_dir: Optional[str], resumed: Optional[Path] = None) -> str:
    """A line about the folder that `open_folder` would give. Changes nothing.

    Raises UsageError where it is plain that the folder cannot be used.
    """
    folder = Path(RUNS if output_dir is None else output_dir)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(str(path)))
    if not there.is_dir() or not os.access(str(there), os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "may not be written"
        raise UsageError(f"cannot write {folder}: {there} {what}; choose another --output-dir")
    if output_dir is None:
        return f"output: a new folder under {RUNS}/"
    refuse_taken(folder)
    if _goes_on_in(folder, resumed) or not folder.is_dir():
        return f"output: {folder}"
    if mode == "evaluate":
        refuse_training(folder)
    refuse_others(folder, half, mode)
    earlier = _matching(folder, _patterns_of_run_in(folder))
    return f"output: {folder}" + (", whose earlier run would be moved to previous-N in it" if earlier else "")


def run_folder(output_dir: Optional[str], name: str) -> Path:
    """--output-dir, or a new folder under runs/ named after `name`.

    Raises UsageError if it cannot be written, has a link or a device where a run writes, or is another process's.
    """
    folder = make_folder(new_folder_name(name) if output_dir is None else output_dir)
    patterns = [*_ALWAYS, *itertools.chain(*_BY_TRAINING.values(), *_BY_MODE.values())]
    for path in sorted(folder.iterdir()):
        plain = not path.is_symlink() and (path.is_file() or path.is_dir())  # a link leads out, a pipe blocks
        if not plain and any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
            what = f"{path} is a link or a device where a run writes"
            raise UsageError(f"{what}; remove it, or choose another --output-dir")
    refuse_taken(folder)
    return folder


def new_folder_name(name: str) -> Path:
    """The name of a new folder under runs/, which is not made yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path(RUNS) / f"{stamp}-{name}-{os.getpid()}"


def set_aside(folder: Path, half: str, mode: str) -> Optional[Path]:
    """Move an earlier run in this folder to a folder previous-N in it, and return that; None if there is no run.

    Those files are moved that its config.json or record vouches for. Raises UsageError if the new run would overwrite
    another one, or they cannot be moved.
    """
    refuse_others(folder, half, mode)
    return move_to_previous(folder, _patterns_of_run_in(folder))


def refuse_others(folder: Path, half: str, mode: str, option: str = "--output-dir") -> None:
    """Raise UsageError if a run of this half and mode would overwrite a file that is no earlier run's."""
    own = _matching(folder, _patterns_of_run_in(folder))
    for path in _matching(folder, _written(half, mode)):
        empty = not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
        if path not in own and not empty:
            what = f"{folder} holds {path.name}, and no config.json of a run that has written it"
            raise UsageError(f"{what}; choose another {option}, or move it elsewhere")


def _written(half: str, mode: str) -> Tuple[str, ...]:
    """The patterns of the files that a run of this half and mode leaves in its folder."""
    return _ALWAYS + (_BY_TRAINING[half] if mode in ("train", "finetune") else _BY_MODE.get(mode, ()))


def _patterns_of_run_in(folder: Path) -> Tuple[str, ...]:
    """The patterns of the files of the run whose config.json, or record alone, is in this folder."""
    config, record = json_object(folder / "config.json"), json_object(folder / "result.json")
    if set(config) >= _CONFIG_KEYS and isinstance(config["options"], dict) and isinstance(config["network"], dict):
        half = "tf_seresnet" if "depth" in config["network"] else "torch_imagenet"
        return _written(half, str(config["options"].get("mode", "train")))
    if record.get("half") in _BY_TRAINING and {"schema", "mode", "versions", "started"} <= set(record):
        return _written(record["half"], str(record["mode"]))
    return ()


def _matching(folder: Path, patterns: Sequence[str]) -> List[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def move_to_previous(folder: Path, patterns: Sequence[str]) -> Optional[Path]:
    """Move the files that match to a folder previous-N, and return that; None without any. Raises UsageError."""
    earlier = _matching(folder, patterns)
    if not earlier:
        return None
    targets = (folder / f"previous-{number}" for number in itertools.count(1))
    target = next(path for path in targets if not path.exists())
    try:
        target.mkdir()
        for path in earlier:
            os.rename(str(path), str(target / path.name))
    except OSError as error:
        what = f"cannot move the run that is in {folder} to {target} ({reason(error)})"
        raise UsageError(f"{what}; choose another --output-dir") from error
    return target


def moved_with(path: Path, folder: Path) -> Path:
    """The path of the files that begin with `path`, after `set_aside` may have moved them."""
    newest_first = sorted(folder.glob("previous-*"), key=lambda aside: aside.stat().st_mtime, reverse=True)
    inside = os.path.relpath(os.path.realpath(str(path)), os.path.realpath(str(folder)))
    candidates = [path, *(aside / inside for aside in newest_first)]
    return next((one for one in candidates if any(one.parent.glob(glob.escape(one.name) + "*"))), path)


def run_of(checkpoint: Union[str, Path]) -> Path:
    """The folder RUN of the checkpoint RUN/checkpoints/step-NNNNNNNN. Raises UsageError for any other path."""
    # Of a link in a run's folder that folder, else the one that it leads to.
    for path in (os.path.abspath(str(checkpoint)), os.path.realpath(str(checkpoint))):
        if Path(path).parent.name == FOLDER:
            return Path(path).parent.parent
    raise UsageError(f"{checkpoint} is not in the folder of a run; say with --output-dir where to continue")


def named_weights(
    checkpoint: Optional[str], resume: Optional[str], weights: str, old_place: Optional[str] = None
) -> Union[str, Path]:
    """The path of --checkpoint or --resume, else the run under runs/ with the newest checkpoint, else `old_place`.

    The run's files match `weights`, by which the halves differ; `old_place` is an old port's folder, if it has
    TensorFlow's index. Raises UsageError if there is none or both options are given.
    """
    named = [path for path in (checkpoint, resume) if path is not None]
    if len(named) > 1:
        raise UsageError("--checkpoint and --resume both name the weights; give one of them")
    if named:
        return named[0]
    last = [newest(folder.parent) for folder in Path(RUNS).glob(f"*/{FOLDER}")]
    found = [path for path in last if path is not None and any(path.glob(weights))]
    if not found and old_place is not None and os.path.isfile(os.path.join(old_place, "checkpoint")):
        return old_place
    if not found:
        raise UsageError(f"no checkpoint under ./{RUNS}; train first, or name one with --checkpoint PATH")
    return max(found, key=lambda path: path.stat().st_mtime).parent.parent


# -- lock: two runs in one folder would move each other's files while they are written ------------------------------


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock inside. Raises UsageError if another process holds it.

    A POSIX lock is not kept by children, such as data workers. Where a file system has none, nothing is locked.
    """
    path = folder / _LOCK
    for _ in range(10):
        try:
            descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # the run's own files will report it
            break
        _lock(descriptor, folder)
        if not _is_at(descriptor, path):  # its holder removed it after it was opened
            os.close(descriptor)
            continue
        try:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            with contextlib.suppress(OSError):
                os.remove(str(path))
            os.close(descriptor)
        return
    yield


def refuse_taken(folder: Path) -> None:
    """Raise UsageError if another process is writing a run into this folder. Changes nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(str(folder / _LOCK), os.O_RDWR)
        _lock(descriptor, folder)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    """Lock the file. Closes the descriptor and raises UsageError if another process holds the lock."""
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 200).decode("utf-8", "replace") or "another process"
        os.close(descriptor)
        what = f"{holder} is writing a run into {folder}"
        raise UsageError(f"{what}; wait for its end, stop it, or choose another --output-dir") from None
    except (ImportError, OSError):
        pass  # no locks on this system


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(str(path)))
    return False
