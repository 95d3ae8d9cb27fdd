"""What a training run is, decided before anything expensive starts: checkpoint, data, recipe, network, plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from shared.checkpoint.folder import Found
from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from shared.roofline import element_bytes
from shared.run.folder import run_of
from torch_imagenet import checkpoints, run_setup
from torch_imagenet.checkpoints import check_stored
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.data_parallel import check_synchronised_statistics
from torch_imagenet.distributed.restart import continued_job
from torch_imagenet.loop import Plan
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.step.batch_norm import least_batch
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights


@dataclass(frozen=True)
class Setup:
    """What a training run is, decided from its config, data and checkpoint; no network yet, and nothing written."""

    data: run_setup.Data
    recipe: ImageNetRecipe
    spec: NetworkSpec
    plan: Plan

    @classmethod
    def of(
        cls, config: RunConfig, device: Device, found: Optional[Found], given: Optional[FoundWeights] = None
    ) -> Setup:
        """Raises UsageError where they do not go together."""
        state = found.state if found else None
        if config.sync_bn:
            check_synchronised_statistics(device)
        data = run_setup.load_data(config, state, start=given.state if given else None)
        recipe = (
            run_setup.resumed_recipe(config, state, data) if state else run_setup.choose_recipe(config, data, device)
        )
        if state and state["device"]["count"] != device.count:
            raise UsageError(
                f"the run had {state['device']['count']} devices and this one {device.count}, which makes"
                " other batches; use as many, or start a new run from its weights with --checkpoint"
            )
        spec = run_setup.network_spec(config, recipe, state, len(data.content.classes), "data set")
        plan = _plan(config, recipe, len(data.train), device)
        plan = replace(
            plan, roofline_seconds=_floor(config, recipe, spec), least_batch=_least_batch(config, recipe, spec, device)
        )
        return cls(data, recipe, spec, plan)


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of a training run would find wrong; nothing is changed."""
    config, found, given = origin_of(config)
    setup = Setup.of(config, device, found, given)
    if given is not None:
        source.head(given, setup.data.classes, config)


def origin_of(config: RunConfig) -> Tuple[RunConfig, Optional[Found], Optional[FoundWeights]]:
    """The configuration with what follows from a checkpoint; the checkpoint to resume; the weights to start from."""
    if continued_job(config):
        config = replace(config, resume=config.output_dir, checkpoint=None)
    found = _resumed(config)
    if found is None:
        config, given = source.starting_weights(config)
        return config, None, given
    output_dir = config.output_dir or str(run_of(found.folder))
    return replace(config, mode=found.state["mode"], output_dir=output_dir), found, None  # a fine-tuning stays one


def _resumed(config: RunConfig) -> Optional[Found]:
    """The checkpoint that --resume names; the run goes on in its folder unless --output-dir says otherwise."""
    if config.resume is None:
        return None
    if config.checkpoint is not None:
        raise UsageError(
            "--resume and --checkpoint exclude each other; --resume continues a run, --checkpoint starts one"
        )
    found = checkpoints.find(config.resume)
    check_stored(found)
    return found


def _plan(config: RunConfig, recipe: ImageNetRecipe, images: int, device: Device) -> Plan:
    whole = recipe.batch_size * recipe.accumulate * device.count
    steps_per_epoch = images // whole
    if steps_per_epoch < 1:
        raise UsageError(f"a step of {whole} images is larger than the training set of {images}; lower --batch-size")
    steps_per_epoch = min(steps_per_epoch, recipe.steps_per_epoch or steps_per_epoch)
    total = steps_per_epoch * recipe.epochs
    return Plan(
        steps_per_epoch,
        min(total, config.max_steps or total),
        config.print_freq,
        config.save_steps,
        device.warm_up_steps,
    )


def _least_batch(config: RunConfig, recipe: ImageNetRecipe, spec: NetworkSpec, device: Device) -> int:
    if recipe.batch_size > 1 and config.on_bad_image != "skip":  # no batch is shorter than the others
        return 1
    return least_batch(spec, recipe, config.sync_bn and device.count > 1)


def _floor(config: RunConfig, recipe: ImageNetRecipe, spec: NetworkSpec) -> Optional[float]:
    if config.accelerator is None:
        return None
    cost = network_cost(spec, recipe.image_size)
    return config.accelerator.roofline_seconds(
        cost, recipe.batch_size * recipe.accumulate, element_bytes(recipe.precision)
    )
