"""Checkpoints that are whole or absent, and that know how to continue the run exactly.

A checkpoint is a folder `checkpoints/step-00000391/` with the files that a half's framework writes, and `state.json`:
progress, recipe, network and the checksums of the files. It is written under another name, synced and renamed. `last`
and `best` are symbolic links, replaced in one step.
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
from typing import Any, Callable, Dict, List, NamedTuple, Union

from shared.errors import UsageError, one_line
from shared.files import make_folder, sync_files, sync_folder, write_atomic

FOLDER = "checkpoints"
STATE = "state.json"
_REPLACED, _CHECKSUM = ".replaced", "checksum"
FORMAT = 2  # 1 had no checksum of the state itself


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
        make_folder(self.folder)
        for path in self.folder.glob(f".*{_REPLACED}"):  # a run was killed between two renames
            if not _numbered_name(path).exists():
                os.rename(str(path), str(_numbered_name(path)))
        for leftover in self.folder.glob(".*"):  # of a run that was killed while it wrote or removed one
            shutil.rmtree(str(leftover), ignore_errors=True)
        self._find_best()

    def _find_best(self) -> None:
        """Point `best` at the last checkpoint where that is it, and a run was killed before it could say so."""
        last = self.folder / "last"
        for path in [last.resolve()] if last.exists() else _numbered(self.folder)[-1:]:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # damaged; whoever reads it will say so
                if json.loads((path / STATE).read_text(encoding="utf-8")).get("best") is True:
                    _point(self.folder / "best", path.name)

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
            content = dict(state, format=FORMAT, files=files, best=best)
            content[_CHECKSUM] = _checksum(content)
            write_atomic(temporary / STATE, json.dumps(content, indent=1, allow_nan=False) + "\n")
            os.chmod(str(temporary), 0o755)  # mkdtemp makes it private
            sync_files(temporary)
            _put(temporary, target)
        except BaseException:
            shutil.rmtree(str(temporary), ignore_errors=True)
            raise
        # Each on the disk before what follows.
        for name in ["best", "last"] if best else ["last"]:
            sync_folder(self.folder)
            _point(self.folder / name, target.name)
        sync_folder(self.folder)
        with contextlib.suppress(OSError):  # the checkpoint is written; what is too much goes with the next one
            self._prune(step)
        return target

    def _prune(self, step: int) -> None:
        """Drop the oldest, and those beyond `step`, which the run has gone back behind: it is to write them anew.

        Neither is a part of one ever seen under its name, also after a power cut.
        """
        kept = {os.path.realpath(str(self.folder / name)) for name in ("last", "best")}
        numbered = _numbered(self.folder)
        of_now = [path for path in numbered if _step(path) <= step]
        newest, hidden = of_now[-self._keep :], []
        for path in numbered:
            if path not in newest and str(path.resolve()) not in kept:
                hidden.append(path.with_name(f".{path.name}"))
                shutil.rmtree(str(hidden[-1]), ignore_errors=True)
                os.rename(str(path), str(hidden[-1]))
        sync_folder(self.folder)
        for path in hidden:
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
        if path.parent.name == FOLDER and _leads_out(path):
            raise UsageError(one_line(f"{path} is a link to {path.resolve()}, of another run; name the folder itself"))
        return Found(path, _checked_state(path), [])
    return _newest_intact(path / FOLDER if (path / FOLDER).is_dir() else path)


def _newest_intact(folder: Path) -> Found:
    notes: List[str] = []
    last = folder / "last"
    numbered = sorted([*_numbered(folder), *folder.glob(f".*{_REPLACED}")], key=_step, reverse=True)
    # Those beyond `last` come last: a run that has gone back behind them has dropped their events.
    beyond = [path for path in numbered if last.is_symlink() and _step(path) > _step(Path(os.readlink(str(last))))]
    candidates = [last] if last.exists() else []
    candidates += [path for path in numbered if path not in beyond] + beyond
    for path in candidates:
        if _leads_out(path):
            notes.append(one_line(f"{path} leads to {path.resolve()}, of another run; it is passed over"))
            continue
        path = folder / path.resolve().name
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
        state = json.loads(_plain(path / STATE).read_text(encoding="utf-8"))
        if state["format"] not in (1, FORMAT):
            this = f"{path} is of format {str(state['format'])[:20]}; this version reads format {FORMAT}"
            raise UsageError(one_line(this))
        if (state["format"] == FORMAT or _CHECKSUM in state) and state.pop(_CHECKSUM) != _checksum(state):
            raise _damaged(path, f"{STATE} is not what was written")
        for name, digest in state["files"].items():
            if os.path.basename(name) != name or _sha256(_plain(path / name)) != digest:
                raise _damaged(path, f"{name[:100]} is not what was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:300]}") from error
    return dict(state)


def _leads_out(path: Path) -> bool:
    """Whether the checkpoint's name in a run's folder is a link to elsewhere, where nothing of this run belongs."""
    return path.resolve().parent != path.parent.resolve()


def _plain(path: Path) -> Path:
    """Itself. Raises OSError for a pipe or a device, for which a reader would wait for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path.name} is no plain file")
    return path


def _damaged(path: Path, what: str) -> UsageError:
    return UsageError(one_line(f"{path} is damaged ({what}); use another checkpoint"))


def _checksum(state: Dict[str, Any]) -> str:
    """Of what the state says, not of how it is laid out."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _numbered(folder: Path) -> List[Path]:
    """In their order; `step-5-copy` is somebody else's."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir() and _step(path) >= 0), key=_step)


def _step(path: Path) -> int:
    """The number in a checkpoint's name, -1 for another name."""
    number = re.match(rf"\.?step-(\d+)({re.escape(_REPLACED)})?$", path.name)
    return int(number.group(1)) if number else -1


def _numbered_name(replaced: Path) -> Path:
    return replaced.with_name(replaced.name[1 : -len(_REPLACED)])


def _put(temporary: Path, target: Path) -> None:
    """Rename onto `target`; a checkpoint of the same step that is already there makes room first.

    Between the two renames it is found under the name that it has then.
    """
    if not target.exists():
        os.rename(str(temporary), str(target))
        return
    old = target.with_name(f".{target.name}{_REPLACED}")
    shutil.rmtree(str(old), ignore_errors=True)
    os.rename(str(target), str(old))
    try:
        os.rename(str(temporary), str(target))
    except BaseException:
        os.rename(str(old), str(target))
        raise
    sync_folder(target.parent)
    shutil.rmtree(str(old), ignore_errors=True)


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
