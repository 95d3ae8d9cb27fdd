"""torch.optim.SGD without torch's compiler, which its methods import at their first call: a third of a start's time."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Optional

import torch

from torch_imagenet.devices import fused_sgd


class SGD(torch.optim.SGD):
    """torch.optim.SGD (Sutskever et al., 2013, as torch defines it): its arithmetic, options, hooks and state dict.

    torch wraps these methods for graphs that torch.compile makes of an optimizer, and imports `torch._dynamo` in the
    wrappers. No optimizer is compiled here, so what they wrap is called directly.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))  # torch's wrapper turns gradients off too

    def _init_group(
        self,
        group: Dict[str, Any],
        params: List[torch.Tensor],
        grads: List[torch.Tensor],
        momentum_buffer_list: List[Optional[torch.Tensor]],
    ) -> bool:
        sparse: bool = super()._init_group(group, params, grads, momentum_buffer_list)
        if group["fused"]:
            grads[:] = [fused_sgd.as_stored(gradient) for gradient in grads]
        return sparse
