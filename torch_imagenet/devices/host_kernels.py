"""Batch normalisation in training on a CPU together with the ReLU, or the end of an SE block, behind it: fewer passes.

torch goes through a map of activations 14 times for a batch normalisation and its ReLU, forward and backward, and
`host_kernels.c` 8 times: the batch's two sums are taken in one pass, and the ReLU is part of others. It is compiled
once, by the system's C compiler, and kept in the cache; where that is not possible, torch's layers are used.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Optional, Tuple

import torch
from torch import nn

from shared.system import processor
from shared.system.c_library import Unavailable, compiled

_SOURCE = Path(__file__).with_name("host_kernels.c")
# -march: for the processor at hand, whose name is part of the file's. OpenMP is not linked: it is the one of torch,
# whose threads are used, and a second one would have threads of its own.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-fopenmp")
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_ROWS = 256  # positions of a block


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("images", "positions", "channels", "rows")]
    _fields_ += [("threads", ctypes.c_int)]


class HostKernels:
    """The compiled program at this path. It can be copied and pickled. Raises Unavailable.

    Maps are [B, C, H, W], channels_last, float32 or bfloat16; all else is float32. The `values` of a batch [4, C]
    are its mean, inv = 1 / deviation, a = weight inv and b = bias - a mean; `away` [B, C] are the sums of x - mean.
    """

    PLAIN, RELU, SHORTCUT = range(3)  # what follows a x + b

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._program = ctypes.CDLL(path)
        except OSError as error:
            raise Unavailable(f"{path} does not load ({error})") from error

    def __reduce__(self) -> Tuple[Any, ...]:
        return HostKernels, (self._path,)

    def takes(self, layer: nn.Module, x: torch.Tensor) -> bool:
        """Whether this is a layer, and a map, that it computes."""
        return (
            type(layer) is nn.BatchNorm2d
            and layer.training
            and layer.affine
            and layer.track_running_stats
            and layer.momentum is not None
            and layer.weight.dtype == torch.float32
            and x.dtype in _DTYPES
            and x.device.type == "cpu"
            and len(x) * x[0, 0].numel() > 1
            and x.is_contiguous(memory_format=torch.channels_last)
        )

    def statistics(self, x: torch.Tensor, layer: nn.BatchNorm2d) -> Tuple[torch.Tensor, torch.Tensor]:
        """`values` and `away` of the map, whose statistics go into the running ones of the layer."""
        shape, channels = _shape(x), x.shape[1]
        values, sums = torch.empty(4, channels), torch.empty(2, len(x), channels)
        values[0] = x[0, :, 0, 0]
        self._call("sums", x, shape, x, values, _blocks(shape), sums)
        of_layer = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        numbers = (ctypes.c_double(layer.momentum), ctypes.c_double(layer.eps))  # type: ignore[arg-type]
        self._call("statistics", None, shape, sums, *of_layer, *numbers, *values)
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
        return values, sums[0]

    def apply(
        self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, mode: int, shortcut: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """a x + b, or relu of it, with a and b [C]; with a shortcut relu(a x + b + shortcut), a and b [B, C]."""
        y = torch.empty_like(x)
        self._call("apply", x, _shape(x), x, a, b, mode, shortcut, y)
        return y

    def gradient_sums(
        self, dy: torch.Tensor, x: torch.Tensor, values: torch.Tensor, mode: int, y: Optional[torch.Tensor] = None
    ) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """[2, B, C], the sums of g and of g (x - mean), where g is dy behind the ReLU; behind a shortcut also g."""
        shape, (mean, _, a, b) = _shape(x), values
        sums, kept = torch.empty(2, *x.shape[:2]), None if y is None else torch.empty_like(x)
        self._call("gradient_sums", x, shape, dy, x, mean, a, b, mode, y, kept, _blocks(shape), sums)
        return sums, kept

    def gradient(
        self,
        g: torch.Tensor,
        x: torch.Tensor,
        values: torch.Tensor,
        away: torch.Tensor,
        mode: int,
        sums: torch.Tensor,
        gate: Tuple[Optional[torch.Tensor], Optional[torch.Tensor]] = (None, None),
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients of x, weight and bias, from `gradient_sums`.

        With a gate the gradient of a x + b is gate[0] g + gate[1], both [B, C].
        """
        shape, (mean, inverse, a, b) = _shape(x), values
        channels, dx = x.shape[1], torch.empty_like(x)
        weight, bias, r = torch.empty(3, channels)
        p, q = torch.empty(2, len(x) if mode == self.SHORTCUT else 1, channels)
        self._call("coefficients", None, shape, sums, inverse, a, *gate, away, weight, bias, p, q, r)
        self._call("gradient", x, shape, g, x, mean, a, b, mode, p, q, r, dx)
        return dx, weight, bias

    def _call(self, name: str, x: Optional[torch.Tensor], *arguments: Any) -> None:
        function = getattr(self._program, name if x is None else f"{name}_{_DTYPES[x.dtype]}")
        function(*[_pointer(one) if one is None or isinstance(one, torch.Tensor) else one for one in arguments])


def make_kernels() -> HostKernels:
    """The kernels, compiled where that has not been done. Raises Unavailable."""
    return HostKernels(compiled(_SOURCE, _FLAGS, (processor.identity(),)))


def _pointer(tensor: Optional[torch.Tensor]) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _shape(x: torch.Tensor) -> _Shape:
    images, channels, height, width = x.shape
    return _Shape(images, height * width, channels, _ROWS, torch.get_num_threads())


def _blocks(shape: _Shape) -> torch.Tensor:
    """Memory for the sums of blocks."""
    return torch.empty(shape.images * -(-shape.positions // shape.rows) * 2 * shape.channels)
