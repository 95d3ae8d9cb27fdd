"""Checkpoints that are complete or absent, and from which a run continues exactly.

A checkpoint is a folder `checkpoints/step-00000391/` with the framework's files and `state.json`: progress, recipe,
network and the checksums of the files. It is written under a temporary name, synced and renamed. `last` and `best` name
two of them on every file system and after every way of copying: each is written as a symbolic link or, where there are
none (exFAT, some network mounts), as a text file with the checkpoint's name, which zip archives and git also make of a
link. It is read as either, and as the full copy of the checkpoint that `cp -rL`, `scp -r` and `zip -r` make of a link.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from shared.errors import UsageError, one_line
from shared.system.atomic_files import make_folder, open_to_others, sync_files, sync_folder, write_atomic
from shared.system.strict_json import json_object

FOLDER = "checkpoints"
NAMES = ("last", "best")
STATE = "state.json"
REPLACED = ".replaced"
_NUMBERED = re.compile(r"step-\d{1,18}\Z")
_CHECKSUM = "checksum"
_WRITING = ".writing-"
# Leftovers of a killed run: `.writing-...` (once `.` and eight letters), `.step-...`, `.last...`, `.best...`.
_LEFTOVER = re.compile(r"\.(writing-.*|[a-z0-9_]{8}|step-\d+.*|(last|best)(\..*)?)\Z")
FORMAT = 2  # 1 had no checksum of the state itself


def point(folder: Path, name: str, target: str) -> None:
    """Make `name` an alias of the checkpoint `target` atomically. Raises OSError."""
    temporary = folder / f".{name}"
    if os.path.lexists(str(temporary)):
        os.unlink(str(temporary))
    try:
        os.symlink(target, str(temporary))
    except (OSError, NotImplementedError):
        write_atomic(folder / name, target + "\n")
    else:
        os.replace(str(temporary), str(folder / name))


def followed(path: Path) -> Path:
    """The path, or the checkpoint that it names if it is a text file that is an alias."""
    if path.is_symlink() or not path.is_file():  # a pipe would block
        return path
    try:
        with path.open("rb") as file:
            target = file.read(64).decode("ascii").strip()
    except (OSError, ValueError):
        return path
    return path.parent / target if _NUMBERED.match(target) else path


def step_of(path: Path) -> int:
    """The step of a checkpoint from its name, that of an alias' target, or a copy's state; -1 if there is none."""
    name = os.readlink(str(path)) if path.is_symlink() else followed(path).name
    number = re.match(rf"\.?step-(\d+)({re.escape(REPLACED)})?$", os.path.basename(name))
    if number or path.name not in NAMES:
        return int(number.group(1)) if number else -1
    progress = json_object(path / STATE).get("progress")
    step = progress.get("step") if isinstance(progress, dict) else None
    return step if isinstance(step, int) and step >= 0 else -1


class Found(NamedTuple):
    """A checkpoint on disk whose checksums are correct."""

    folder: Path
    state: Dict[str, Any]
    notes: List[str]  # for the user, such as damaged checkpoints that were skipped


class CheckpointFolder:
    """The checkpoints of a run, under `folder`/checkpoints; the newest `keep`, `last` and `best` are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / FOLDER
        self._keep = keep
        make_folder(self.folder)
        for path in self.folder.glob(f".*{REPLACED}"):  # a run was killed between two renames
            original = path.with_name(path.name[1 : -len(REPLACED)])
            if not original.exists():
                os.rename(str(path), str(original))
        for path in [path for path in self.folder.glob(".*") if _LEFTOVER.match(path.name)]:
            _remove(path)
        for path in [path for path in map(self.folder.joinpath, NAMES) if path.is_dir() and not path.is_symlink()]:
            self._restore_name(path)
        self._find_best()

    def _restore_name(self, copy: Path) -> None:
        """Make a copied `last` or `best` an alias again; the copy replaces an absent or damaged original."""
        step = step_of(copy)
        target = self.folder / _name(step) if step >= 0 else copy.with_name(f"{copy.name}-damaged")
        try:
            _checked_state(target)
            _remove(_hidden(copy))
        except UsageError:
            _put(copy, target)
        if step >= 0:
            point(self.folder, copy.name, target.name)

    def _find_best(self) -> None:
        """Point `best` at the last checkpoint that was the best when written, if a kill or a copy prevented that."""
        last, numbered = followed(self.folder / "last"), _numbered(self.folder)
        candidates = [self.folder / last.resolve().name] if last.exists() else numbered[-1:]
        if not followed(self.folder / "best").exists():
            candidates += reversed(numbered)
        for path in candidates:
            if json_object(path / STATE).get("best") is True:
                point(self.folder, "best", path.name)
                break

    def save(self, step: int, write: Callable[[Path], Any], state: Dict[str, Any], best: bool = False) -> Path:
        """Write a checkpoint, point `last` (and `best`) at it, remove the oldest beyond `keep`, and return its folder.

        `write(folder)` writes the framework's files. An exception of it or of the disk propagates; nothing has changed.
        """
        target = self.folder / _name(step)
        temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=str(self.folder)))
        try:
            write(temporary)
            # Without the hidden files that macOS adds on foreign file systems.
            own = [path for path in sorted(temporary.iterdir()) if not path.name.startswith(".")]
            files = {path.name: _sha256(path) for path in own}
            content = dict(state, format=FORMAT, files=files, best=best)
            content[_CHECKSUM] = _checksum(content)
            write_atomic(temporary / STATE, json.dumps(content, indent=1, allow_nan=False) + "\n")
            open_to_others(temporary, 0o755)  # mkdtemp makes it private
            sync_files(temporary)
            _put(temporary, target)
        except BaseException:
            shutil.rmtree(str(temporary), ignore_errors=True)
            raise
        # Each is on disk before the next.
        for name in ["best", "last"] if best else ["last"]:
            sync_folder(self.folder)
            point(self.folder, name, target.name)
        sync_folder(self.folder)
        with contextlib.suppress(OSError):  # the checkpoint is written; old ones are removed with the next
            self._prune(step)
        return target

    def _prune(self, step: int) -> None:
        """Hide and remove the oldest, and those beyond `step`, which the run has resumed behind and will write anew."""
        kept = {os.path.realpath(str(followed(self.folder / name))) for name in NAMES}
        numbered = _numbered(self.folder)
        newest = [path for path in numbered if step_of(path) <= step][-self._keep :]
        old = [path for path in numbered if path not in newest and str(path.resolve()) not in kept]
        hidden = [_hidden(path) for path in old]
        sync_folder(self.folder)
        for path in hidden:
            _remove(path)


def holds_one(path: Union[str, Path]) -> bool:
    """Whether `path` is the folder of a checkpoint, a file in it, or the folder of a run or of its checkpoints.

    It may be damaged.
    """
    path = _containing(Path(path))
    return (path / STATE).is_file() or (path / FOLDER).is_dir() or (path.name == FOLDER and path.is_dir())


def _containing(path: Path) -> Path:
    """The checkpoint's folder of one of its files, or of the beginning by which TensorFlow names these; else the path.

    Its state says what the tensors alone do not: classes, normalisation, averages of the weights.
    """
    path = followed(path)
    files = None if path.is_dir() else json_object(path.parent / STATE).get("files")
    names = files if isinstance(files, dict) else {}  # anything, in a file of somebody else
    inside = any(name == path.name or name.startswith(f"{path.name}.") for name in names)
    return path.parent if inside else path


def newest(run: Path) -> Optional[Path]:
    """The checkpoint from which a run resumes, by its name alone: `last`, else the one with the highest number."""
    found = [path for path in [*_numbered(run / FOLDER), followed(run / FOLDER / "last")] if path.is_dir()]
    return found[-1] if found else None


def find(path: Union[str, Path]) -> Found:
    """The checkpoint at `path`: the folder of a checkpoint or a file in it, the folder of a run or of its checkpoints.

    Of a run it is the newest intact one; `notes` name those that are damaged. Raises UsageError if there is none.
    """
    path = _containing(Path(path))
    if not holds_one(path):
        raise UsageError(f"no checkpoint at {path}; name a run's folder, or a folder step-NNNNNNNN in it")
    if (path / STATE).is_file():
        if path.parent.name == FOLDER and _leads_out(path):
            raise UsageError(f"{path} is a link to {path.resolve()}, of another run; name the folder itself")
        return Found(path, _checked_state(path), [])
    return _newest_intact(path / FOLDER if (path / FOLDER).is_dir() else path)


def _newest_intact(folder: Path) -> Found:
    notes: List[str] = []
    last = followed(folder / "last")
    numbered = sorted([*_numbered(folder), *folder.glob(f".*{REPLACED}")], key=step_of, reverse=True)
    # Those beyond `last` are tried last: the run has resumed behind them and dropped their events.
    numbered.sort(key=lambda path: 0 <= step_of(last) < step_of(path))
    for path in [last, *numbered] if last.exists() else numbered:
        if _leads_out(path):
            notes.append(one_line(f"{path} leads to {path.resolve()}, of another run; it is skipped"))
            continue
        path = folder / path.resolve().name
        try:
            return Found(path, _checked_state(path), notes)
        except UsageError as error:
            if str(error) not in notes:
                notes.append(str(error))
    raise UsageError(
        notes[0] if notes else f"no checkpoint in {folder}; train first, or name another with --checkpoint"
    )


def _checked_state(path: Path) -> Dict[str, Any]:
    """The content of a checkpoint's state.json. Raises UsageError if a checksum is wrong."""
    try:
        state = json.loads(_plain(path / STATE).read_text(encoding="utf-8"))
        if state["format"] not in (1, FORMAT):
            raise UsageError(f"{path} is of format {str(state['format'])[:20]}; this version reads format {FORMAT}")
        if (state["format"] == FORMAT or _CHECKSUM in state) and state.pop(_CHECKSUM) != _checksum(state):
            raise _damaged(path, f"{STATE} is not what was written")
        for name, digest in state["files"].items():
            if os.path.basename(name) != name or _sha256(_plain(path / name)) != digest:
                raise _damaged(path, f"{name[:100]} is not what was written")
        return dict(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:300]}") from error


def _damaged(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} is damaged ({what}); use another checkpoint")


def _leads_out(path: Path) -> bool:
    """Whether the checkpoint is a link to another folder than the run's."""
    return path.resolve().parent != path.parent.resolve()


def _plain(path: Path) -> Path:
    """The path. Raises OSError for a pipe or a device, from which reading would block."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is not a regular file")
    return path


def _checksum(state: Dict[str, Any]) -> str:
    """The SHA-256 of the state's content, independent of its layout."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _numbered(folder: Path) -> List[Path]:
    """The checkpoints sorted by step, without folders such as `step-5-copy`."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir() and step_of(path) >= 0), key=step_of)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _hidden(path: Path) -> Path:
    """Rename to the name of a leftover, and return that."""
    hidden = path.with_name(f".{path.name}")
    _remove(hidden)
    os.rename(str(path), str(hidden))
    return hidden


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path), ignore_errors=True)
        else:
            path.unlink()


def _put(temporary: Path, target: Path) -> None:
    """Rename to `target`; an existing checkpoint of that step has a temporary name until that is done."""
    if not target.exists():
        os.rename(str(temporary), str(target))
        return
    old = target.with_name(f".{target.name}{REPLACED}")
    shutil.rmtree(str(old), ignore_errors=True)
    os.rename(str(target), str(old))
    try:
        os.rename(str(temporary), str(target))
    except BaseException:
        os.rename(str(old), str(target))
        raise
    sync_folder(target.parent)
    shutil.rmtree(str(old), ignore_errors=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
