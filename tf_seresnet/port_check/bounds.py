"""What a layer of the network computes in float64, and how far rounding alone can take it from there.

Magnitudes are sums of the same operation on absolute values. Where NumPy in float32 needs more than the bound, the
bound grows to what it needs.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple

import numpy as np

from shared.port_check import tolerance
from shared.port_check.rounding import rounded
from shared.port_check.tolerance import BatchNormBounds, Rounding
from tf_seresnet.network import BATCH_NORM_EPSILON
from tf_seresnet.port_check import operations
from tf_seresnet.port_check.numpy_layers import Call
from tf_seresnet.port_check.operations import Gradients

MATRIX = {"conv": "convolution", "dense": "linear"}  # they compute in the low precision of the step, where it has one
Operands = Dict[str, np.ndarray]


class Judged(NamedTuple):
    """A value in float64, and the largest error of each of its elements that rounding explains."""

    expected: np.ndarray
    bound: np.ndarray


def forward(call: Call, operands: Operands, dtype: str, products: Mapping[str, str]) -> Judged:
    """The result of a layer with operands in float64, stored in `dtype`; `products` as `Device.float32_products`."""
    operands = _as_computed(call, operands, dtype)
    expected = call.function(**operands).output
    if call.kind == "batch_norm":
        bound = norm_bounds(operands, np.zeros_like(operands["x"]), dtype).output
    else:
        rounding = _roundings(call, operands, dtype, products)["output"]
        bound = tolerance.bound(expected, _magnitudes(call, operands).output, rounding)
    return Judged(expected, _grown(expected, bound, call.function(**_float32(operands)).output))


def backward(
    call: Call, operands: Operands, gradient: np.ndarray, dtype: str, products: Mapping[str, str]
) -> Dict[str, Judged]:
    """The gradients of a layer's operands, from that of its result.

    In a low precision a convolution or dense layer may compute one of them in float32: both results are allowed.
    """
    given, operands = operands, _as_computed(call, operands, dtype)
    read = rounded(gradient, dtype) if call.kind in MATRIX else gradient
    exact = call.function(**operands).backward(read)
    wide = exact if operands is given else call.function(**given).backward(gradient)
    plain = call.function(**_float32(operands)).backward(gradient.astype(np.float32))
    if call.kind == "batch_norm":
        norm = norm_bounds(operands, gradient, dtype)
        bounds: Gradients = {"x": norm.input_gradient, "gamma": norm.scale_gradient, "beta": norm.shift_gradient}
    else:
        size = _magnitudes(call, operands).backward(np.abs(gradient))
        if call.kind == "gate":  # 1 - sigmoid has lost digits where sigmoid is nearly 1
            size["excitation"] = size["excitation"] / operations.sigmoid(-operands["excitation"])
        kinds = _roundings(call, operands, dtype, products)
        bounds = {name: tolerance.bound(exact[name], size[name], kinds[name]) for name in operands}
    judged = {}
    for name in operands:
        bound = _grown(exact[name], bounds[name], plain[name])
        judged[name] = Judged(exact[name], bound + np.abs(wide[name] - exact[name]))
    return judged


def norm_bounds(operands: Operands, gradient: np.ndarray, dtype: str) -> BatchNormBounds:
    """`batch_norm_bounds` of feature maps whose channels come last."""
    x, g = (np.moveaxis(values, -1, 1) for values in (operands["x"], gradient))
    found = tolerance.batch_norm_bounds(x, operands["gamma"], operands["beta"], BATCH_NORM_EPSILON, g, dtype)
    last = {name: np.moveaxis(getattr(found, name), 1, -1) for name in ("output", "input_gradient")}
    return found._replace(**last)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> Judged:
    """The mean loss of the recorded logits, computed in float32."""
    expected = np.asarray(operations.cross_entropy(logits, labels).output)
    size = np.abs(expected) + np.abs(logits[np.isfinite(logits)]).max(initial=1.0)
    return Judged(expected, tolerance.bound(expected, size, Rounding("float32", "float32", logits.size, 4)))


def cross_entropy_gradient(logits: np.ndarray, labels: np.ndarray, scale: float, dtype: str) -> Judged:
    """The gradient of `scale` times the mean loss. An exponential has the absolute error of its argument."""
    expected = operations.cross_entropy(logits, labels).backward(np.asarray(scale))["logits"]
    target = np.zeros_like(expected)
    target[np.arange(len(labels)), labels] = scale / len(labels)
    largest = logits.max(axis=1, keepdims=True)
    spread = 8 + np.abs(largest) + np.abs(logits)
    size = (np.abs(expected) + target) * spread
    return Judged(
        expected, tolerance.bound(expected, size, Rounding(dtype, "float32", logits.shape[1], 1)) + size * 2e-7
    )


def _as_computed(call: Call, operands: Operands, dtype: str) -> Operands:
    """The operands as the layer reads them: convolutions and dense layers round them to the dtype they compute in."""
    if call.kind not in MATRIX or dtype in ("float32", "float64"):
        return operands
    return {name: rounded(value, dtype) for name, value in operands.items()}


def _magnitudes(call: Call, operands: Operands) -> Any:
    return call.function(**{k: v if k == "excitation" else np.abs(v) for k, v in operands.items()})


def _float32(operands: Operands) -> Operands:
    with np.errstate(over="ignore"):
        return {name: value.astype(np.float32) for name, value in operands.items()}


def _roundings(call: Call, operands: Operands, dtype: str, products: Mapping[str, str]) -> Dict[str, Rounding]:
    """How the output, and the gradient of each operand, of a layer that is not batch normalisation were rounded."""
    accumulated = "float64" if dtype == "float64" else "float32"

    def rounding(length: int = 1, stores: int = 1) -> Rounding:
        return Rounding(dtype, accumulated, max(length, 1), stores)

    x = operands["x"].shape
    if call.kind in MATRIX:
        kernel = operands["kernel"].shape
        over_batch = rounding(int(np.prod(x[:-1])))  # at most, where the stride is larger than 1
        with_bias = rounding(int(np.prod(kernel[:-1])) + 1, 2)
        back = rounding(int(np.prod(kernel)) // kernel[-2])
        sums = {"output": with_bias, "x": back, "kernel": over_batch}
        factors = products.get(MATRIX[call.kind], "") if dtype == "float32" else ""
        return {"bias": over_batch, **{name: value._replace(operands=factors) for name, value in sums.items()}}
    if call.kind == "global_average_pool":
        return {"output": rounding(x[1] * x[2], 2), "x": rounding(stores=2)}
    if call.kind == "gate":  # an exponential and a quotient, each right to its last digit (2 units), a sum, a product
        return {"output": rounding(stores=7), "x": rounding(stores=7), "excitation": rounding(x[1] * x[2], 10)}
    return {name: rounding() for name in ("output", "x", "y")}


def _grown(expected: np.ndarray, bound: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The bound, grown where NumPy's own float32 result needs more."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        needed = np.abs(plain.astype(np.float64) - expected) / bound
    largest = float(np.where(np.isfinite(needed), needed, 0.0).max(initial=0.0))
    return bound * max(1.0, largest * (1 + 1e-9))  # the division has rounded, too
