"""The reference by itself: whole training steps in float64, or with every result rounded to the side's precision."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from shared.port_check.rounding import rounded
from shared.port_check.tolerance import UNIT_ROUNDOFF
from shared.port_check.trace import Trace
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet.network import se_resnet
from tf_seresnet.port_check import operations
from tf_seresnet.port_check.bounds import MATRIX
from tf_seresnet.port_check.checks import images_of
from tf_seresnet.port_check.numpy_layers import Call, NumpyLayers, Value
from tf_seresnet.port_check.operations import Operation
from tf_seresnet.port_check.reference import IMAGES


class RandomRounding:
    """Results are rounded to `dtype`; batch statistics, sums over thousands of pixels, have random errors.

    With `products` (`Device.float32_products`) the inputs of layers that multiply are rounded as that device does.
    The standard deviation of their errors is that of a sum of n terms in float32, sqrt(n) u times the mean magnitude,
    the variance being the mean of squares less the square of the mean (`shared.port_check.tolerance`).
    """

    def __init__(self, dtype: str, seed: int, products: Optional[Mapping[str, str]] = None) -> None:
        self.dtype, self._products = dtype, products or {}
        self._random = np.random.RandomState(seed)

    def of_factors(self, kind: str, x: np.ndarray) -> np.ndarray:
        """What a layer of this kind reads of its input."""
        factors = self._products.get(MATRIX.get(kind, "")) if self.dtype == "float32" else None
        return rounded(x, factors) if factors else x

    def of_statistics(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Errors of the mean and the variance of x, float64 [channels] each."""
        axes, unit = (0, 1, 2), np.sqrt(x.size / x.shape[-1]) * UNIT_ROUNDOFF["float32"]
        of_mean, of_square = self._random.standard_normal((2, x.shape[-1])) * unit
        of_mean = of_mean * np.abs(x).mean(axis=axes)
        return of_mean, of_square * (x * x).mean(axis=axes) - 2 * x.mean(axis=axes) * of_mean


class FreeLayers(NumpyLayers):
    """Layers that compute; with a `rounding`, as inexactly as a device may."""

    def __init__(self, weights: Mapping[str, np.ndarray], rounding: Optional[RandomRounding]) -> None:
        super().__init__()
        self._weights, self._rounding = weights, rounding
        self._tape: List[Tuple[Call, Operation, Value]] = []
        self.values: Dict[str, np.ndarray] = {}  # by the trace's keys

    def apply(self, call: Call) -> Value:
        operands: Dict[str, Any] = {operand: value.array for operand, value in call.inputs.items()}
        operands.update({operand: self._weights[name] for operand, name in call.weights.items()})
        if self._rounding is not None:
            operands["x"] = self._rounding.of_factors(call.kind, operands["x"])
        if self._rounding is not None and call.kind == "batch_norm":
            operands["errors"] = self._rounding.of_statistics(operands["x"])
        operation = call.function(**operands)
        value = Value(call.layer, self._rounded(operation.output))
        self.values[f"output/{call.layer}/0"] = value.array
        self._tape.append((call, operation, value))
        return value

    def backward(self, logits: Value, gradient: np.ndarray) -> Dict[str, np.ndarray]:
        """The gradients of the weights from that of the logits; those of the layers go to `values`."""
        gradients = {logits.layer: gradient}
        of_weights = {}
        for call, operation, value in reversed(self._tape):
            own = self._rounded(gradients.pop(value.layer))
            self.values[f"output gradient/{call.layer}/0"] = own
            found = operation.backward(own)
            for operand, x in call.inputs.items():
                gradients[x.layer] = gradients.get(x.layer, 0) + found[operand]
            for operand, name in call.weights.items():
                of_weights[name] = self._rounded(found[operand])
        return of_weights

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        return values if self._rounding is None else rounded(values, self._rounding.dtype)


class Trajectory:
    """Steps of training on the trace's batch from its weights: the loss of each, and the values of the first."""

    def __init__(self, recipe: CifarRecipe, trace: Trace, rounding: Optional[RandomRounding] = None) -> None:
        self.losses: List[float] = []
        self.values: Dict[str, np.ndarray] = {}
        named = {name: trace.tensors[f"before/{name}"] for name in trace.named("gradient")}
        weights = {name: value.astype(np.float64) for name, value in named.items()}
        momenta = {name: np.zeros_like(value) for name, value in weights.items()}
        network, rate = trace.description["network"], float(trace.description["learning_rate"])
        images, labels = images_of(trace, recipe.crop_padding), trace.tensors["labels"]
        for _ in trace.tensors["losses"]:
            layers = FreeLayers(weights, rounding)
            logits = se_resnet(
                Value(IMAGES, images), layers, network["depth"], network["variant"], network["num_classes"], True
            )
            loss = operations.cross_entropy(logits.array, labels)
            gradients = layers.backward(logits, loss.backward(np.ones(()))["logits"])
            self.losses.append(float(loss.output))
            self.values = self.values or layers.values
            for name, gradient in gradients.items():
                gradient = gradient + recipe.weight_decay * weights[name]
                momenta[name] = recipe.momentum * momenta[name] + gradient
                step = gradient + recipe.momentum * momenta[name] if recipe.nesterov else momenta[name]
                weights[name] = weights[name] - rate * step
                if rounding is not None:
                    weights[name] = rounded(weights[name], "float32")
