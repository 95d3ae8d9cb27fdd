"""The mode `check-port`: whether a device computes the training step that float64 on the CPU computes, layer by layer.

One real step is taken on the device and recorded. The reference then computes every layer again from the operands that
the layer had on the device. What rounding does not explain is reported at the layer that did it.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import nn

from shared.cli.signals import Interrupts
from shared.errors import UsageError
from shared.port_check import report
from shared.port_check.findings import Check, Verdict, verdict
from shared.port_check.losses import loss_checks
from shared.port_check.trace import Trace, read_trace, write_trace
from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.run.folder import open_folder
from shared.run.log import now, open_log
from torch_imagenet import description
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline import inputs
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check.checks import Problem, layer_checks, update_checks, weight_checks
from torch_imagenet.port_check.leaves import array, tensor
from torch_imagenet.port_check.recorder import Recorder
from torch_imagenet.port_check.trajectory import Trajectory, error_by_depth
from torch_imagenet.run_setup import TrainingSetup
from torch_imagenet.step import losses
from torch_imagenet.weights import source

DIFFERS = 3  # the exit status where rounding does not explain a difference
STEPS = 3  # of the loss curve, unless --max-steps says otherwise
BATCH_SIZE = 4
IMAGE_SIZE = 64


def check_port(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Record a step, compare it, write port.json. Raises SystemExit(3) where it differs, UsageError without data."""
    started, begin = now(), time.time()
    against = read_trace(config.against) if config.against else None
    setup, network, notes = _setup(config, device, against)
    folder, moved = open_folder("torch_imagenet", "check-port", "check-port", config.output_dir, None)
    with open_log(folder, 0, config.log_file) as log:
        lines = [setup.data.remark, *moved, *notes, *description.device_lines(setup), _line(setup)]
        for line in lines:
            log.line(line)
        description.write_config(setup, folder)
        batch = _batch(setup, ranks) if against is None else _recorded_batch(against)
        trace = record_step(setup, copy.deepcopy(network), batch, ranks, config.max_steps or STEPS)
        interrupts.raise_if_requested()
        if config.save_trace:
            write_trace(config.save_trace, trace)
            log.line(f"trace: {config.save_trace}")
        sides = [(f"{device.kind} ({device.name})", trace)]
        sides += [(f"the trace {config.against}", against)] if against is not None else []
        found: List[Tuple[str, Verdict]] = []
        content: Dict[str, Any] = {}
        for side, recorded in sides:
            result, by_depth, curves = compare_trace(setup.recipe, network, recorded, setup.spec.num_classes)
            for line in report.lines(result, side, by_depth):
                log.line(line)
            found.append((side, result))
            content[side] = report.to_json(result, by_depth, curves, {"description": recorded.description})
            interrupts.raise_if_requested()
        report.write_report(folder, {"schema": 1, "sides": content})
        agrees = all(result.agrees for _, result in found)
        record = records.build_record(
            half="torch_imagenet",
            mode="check-port",
            batch_size=setup.recipe.batch_size,
            steps_completed=config.max_steps or STEPS,
            started=started,
            seconds=time.time() - begin,
            **description.for_record(setup, network),
        )
        records.write_record(folder / "result.json", record)
        log.line(f"report: {folder / report.FILE}")
    if not agrees:
        raise SystemExit(DIFFERS)


def record_step(setup: TrainingSetup, network: nn.Module, batch: Batch, ranks: Ranks, steps: int) -> Trace:
    """One step of the configured training on the device, and the losses of `steps` of them on the same batch."""
    step = setup.training_step(network, ranks)
    trace = Trace({"loss_scale": step.loss_scale.value(), **_description(setup)})
    trace.tensors.update(images=array(batch.images), labels=array(batch.labels))
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"before/{name}"] = array(value)
    rate = _rate(setup.recipe)
    results = []
    with Recorder(step.network, trace).recording():
        results.append(step.run([batch], rate, 0, 0))
    for name, value in step.weights.state_dict().items():
        trace.tensors[f"after/{name}"] = array(value)
    for number in range(1, steps):
        results.append(step.run([batch], rate, 0, number))
    trace.tensors["losses"] = torch.stack([result[0] for result in results]).double().cpu().numpy()
    return trace


def compare_trace(
    recipe: ImageNetRecipe, network: nn.Module, trace: Trace, num_classes: int
) -> Tuple[Verdict, List[report.LayerError], Dict[str, List[float]]]:
    """The verdict on a trace of the step that `network`, with the weights before it, takes; and how errors build up."""
    scale = float(trace.description["loss_scale"])
    reference = copy.deepcopy(network).double().train()
    images, magnitude = _images(trace, recipe.network)
    epsilon = losses.uniform_epsilon(recipe.label_smoothing, recipe.smoothing, num_classes)
    criterion = losses.Loss(epsilon, recipe.auxiliary_weight)
    labels = tensor(trace.tensors["labels"], torch.int64)
    make = partial(reference_optimizer, recipe)

    def loss(outputs: Any) -> torch.Tensor:
        return criterion(outputs, labels)  # type: ignore[no-any-return]

    problem = Problem(reference, images, magnitude, lambda outputs: loss(outputs) * scale)
    checks: List[Check] = weight_checks(reference, trace) + layer_checks(problem, trace)
    checks += update_checks(trace, make)
    exact = Trajectory(copy.deepcopy(reference))
    rounded = Trajectory(copy.deepcopy(reference).float(), {call.name: call.dtype for call in trace.calls})
    steps = len(trace.tensors["losses"])
    for run in (exact, rounded):
        run.run(images, loss, make, steps)
    checks += loss_checks(trace.tensors["losses"], exact.losses, rounded.losses)
    curves = {"side": [float(v) for v in trace.tensors["losses"]], "reference": exact.losses, "rounded": rounded.losses}
    return verdict(checks), error_by_depth(exact, rounded, trace), curves


def reference_optimizer(recipe: ImageNetRecipe, named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """Plain SGD as the recipe documents it, written apart from the one that trains."""
    decayed = {n: recipe.weight_decay if recipe.decayed == "all" or p.ndim > 1 else 0.0 for n, p in named.items()}
    groups = [{"params": [parameter], "weight_decay": decayed[name]} for name, parameter in named.items()]
    if recipe.clip_norm is not None and all(parameter.grad is not None for parameter in named.values()):
        torch.nn.utils.clip_grad_norm_(list(named.values()), recipe.clip_norm)
    return torch.optim.SGD(groups, lr=_rate(recipe), momentum=recipe.momentum, nesterov=recipe.nesterov)


def _setup(config: RunConfig, device: Device, against: Any) -> Tuple[TrainingSetup, nn.Module, List[str]]:
    """What is compared: the recipe on a small batch without random layers, and the network with its weights."""
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
        dropout=0.0,
        drop_path=0.0,
        accumulate=1,
        mixup=0.0,
        cutmix=0.0,
    )
    setup = TrainingSetup.from_config(config, device, None, weights)
    torch.manual_seed(setup.recipe.seed)
    network = setup.spec.make()
    lines: List[str] = []
    if against is not None:
        before = {name: torch.from_numpy(value.copy()) for name, value in against.named("before").items()}
        network.load_state_dict(before)
        lines = [f"weights and batch: those of {config.against}"]
    elif weights is not None:
        lines = source.load(weights, network, setup.spec, source.head(weights, setup.data.classes, config))
    return setup, network, lines


def _batch(setup: TrainingSetup, ranks: Ranks) -> Batch:
    """The first training batch."""
    with inputs.training_input(setup, ranks) as images:
        return next(iter(images.epoch(0)))


def _recorded_batch(trace: Trace) -> Batch:
    images, labels = (torch.from_numpy(trace.tensors[name].copy()) for name in ("images", "labels"))
    return Batch(images, labels, ())


def _images(trace: Trace, network: str) -> Tuple[torch.Tensor, torch.Tensor]:
    """The normalised images float64 [B, 3, H, W], and the magnitudes that the normalisation adds up."""
    pixels = tensor(trace.tensors["images"], torch.float64).permute(0, 3, 1, 2).contiguous() / 255
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (NETWORKS[network].mean, NETWORKS[network].std))
    return (pixels - mean) / std, (pixels + mean) / std


def _rate(recipe: ImageNetRecipe) -> float:
    """The largest rate of the schedule: the first is small, or zero, where the recipe warms up."""
    return max(recipe.schedule.at(epoch) for epoch in range(recipe.epochs))


def _description(setup: TrainingSetup) -> Dict[str, Any]:
    return {
        "half": "torch_imagenet",
        "network": setup.spec.to_json(),
        "precision": setup.precision.name,
        "device": setup.device.describe(),
        "memory_format": setup.memory_format,
        "versions": description.versions(),
    }


def _line(setup: TrainingSetup) -> str:
    recipe = setup.recipe
    return (
        f"network: {setup.spec.text()}, batch {recipe.batch_size}, image size {recipe.image_size},"
        f" {setup.memory_format.replace('_', ' ')}, learning rate {_rate(recipe):g}"
    )
