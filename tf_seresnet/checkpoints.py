"""Checkpoints that are whole or absent, and that know how to continue the run exactly.

A checkpoint is a folder `checkpoints/step-00000391/` with TensorFlow's own files (`model.ckpt.*`), which any TensorFlow
reads, and `state.json`: progress, recipe, network and the checksums of the files. It is written under another name,
synced and renamed. `last` and `best` are symbolic links, replaced in one step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Union

import tensorflow as tf

from shared.errors import UsageError
from shared.files import sync_folder, write_atomic

tf1 = tf.compat.v1

WEIGHTS = "model.ckpt"
STATE = "state.json"
FORMAT = 1


class Found(NamedTuple):
    """A checkpoint on disk: the prefix of TensorFlow's files, and our state where there is one."""

    prefix: str
    state: Optional[Dict[str, Any]]
    notes: List[str]  # what the user should know about how it was found


class Checkpoints:
    """The checkpoints of one run, under `folder`/checkpoints. Make it when the graph is complete."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self._keep = keep
        self._saver = _saver(saved_variables())
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*"):  # of a run that was killed while it wrote
            shutil.rmtree(str(leftover), ignore_errors=True)

    def save(self, session: Any, state: Dict[str, Any], best: bool = False) -> Path:
        """Write all variables and `state`, point `last` (and `best`) at them, drop the oldest beyond `keep`."""
        target = self.folder / f"step-{state['progress']['step']:08d}"
        temporary = Path(tempfile.mkdtemp(prefix=".", dir=str(self.folder)))
        try:
            self._saver.save(session, str(temporary / WEIGHTS), write_meta_graph=False, write_state=False)
            files = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            content = dict(state, format=FORMAT, files=files)
            write_atomic(temporary / STATE, json.dumps(content, indent=1, allow_nan=False) + "\n")
            _make_durable(temporary)
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


def find(path: Union[str, Path]) -> Found:
    """The checkpoint that `path` means: a checkpoint's folder, a run's folder (its last one) or TensorFlow's files.

    A run whose newest checkpoint is damaged gives the newest intact one and says so in `notes`. Raises UsageError where
    there is none.
    """
    path = Path(path)
    if (path / STATE).is_file():
        return Found(str(path / WEIGHTS), _checked_state(path), [])
    if (path / "checkpoints").is_dir():
        return _newest_intact(path / "checkpoints")
    if path.name == "checkpoints" and path.is_dir():
        return _newest_intact(path)
    if path.is_dir():  # the original's ./model: TensorFlow's own index of checkpoints
        prefix = tf.train.latest_checkpoint(str(path))
        if prefix:
            return Found(prefix, None, [])
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    if os.path.exists(prefix + ".index"):
        return Found(prefix, None, [])
    raise UsageError(f"no checkpoint at {path}; name a run's folder, a folder step-NNNNNNNN in it, or a .ckpt prefix")


def restore_everything(session: Any, found: Found) -> None:
    """Every variable of the graph, optimizer state included. Raises UsageError where the checkpoint lacks one."""
    _restore(session, found.prefix, saved_variables())


def restore_weights(session: Any, found: Found, variables: List[Any]) -> None:
    """The given variables by name, whatever else the checkpoint holds. Raises UsageError naming what it lacks."""
    _restore(session, found.prefix, variables)


def save_weights(session: Any, prefix: Path, variables: List[Any]) -> None:
    """TensorFlow's usual files at `prefix` (`prefix`.index, `prefix`.data-...): the final weights of a run."""
    folder = Path(tempfile.mkdtemp(prefix=".", dir=str(prefix.parent)))
    try:
        _saver(variables).save(session, str(folder / prefix.name), write_meta_graph=False, write_state=False)
        _make_durable(folder)
        for file in sorted(folder.iterdir()):  # the data before the index that announces it
            os.replace(str(file), str(prefix.parent / file.name))
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def saved_variables() -> List[Any]:
    """All global variables; tflearn's `is_training` is not part of any network and never initialised."""
    return [variable for variable in tf1.global_variables() if variable.op.name != "is_training"]


def _saver(variables: List[Any]) -> Any:
    return tf1.train.Saver({variable.op.name: variable for variable in variables}, max_to_keep=None)


def _restore(session: Any, prefix: str, variables: List[Any]) -> None:
    try:
        reader = tf1.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        wanted = {variable.op.name: variable.shape.as_list() for variable in variables}
        missing = sorted(set(wanted) - set(shapes))
        if missing:
            raise UsageError(
                f"{prefix} lacks {len(missing)} of {len(wanted)} variables, {missing[0]} first; it is of another"
                " network: check --depth and --variant"
            )
        for name, shape in sorted(wanted.items()):
            if shape != shapes[name]:
                raise UsageError(
                    f"{prefix} has {name} of shape {shapes[name]}, the network wants {shape}; check --depth,"
                    " --variant"
                )
        _saver(variables).restore(session, prefix)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{prefix} cannot be read ({reason}); use another checkpoint") from error


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
        return Found(str(path / WEIGHTS), state, notes)
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


def _make_durable(folder: Path) -> None:
    """Sync every file's bytes and their names, so that the rename that follows cannot outlive what it names."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    os.chmod(str(folder), 0o755)
    sync_folder(folder)


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
