"""What a run says of itself: at the start of its log, in config.json, in its checkpoints and in its record."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import PIL
import torch
from torch import nn

from shared import recipes
from shared.recipes.imagenet import ImageNetRecipe, elsewhere, rate_by_device
from shared.results import record as records
from shared.run import disk_errors, provenance, resumption
from shared.run.folder import open_folder
from shared.run.log import RunLog
from shared.system import processor
from torch_imagenet.distributed.environment import job_name
from torch_imagenet.input_pipeline import shared_memory
from torch_imagenet.networks.spec import parameters
from torch_imagenet.run.recipe import RECIPE_OPTIONS
from torch_imagenet.run.setup import RunSetup, TrainingSetup
from torch_imagenet.step.training_step import TrainingStep
from torch_imagenet.weights.source import FoundWeights, keeps_aspect


@contextlib.contextmanager
def open_run(
    setup: RunSetup,
    lines: Sequence[str],
    name: str = "",
    resumed: Optional[Path] = None,
    weights: Optional[FoundWeights] = None,
) -> Iterator[Tuple[Path, RunLog]]:
    """The folder of a run with its config.json, and its log, which begins with `lines`. Rank 0 alone writes.

    A new folder is named after `name`, else the mode. The run of the checkpoint `resumed` stays where it is; `weights`
    are those with which it begins.
    """
    config, ranks, state = setup.config, setup.ranks, getattr(setup, "state", None)
    folder, moved = ranks.broadcast_result(
        lambda: open_folder("torch_imagenet", config.mode, name or config.mode, config.output_dir, resumed)
    )
    first_step = state["progress"]["step"] if state else 0
    with RunLog(folder, first_step, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        for line in [*moved, *lines, *config.command_notes]:
            log.line(line)
        if ranks.is_first:
            disk_errors.optional(lambda: write_config(setup, folder, weights), folder / "config.json", log)
        yield folder, log


def device_lines(setup: RunSetup) -> List[str]:
    """The device and what the user should know about it."""
    device, mode = setup.device, setup.config.compile
    notes = [*device.notes, *shared_memory.notes(setup)]
    if mode:
        notes.append(f"torch.compile, mode {mode}: the first step and the first evaluation wait for it, some minutes")
    head = f"device: {device.kind}, {device.name}, precision {setup.precision.name}"
    head += "".join(f", {layer} layers in {dtype.upper()}" for layer, dtype in device.float32_products.items())
    if not setup.config.keep_aspect:
        notes.append("images are squeezed to a square where they are evaluated (--do-not-preserve-aspect-ratio)")
    return [head, *[f"note: {note}" for note in notes]]


def network_line(setup: RunSetup, network: nn.Module) -> str:
    """One line about the network."""
    return f"network: {inputs_text(setup)}, {parameters(network):,} parameters"


def inputs_text(setup: RunSetup) -> str:
    """The network, and how its inputs are normalised where that is not the network's own way."""
    how = {"own": "", "none": ", inputs not normalised"}
    normalisation = setup.recipe.normalisation
    return setup.spec.text() + how.get(normalisation, f", inputs normalised as {normalisation}")


def sizes_line(setup: RunSetup) -> str:
    """One line about the network and the images of a step."""
    recipe, layout = setup.recipe, setup.memory_format.replace("_", " ")
    return f"network: {inputs_text(setup)}, batch {recipe.batch_size}, image size {recipe.image_size}, {layout}"


def log_setup(log: RunLog, setup: TrainingSetup, step: TrainingStep) -> None:
    """Log what is about to be trained."""
    recipe, device = setup.recipe, setup.device
    log.start(
        recipe.to_json(),
        dataset=setup.data.content.name,
        device=f"{device.count} x {device.name}",
        global_batch_size=setup.global_batch_size,
        memory_format=setup.memory_format,
    )
    for line in [
        *device_lines(setup),
        network_line(setup, step.network),
        f"recipe: {recipe.name}, {recipe.epochs} epochs of {setup.plan.steps_per_epoch} steps, batch"
        f" {recipe.batch_size} per device ({setup.global_batch_size} in all), image size {recipe.image_size}, learning"
        f" rate {recipe.schedule.describe()}{rate_by_device(recipe)}",
        *([f"with: {', '.join(recipe.described())}"] if recipe.described() else []),
        *[f"note: {note}" for note in _notes(setup, step)],
    ]:
        log.line(line)


def _notes(setup: TrainingSetup, step: TrainingStep) -> Iterator[str]:
    recipe, device, images = setup.recipe, setup.device, setup.global_batch_size
    yield from [line.strip() for line in recipes.document(recipe.name).splitlines() if "Documented:" in line][:1]
    named: Any = recipes.get(recipe.name) if recipe.name in recipes.names() else recipe
    documented, rates = named.batch_size * named.devices, {named.schedule.base, elsewhere(named).schedule.base}
    if recipe.devices > 1 and images != documented and recipe.schedule.base in rates:
        whole = documented * recipe.accumulate % images == 0
        same = f"--accumulate {documented * recipe.accumulate // images} makes them the same, " if whole else ""
        yield (
            f"the recipe's learning rate is for {recipe.devices} devices, {documented} images a step; here"
            f" it is {images}: {same}--scale-learning-rate adapts the rate"
        )
    if device.bf16_speedup and setup.precision.name == "O0" and setup.config.precision is None:
        yield f"this CPU has bfloat16 instructions: --precision bf16 trains about {device.bf16_speedup:g} times as fast"
    if setup.config.compile and not device.asynchronous:
        yield "on a CPU a training without --compile is as fast, by its own kernels of batch normalisation"
    if recipe.label_smoothing:
        classes = "all" if recipe.smoothing == "uniform" else "the wrong"
        yield f"label smoothing {recipe.label_smoothing:g} over {classes} classes"
    if recipe.ema_decay and setup.plan.total_steps * (1 - recipe.ema_decay) < 3:
        yield (
            f"the average of the weights, which is evaluated, reaches back {1 / (1 - recipe.ema_decay):,.0f} steps and"
            f" the run has {setup.plan.total_steps:,}, so the initial weights are still in it; lower --ema-decay"
        )
    if step.loss_scale.is_enabled() and not step.optimizer.defaults.get("fused"):
        yield "this optimizer leaves the loss scale to the host, which waits for the device after every step"
    for what, value in (("drop-path", recipe.drop_path), ("auxiliary head, of weight", recipe.auxiliary_weight)):
        if recipe.freeze_body and value:
            yield f"the body is frozen, so that its {what} {value:g} has no effect"
    yield from recipe.without_effect(setup.config.given(RECIPE_OPTIONS))
    yield from [*recipe.schedule.remarks(), *resumption_notes(setup)]


def resumption_notes(setup: TrainingSetup) -> List[str]:
    """How the continuation of a resumed run differs from what the uninterrupted run would have been."""
    if setup.state is None:
        return []
    before, epoch = ImageNetRecipe.from_json(setup.state["recipe"]).schedule, setup.state["progress"]["epoch"]
    squeezed = (
        [] if setup.config.keep_aspect == keeps_aspect(setup.state) else ["evaluations were of unsqueezed images"]
    )
    return [
        *squeezed,
        *setup.recipe.schedule.prolonged(before, epoch),
        *resumption.remarks(setup.state, for_checkpoint(setup)),
    ]


def write_config(setup: RunSetup, folder: Path, weights: Optional[FoundWeights] = None) -> None:
    """config.json of this run, that begins with these weights. Raises OSError."""
    provenance.write_config(
        folder,
        setup.recipe,
        {"job": job_name()},
        network=setup.spec.to_json(),
        options=setup.config.to_json(),
        device=setup.device.describe(),
        global_batch_size=setup.global_batch_size,
        data=_dataset(setup),
        **_decoder(setup),
        **({"weights": {"name": weights.name, "sha256": weights.sha256}} if weights else {}),
        versions=_versions(),
    )


def for_checkpoint(setup: TrainingSetup) -> Dict[str, Any]:
    """What a checkpoint must say so that evaluation and resumption need nothing else."""
    described = setup.data.describe()
    return {
        "half": "torch_imagenet",
        "mode": setup.config.mode,
        "recipe": setup.recipe.to_json(),
        "network": setup.spec.to_json(),
        "data": {
            **{name: described[name] for name in ("name", "path", "fingerprint")},
            "order": setup.data.train.order,
            "classes": described["classes"],
        },
        "keep_aspect": setup.config.keep_aspect,
        "device": setup.device.describe(),
        "arithmetic": _rounding(setup),
        "speed": {"machine": provenance.machine(), "compile_mode": setup.config.compile, **_decoder(setup)},
    }


def _rounding(setup: TrainingSetup) -> Dict[str, Any]:
    """What decides how sums are rounded, besides the recipe; see `shared.run.resumption`."""
    return {
        "device": f"{setup.device.kind}, {setup.device.name}",
        "memory_format": setup.memory_format,
        "rounded_float32_layers": " and ".join(setup.device.float32_products) or "none",
        "compiled": bool(setup.config.compile),
        "grouped_conv": setup.config.grouped_conv,
        "threads": None if setup.device.asynchronous else torch.get_num_threads(),
        "instructions": None if setup.device.asynchronous else processor.vectors(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,  # version 13 rounds resized images otherwise where they are tall
        "batch_normalisation": "this program's" if setup.norm_kernels else "torch's",
        # 2: fused gates; the auxiliary head pools by products; 3: own normalisation; 4: compiled gates by products
        # 5: the dropout before the head is on where the body is frozen
        "revision_of_the_step": 5 if setup.recipe.freeze_body else 4 if setup.config.compile else 3,
    }


def build_record(setup: RunSetup, network: nn.Module, **parts: Any) -> Dict[str, Any]:
    """The record of a run of any mode, with its own `parts`, among them those of a `History`."""
    return records.build_record(
        half="torch_imagenet",
        mode=setup.config.mode,
        network=setup.spec.name,
        recipe=setup.recipe.name,
        image_size=setup.recipe.image_size,
        normalisation=setup.recipe.normalisation,
        **{name: value for name, value in setup.spec.options.items() if name == "zero_pad"},
        keep_aspect=None if setup.config.keep_aspect else False,
        dataset=_dataset(setup),
        device=setup.device.describe(),
        machine=provenance.machine(),
        precision=setup.precision.name,
        parameters=parameters(network),
        **_decoder(setup),
        versions=_versions(),
        **parts,
    )


def of_steps(setup: RunSetup) -> Dict[str, Any]:
    """The parts of the record of a mode that takes training steps."""
    return {
        "changes": recipes.changes(setup.recipe) or None,
        "batch_size": setup.recipe.batch_size,
        "global_batch_size": setup.global_batch_size,
        "memory_format": setup.memory_format,
        "compiled": bool(setup.config.compile),
        "compile_mode": setup.config.compile,
    }


def _dataset(setup: RunSetup) -> Dict[str, Any]:
    return setup.data.describe() if setup.data is not None else {"name": "synthetic"}


def _decoder(setup: RunSetup) -> Dict[str, str]:
    return {"decoder": setup.data.decoder} if setup.data is not None else {}


def _versions() -> Dict[str, str]:
    """What the numbers depend on."""
    return provenance.versions(torch=torch.__version__, numpy=np.__version__, pillow=PIL.__version__)
