"""What a run is made of, decided before anything expensive starts: data set, recipe, network, plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from shared.checkpoint.folder import Found
from shared.errors import UsageError
from shared.recipes import document
from shared.recipes.imagenet import ImageNetRecipe
from shared.roofline import element_bytes
from shared.run import config_file, provenance
from shared.run import reproducibility as rounding
from shared.run.loop import Plan
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import Precision, precision
from torch_imagenet.distributed.data_parallel import check_synchronised_statistics
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.distributed.restart import job_name
from torch_imagenet.input_pipeline.data import Data, load_data
from torch_imagenet.input_pipeline.loader import EvaluationInput, TrainingInput
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform
from torch_imagenet.networks.cost import network_cost
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.networks.spec import NetworkSpec, parameters
from torch_imagenet.options import RunConfig, patience, workers
from torch_imagenet.recipe import choose_recipe, global_batch_size, network_spec, resumed_recipe
from torch_imagenet.step.batch_norm import least_batch
from torch_imagenet.step.losses import smoothing_text
from torch_imagenet.step.normalisation import Normalisation
from torch_imagenet.step.training_step import TrainingStep, needs_host
from torch_imagenet.weights import source
from torch_imagenet.weights.source import FoundWeights


@dataclass(frozen=True)
class RunSetup:
    """What every mode that runs a network has decided; without `data` the images are synthetic."""

    config: RunConfig
    device: Device
    recipe: ImageNetRecipe
    spec: NetworkSpec
    precision: Precision
    data: Optional[Data]

    @property
    def global_batch_size(self) -> int:
        """The images of one training step over all devices."""
        return global_batch_size(self.recipe, self.device)

    @property
    def memory_format(self) -> str:
        """How the network's weights and images are laid out, channels_last or contiguous."""
        return self.device.memory_format(self.spec.name, self.config.memory_format)

    def normalisation(self) -> Normalisation:
        """The network's documented mean and deviation, applied on the device."""
        values, channels_last = NETWORKS[self.spec.name], self.memory_format == "channels_last"
        return Normalisation(values.mean, values.std, self.device.torch_device, self.precision.weights, channels_last)

    def training_step(self, network: nn.Module, ranks: Ranks) -> TrainingStep:
        """The network with all that its training needs, on the device."""
        return TrainingStep(
            network,
            self.recipe,
            self.spec.num_classes,
            self.device,
            self.precision,
            self.normalisation(),
            self.memory_format,
            self.spec.head,
            self.config.compile,
            ranks,
            self.config.sync_bn,
        )

    def evaluation_input(self, data: Data, ranks: Ranks) -> EvaluationInput:
        """The validation images, resized and centre-cropped by the network's documented fraction."""
        config = self.config
        return EvaluationInput(
            data.content.val,
            EvalTransform(self.recipe.image_size, NETWORKS[self.spec.name].crop_fraction, config.keep_aspect),
            self.eval_batch_size,
            workers(config),
            on_bad_image=config.on_bad_image,
            pin_memory=self.device.asynchronous,
            rank=ranks.rank,
            ranks=ranks.size,
            patience=patience(config, ranks.size),
        )

    @property
    def eval_batch_size(self) -> int:
        """The images of a batch of evaluation, per device."""
        return self.config.eval_batch_size or self.config.batch_size or self.recipe.batch_size

    def device_lines(self) -> List[str]:
        """The device and what the user should know about it."""
        device = self.device
        head = f"device: {device.kind}, {device.name}, precision {self.precision.name}"
        return [head, *[f"note: {note}" for note in device.notes]]

    def network_line(self, network: nn.Module) -> str:
        """One line about the network."""
        return f"network: {self.spec.text()}, {parameters(network):,} parameters"

    def describe(self, network: nn.Module) -> Dict[str, Any]:
        """What the record of every mode says about the run."""
        return {
            "network": self.spec.name,
            "recipe": self.recipe.name,
            "image_size": self.recipe.image_size,
            "dataset": self.data.describe() if self.data is not None else {"name": "synthetic"},
            "device": self.device.describe(),
            "machine": provenance.machine(),
            "precision": self.precision.name,
            "parameters": parameters(network),
            "versions": versions(),
        }

    def write_config(self, folder: Path) -> None:
        """config.json of this run. Raises OSError."""
        config_file.write_config(
            folder,
            self.recipe,
            {"job": job_name()},
            network=self.spec.to_json(),
            options=self.config.to_json(),
            device=self.device.describe(),
            global_batch_size=self.global_batch_size,
            data=self.data.describe() if self.data is not None else {"name": "synthetic"},
            versions=versions(),
        )


@dataclass(frozen=True)
class TrainingSetup(RunSetup):
    """What a training run is, decided from its options, data and checkpoint; no network yet, and nothing written."""

    data: Data
    plan: Plan
    least_batch: int  # images without which a batch cannot be trained on
    state: Optional[Dict[str, Any]]  # of the checkpoint that is resumed

    @classmethod
    def from_config(
        cls, config: RunConfig, device: Device, found: Optional[Found], weights: Optional[FoundWeights] = None
    ) -> TrainingSetup:
        """The setup of a run that resumes the checkpoint `found`, or starts, from `weights` or from nothing.

        Raises UsageError where they do not go together.
        """
        state = found.state if found else None
        if config.sync_bn:
            check_synchronised_statistics(device)
        data = load_data(config, state, start=weights.state if weights else None)
        recipe = resumed_recipe(config, state, data) if state else choose_recipe(config, data, device)
        if state and state["device"]["count"] != device.count:
            raise UsageError(
                f"the run had {state['device']['count']} devices and this one {device.count}, which makes"
                " other batches; use as many, or start a new run from its weights with --checkpoint"
            )
        spec = network_spec(config, recipe, state, len(data.content.classes), "data set")
        plan = _plan(config, recipe, spec, device, len(data.train))
        least = 1  # no batch is shorter than the others
        if recipe.batch_size == 1 or config.on_bad_image == "skip":
            least = least_batch(spec, recipe, config.sync_bn and device.count > 1)
        return cls(config, device, recipe, spec, precision(recipe.precision), data, plan, least, state)

    def describe(self, network: nn.Module) -> Dict[str, Any]:
        """What the record of a training run says about what was decided."""
        return {
            **super().describe(network),
            "half": "torch_imagenet",
            "mode": self.config.mode,
            "seed": self.recipe.seed,
            "schedule": self.recipe.schedule.describe(),
            "batch_size": self.recipe.batch_size,
            "global_batch_size": self.global_batch_size,
            "memory_format": self.memory_format,
            "compiled": self.config.compile,
        }

    def training_input(self, ranks: Ranks) -> TrainingInput:
        """The training images: random crops, flips and, where the recipe has it, RandAugment."""
        recipe, config = self.recipe, self.config
        return TrainingInput(
            self.data.train,
            train_transform(recipe),
            recipe.batch_size,
            recipe.seed,
            workers(config),
            on_bad_image=config.on_bad_image,
            pin_memory=self.device.asynchronous,
            rank=ranks.rank,
            ranks=ranks.size,
            patience=patience(config, ranks.size),
        )

    def rounding(self) -> Dict[str, Any]:
        """What decides how sums are rounded, besides the recipe; see `shared.run.reproducibility`."""
        return {
            "device": f"{self.device.kind}, {self.device.name}",
            "memory_format": self.memory_format,
            "compiled": self.config.compile,
            "threads": None if self.device.asynchronous else torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def hyper_parameters(self) -> Dict[str, Any]:
        """What TensorBoard shows beside the recipe."""
        return {
            "dataset": self.data.content.name,
            "device": f"{self.device.count} x {self.device.name}",
            "global_batch_size": self.global_batch_size,
            "memory_format": self.memory_format,
        }

    def checkpoint_state(self) -> Dict[str, Any]:
        """What a checkpoint must say so that evaluation and resumption need nothing else."""
        described = self.data.describe()
        return {
            "half": "torch_imagenet",
            "mode": self.config.mode,
            "recipe": self.recipe.to_json(),
            "network": self.spec.to_json(),
            "data": {
                **{name: described[name] for name in ("name", "path", "fingerprint")},
                "order": self.data.train.order,
                "classes": described["classes"],
            },
            "device": self.device.describe(),
            "arithmetic": self.rounding(),
        }

    def introduction(self, step: TrainingStep) -> List[str]:
        """What is about to run, for the log."""
        recipe, plan = self.recipe, self.plan
        return [
            *self.device_lines(),
            self.network_line(step.network),
            f"recipe: {recipe.name}, {recipe.epochs} epochs of {plan.steps_per_epoch} steps, batch {recipe.batch_size}"
            f" per device ({self.global_batch_size} in all), image size {recipe.image_size}, learning rate"
            f" {recipe.schedule.describe()}",
            *[f"note: {note}" for note in self._notes(step)],
        ]

    def _notes(self, step: TrainingStep) -> List[str]:
        recipe, images = self.recipe, self.global_batch_size
        documented = next((line.strip() for line in document(recipe.name).splitlines() if "Documented:" in line), None)
        notes = [documented] if documented else []
        if recipe.devices > 1 and images != recipe.batch_size * recipe.devices:
            documented_images = recipe.batch_size * recipe.devices
            notes.append(
                f"the recipe's learning rate is for {recipe.devices} devices, {documented_images} images a step; here"
                f" it is {images}: --accumulate {recipe.devices} makes them the same"
            )
        more = (smoothing_text(recipe.label_smoothing, recipe.smoothing), needs_host(step))
        return [*notes, *(note for note in more if note), *recipe.schedule.remarks(), *self.resumption_notes()]

    def resumption_notes(self) -> List[str]:
        """How the continuation of a resumed run differs from what the uninterrupted run would have been."""
        if self.state is None:
            return []
        before, epoch = ImageNetRecipe.from_json(self.state["recipe"]).schedule, self.state["progress"]["epoch"]
        changes = rounding.changes(self.state.get("arithmetic", {}), self.rounding())
        return [*self.recipe.schedule.prolonged(before, epoch), *changes]


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of a training run would find wrong; nothing is changed."""
    config, found, weights = source.origin(config)
    setup = TrainingSetup.from_config(config, device, found, weights)
    if weights is not None:
        source.head(weights, setup.data.classes, config)


def _plan(config: RunConfig, recipe: ImageNetRecipe, spec: NetworkSpec, device: Device, images: int) -> Plan:
    step = global_batch_size(recipe, device)
    if images < step:
        raise UsageError(f"a step of {step} images is larger than the training set of {images}; lower --batch-size")
    steps_per_epoch = min(images // step, recipe.steps_per_epoch or images)
    total = steps_per_epoch * recipe.epochs
    seconds = None
    if config.accelerator is not None:
        cost, here = network_cost(spec, recipe.image_size), recipe.batch_size * recipe.accumulate
        seconds = config.accelerator.roofline_seconds(cost, here, element_bytes(recipe.precision))
    return Plan(
        recipe.epochs,
        steps_per_epoch,
        min(total, config.max_steps or total),
        config.print_freq,
        config.save_steps,
        device.warm_up_steps,
        roofline_seconds=seconds,
    )


def train_transform(recipe: ImageNetRecipe) -> TrainTransform:
    """Random crops, flips and, where the recipe has it, RandAugment."""
    numbers = recipe.randaugment
    augment: Optional[Tuple[int, int]] = (numbers[0], numbers[1]) if numbers else None
    return TrainTransform(recipe.image_size, crop_scale=recipe.crop_scale, flip=recipe.flip, randaugment=augment)


def versions() -> Dict[str, str]:
    """What the numbers depend on."""
    import PIL

    return provenance.versions(torch=torch.__version__, numpy=np.__version__, pillow=PIL.__version__)
