"""The layers without layers inside: their names in a network, what they compute, how many terms they add up."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.port_check.tolerance import Rounding
from torch_imagenet.networks.pnasnet_cells import MaxPool, same_shift

LINEAR = (nn.Conv2d, nn.Linear)
LOW = {"float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES = {**LOW, "float32": torch.float32, "float64": torch.float64}


def leaves(network: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    """Name and module of every layer that computes: those without children."""
    for name, module in network.named_modules():
        if not any(True for _ in module.children()):
            yield name, module


@contextlib.contextmanager
def hooked(
    network: nn.Module, after: Callable[..., Any], before: Optional[Callable[..., Any]] = None
) -> Iterator[None]:
    """Inside, every layer calls before(name, layer, inputs) and after(name, layer, inputs, output).

    As with torch's hooks, what they return takes the place of the inputs or the output.
    """
    handles = []
    for name, layer in leaves(network):
        if before is not None:
            handles.append(layer.register_forward_pre_hook(partial(before, name)))
        handles.append(layer.register_forward_hook(partial(after, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def describe(layer: nn.Module) -> str:
    """What a layer computes, for a report: "3x3 convolution, 64 to 128 channels, stride 2"."""
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        text = f"{height}x{width} convolution, {layer.in_channels} to {layer.out_channels} channels"
        text += f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
        return text + (f", {layer.groups} groups" if layer.groups > 1 else "")
    if isinstance(layer, nn.Linear):
        return f"linear, {layer.in_features} to {layer.out_features}"
    if isinstance(layer, _BatchNorm):
        return f"batch normalisation of {layer.num_features} channels, epsilon {layer.eps:g}"
    return type(layer).__name__


def is_max_pool(layer: nn.Module) -> bool:
    """Whether the layer hands each gradient to the largest value of a window."""
    return isinstance(layer, (MaxPool, nn.MaxPool2d))


def _window(layer: nn.Module, x: torch.Tensor) -> Tuple[int, int, Tuple[int, int]]:
    """Side, stride and padding (top, left) of a max pooling's windows over x [B, C, H, W]."""
    if isinstance(layer, MaxPool):
        down, right = same_shift(x) if layer.shifted else (0, 0)
        return 3, layer.stride, (1 - down, 1 - right)
    assert isinstance(layer, nn.MaxPool2d)
    sizes = layer.kernel_size, layer.stride, layer.padding
    side, stride, padding = (size[0] if isinstance(size, tuple) else int(size) for size in sizes)
    return side, stride, (padding, padding)


def max_pool_gradient(layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Two magnitudes for the input gradient of max pooling, x [B, C, H, W], `gradient` [B, C, H', W'].

    The first is what each pixel adds up. The second is what it may get or lose because the largest value of a window
    stands there more than once, and which of the equals gets the gradient is the implementation's choice.
    """
    leaf, size = x.clone().requires_grad_(), gradient.abs()
    with torch.enable_grad():
        y = layer.forward(leaf)
    (added,) = torch.autograd.grad(y, leaf, size)
    y = y.detach()
    side, stride, (top, left) = _window(layer, x)
    height, width = y.shape[2:]
    bottom, right = ((n - 1) * stride + side for n in (height, width))
    frame = torch.full((*x.shape[:2], max(bottom, x.shape[2] + top), max(right, x.shape[3] + left)), -torch.inf)
    frame = frame.to(x.dtype)
    frame[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    offsets = [(i, j) for i in range(side) for j in range(side)]

    def window(i: int, j: int) -> Tuple[slice, ...]:
        rows = slice(i, i + (height - 1) * stride + 1, stride)
        return slice(None), slice(None), rows, slice(j, j + (width - 1) * stride + 1, stride)

    count = sum((frame[window(i, j)] == y).int() for i, j in offsets)
    moved = torch.zeros_like(frame)
    for i, j in offsets:
        moved[window(i, j)] += torch.where((frame[window(i, j)] == y) & (count > 1), size, 0.0)
    return added, moved[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def array(value: torch.Tensor) -> np.ndarray:
    """A copy in host memory: float32 for 16 bits, otherwise the tensor's own dtype."""
    wide = value.detach().to("cpu", copy=True)
    return (wide.float() if wide.dtype in LOW.values() else wide).contiguous().numpy()


def tensor(value: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The array as a tensor on the CPU."""
    return torch.from_numpy(np.ascontiguousarray(value)).to(dtype)


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" of torch.float32."""
    return str(dtype).split(".")[1]


def products(layer: nn.Module, dtype: str, float32_products: Mapping[str, str]) -> str:
    """What a layer rounds the factors of its products to, of `PRODUCT_ROUNDOFF`; "" where to nothing but `dtype`."""
    kind = "convolution" if isinstance(layer, nn.Conv2d) else "linear" if isinstance(layer, nn.Linear) else ""
    return float32_products.get(kind, "") if dtype == "float32" else ""


def roundings(
    layer: nn.Module, x: Tuple[int, ...], y: Tuple[int, ...], dtype: str, float32_products: Mapping[str, str]
) -> Dict[str, Rounding]:
    """How each value of a layer that is not batch normalisation was rounded.

    `x` and `y` are the shapes of input and output, `dtype` that of the arithmetic, `float32_products` as
    `Device.float32_products` has it. The keys are "output", "input gradient", "weight" and "bias"; the last two are
    gradients.
    """
    accumulated = "float64" if dtype == "float64" else "float32"
    pixels = int(np.prod(y[2:]))

    def rounding(length: int, stores: int = 1) -> Rounding:
        return Rounding(dtype, accumulated, max(length, 1), stores)

    if isinstance(layer, LINEAR):
        weight = layer.weight.shape
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        # Some implementations store a partial sum for each tap of the kernel, or for each image.
        over_batch = rounding(y[0] * pixels, y[0])
        sums = {
            "output": rounding(weight.numel() // weight[0] + 1),
            "input gradient": rounding(weight.numel() // weight[1] // groups, int(np.prod(weight[2:]))),
            "weight": over_batch,
        }
        factors = products(layer, dtype, float32_products)
        return {"bias": over_batch, **{name: value._replace(operands=factors) for name, value in sums.items()}}
    smooth = 4 if isinstance(layer, nn.Sigmoid) else 1  # an exponential, a sum and a quotient, each rounded
    # A pooled gradient may be added up where it is stored, one rounding for each window that a pixel is in.
    stores = min(pixels, 9) if is_max_pool(layer) else smooth
    return {
        "output": rounding(int(np.prod(x)) // max(1, int(np.prod(y))), smooth),
        "input gradient": rounding(pixels, stores),
    }
