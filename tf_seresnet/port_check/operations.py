"""What each layer of the network computes, and its derivative, in NumPy: the reference that no framework is part of.

Feature maps are [batch, height, width, channels], kernels [height, width, channels in, channels out], of any float
type; results have the type of the operands.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

Gradients = Dict[str, np.ndarray]  # by operand


class Operation(NamedTuple):
    """A result, and the gradients of the operands as a function of the result's gradient."""

    output: np.ndarray
    backward: Callable[[np.ndarray], Gradients]


def conv(x: np.ndarray, kernel: np.ndarray, bias: Optional[np.ndarray] = None, strides: int = 1) -> Operation:
    """Convolution with 'SAME' padding as TensorFlow defines it: the odd row or column of zeros at the end."""
    side, channels = kernel.shape[0], kernel.shape[2]
    height, width = (-(-length // strides) for length in x.shape[1:3])
    padding = [_same(length, side, strides) for length in x.shape[1:3]]
    padded = np.pad(x, [(0, 0), *padding, (0, 0)], "constant")
    inner = tuple(slice(before, before + length) for (before, _), length in zip(padding, x.shape[1:3]))

    def windows() -> Iterator[Tuple[int, int, Tuple[slice, slice]]]:
        for row in range(side):
            for column in range(side):
                rows = slice(row, row + (height - 1) * strides + 1, strides)
                yield row, column, (rows, slice(column, column + (width - 1) * strides + 1, strides))

    def pixels(at: Tuple[slice, slice]) -> np.ndarray:
        return padded[(slice(None), *at)].reshape(-1, channels)

    output = np.zeros((len(x) * height * width, kernel.shape[3]), x.dtype)
    for row, column, at in windows():
        output += pixels(at) @ kernel[row, column]

    def backward(gradient: np.ndarray) -> Gradients:
        rows = gradient.reshape(output.shape)
        back, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for row, column, at in windows():
            of_kernel[row, column] = pixels(at).T @ rows
            back[(slice(None), *at)] += (rows @ kernel[row, column].T).reshape(len(x), height, width, channels)
        return {"x": back[(slice(None), *inner)], "kernel": of_kernel, "bias": rows.sum(axis=0)}

    if bias is not None:
        output += bias
    return Operation(output.reshape(len(x), height, width, -1), backward)


def _same(length: int, side: int, strides: int) -> Tuple[int, int]:
    """Zeros before and after one dimension."""
    total = max((-(-length // strides) - 1) * strides + side - length, 0)
    return total // 2, total - total // 2


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, errors: Tuple[Any, Any] = (0, 0)
) -> Operation:
    """Normalisation by the statistics of the batch (Ioffe and Szegedy, arXiv 1502.03167).

    `errors` are added to mean and variance.
    """
    mean, variance = x.mean(axis=(0, 1, 2)) + errors[0], np.maximum(x.var(axis=(0, 1, 2)) + errors[1], 0)
    deviation = np.sqrt(variance + x.dtype.type(epsilon))
    normal = (x - mean) / deviation

    def backward(gradient: np.ndarray) -> Gradients:
        of_normal = (gradient * normal).mean(axis=(0, 1, 2))
        centred = gradient - gradient.mean(axis=(0, 1, 2)) - normal * of_normal
        scale = (gradient * normal).sum(axis=(0, 1, 2))
        return {"x": gamma / deviation * centred, "gamma": scale, "beta": gradient.sum(axis=(0, 1, 2))}

    return Operation(gamma * normal + beta, backward)


def dense(x: np.ndarray, kernel: np.ndarray) -> Operation:
    """x [batch, features] times kernel [features, units]."""
    return Operation(x @ kernel, lambda gradient: {"x": gradient @ kernel.T, "kernel": x.T @ gradient})


def global_average_pool(x: np.ndarray) -> Operation:
    """[batch, height, width, channels] to [batch, channels]."""
    pixels = x.shape[1] * x.shape[2]

    def backward(gradient: np.ndarray) -> Gradients:
        return {"x": np.broadcast_to(gradient[:, None, None] / gradient.dtype.type(pixels), x.shape)}

    return Operation(x.mean(axis=(1, 2)), backward)


def relu(x: np.ndarray) -> Operation:
    """max(x, 0), with the derivative 0 at 0."""
    return Operation(np.maximum(x, 0), lambda gradient: {"x": gradient * (x > 0)})


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def gate(x: np.ndarray, excitation: np.ndarray) -> Operation:
    """x times sigmoid(excitation [batch, channels]), channel by channel."""
    factor = sigmoid(excitation)

    def backward(gradient: np.ndarray) -> Gradients:
        inner = (gradient * x).sum(axis=(1, 2))
        return {"x": gradient * factor[:, None, None], "excitation": inner * factor * sigmoid(-excitation)}

    return Operation(x * factor[:, None, None], backward)


def add(x: np.ndarray, y: np.ndarray) -> Operation:
    """Elementwise sum."""
    return Operation(x + y, lambda gradient: {"x": gradient, "y": gradient})


def shortcut(x: np.ndarray, filters: int, strides: int) -> Operation:
    """Every `strides`-th pixel, zeros for the new channels (He et al., arXiv 1512.03385, option A)."""
    new = filters - x.shape[-1]
    before = new // 2

    def backward(gradient: np.ndarray) -> Gradients:
        back = np.zeros_like(x)
        back[:, ::strides, ::strides] = gradient[..., before : before + x.shape[-1]]
        return {"x": back}

    padding: List[Tuple[int, int]] = [(0, 0)] * 3 + [(before, new - before)]
    return Operation(np.pad(x[:, ::strides, ::strides], padding, "constant"), backward)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> Operation:
    """Mean over the batch of -log softmax(logits [batch, classes])[label], a scalar."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))

    def backward(gradient: np.ndarray) -> Gradients:
        back = exponentials / total
        back[rows, labels] -= 1
        return {"logits": back * (gradient / back.dtype.type(len(labels)))}

    return Operation((np.log(total[:, 0]) - shifted[rows, labels]).mean(), backward)
