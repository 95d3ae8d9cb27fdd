"""TensorFlow's part of a checkpoint: `model.ckpt.*`, files that any TensorFlow reads.

They stand in a folder that `shared.checkpoint.folder` writes whole or not at all, and finds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import tensorflow as tf

from shared.checkpoint import folder as checkpoint_folder
from shared.checkpoint.folder import CheckpointFolder
from shared.checkpoint.state import check_state, not_ours
from shared.class_names import Classes, of_state, read_beside, write_beside
from shared.errors import UsageError
from shared.recipes.cifar10 import CifarRecipe
from shared.run.divergence import not_a_number
from shared.run.folder import moved_with, run_of
from shared.system.atomic_files import sync_files
from shared.text import in_utf8, of_system, printable
from tf_seresnet.input_pipeline import Normalisation
from tf_seresnet.network_spec import NetworkSpec
from tf_seresnet.options import RunConfig
from tf_seresnet.step.not_finite import in_variables
from tf_seresnet.step.variables import load_values

tf1 = tf.compat.v1

WEIGHTS = "model.ckpt"
# What TensorFlow's readers raise at damaged files.
UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, LookupError, TypeError, MemoryError)


class Found(NamedTuple):
    """A checkpoint on disk: the prefix of TensorFlow's files, and our state where there is one."""

    prefix: str
    state: Optional[Dict[str, Any]]
    notes: List[str]  # what the user should know about how it was found

    def moved_with(self, output_dir: Optional[str]) -> Found:
        """The same where a new run in `output_dir` has set it aside with the run that was there."""
        if output_dir is None:
            return self
        return self._replace(prefix=str(moved_with(Path(self.prefix), Path(output_dir))))


class Checkpoints:
    """The checkpoints of one run, under `folder`/checkpoints. Make it when the graph is complete."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.run = folder
        self._saver = _saver(saved_variables())
        self._folder = CheckpointFolder(folder, keep)
        numbers = [variable for variable in saved_variables() if variable.dtype.base_dtype.is_floating]
        # The sum of the magnitudes, which is not finite if any of them is not.
        self._magnitude = tf.add_n([tf.reduce_sum(tf.abs(tf.cast(variable, tf.float32))) for variable in numbers])

    def save(self, session: Any, state: Dict[str, Any], best: bool = False) -> Path:
        """Write all variables and `state`; see `CheckpointFolder.save`.

        Raises UsageError where a variable is not finite, and OSError where the disk does not take it; the checkpoints
        are unchanged then.
        """
        if not math.isfinite(session.run(self._magnitude)):
            where = in_variables(session, saved_variables())
            raise not_a_number(f"a weight is not a number after step {state['progress']['step']}{where}")

        def write(folder: Path) -> None:
            with _as_os_error(folder):
                self._saver.save(session, native(folder / WEIGHTS), write_meta_graph=False, write_state=False)

        return self._folder.save(state["progress"]["step"], write, state, best)


def find(path: Union[str, Path]) -> Found:
    """The checkpoint that `path` means: a checkpoint's folder, a run's folder (its last one) or TensorFlow's files.

    A run whose newest checkpoint is damaged gives the newest intact one and says so in `notes`. Raises UsageError where
    there is none.
    """
    path = Path(path)
    if checkpoint_folder.holds_one(path):
        ours = checkpoint_folder.find(path)
        return Found(str(ours.folder / WEIGHTS), ours.state, ours.notes)
    if path.is_dir():  # the original's ./model: TensorFlow's own index of checkpoints
        prefix = tf.train.latest_checkpoint(native(path))
        if prefix:
            return Found(of_system(prefix), None, [])
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    if os.path.exists(prefix + ".index"):
        return Found(prefix, None, [])
    raise UsageError(f"no checkpoint at {path}; name a run's folder, a folder step-NNNNNNNN in it, or a .ckpt prefix")


def of_training(config: RunConfig) -> Tuple[RunConfig, Optional[Found]]:
    """The checkpoint that --resume or --checkpoint names; with --resume the config has the folder of its run."""
    if config.resume is None:
        found = None if config.checkpoint is None else find(config.checkpoint)
        if found is not None and found.state is not None:
            check_stored(found)
        return config, found
    config.check_one_checkpoint()
    found = find(config.resume)
    if found.state is None:
        raise UsageError(f"{found.prefix} has weights but no training state; start from them with --checkpoint instead")
    check_stored(found)
    if config.output_dir is None:
        config = dataclasses.replace(config, output_dir=str(run_of(Path(found.prefix).parent)))
    return config, found


def restore_everything(session: Any, found: Found) -> None:
    """Every variable of the graph, optimizer state included. Raises UsageError where the checkpoint lacks one."""
    _restore(session, found.prefix, saved_variables())


def restore_weights(session: Any, found: Found, variables: List[Any], rows: Optional[Sequence[int]] = None) -> None:
    """The given variables by name, whatever else the checkpoint holds. Raises UsageError naming what it lacks.

    `rows` are the checkpoint's classes that the network's classes correspond to; None: they are the same.
    """
    if rows is None:
        _restore(session, found.prefix, variables)
        return
    name = _head({variable.op.name for variable in variables})
    _restore(session, found.prefix, [variable for variable in variables if variable.op.name != name])
    with _reading(found.prefix) as reader:
        load_values(session, {name: reader.get_tensor(name)[:, list(rows)]})


def classes(found: Found) -> Optional[Classes]:
    """The classes of the checkpoint's head; None where it has no head. Raises UsageError where it cannot be read."""
    if found.state is not None:
        return of_state(found.state, found.state["network"]["num_classes"])
    with _reading(found.prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
    name = _head(shapes)
    return read_beside(found.prefix, shapes[name][-1]) if name and len(shapes[name]) == 2 else None


def _head(names: Iterable[str]) -> str:
    """The kernel of the network's last dense layer, [features, classes], among the variables; empty: none is there."""
    numbers = {name: re.match(r"dense(?:_(\d+))?/kernel$", name) for name in names}
    kernels = [(int(number.group(1) or 0), name) for name, number in numbers.items() if number]
    return max(kernels, default=(0, ""))[1]


def save_weights(session: Any, prefix: Path, variables: List[Any], names: Optional[Sequence[str]] = None) -> None:
    """TensorFlow's usual files at `prefix` (`prefix`.index, `prefix`.data-...): the final weights of a run.

    The classes' `names` stand in a file beside them (`class_names.beside`).

    Raises OSError where the disk does not take them.
    """
    folder = Path(tempfile.mkdtemp(prefix=".", dir=str(prefix.parent)))
    try:
        with _as_os_error(folder):
            _saver(variables).save(session, native(folder / prefix.name), write_meta_graph=False, write_state=False)
        write_beside(folder / prefix.name, names)
        sync_files(folder)
        for file in sorted(folder.iterdir()):  # names and data before the index that announces them
            os.replace(str(file), str(prefix.parent / file.name))
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)


def native(path: Union[str, Path]) -> str:
    """The path as TensorFlow takes it, in UTF-8 whatever the locale. Raises UsageError for other bytes."""
    text = in_utf8(str(path))
    if printable(text) != text:
        raise UsageError(f"{path} is not UTF-8, and TensorFlow opens no such path; choose or rename a folder")
    return text


def saved_variables() -> List[Any]:
    """All global variables; tflearn's `is_training` is not part of any network and never initialised."""
    return [variable for variable in tf1.global_variables() if variable.op.name != "is_training"]


# Errors of the disk. TensorFlow's exceptions carry the text of the system's error and not its number.
_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.EIO,
    errno.ESTALE,
)


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Turn what TensorFlow raises for a disk that cannot be written into an OSError."""
    try:
        yield
    except tf.errors.OpError as error:
        for number in _DISK:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise
    except ValueError as error:  # of a folder that is gone or read-only
        if path.is_dir() and os.access(str(path), os.W_OK):
            raise
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error


def _saver(variables: List[Any]) -> Any:
    return tf1.train.Saver(variables, max_to_keep=None)


def _restore(session: Any, prefix: str, variables: List[Any]) -> None:
    with _reading(prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        expected = {variable.op.name: variable.shape.as_list() for variable in variables}
        missing = sorted(set(expected) - set(shapes))
        if missing:
            raise UsageError(
                f"{prefix} lacks {len(missing)} of {len(expected)} variables, {missing[0]} first; it is of another"
                " network: check --depth and --variant"
            )
        for name, shape in sorted(expected.items()):
            if shape != shapes[name]:
                raise UsageError(
                    f"{prefix} has {name} of shape {shapes[name]}, the network wants {shape}; check --depth, --variant"
                )
        _saver(variables).restore(session, native(prefix))


@contextlib.contextmanager
def _reading(prefix: str) -> Iterator[Any]:
    """TensorFlow's reader of a checkpoint. What it raises for a damaged one becomes a UsageError."""
    try:
        yield tf1.train.load_checkpoint(native(prefix))
    except UNREADABLE as error:
        raise UsageError(f"{prefix} cannot be read ({first_line(error)}); use another checkpoint") from error


def first_line(error: Exception) -> str:
    """The first line of an error of TensorFlow, whose message may be empty or very long."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def check_stored(found: Found) -> None:
    """Raises UsageError where the checkpoint does not say what continuing or evaluating it needs."""
    assert found.state is not None
    folder = Path(found.prefix).parent
    stored = check_state(folder, found.state, recipe=CifarRecipe, network=NetworkSpec, normalisation=Normalisation)
    stored["recipe"].checked()
    network, normalisation = stored["network"], stored["normalisation"]
    for wrong, what in (
        ((network.depth, network.variant) != (stored["recipe"].depth, stored["recipe"].variant), "network"),
        (len(normalisation.mean) != 3 or len(normalisation.std) != 3, "normalisation"),
        (min(normalisation.std) <= 0, "normalisation"),
    ):
        if wrong:
            raise not_ours(folder, what)
    network.checked()
