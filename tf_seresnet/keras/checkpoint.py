"""Exchange of weights between `tf_seresnet.keras` models and the graph's TensorFlow checkpoints, bit for bit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Container, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from shared.class_names import write_beside
from shared.errors import UsageError
from shared.imagenet.layout import some

# The zero-debiasing state of a moving mean; tf-slim names it BatchNorm_2/BatchNorm_2/moving_mean/biased.
_DEBIASING = ("biased", "local_step")
# Number of steps after which zero-debiasing divides by exactly 1: 0.9^1000 underflows in float32.
SETTLED_STEPS = 1000.0
# Names of network variables; momentum slots, is_training, global_step and loss scales do not match.
_NETWORK_VARIABLE = re.compile(
    r"(conv2d|dense)(_\d+)?/(kernel|bias)|BatchNorm(_\d+)?/(beta|gamma|moving_mean|moving_variance)"
)


@dataclass(frozen=True)
class Report:
    """The result of `load_checkpoint`: `matched` of the model's `total` variables were read from the checkpoint.

    As that of `torch_imagenet.weights.load_weights`. That a variable of the network is missing, unexpected or of
    another shape is an error.
    """

    path: str  # the prefix of TensorFlow's files
    notes: Tuple[str, ...]  # how they were found, where the newest checkpoint of a run is damaged
    matched: int
    total: int
    left_new: Tuple[str, ...]  # the zero-debiasing state that the checkpoint lacks
    ignored: Tuple[str, ...]  # the checkpoint's other variables, such as momentum slots and the step

    def lines(self) -> List[str]:
        """The report in lines for the log."""
        lines = [*self.notes, f"{self.matched} of {self.total} variables loaded from {self.path}"]
        if self.left_new:
            lines.append(f"set to go on from the moving means: {some(self.left_new)}")
        return lines + ([f"in the checkpoint and not used: {some(self.ignored)}"] if self.ignored else [])


def graph_variables(model: Any) -> Dict[str, Any]:
    """The model's weights by the names of the graph's variables, in the order of the layers."""
    variables = {}
    for layer in model.layers:
        for weight in layer.weights:
            scope = f"{layer.name}/moving_mean/" if weight.name in _DEBIASING else ""
            variables[f"{layer.name}/{scope}{weight.name}"] = weight
    return variables


def load_checkpoint(model: Any, path: Union[str, os.PathLike]) -> Report:
    """Load a checkpoint of a `core` or `slim` graph, written by TensorFlow 1.x or 2.x, into the model; say what was.

    `path` is a checkpoint's prefix or folder, or a run's folder (`run.checkpoints.find`). Momentum slots, the step and
    other training state are ignored. Where zero-debiasing state is missing, because the graph was saved for
    inference, biased = moving_mean and local_step = 1000, so that further training starts from the moving mean.

    Raises UsageError, and leaves the model unchanged, if there is no such checkpoint or it belongs to another network.
    """
    variables = graph_variables(model)
    prefix, notes, reading = _found(Path(path))
    with reading as reader:
        found = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        substitutes = _substitutes(variables, found)
        expected = {name: tuple(variable.shape) for name, variable in variables.items() if name not in substitutes}
        mismatches = _mismatches(expected, found)
        if mismatches:
            raise UsageError(
                f"{path} is not a checkpoint of {model.name} ({len(mismatches)} differences:"
                f" {', '.join(mismatches[:5])}); build the model with the checkpoint's depth, variant and classes"
            )
        values = {name: reader.get_tensor(substitutes.get(name, name)) for name in variables}
    for name, variable in variables.items():
        is_step = name in substitutes and name.endswith("/local_step")
        variable.assign(np.float32(SETTLED_STEPS) if is_step else values[name])
    ignored = tuple(sorted(set(found) - set(variables)))
    return Report(prefix, notes, len(expected), len(variables), tuple(substitutes), ignored)


def save_checkpoint(model: Any, prefix: Union[str, os.PathLike], class_names: Optional[Sequence[str]] = None) -> str:
    """Write a TensorFlow checkpoint that `core` and `slim` graphs can restore. Returns its prefix.

    `class_names`, in the order of the model's outputs, are written to a file beside it; an evaluation compares them
    with those of its data set. Raises UsageError without TensorFlow or if the folder cannot be written.
    """
    tf = _tensorflow()
    tf1 = tf.compat.v1
    import keras

    values = {name: keras.ops.convert_to_numpy(variable) for name, variable in graph_variables(model).items()}
    with tf.Graph().as_default(), tf1.Session() as session:
        saved = {
            name: tf1.get_variable(name, initializer=np.asarray(value, np.float32)) for name, value in values.items()
        }
        session.run(tf1.global_variables_initializer())
        try:
            write_beside(os.path.abspath(prefix), class_names)  # first, so that no other weights' names stay
            return str(tf1.train.Saver(saved).save(session, os.path.abspath(prefix), write_meta_graph=False))
        except (ValueError, tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"cannot write the checkpoint {prefix} ({reason}); choose a folder to write to") from error


def _found(path: Path) -> Tuple[str, Tuple[str, ...], Any]:
    """The checkpoint at `path`: its prefix, how it was found, and `checkpoints.reading` of it."""
    _tensorflow()
    from tf_seresnet.run.checkpoints import find, reading  # it imports TensorFlow

    # The first format of TensorFlow 1.x has no index: the prefix is the name of its one file.
    first_format = path.is_file() and path.suffix not in (".index", ".meta") and ".data-" not in path.name
    prefix, _, notes = (str(path), None, []) if first_format else find(path)
    return prefix, tuple(notes), reading(prefix)


def _substitutes(variables: Iterable[str], found: Container[str]) -> Dict[str, str]:
    """Zero-debiasing variables of which a checkpoint has neither, with the moving mean to read in their place."""
    substitutes = {}
    for name in variables:
        scope, kind = name.rsplit("/", 1)
        if kind in _DEBIASING and not any(f"{scope}/{other}" in found for other in _DEBIASING):
            substitutes[name] = scope.split("/", 1)[1]
    return substitutes


def _mismatches(expected: Dict[str, Tuple[int, ...]], found: Dict[str, Tuple[int, ...]]) -> List[str]:
    """How the variables `found` in a checkpoint differ from the network's, both as shapes by name."""
    mismatches = [f"{name} is missing" for name in expected if name not in found]
    mismatches += [
        f"{name} has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    unexpected = (name for name in sorted(found) if name not in expected and _NETWORK_VARIABLE.fullmatch(name))
    return mismatches + [f"{name} is unexpected" for name in unexpected]


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UsageError(
            f"TensorFlow checkpoints are read and written by TensorFlow ({error}); pip install"
            " tensorflow, or keep the weights with model.save_weights"
        ) from error
    return tensorflow
