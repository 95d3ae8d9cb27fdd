"""An error that a device raises in a layer, as one line that names the layer."""

from __future__ import annotations

import contextlib
from typing import Iterator

from torch import nn

from shared.errors import UsageError
from shared.port_check.trace import Trace
from torch_imagenet.networks.grouped_conv import GroupedConv2d
from torch_imagenet.port_check.grouped_forms import NATIVE, advice, reason
from torch_imagenet.port_check.leaves import describe
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.run.setup import RunSetup


@contextlib.contextmanager
def layer_named(setup: RunSetup, network: nn.Module, recorder: Recorder, trace: Trace) -> Iterator[None]:
    """Raise UsageError where a layer that is being recorded into the trace fails in the block."""
    try:
        yield
    except RuntimeError as error:
        if recorder.inside is None:
            raise
        name, direction = recorder.inside
        layer = dict(network.named_modules())[name]
        what = f"{setup.device.name} fails in {name} ({describe(layer)}), {direction}: {reason(error)}"
        if isinstance(layer, GroupedConv2d) and setup.config.grouped_conv == NATIVE:
            raise UsageError(f"{what}; {advice(setup, network, trace, name)}") from error
        raise UsageError(f"{what}; try another --precision, or another version of the device's software") from error
