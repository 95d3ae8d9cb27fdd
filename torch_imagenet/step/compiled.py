"""A network compiled by torch.compile, with its errors in one line."""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import nn

from shared.errors import UsageError


def compiled(network: nn.Module) -> Callable[[torch.Tensor], Any]:
    """The compiled forward pass of the network; it is compiled at the first call, which raises UsageError if it fails.

    On a CPU torch.compile needs a C++ compiler, on other devices the compiler of their kernels.
    """
    forward = torch.compile(network)

    def run(images: torch.Tensor) -> Any:
        try:
            return forward(images)
        except RuntimeError as error:
            from torch._dynamo.exc import TorchDynamoException

            if not isinstance(error, TorchDynamoException):
                raise
            reason = str(error).strip().split("\n")[0]
            raise UsageError(f"the network could not be compiled ({reason}); leave --compile out") from error

    return run
