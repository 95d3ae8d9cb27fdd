"""What a run is made of, decided before anything expensive starts: data set, recipe, network, plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.checkpoint.folder import Found
from shared.errors import UsageError
from shared.recipes.imagenet import ImageNetRecipe
from shared.run.plan import Plan
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import Precision, precision
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.dataset import Data, load_data
from torch_imagenet.networks.cost import roofline_seconds
from torch_imagenet.networks.registry import mean_and_std
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run import recipe as recipes
from torch_imagenet.step.to_device import Normalisation
from torch_imagenet.weights import source


@dataclass(frozen=True)
class RunSetup:
    """What every mode that runs a network has decided; without `data` the images are synthetic."""

    config: RunConfig
    device: Device
    ranks: Ranks
    recipe: ImageNetRecipe
    spec: NetworkSpec
    precision: Precision
    data: Optional[Data]

    @property
    def global_batch_size(self) -> int:
        """The images of one training step over all devices."""
        return recipes.global_batch_size(self.recipe, self.device)

    @property
    def eval_batch_size(self) -> int:
        """The images of a batch of evaluation, per device."""
        return self.config.eval_batch_size or self.config.batch_size or self.recipe.batch_size

    @property
    def memory_format(self) -> str:
        """How the network's weights and images are laid out, channels_last or contiguous."""
        return self.device.memory_format(self.spec.name, self.config.memory_format)

    @property
    def norm_kernels(self) -> Any:
        """The device's own kernels for batch normalisation in training; None where torch's layers compute it."""
        own = self.memory_format == "channels_last" and not self.config.compile
        return self.device.norm_kernels if own else None

    def normalisation(self) -> Normalisation:
        """The recipe's mean and deviation, applied on the device."""
        mean, std = mean_and_std(self.spec.name, self.recipe.normalisation)
        channels_last = self.memory_format == "channels_last"
        return Normalisation(mean, std, self.device.torch_device, self.precision.weights, channels_last)


@dataclass(frozen=True)
class TrainingSetup(RunSetup):
    """What a training run is, decided from its options, data and checkpoint; no network yet, and nothing written."""

    data: Data
    plan: Plan
    least_batch: int  # images without which a batch cannot be trained on
    state: Optional[Dict[str, Any]]  # of the run that is resumed

    @classmethod
    def from_config(
        cls,
        config: RunConfig,
        device: Device,
        ranks: Ranks,
        found: Optional[Found],
        weights: Optional[source.FoundWeights],
    ) -> TrainingSetup:
        """Of a run that resumes `found`, goes on from `weights` of an original port, or starts from these or nothing.

        Raises UsageError if they do not fit.
        """
        state = found.state if found else None
        data = load_data(config, state or (weights.state if weights else None), resumed=state is not None)
        recipe = recipes.resumed_recipe(config, state, data) if state else recipes.choose_recipe(config, device, data)
        if state and state["device"]["count"] != device.count:
            raise UsageError(
                f"the run had {state['device']['count']} devices and this one {device.count}, which makes"
                " other batches; use as many, or start a new run from its weights with --checkpoint"
            )
        spec = recipes.network_spec(config, recipe, state, len(data.classes.names), "data set")
        step, images = recipes.global_batch_size(recipe, device), len(data.train)
        if images < step:
            raise UsageError(f"a step of {step} images is larger than the training set of {images}; lower --batch-size")
        steps_per_epoch = min(images // step, recipe.steps_per_epoch or images)
        total = steps_per_epoch * recipe.epochs
        plan = Plan(
            recipe.epochs,
            steps_per_epoch,
            min(total, config.max_steps or total),
            config.print_freq,
            config.save_steps,
            device.warm_up_steps,
            roofline_seconds=roofline_seconds(spec, recipe, config.accelerator),
        )
        least = 1  # no batch is shorter than the others
        if recipe.batch_size == 1 or config.on_bad_image == "skip":
            least = least_batch(spec, recipe, config.sync_bn and device.count > 1)
        setup = cls(config, device, ranks, recipe, spec, precision(recipe.precision), data, plan, least, state)
        return setup if weights is None or weights.run is None else weights.run.continued(setup)


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of a training run would find wrong; nothing is changed."""
    config, found, weights = source.origin(config)
    setup = TrainingSetup.from_config(config, device, ALONE, found, weights)
    if weights is not None:
        source.head(weights, setup.data.classes, config)


def least_batch(spec: NetworkSpec, recipe: ImageNetRecipe, synchronised: bool = False) -> int:
    """The smallest training batch per device: 1, or 2 where a layer normalises a feature map of one pixel.

    A frozen body normalises by its running statistics, and `synchronised` statistics are over the images of all
    devices: neither has the limit. Raises UsageError where the recipe's batch is smaller.
    """
    layer = None if recipe.freeze_body or synchronised else _on_one_pixel(spec, recipe.image_size)
    if layer is not None and recipe.batch_size < 2:
        raise UsageError(
            f"a batch of one image cannot be trained on: with images of {recipe.image_size} pixels {layer} would"
            " normalise a single value of each channel; use --batch-size 2 or more"
        )
    return 1 if layer is None else 2


def _on_one_pixel(spec: NetworkSpec, image_size: int) -> Optional[str]:
    """The name of the first batch normalisation of a 1 x 1 map. Uses the meta device, which computes nothing."""
    with torch.device("meta"):
        network = spec.make().train()
        images = torch.empty(2, 3, image_size, image_size)
    found: List[str] = []

    def record(name: str, layer: nn.Module, inputs: Tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[2:].numel() == 1:
            found.append(name)

    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_pre_hook(partial(record, name))
    with torch.no_grad():
        network(images)
    return found[0] if found else None
