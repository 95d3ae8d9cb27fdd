"""Checkpoints that are whole or absent, and that know how to continue the run exactly.

A checkpoint is a folder `checkpoints/step-00000391/` with the files that a half's framework writes, and `state.json`:
progress, recipe, network and the checksums of the files. It is written under another name, synced and renamed. `last`
and `best` are symbolic links, replaced in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Union

from shared.errors import UsageError
from shared.files import sync_files, sync_folder, write_atomic

FOLDER = "checkpoints"
STATE = "state.json"
FORMAT = 1


class Found(NamedTuple):
    """A checkpoint on disk, its files as they were written."""

    folder: Path
    state: Dict[str, Any]
    notes: List[str]  # what the user should know about how it was found


class CheckpointFolder:
    """The checkpoints of one run, under `folder`/checkpoints; the newest `keep`, `last` and `best` stay."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / FOLDER
        self._keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*"):  # of a run that was killed while it wrote
            shutil.rmtree(str(leftover), ignore_errors=True)

    def save(self, step: int, write: Callable[[Path], Any], state: Dict[str, Any], best: bool = False) -> Path:
        """The folder of a new checkpoint; `last` (and `best`) point at it, the oldest beyond `keep` are dropped.

        `write` puts the framework's files into the folder that it is given. Where it or the disk fails, its exception
        passes, and nothing has changed.
        """
        target = self.folder / f"step-{step:08d}"
        temporary = Path(tempfile.mkdtemp(prefix=".", dir=str(self.folder)))
        try:
            write(temporary)
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            content = dict(state, format=FORMAT, files=files)
            write_atomic(temporary / STATE, json.dumps(content, indent=1, allow_nan=False) + "\n")
            os.chmod(str(temporary), 0o755)  # mkdtemp makes it private
            sync_files(temporary)
            _put(temporary, target)
        except BaseException:
            shutil.rmtree(str(temporary), ignore_errors=True)
            raise
        _point(self.folder / "last", target.name)
        if best:
            _point(self.folder / "best", target.name)
        sync_folder(self.folder)
        self._prune()
        return target

    def _prune(self) -> None:
        kept = {os.path.realpath(str(self.folder / name)) for name in ("last", "best")}
        for path in _numbered(self.folder)[: -self._keep]:
            if str(path.resolve()) not in kept:
                shutil.rmtree(str(path), ignore_errors=True)


def holds_one(path: Union[str, Path]) -> bool:
    """Whether `path` is the folder of a checkpoint, of a run, or of its checkpoints, intact or not."""
    path = Path(path)
    return (path / STATE).is_file() or (path / FOLDER).is_dir() or (path.name == FOLDER and path.is_dir())


def find(path: Union[str, Path]) -> Found:
    """The checkpoint that `path` means: a checkpoint's folder, or the folder of a run or its checkpoints (the last).

    A run whose newest checkpoint is damaged gives the newest intact one and says so in `notes`. Raises UsageError where
    there is none.
    """
    path = Path(path)
    if not holds_one(path):
        raise UsageError(f"no checkpoint at {path}; name a run's folder, or a folder step-NNNNNNNN in it")
    if (path / STATE).is_file():
        return Found(path, _checked_state(path), [])
    return _newest_intact(path / FOLDER if (path / FOLDER).is_dir() else path)


def _newest_intact(folder: Path) -> Found:
    notes: List[str] = []
    candidates = [path for path in [folder / "last"] if path.exists()] + _numbered(folder)[::-1]
    for path in candidates:
        path = path.resolve()
        try:
            state = _checked_state(path)
        except UsageError as error:
            if str(error) not in notes:
                notes.append(str(error))
            continue
        return Found(path, state, notes)
    raise UsageError(
        notes[0] if notes else f"no checkpoint in {folder}; train first, or name another with --checkpoint"
    )


def _checked_state(path: Path) -> Dict[str, Any]:
    """state.json of a checkpoint whose files have the checksums that it names."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise UsageError(f"{path} is of format {state['format']}; this version reads format {FORMAT}")
        for name, digest in state["files"].items():
            if os.path.basename(name) != name or _sha256(path / name) != digest:
                raise UsageError(f"{path} is damaged ({name} is not what was written); use another checkpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}: {error}); use another checkpoint") from error
    return dict(state)


def _numbered(folder: Path) -> List[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _put(temporary: Path, target: Path) -> None:
    """Rename onto `target`; a checkpoint of the same step that is already there makes room first."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=".", dir=str(target.parent)))
        os.rename(str(target), str(old / "old"))
        os.rename(str(temporary), str(target))
        shutil.rmtree(str(old), ignore_errors=True)
    else:
        os.rename(str(temporary), str(target))


def _point(link: Path, name: str) -> None:
    temporary = link.with_name(f".{link.name}")
    if os.path.lexists(str(temporary)):
        os.unlink(str(temporary))
    os.symlink(name, str(temporary))
    os.replace(str(temporary), str(link))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
