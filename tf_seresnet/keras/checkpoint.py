"""Weights between a model of `tf_seresnet.keras.model` and the TensorFlow checkpoints of the graph, bit for bit.

Reading and writing need TensorFlow under every Keras backend, and import it only then.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Callable, Container, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from shared.class_names import write_beside
from shared.errors import UsageError, one_line

# biased and local_step stand where tf-slim puts them: BatchNorm_2/BatchNorm_2/moving_mean/biased
_DEBIASING = ("biased", "local_step")
# Steps after which the zero-debiasing divides by exactly 1: 0.9^1000 is below float32's smallest number.
SETTLED_STEPS = 1000.0
# A variable of a network of this family. Momentum slots, is_training, global_step and loss scales are not.
_OF_A_NETWORK = re.compile(
    r"(conv2d|dense)(_\d+)?/(kernel|bias)|BatchNorm(_\d+)?/(beta|gamma|moving_mean|moving_variance)"
)
_SHOWN = 5  # variables named in an error: the rest are counted


def graph_variables(model: Any) -> Dict[str, Any]:
    """The model's weights under the names of the graph's variables, in the order of the model's layers."""
    weights = ((layer.name, weight) for layer in model.layers for weight in layer.weights)
    return {_graph_name(layer, weight.name): weight for layer, weight in weights}


def _graph_name(layer: str, weight: str) -> str:
    return f"{layer}/{layer}/moving_mean/{weight}" if weight in _DEBIASING else f"{layer}/{weight}"


def load_checkpoint(model: Any, path: Union[str, os.PathLike]) -> None:
    """Give the model the weights of a checkpoint of the graph, `core` or `slim`, of TensorFlow 1.x or 2.x.

    `path` is a checkpoint's prefix or folder, or a run's folder (`tf_seresnet.checkpoints.find`). Momentum
    slots, the step and other state of training are ignored. A checkpoint without zero-debiasing state (of a
    graph that was saved for inference alone) gives biased = moving_mean and local_step = 1000, so that
    training on continues from the moving mean itself.

    Raises UsageError, and leaves the model as it was, when there is no such checkpoint or it is of another
    network.
    """
    read = _reader(Path(path))
    shapes = {name: tuple(shape) for name, shape in read("get_variable_to_shape_map").items()}
    variables = graph_variables(model)
    settled = _settled(variables, shapes)
    wanted = {name: tuple(variable.shape) for name, variable in variables.items() if name not in settled}
    problems = _problems(wanted, shapes)
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UsageError(
            f"{path} is not a checkpoint of {model.name}: {', '.join(problems[:_SHOWN])}{more}; build the"
            " model with the depth, variant and number of classes of the checkpoint"
        )
    values = {name: read("get_tensor", settled.get(name, name)) for name in variables}
    for name, variable in variables.items():
        value = values[name]
        if name in settled and name.endswith("/local_step"):
            value = np.float32(SETTLED_STEPS)
        variable.assign(value)


def save_checkpoint(model: Any, prefix: Union[str, os.PathLike], class_names: Optional[Sequence[str]] = None) -> str:
    """Write TensorFlow's files at `prefix`, which restore into `core` and `slim` graphs. Returns the prefix.

    `class_names`, those of the model's outputs in their order, stand in a file beside them; an evaluation compares them
    with its data set's. Raises UsageError without TensorFlow or when the folder cannot be written.
    """
    tf = _tensorflow()
    tf1 = tf.compat.v1
    values = {name: _numpy(variable) for name, variable in graph_variables(model).items()}
    with tf.Graph().as_default(), tf1.Session() as session:
        saved = {name: tf1.get_variable(name, initializer=value) for name, value in values.items()}
        session.run(tf1.global_variables_initializer())
        try:
            write_beside(os.path.abspath(prefix), class_names)  # those of other weights must not stand beside these
            return str(tf1.train.Saver(saved).save(session, os.path.abspath(prefix), write_meta_graph=False))
        except (ValueError, tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            message = f"cannot write the checkpoint {prefix} ({reason}); choose a folder to write to"
            raise UsageError(message) from error


def _numpy(variable: Any) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def _reader(path: Path) -> Callable[..., Any]:
    """What calls the methods of TensorFlow's reader of the checkpoint that `path` means; its errors are UsageErrors."""
    tf = _tensorflow()
    from tf_seresnet.checkpoints import UNREADABLE, find, first_line, native  # it imports TensorFlow

    # The first format of TensorFlow 1.x has no index: it is one file of the prefix's own name.
    first_format = path.is_file() and path.suffix not in (".index", ".meta") and ".data-" not in path.name
    prefix = str(path) if first_format else find(path).prefix
    opened: List[Any] = []

    def read(method: str, *arguments: str) -> Any:
        try:
            if not opened:
                opened.append(tf.train.load_checkpoint(native(prefix)))
            return getattr(opened[0], method)(*arguments)
        except UNREADABLE as error:
            message = one_line(f"cannot read the checkpoint {path} ({first_line(error)}); give another one")
            raise UsageError(message) from error

    return read


def _settled(variables: Iterable[str], shapes: Container[str]) -> Dict[str, str]:
    """Zero-debiasing variables that the checkpoint leaves out in pairs, each with its layer's moving mean."""
    settled = {}
    for name in variables:
        scope, kind = name.rsplit("/", 1)
        if kind in _DEBIASING and not any(f"{scope}/{other}" in shapes for other in _DEBIASING):
            settled[name] = scope.split("/", 1)[1]
    return settled


def _problems(wanted: Dict[str, Tuple[int, ...]], found: Dict[str, Tuple[int, ...]]) -> List[str]:
    """What keeps a checkpoint with the variables `found` from being one of a network with those `wanted`."""
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [
        f"{name} has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    foreign = (name for name in sorted(found) if name not in wanted and _OF_A_NETWORK.fullmatch(name))
    return problems + [f"{name} is too many" for name in foreign]


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UsageError(
            f"TensorFlow checkpoints are read and written by TensorFlow ({error}); pip install"
            " tensorflow, or keep the weights with model.save_weights"
        ) from error
    return tensorflow
