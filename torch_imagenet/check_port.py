"""The mode `check-port`: whether a device computes the training step that float64 on the CPU computes, layer by layer.

One real step is taken on the device and recorded. The reference then computes every layer again from the operands that
the layer had on the device. What rounding does not explain is reported at the layer that did it.
"""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from torch import nn

from shared.errors import UsageError
from shared.port_check import report
from shared.port_check.trace import Trace, check_writable, read_trace, write_trace
from shared.results import record as records
from shared.system.signals import Interrupts
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch, TrainingInput
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check.leaves import array, dtype_name
from torch_imagenet.port_check.msprobe import DumpRecorder, check_new, write_dump
from torch_imagenet.port_check.msprobe_read import Dump, dump_weights, is_dump, read_dump, trace_of
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.port_check.reference import compare_dump, compare_trace
from torch_imagenet.run import description
from torch_imagenet.run.recipe import choose_recipe
from torch_imagenet.run_setup import RunSetup, TrainingSetup
from torch_imagenet.step.training_step import TrainingStep
from torch_imagenet.weights import source

STEPS = 3  # of the loss curve, unless --max-steps says otherwise
BATCH_SIZE = 4
IMAGE_SIZE = 64


def check_port(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Record a step, compare it, write port.json. Raises SystemExit(3) where it differs, UsageError without data."""
    if config.against and is_dump(config.against):
        check_dump(config, device, interrupts)
        return
    begin = time.time()
    if config.save_trace:
        check_writable(config.save_trace)
    if config.msprobe:
        check_new(config.msprobe)
    against = read_trace(config.against) if config.against else None
    setup, network, lines = _setup(config, device, ranks, against)
    steps = config.max_steps or STEPS
    lines = [setup.data.remark, *lines, *description.device_lines(setup), _line(setup)]
    with description.open_run(setup, lines) as (folder, log):
        side = copy.deepcopy(network)
        dump = DumpRecorder(side) if config.msprobe else None
        trace = record_step(setup, side, _batch(setup, against), steps, dump)
        interrupts.raise_if_requested()
        if config.msprobe and dump is not None:
            log.line(f"msProbe's dump: {write_dump(config.msprobe, dump)}")
        if config.save_trace:
            write_trace(config.save_trace, trace)
            log.line(f"trace: {config.save_trace}")
        sides = {f"{device.kind} ({device.name})": trace}
        if against is not None:
            sides[f"the trace {config.against}"] = against

        def compared() -> Iterator[Tuple[str, Trace, report.Comparison]]:
            for side, recorded in sides.items():
                yield side, recorded, compare_trace(setup.recipe, network, recorded)
                interrupts.raise_if_requested()

        agrees = report.write(folder, log, compared())
        record = description.build_record(setup, network, begin, **description.of_steps(setup), steps_completed=steps)
        records.write_record(folder / "result.json", record)
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(report.DIFFERS)


def check_dump(config: RunConfig, device: Device, interrupts: Interrupts) -> None:
    """Compare a dump of msProbe, which was made elsewhere; no step is taken here. Raises as `check_port` does."""
    begin = time.time()
    setup, network, dump, lines = _dumped(config, device)
    with description.open_run(setup, lines) as (folder, log):
        trace = trace_of(dump, copy.deepcopy(network).double().train())
        for line in dump.notes(trace, network):
            log.line(line)
        interrupts.raise_if_requested()
        agrees = report.write(folder, log, [(f"the dump {config.against}", trace, compare_dump(network, trace))])
        records.write_record(folder / "result.json", description.build_record(setup, network, begin))
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(report.DIFFERS)


def record_step(
    setup: RunSetup, network: nn.Module, batch: Batch, steps: int, dump: Optional[DumpRecorder] = None
) -> Trace:
    """One step of the configured training on the device, and the losses of `steps` of them on the same batch.

    A `dump` of the network records the same step.
    """
    step = TrainingStep(network, setup)
    trace = Trace({"loss_scale": float(step.loss_scale.get_scale()), **_description(setup)})
    kept = {name: dtype_name(weight.dtype) for name, weight in step.network.named_parameters()}
    trace.description["weight_dtypes"] = {name: dtype for name, dtype in kept.items() if dtype != "float32"}
    trace.tensors.update(images=array(batch.images), labels=array(batch.labels))
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"before/{name}"] = array(value)
    with Recorder(step.network, trace).recording(), dump.recording() if dump else contextlib.nullcontext():
        results = [step.run([batch], setup.recipe.largest_rate, 0, 0)]
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"after/{name}"] = array(value)
    results += [step.run([batch], setup.recipe.largest_rate, 0, number) for number in range(1, steps)]
    trace.tensors["losses"] = array(torch.stack([result[0] for result in results]).double())
    return trace


def _setup(
    config: RunConfig, device: Device, ranks: Ranks, against: Optional[Trace]
) -> Tuple[TrainingSetup, nn.Module, List[str]]:
    """What is compared: the recipe on a small batch without random layers, the network with its weights; log lines."""
    if config.compile:
        raise UsageError("check-port records every layer, which a compiled network does not have; leave --compile out")
    if against is not None:
        described = against.description
        if described.get("half") != "torch_imagenet":
            raise UsageError(f"{config.against} is a trace of {described.get('half')}; compare it there")
        config = replace(config, network=described["network"]["name"])
    config, _, weights = source.origin(config)
    config = replace(
        config,
        batch_size=config.batch_size or BATCH_SIZE,
        image_size=config.image_size or IMAGE_SIZE,
        accumulate=1,
        dropout=0.0,  # what is random differs between devices
        drop_path=0.0,
        mixup=0.0,
        cutmix=0.0,
    )
    setup = TrainingSetup.from_config(config, device, ranks, None, weights)
    torch.manual_seed(setup.recipe.seed)
    network = setup.spec.make()
    lines: List[str] = []
    if against is not None:
        network.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in against.named("before").items()})
        lines = [f"weights and batch: those of {config.against}"]
    elif weights is not None:
        lines = source.load(weights, network, setup.spec, source.head(weights, setup.data.classes, config))
    return setup, network, lines


def _dumped(config: RunConfig, device: Device) -> Tuple[RunSetup, nn.Module, Dump, List[str]]:
    """A dump, the network that it is of, with the weights of --checkpoint or else its own; log lines."""
    unused = config.given(
        ("data_path", "batch_size", "image_size", "num_classes", "max_steps", "save_trace", "msprobe")
    )
    if unused:
        option = "--" + next(iter(unused)).replace("_", "-")
        raise UsageError(f"the step is that of the dump {config.against}; leave {option} out")
    config, _, weights = source.origin(config)
    recipe = choose_recipe(config, device).override(dropout=0.0, drop_path=0.0)
    head, auxiliary = NETWORKS[recipe.network].head, NETWORKS[recipe.network].auxiliary_head
    with torch.device("meta"):
        whole = NetworkSpec.from_recipe(recipe.override(auxiliary_weight=0.4 if auxiliary else 0.0), 2).make()
    dump = read_dump(str(config.against), [name for name, _ in whole.named_modules()])
    present = auxiliary is not None and dump.shape(auxiliary) is not None
    shape = dump.shape(head) or [0]
    spec = NetworkSpec.from_recipe(recipe.override(auxiliary_weight=0.4 if present else 0.0), shape[-1])
    setup = RunSetup(config, device, ALONE, recipe, spec, precision(recipe.precision), None)
    network = spec.make()
    lines = [f"network: {spec.text()}", f"weights: those of {config.against}"]
    if weights is None:
        network.load_state_dict(dump_weights(dump, network), strict=False)  # a dump has no running statistics
    else:
        lines[1:] = weights.load(network)
    return setup, network, dump, lines


def _batch(setup: TrainingSetup, against: Optional[Trace]) -> Batch:
    """The first training batch, or that of the trace."""
    if against is not None:
        images, labels = (torch.from_numpy(against.tensors[name].copy()) for name in ("images", "labels"))
        return Batch(images, labels, ())
    with TrainingInput.from_setup(setup) as images:
        return next(iter(images.epoch(0)))


def _description(setup: RunSetup) -> Dict[str, Any]:
    return {
        "half": "torch_imagenet",
        "network": setup.spec.to_json(),
        "precision": setup.precision.name,
        "device": setup.device.describe(),
        "float32_products": setup.device.float32_products,
        "memory_format": setup.memory_format,
        "versions": {"torch": torch.__version__},
    }


def _line(setup: TrainingSetup) -> str:
    recipe, layout = setup.recipe, setup.memory_format.replace("_", " ")
    sizes = f"batch {recipe.batch_size}, image size {recipe.image_size}, {layout}"
    return f"network: {setup.spec.text()}, {sizes}, learning rate {recipe.largest_rate:g}"
