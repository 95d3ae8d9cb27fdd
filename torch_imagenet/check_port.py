"""The mode `check-port`: whether a device computes the training step that float64 on the CPU computes, layer by layer.

One real step is taken on the device and recorded. The reference then computes every layer again from the operands that
the layer had on the device. What rounding does not explain is reported at the layer that did it.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch
from torch import nn

from shared.errors import UsageError
from shared.port_check import report
from shared.port_check.trace import Trace, check_writable, write_trace
from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.system.signals import Interrupts
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch, TrainingInput
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check import grouped_forms, several
from torch_imagenet.port_check.compiled import CompiledRecorder, take_again
from torch_imagenet.port_check.device_errors import layer_named
from torch_imagenet.port_check.leaves import array, dtype_name
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.port_check.reference import compare_trace
from torch_imagenet.run import description
from torch_imagenet.run_setup import RunSetup, TrainingSetup
from torch_imagenet.step.training_step import TrainingStep
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights

STEPS = 3  # of the loss curve, unless --max-steps says otherwise
BATCH_SIZE = 4
IMAGE_SIZE = 64


def check_port(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Record a step, compare it, write port.json. Raises SystemExit(3) where it differs, UsageError without data."""
    begin = time.time()
    if ranks.size > 1:
        several.check(config)
    if config.save_trace:
        check_writable(config.save_trace)
    against = several.read(config.against, ranks) if config.against else None
    setup, network, lines = _setup(config, device, ranks, against)
    ranks.require_equal("data set", setup.data.content.fingerprint)
    steps = config.max_steps or STEPS
    lines = [setup.data.remark, *lines, *description.device_lines(setup), _line(setup)]
    with description.open_run(setup, lines) as (folder, log):
        trace = record_step(setup, copy.deepcopy(network), _batch(setup, against), steps)
        interrupts.raise_if_requested()
        if config.save_trace:
            write_trace(several.rank_file(config.save_trace, ranks), trace)
            files = sorted({several.rank_file(config.save_trace, ranks, rank) for rank in (0, ranks.size - 1)})
            log.line("trace: " + " to ".join(files))
        sides = {f"{device.kind} ({device.name}){', compiled,' if config.compile else ''}": trace}
        if against is not None:
            sides[several.side(str(config.against), against, ranks)] = against

        def compared() -> Iterator[several.Compared]:
            for side, recorded in sides.items():
                found = compare_trace(setup.recipe, network, recorded, ranks)
                yield side, recorded, found
                faulty = grouped_forms.at_fault(network, recorded, found.verdict)
                if faulty:
                    log.line(grouped_forms.line(setup, network, recorded, faulty, here=recorded is trace))
                interrupts.raise_if_requested()

        found = several.of_all(ranks, compared())
        agrees = ranks.broadcast_result(lambda: report.write(folder, log, found))
        if ranks.size > 1 and not agrees:
            log.line(several.summary(found))
        if ranks.is_first:
            parts = description.of_steps(setup)
            record = description.build_record(setup, network, begin, **parts, steps_completed=steps)
            records.write_record(folder / "result.json", record)
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(report.DIFFERS)


def record_step(setup: RunSetup, network: nn.Module, batch: Batch, steps: int) -> Trace:
    """One step of the configured training on the device, and the losses of `steps` of them on the same batch."""
    trace = Trace(_description(setup))
    step = several.RecordedStep(network, setup, trace)
    trace.description["loss_scale"] = float(step.loss_scale.get_scale())
    kept = {name: dtype_name(weight.dtype) for name, weight in step.network.named_parameters()}
    trace.description["weight_dtypes"] = {name: dtype for name, dtype in kept.items() if dtype != "float32"}
    trace.tensors.update(images=array(batch.images), labels=array(batch.labels))
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"before/{name}"] = array(value)
    before = copy.deepcopy(step.state_dict()) if setup.config.compile else {}
    recorder = _recorder(step, setup, batch, trace)
    with layer_named(setup, network, recorder, trace), recorder.recording():
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


def prepare(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every one of several processes would find wrong."""
    several.check(config)
    if config.save_trace:
        check_writable(config.save_trace)
    if config.against is None:
        config, weights = _origin(config, ALONE, None)
        setup = TrainingSetup.from_config(config, device, ALONE, None, weights)
        if weights is not None:
            source.head(weights, setup.data.classes, config)


def _origin(config: RunConfig, ranks: Ranks, against: Optional[Trace]) -> Tuple[RunConfig, Optional[FoundWeights]]:
    """A training without random layers on a small batch, or on that of the trace; the weights it starts from."""
    if config.freeze_body:
        raise UsageError("check-port compares the gradients of all weights; leave --freeze-body out")
    if against is not None:
        described = against.description
        if described.get("half") != "torch_imagenet":
            raise UsageError(f"{config.against} is a trace of {described.get('half')}; compare it there")
        config = replace(config, network=described["network"]["name"])
        images, side = against.tensors["images"].shape[:2]
        config = replace(config, batch_size=int(images), image_size=int(side))
    config, _, weights = ranks.broadcast_result(lambda: source.origin(config))
    changed = replace(
        config,
        batch_size=config.batch_size or BATCH_SIZE,
        image_size=config.image_size or IMAGE_SIZE,
        accumulate=1,
        dropout=0.0,  # what is random differs between devices
        drop_path=0.0,
        mixup=0.0,
        cutmix=0.0,
    )
    return changed, weights


def _setup(
    config: RunConfig, device: Device, ranks: Ranks, against: Optional[Trace]
) -> Tuple[TrainingSetup, nn.Module, List[str]]:
    """What is compared: the step's setup and the network with its weights, those of rank 0; lines for the log."""
    config, weights = _origin(config, ranks, against)
    setup = TrainingSetup.from_config(config, device, ranks, None, weights)
    if against is not None:
        setup = _as_recorded(setup, against.description)
    torch.manual_seed(setup.recipe.seed)
    network = setup.spec.make()
    lines: List[str] = []
    if against is not None:
        network.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in against.named("before").items()})
        lines = [f"weights, batch, network and recipe: those of {config.against}", *several.left_out(against, ranks)]
    elif weights is not None:
        lines = source.load(weights, network, setup.spec, source.head(weights, setup.data.classes, config))
    network.load_state_dict(ranks.broadcast_result(network.state_dict))  # as a training does
    return setup, network, lines


def _as_recorded(setup: TrainingSetup, described: Dict[str, Any]) -> TrainingSetup:
    """The setup of a trace's step here: its network and recipe, in this machine's precision."""
    spec, recipe = NetworkSpec(**described["network"]), setup.recipe
    if "recipe" in described:
        same = {"precision": recipe.precision, "loss_scale": recipe.loss_scale}
        recipe = ImageNetRecipe.from_json(described["recipe"]).override(**same)
    return replace(setup, spec=spec, recipe=recipe)


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
        "recipe": setup.recipe.to_json(),
        "precision": setup.precision.name,
        "device": setup.device.describe(),
        "float32_products": setup.device.float32_products,
        "memory_format": setup.memory_format,
        "compiled": setup.config.compile,
        "grouped_conv": setup.config.grouped_conv,
        "versions": {"torch": torch.__version__},
        **several.identity(setup.ranks),
    }


def _line(setup: TrainingSetup) -> str:
    recipe, layout = setup.recipe, setup.memory_format.replace("_", " ")
    sizes = f"batch {recipe.batch_size}, image size {recipe.image_size}, {layout}"
    return f"network: {description.inputs_text(setup)}, {sizes}, learning rate {recipe.largest_rate:g}"
