"""Taking one training step on the device and recording it."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any, Dict, Optional

import torch
from torch import nn

from shared.port_check.trace import Trace
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.port_check import several
from torch_imagenet.port_check.compiled import CompiledRecorder, take_again
from torch_imagenet.port_check.device_errors import layer_named
from torch_imagenet.port_check.leaves import array, dtype_name
from torch_imagenet.port_check.msprobe import DumpRecorder
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step.training_step import TrainingStep


def record_step(
    setup: RunSetup, network: nn.Module, batch: Batch, steps: int, dump: Optional[DumpRecorder] = None
) -> Trace:
    """One step of the configured training on the device, and the losses of `steps` of them on the same batch.

    A `dump` of the network records the same step.
    """
    trace = Trace(_description(setup))
    size = len(batch.labels)  # less than the recipe's where an image cannot be read; it is what is compiled for
    step = several.RecordedStep(network, replace(setup, recipe=setup.recipe.override(batch_size=size)), trace)
    trace.description["loss_scale"] = float(step.loss_scale.get_scale())
    kept = {name: dtype_name(weight.dtype) for name, weight in step.network.named_parameters()}
    trace.description["weight_dtypes"] = {name: dtype for name, dtype in kept.items() if dtype != "float32"}
    trace.tensors.update(images=array(batch.images), labels=array(batch.labels))
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"before/{name}"] = array(value)
    before = copy.deepcopy(step.state_dict()) if setup.config.compile else {}
    recorder = _recorder(step, setup, batch, trace)
    also = dump.recording() if dump else contextlib.nullcontext()
    with layer_named(setup, network, recorder, trace), recorder.recording(), also:
        results = [step.run([batch], setup.recipe.largest_rate, 0, 0)]
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"after/{name}"] = array(value)
    results += [step.run([batch], setup.recipe.largest_rate, 0, number) for number in range(1, steps)]
    if setup.config.compile:
        take_again(step, before, batch, setup.recipe.largest_rate, trace)
    trace.tensors["losses"] = array(torch.stack([result[0] for result in results]).double())
    return trace


def _recorder(step: TrainingStep, setup: RunSetup, batch: Batch, trace: Trace) -> Recorder:
    if setup.config.compile:
        return CompiledRecorder(step, trace, setup.normalisation()(batch.images))
    return Recorder(step.network, trace)


def _description(setup: RunSetup) -> Dict[str, Any]:
    return {
        "half": "torch_imagenet",
        "network": setup.spec.to_json(),
        "recipe": setup.recipe.to_json(),
        "precision": setup.precision.name,
        "device": setup.device.describe(),
        "float32_products": setup.device.float32_products,
        "memory_format": setup.memory_format,
        "compiled": bool(setup.config.compile),
        "grouped_conv": setup.config.grouped_conv,
        "versions": {"torch": torch.__version__},
        **several.identity(setup.ranks),
    }
