"""A fake of torch_npu: `import torch_npu` registers a device `npu` whose memory is the host's.

Put the parent folder on PYTHONPATH. The number of devices is SIMULATED_NPUS in the environment (default: 2); with
SIMULATED_NPU_SATURATES=1 they are in the saturation mode of the Ascend 910.
`counters()` counts copies to and from the devices and synchronisations.
"""

from __future__ import annotations

import os

import torch

from torch_npu import hccl, npu, optim
from torch_npu.extension import EXTENSION

__all__ = ["break_fused_sgd", "break_grouped_convolutions", "counters", "npu", "optim", "record_operators"]
__all__ += ["recorded_operators", "saturate"]

break_fused_sgd = EXTENSION.break_fused_sgd
break_grouped_convolutions = EXTENSION.break_grouped_convolutions
counters = EXTENSION.counters
record_operators = EXTENSION.record_operators
recorded_operators = EXTENSION.recorded_operators
saturate = EXTENSION.saturate

EXTENSION.set_device_count(int(os.environ.get("SIMULATED_NPUS", "2")))
saturate(os.environ.get("SIMULATED_NPU_SATURATES") == "1")
torch.utils.rename_privateuse1_backend("npu")
torch._register_device_module("npu", npu)
torch.utils.generate_methods_for_privateuse1_backend()
hccl.register()
