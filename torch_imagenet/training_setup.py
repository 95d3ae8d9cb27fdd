"""What a training run is, decided before anything expensive starts: checkpoint, data, recipe, network, plan."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from shared.checkpoint.folder import Found
from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from shared.roofline import Accelerator, element_bytes
from shared.run.folder import run_of
from torch_imagenet import checkpoints, run_setup
from torch_imagenet.checkpoints import check_stored
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.data_parallel import check_synchronised_statistics
from torch_imagenet.distributed.restart import continued_job
from torch_imagenet.loop import Plan
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.step.batch_norm import least_batch
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights


@dataclass(frozen=True)
class Setup:
    """What a training run is, decided from its options, data and checkpoint; no network yet, and nothing written."""

    data: run_setup.Data
    recipe: ImageNetRecipe
    spec: NetworkSpec
    plan: Plan

    @classmethod
    def of(cls, options: Any, device: Device, found: Optional[Found], given: Optional[FoundWeights] = None) -> Setup:
        """Raises UsageError where they do not go together."""
        state = found.state if found else None
        if options.sync_bn:
            check_synchronised_statistics(device)
        data = run_setup.load_data(options, state, start=given.state if given else None)
        recipe = (
            run_setup.resumed_recipe(options, state, data) if state else run_setup.choose_recipe(options, data, device)
        )
        if state and state["device"]["count"] != device.count:
            raise UsageError(
                f"the run had {state['device']['count']} devices and this one {device.count}, which makes"
                " other batches; use as many, or start a new run from its weights with --checkpoint"
            )
        spec = run_setup.network_spec(options, recipe, state, len(data.content.classes), "data set")
        plan = _plan(options, recipe, len(data.train), device)
        plan = dataclasses.replace(
            plan,
            roofline_seconds=_floor(options, recipe, spec),
            least_batch=_least_batch(options, recipe, spec, device),
        )
        return cls(data, recipe, spec, plan)


def check(options: Any, device: Device) -> None:
    """Raise UsageError for what every process of a training run would find wrong; nothing is changed."""
    options, found, given = origin_of(copy.copy(options))
    setup = Setup.of(options, device, found, given)
    if given is not None:
        source.head(given, setup.data.classes, options)


def origin_of(options: Any) -> Tuple[Any, Optional[Found], Optional[FoundWeights]]:
    """The options with what follows from a checkpoint; the checkpoint to resume; the weights to start from."""
    if continued_job(options):
        options.resume, options.checkpoint = options.output_dir, None
    found = _resumed(options)
    return options, found, None if found else source.starting_weights(options)


def _resumed(options: Any) -> Optional[Found]:
    """The checkpoint that --resume names; the run goes on in its folder unless --output-dir says otherwise."""
    if options.resume is None:
        return None
    if options.checkpoint is not None:
        raise UsageError(
            "--resume and --checkpoint exclude each other; --resume continues a run, --checkpoint starts one"
        )
    found = checkpoints.find(options.resume)
    check_stored(found)
    options.mode = found.state["mode"]  # a fine-tuning stays one
    if options.output_dir is None:
        options.output_dir = str(run_of(found.folder))
    return found


def _plan(options: Any, recipe: ImageNetRecipe, images: int, device: Device) -> Plan:
    whole = recipe.batch_size * recipe.accumulate * device.count
    steps_per_epoch = images // whole
    if steps_per_epoch < 1:
        raise UsageError(f"a step of {whole} images is larger than the training set of {images}; lower --batch-size")
    steps_per_epoch = min(steps_per_epoch, recipe.steps_per_epoch or steps_per_epoch)
    total = steps_per_epoch * recipe.epochs
    return Plan(
        steps_per_epoch,
        min(total, options.max_steps or total),
        options.print_freq,
        options.save_steps,
        device.warm_up_steps,
    )


def _least_batch(options: Any, recipe: ImageNetRecipe, spec: NetworkSpec, device: Device) -> int:
    if recipe.batch_size > 1 and options.on_bad_image != "skip":  # no batch is shorter than the others
        return 1
    return least_batch(spec, recipe, options.sync_bn and device.count > 1)


def _floor(options: Any, recipe: ImageNetRecipe, spec: NetworkSpec) -> Optional[float]:
    accelerator = Accelerator.from_limits(options.peak_flops, options.memory_bandwidth)
    if accelerator is None:
        return None
    cost = network_cost(spec, recipe.image_size)
    return accelerator.roofline_seconds(cost, recipe.batch_size * recipe.accumulate, element_bytes(recipe.precision))
