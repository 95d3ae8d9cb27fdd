"""TensorFlow's files in a checkpoint, `model.ckpt.*`, or a Keras training's arrays, `model.npz`.

`shared.checkpoint.folder` has the folder that they stand in. TensorFlow is imported where its files are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

import numpy as np

from shared.checkpoint import folder as checkpoint_folder
from shared.checkpoint.folder import CheckpointFolder
from shared.checkpoint.state import check_state, not_ours
from shared.class_names import Classes, of_state, read_beside, write_beside
from shared.errors import UsageError
from shared.recipes.cifar10 import CifarRecipe
from shared.run import disk_errors
from shared.run.folder import RUNS, moved_with, named_weights, run_of
from shared.run.progress import not_a_number
from shared.system.atomic_files import sync_files
from shared.text import in_utf8, of_system, printable
from tf_seresnet.devices import onednn
from tf_seresnet.options import RunConfig
from tf_seresnet.step.spec import NetworkSpec, Normalisation

WEIGHTS = "model.ckpt"
ARRAYS = "model.npz"  # of a Keras training, which needs no TensorFlow
_FILES = "model.*"  # matches both
OLD_PLACE = "model"  # where the old port kept its checkpoint, senet110.ckpt


class Found(NamedTuple):
    """A checkpoint on disk: the prefix of TensorFlow's files or Keras' one, and our state if there is one."""

    prefix: str
    state: Optional[Dict[str, Any]]
    notes: List[str]  # what the user should know about how it was found

    def moved_with(self, output_dir: Optional[str]) -> Found:
        """The same where a new run in `output_dir` has set it aside with the run that was there."""
        if output_dir is None:
            return self
        return self._replace(prefix=str(moved_with(Path(self.prefix), Path(output_dir))))


def writer(session: Any, folder: Path, keep: int, constant: Dict[str, Any]) -> Callable[[Dict[str, Any], bool], Path]:
    """What writes a checkpoint of the run in `folder`, all variables beside a state with the `constant` entries.

    Needs the complete graph. It raises UsageError where a variable is not finite, OSError where the disk does not take
    it; nothing changes then. See `CheckpointFolder.save`.
    """
    from tf_seresnet.step import variables as graph

    variables, checkpoints = saved_variables(), CheckpointFolder(folder, keep)
    save = _saver(variables)

    def write(state: Dict[str, Any], best: bool) -> Path:
        step = state["progress"]["step"]
        if not all(np.isfinite(value).all() for value in session.run(variables)):
            where = graph.not_finite(session, variables)
            raise not_a_number(f"a weight is not a number after step {step}{where}")
        state = {**constant, **state}
        return checkpoints.save(step, lambda place: save(session, place / WEIGHTS), state, best)

    return write


def find(path: Union[str, Path]) -> Found:
    """The checkpoint that `path` means: a checkpoint's folder, a run's folder (its last one) or TensorFlow's files.

    Of a damaged run the newest intact one, which `notes` say. Raises UsageError where there is none.
    """
    path = Path(path)
    if checkpoint_folder.holds_one(path):
        ours = checkpoint_folder.find(path)
        files = ARRAYS if (ours.folder / ARRAYS).is_file() else WEIGHTS
        return Found(str(ours.folder / files), _checked(ours.folder, ours.state), ours.notes)
    if path.is_dir():  # the original's ./model: TensorFlow's own index of checkpoints
        import tensorflow as tf

        prefix = tf.train.latest_checkpoint(native(path))
        if prefix:
            return Found(of_system(prefix), None, [])
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    if os.path.exists(prefix + ".index"):
        return Found(prefix, None, [])
    raise UsageError(f"no checkpoint at {path}; name a run's folder, a folder step-NNNNNNNN in it, or a .ckpt prefix")


def named(config: RunConfig) -> Tuple[RunConfig, Optional[Found]]:
    """The checkpoint that the config names, of all modes but `train` by default that of the newest run, else ./model.

    The config of a resumed training has the folder of its run, unless that is the old port's; see `old_run`. Raises
    UsageError where there is no such checkpoint.
    """
    if config.mode != "train":
        path = named_weights(config.checkpoint, config.resume, _FILES, OLD_PLACE)
        if path != OLD_PLACE or config.checkpoint is not None:
            return config, find(path)
        found = find(path)
        found.notes.append(f"note: no checkpoint under ./{RUNS}, so the old port's ./{OLD_PLACE} is used")
        return dataclasses.replace(config, checkpoint=OLD_PLACE), found
    if config.resume is None:
        return config, None if config.checkpoint is None else find(config.checkpoint)
    config.check_one_checkpoint()
    found = find(config.resume)
    if config.output_dir is None and found.state is not None:
        config = dataclasses.replace(config, output_dir=str(run_of(Path(found.prefix).parent)))
    return config, found


def layers_of(config: RunConfig) -> str:
    """The layer set that a training or an evaluation of this config has: --layers, else its checkpoint's, else core.

    It reads what the checkpoint says of itself, unchecked.
    """
    path: Any = config.resume
    if config.layers is None and config.mode == "evaluate":
        with contextlib.suppress(UsageError):
            path = named_weights(config.checkpoint, config.resume, _FILES, OLD_PLACE)
    if config.layers is None and path is not None and checkpoint_folder.holds_one(path):
        with contextlib.suppress(UsageError):
            network = checkpoint_folder.find(path).state.get("network")
            return str(network.get("layers")) if isinstance(network, dict) else "core"
    return config.layers or "core"


def restore(session: Any, found: Found, variables: List[Any], rows: Optional[Sequence[int]] = None) -> None:
    """The given variables by name, whatever else the checkpoint holds. Raises UsageError naming what it lacks.

    `rows` are the checkpoint's classes that the network's classes correspond to; None: they are the same.
    """
    from tf_seresnet.step import variables as graph

    head = "" if rows is None else _head(variable.op.name for variable in variables)
    restored = [variable for variable in variables if variable.op.name != head]
    expected = {variable.op.name: variable.shape.as_list() for variable in restored}
    with reading(found.prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        _check_fits(found, shapes, expected)
        values = {name: reader.get_tensor(name) for name in expected}
        if rows is not None:
            values[head] = reader.get_tensor(head)[:, list(rows)]
        graph.load_values(session, values)


def read(found: Found, expected: Dict[str, List[int]], rows: Optional[Sequence[int]] = None) -> Dict[str, np.ndarray]:
    """What `restore` gives to a graph, as arrays: the variables with these names and shapes."""
    head = "" if rows is None else _head(expected)
    with reading(found.prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
        _check_fits(found, shapes, {name: shape for name, shape in expected.items() if name != head})
        values = {name: reader.get_tensor(name) for name in expected}
    return {name: value[:, list(rows or [])] if name == head else value for name, value in values.items()}


def _check_fits(found: Found, shapes: Dict[str, List[int]], expected: Dict[str, List[int]]) -> None:
    """Raise UsageError where a checkpoint with variables of these `shapes` lacks an expected one."""
    missing = sorted(set(expected) - set(shapes))
    other = sorted(name for name, shape in expected.items() if shapes.get(name, shape) != shape)
    if missing or other:
        what = f"lacks {len(missing)} of {len(expected)} variables, {missing[0]} first" if missing else ""
        what = what or f"has {other[0]} of shape {shapes[other[0]]} instead of {expected[other[0]]}"
        raise UsageError(f"{found.prefix} {what}; it is of another network: check --depth and --variant")


def classes(found: Found) -> Optional[Classes]:
    """The classes of the checkpoint's head; None where it has no head. Raises UsageError where it cannot be read."""
    if found.state is not None:
        return of_state(found.state, found.state["network"]["num_classes"])
    with reading(found.prefix) as reader:
        shapes = reader.get_variable_to_shape_map()
    name = _head(shapes)
    return read_beside(found.prefix, shapes[name][-1]) if name and len(shapes[name]) == 2 else None


def _head(names: Iterable[str]) -> str:
    """The kernel of the network's last dense layer, [features, classes], among the variables; empty: none is there."""
    numbers = {name: re.match(r"dense(?:_(\d+))?/kernel$", name) for name in names}
    kernels = [(int(number.group(1) or 0), name) for name, number in numbers.items() if number]
    return max(kernels, default=(0, ""))[1]


def save_weights(session: Any, prefix: Path, variables: List[Any], names: Optional[Sequence[str]] = None) -> None:
    """The final weights of a run in TensorFlow's usual files at `prefix`, the classes' `names` in a file beside them.

    Raises OSError where the disk does not take them.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=str(prefix.parent)) as name:
        folder = Path(name)
        _saver(variables)(session, folder / prefix.name)
        write_beside(folder / prefix.name, names)
        sync_files(folder)
        for file in sorted(folder.iterdir()):  # names and data before the index that announces them
            os.replace(str(file), str(prefix.parent / file.name))


def native(path: Union[str, Path]) -> str:
    """The path as TensorFlow takes it, in UTF-8 whatever the locale. Raises UsageError for other bytes."""
    text = in_utf8(str(path))
    if printable(text) != text:
        raise UsageError(f"{path} is not UTF-8, and TensorFlow opens no such path; choose or rename a folder")
    return text


def saved_variables() -> List[Any]:
    """All global variables; tflearn's `is_training` is not part of any network and never initialised."""
    import tensorflow as tf

    return [variable for variable in tf.compat.v1.global_variables() if variable.op.name != "is_training"]


def _saver(variables: Sequence[Any]) -> Callable[[Any, Path], None]:
    """A function of a session and a prefix that writes TensorFlow's files of these variables.

    Not tf.train.Saver, which adds what restores them to the graph, too: at depth 110 a second and thousands of
    operators. `graph.load_values` needs none.
    """
    import tensorflow as tf

    with tf.compat.v1.name_scope("save"), tf.device("/cpu:0"):
        prefix = tf.compat.v1.placeholder(tf.string, (), "prefix")
        names, slices = [variable.op.name for variable in variables], [""] * len(variables)
        saved = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=variables)
    return functools.partial(_write, saved, prefix)


def _write(saved: Any, name: Any, session: Any, prefix: Path) -> None:
    """Write TensorFlow's files. What it raises for a disk that cannot be written becomes an OSError."""
    import tensorflow as tf

    folder = str(prefix.parent)
    try:
        session.run(saved, {name: native(prefix)})
    except tf.errors.OpError as error:
        # They carry the text of the system's error and not its number.
        for number in (*disk_errors.FULL, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), folder) from error
        raise


@contextlib.contextmanager
def reading(prefix: str) -> Iterator[Any]:
    """TensorFlow's reader of a checkpoint, or its like. What one raises for a damaged file becomes a UsageError."""
    damaged: Tuple[Type[BaseException], ...] = (ValueError, RuntimeError, LookupError, TypeError, MemoryError)
    try:
        if prefix.endswith(ARRAYS):
            damaged = (*damaged, zipfile.BadZipFile, EOFError, OSError)
            with np.load(prefix, allow_pickle=False) as arrays:
                yield _ArrayReader({name: arrays[name] for name in arrays.files})
            return
        try:
            import tensorflow as tf
        except ImportError as error:
            raise UsageError(f"{prefix} is read by TensorFlow ({error}); pip install tensorflow") from error
        damaged = (*damaged, tf.errors.OpError)
        yield tf.compat.v1.train.load_checkpoint(native(prefix))
    except damaged as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
        raise UsageError(f"{prefix} cannot be read ({line}); use another checkpoint") from error


class _ArrayReader:
    """Arrays by name, as TensorFlow's reader gives them."""

    def __init__(self, arrays: Dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def get_variable_to_shape_map(self) -> Dict[str, List[int]]:
        return {name: list(array.shape) for name, array in self._arrays.items()}

    def get_tensor(self, name: str) -> np.ndarray:
        return self._arrays[name]


def _checked(folder: Path, state: Dict[str, Any]) -> Dict[str, Any]:
    """The state of this checkpoint. Raises UsageError where it lacks what continuing or evaluating it needs."""
    stored = check_state(folder, state, recipe=CifarRecipe, network=NetworkSpec, normalisation=Normalisation)
    recipe, network, normalisation = stored["recipe"].checked(), stored["network"], stored["normalisation"]
    if (network.depth, network.variant) != (recipe.depth, recipe.variant):
        raise not_ours(folder, "network")
    if len(normalisation.mean) != 3 or len(normalisation.std) != 3 or min(normalisation.std) <= 0:
        raise not_ours(folder, "normalisation")
    arithmetic = state.get("arithmetic")
    if arithmetic:  # one that does not say had oneDNN where TensorFlow uses it by itself
        state = {**state, "arithmetic": {"onednn": onednn.used_by_itself(), **arithmetic}}
    return state
