"""What the recorded step starts from: configuration, network with its weights, batch; typed or those of a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import nn

from shared.errors import UsageError
from shared.port_check.trace import Trace
from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.input_pipeline.loader import Batch, TrainingInput
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check import several
from torch_imagenet.run import description
from torch_imagenet.run.setup import TrainingSetup
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights

BATCH_SIZE = 4
IMAGE_SIZE = 64
LOSS_SCALE = "128"  # in place of a dynamic one, which begins so high that the first steps of a training overflow


def origin(config: RunConfig, ranks: Ranks, against: Optional[Trace]) -> Tuple[RunConfig, Optional[FoundWeights]]:
    """A training without random layers on a small batch, or on that of the trace; the weights it starts from."""
    if config.compile and config.msprobe:
        raise UsageError("msProbe's dump is of layers that run one by one; leave --compile or --msprobe out")
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


def recorded_setup(
    config: RunConfig, device: Device, ranks: Ranks, against: Optional[Trace]
) -> Tuple[TrainingSetup, nn.Module, List[str]]:
    """What is compared: the step's setup and the network with its weights, those of rank 0; lines for the log."""
    config, weights = origin(config, ranks, against)
    setup = TrainingSetup.from_config(config, device, ranks, None, weights)
    if against is not None:
        setup = _as_recorded(setup, against.description)
    if config.loss_scale is None and (setup.recipe.loss_scale or setup.precision.loss_scale) == "dynamic":
        setup = replace(setup, recipe=setup.recipe.override(loss_scale=LOSS_SCALE))
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


def first_batch(setup: TrainingSetup, against: Optional[Trace]) -> Batch:
    """The first training batch, or that of the trace."""
    if against is not None:
        images, labels = (torch.from_numpy(against.tensors[name].copy()) for name in ("images", "labels"))
        return Batch(images, labels, ())
    with TrainingInput.from_setup(setup) as images:
        return next(iter(images.epoch(0)))


def text(setup: TrainingSetup) -> str:
    """For the log: the network, the sizes and the learning rate of the step."""
    return f"{description.sizes_line(setup)}, learning rate {setup.recipe.largest_rate:g}"
