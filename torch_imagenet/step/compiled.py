"""A network compiled once by torch.compile: for batches of one size, with its errors in one line."""

from __future__ import annotations

from typing import Any, Dict, Optional

import torch
from torch import nn
from torch.nn import functional

from shared.errors import UsageError
from torch_imagenet.devices.device import Device
from torch_imagenet.networks.squeeze_excitation import use_products


class Compiled:
    """A network that is compiled at the first call with a batch of `size` images; None: of as many as the first call.

    A batch of another size runs the network as it is: another size would be another graph, and a minute or more. So do
    the trials after memory has run out; see `padded` for the last batch of an evaluation. `mode` is one of
    torch.compile. Random numbers are those of the network that is not compiled. On a CPU torch.compile needs a C++
    compiler, on other devices the compiler of their kernels; UsageError is raised here where the former is missing, and
    by the first call where the compilation fails.
    """

    def __init__(self, network: nn.Module, mode: str, device: Device, size: Optional[int] = None) -> None:
        self.network, self.size = network, size
        if not device.asynchronous:
            _check_compiler()
        from torch._inductor import list_mode_options  # takes seconds to load

        options: Dict[str, Any] = {**list_mode_options(mode), "fallback_random": True}
        self.has_graphs = bool(device.asynchronous and options.get("triton.cudagraphs"))  # CUDA's
        self._compiled = torch.compile(use_products(network), dynamic=False, options=options)

    def __call__(self, images: torch.Tensor) -> Any:
        """What the network returns for normalised images [B, 3, H, W]; with CUDA graphs, valid until the next call."""
        self.size = self.size or len(images)
        if len(images) != self.size:
            return self.network(images)
        if self.has_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            return self._compiled(images)
        except RuntimeError as error:
            from torch._dynamo.exc import TorchDynamoException

            if not isinstance(error, TorchDynamoException):
                raise
            raise _refused(error) from error


def padded(images: torch.Tensor, size: Optional[int]) -> torch.Tensor:
    """Images [B, ...] with zeros behind them to [size, ...], for one graph; as they are where there are more."""
    missing = (size or 0) - len(images)
    return functional.pad(images, (0, 0) * (images.ndim - 1) + (0, missing)) if missing > 0 else images


def _check_compiler() -> None:
    """Raise UsageError where torch.compile finds no C++ compiler."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise UsageError(
            "--compile needs a C++ compiler on a CPU, and there is none; install one, name it in the environment"
            " variable CXX, or leave --compile out"
        ) from error


def _refused(error: Exception) -> UsageError:
    reason = str(error).strip().split("\n")[0]
    return UsageError(f"the network could not be compiled ({reason}); leave --compile out")
