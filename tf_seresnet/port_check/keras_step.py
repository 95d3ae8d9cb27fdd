"""Recording a training step of the Keras model, on the backend that KERAS_BACKEND names, as `recorder` does a graph's.

Every layer's result goes through an addition of zeros, which are inputs of the model: the gradient of these zeros is
that of the result, whatever the backend.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from shared.port_check.trace import LayerCall, Trace
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet import network
from tf_seresnet.keras.checkpoint import graph_variables
from tf_seresnet.keras.layers import KerasLayers, keras
from tf_seresnet.layers.initial_values import initial_value
from tf_seresnet.port_check.checks import images_of
from tf_seresnet.port_check.reference import IMAGES


class RecordedLayers(KerasLayers):
    """Remembers every layer's result by name, in the order in which the network has them, with its zeros."""

    def __init__(self, weight_decay: float) -> None:
        super().__init__(weight_decay)
        self.outputs: List[Tuple[str, Any]] = []
        self.zeros: List[Any] = []

    def conv(self, *arguments: Any, **settings: Any) -> Any:
        return self._recorded(super().conv(*arguments, **settings))

    def batch_norm(self, *arguments: Any) -> Any:
        return self._recorded(super().batch_norm(*arguments))

    def dense(self, *arguments: Any) -> Any:
        return self._recorded(super().dense(*arguments))

    def global_average_pool(self, *arguments: Any) -> Any:
        return self._recorded(super().global_average_pool(*arguments))

    def relu(self, *arguments: Any) -> Any:
        return self._recorded(super().relu(*arguments))

    def gate(self, *arguments: Any) -> Any:
        return self._recorded(super().gate(*arguments))

    def add(self, *arguments: Any) -> Any:
        return self._recorded(super().add(*arguments))

    def shortcut(self, *arguments: Any) -> Any:
        return self._recorded(super().shortcut(*arguments))

    def _recorded(self, output: Any) -> Any:
        name = output._keras_history.operation.name
        self.outputs.append((name, output))
        self.zeros.append(keras.Input(output.shape[1:], name=f"zeros_of_{name}"))
        return keras.layers.Add(name=f"plus_zeros_{name}")([output, self.zeros[-1]])


def record_keras_step(
    batch: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    recipe: CifarRecipe,
    description: Dict[str, Any],
    steps: int,
) -> Trace:
    """One step with Keras's SGD, and the losses of `steps` of them on one batch, as a trace.

    `batch` has the tensors "images", "labels" and "crop/..." of a trace; `weights` are the graph's variables by name,
    those that are missing get their initial values; `description`, of a graph's step, is completed.
    """
    versions = {**description["versions"], "keras": keras.__version__}
    trace = Trace({**description, "layers": f"keras on {keras.backend.backend()}", "versions": versions}, [], {**batch})
    images, labels = images_of(trace, recipe.crop_padding).astype(np.float32), trace.tensors["labels"]
    layers, spec = RecordedLayers(recipe.weight_decay), description["network"]
    first = keras.Input(images.shape[1:], name=IMAGES)
    logits = network.se_resnet(first, layers, spec["depth"], spec["variant"], spec["num_classes"])
    names = [name for name, _ in layers.outputs]
    model = keras.Model([first, *layers.zeros], [*(output for _, output in layers.outputs), logits])
    variables = graph_variables(model)
    for name, variable in variables.items():
        variable.assign(weights[name] if name in weights else initial_value(name, tuple(variable.shape), recipe.seed))
    by_id = {id(variable): name for name, variable in variables.items()}
    optimizer = keras.optimizers.SGD(description["learning_rate"], recipe.momentum, recipe.nesterov)
    zeros = [np.zeros((len(images), *zero.shape[1:]), np.float32) for zero in layers.zeros]
    trace.tensors.update({f"before/{name}": _array(variable) for name, variable in variables.items()})
    losses = []
    for number in range(steps):
        loss, outputs, of_zeros, of_weights = GRADIENTS[keras.backend.backend()](model, images, zeros, labels)
        optimizer.apply(of_weights, model.trainable_variables)
        losses.append(float(_array(loss)))
        if number:
            continue
        trace.calls.append(LayerCall(IMAGES, 0, IMAGES, "float32", "float32"))
        trace.calls += [LayerCall(name, 0, name.rstrip("_0123456789"), "float32", "float32") for name in names]
        for name, value, gradient in zip(names, outputs, of_zeros):
            trace.tensors[f"output/{name}/0"] = _array(value)
            trace.tensors[f"output gradient/{name}/0"] = _array(gradient)
        for variable, gradient in zip(model.trainable_variables, of_weights):
            trace.tensors[f"gradient/{by_id[id(variable)]}"] = _array(gradient)
        trace.tensors.update({f"after/{name}": _array(variable) for name, variable in variables.items()})
    trace.tensors.update({f"output/{IMAGES}/0": images, "losses": np.array(losses, np.float64)})
    return trace


def _array(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value), np.float32)  # a copy


def _loss(logits: Any, labels: np.ndarray) -> Any:
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))


def _tensorflow(model: Any, images: np.ndarray, zeros: List[np.ndarray], labels: np.ndarray) -> Tuple[Any, ...]:
    import tensorflow as tf

    inputs = [tf.constant(zero) for zero in zeros]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = model([keras.ops.convert_to_tensor(images), *inputs], training=True)
        loss = _loss(outputs[-1], labels)
        total = loss + sum(model.losses)
    weights = [variable.value for variable in model.trainable_variables]
    return (loss, outputs, *tape.gradient(total, (inputs, weights)))


def _torch(model: Any, images: np.ndarray, zeros: List[np.ndarray], labels: np.ndarray) -> Tuple[Any, ...]:
    inputs = [keras.ops.convert_to_tensor(zero).requires_grad_() for zero in zeros]
    outputs = model([keras.ops.convert_to_tensor(images), *inputs], training=True)
    loss = _loss(outputs[-1], labels)
    weights = [variable.value for variable in model.trainable_variables]
    for weight in weights:
        weight.grad = None  # otherwise the gradients of the step before would be added
    (loss + sum(model.losses)).backward()
    of_zeros, of_weights = ([value.grad for value in found] for found in (inputs, weights))
    return loss.detach(), [output.detach() for output in outputs], of_zeros, of_weights


def _jax(model: Any, images: np.ndarray, zeros: List[np.ndarray], labels: np.ndarray) -> Tuple[Any, ...]:
    import jax

    def run(weights: Any, inputs: Any, others: Any) -> Any:
        outputs, changed, penalties = model.stateless_call(
            weights, others, [images, *inputs], training=True, return_losses=True
        )
        loss = _loss(outputs[-1], labels)
        return loss + sum(penalties), (loss, outputs, changed)

    weights, others = ([v.value for v in found] for found in (model.trainable_variables, model.non_trainable_variables))
    step = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    (of_weights, of_zeros), (loss, outputs, changed) = step(weights, zeros, others)
    for variable, value in zip(model.non_trainable_variables, changed):
        variable.assign(value)
    return loss, outputs, of_zeros, of_weights


GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
