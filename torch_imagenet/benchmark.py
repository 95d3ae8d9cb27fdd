"""The mode `benchmark`: images per second of the forward pass and of a whole training step, on synthetic images.

The step is the one that training runs, from uint8 images on the device to updated weights; no data is loaded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict

import torch

from shared.cli.signals import Interrupts
from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.run import provenance
from shared.run.clock import Clock
from shared.run.folder import run_folder, set_aside
from shared.run.log import RunLog, now, open_log
from shared.run.progress import Progress
from torch_imagenet import run_setup
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.step.batch_norm import least_batch
from torch_imagenet.step.training_step import TrainingStep

STEPS = 20  # timed ones, unless --max-steps says otherwise
CLASSES = 1000


def synthetic_batch(recipe: ImageNetRecipe, num_classes: int, device: Device) -> Batch:
    """Random images uint8 [B, H, W, 3] and labels int64 [B], on the device already."""
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = (recipe.batch_size, recipe.image_size, recipe.image_size, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, num_classes, shape[:1], generator=generator)
    return Batch(images.to(device.torch_device), labels.to(device.torch_device), ())


class SyntheticStep:
    """Network, step and one batch of the recipe that the options ask for, for the modes that need no data."""

    def __init__(self, config: RunConfig, device: Device, ranks: Ranks = ALONE) -> None:
        self.recipe = recipe = run_setup.synthetic_recipe(config, device)
        self.device = device
        self.level = precision(recipe.precision)
        self.spec = _spec(config, recipe, device)
        self.memory_format = device.memory_format(self.spec.name, config.memory_format)
        torch.manual_seed(recipe.seed)
        self.normalise = run_setup.normalisation(self.spec, device, self.level, self.memory_format)
        self.step = TrainingStep(
            self.spec.make(),
            recipe,
            self.spec.num_classes,
            device,
            self.level,
            self.normalise,
            self.memory_format,
            self.spec.head,
            config.compile,
            ranks,
            config.sync_bn,
        )
        self.batch = synthetic_batch(recipe, self.spec.num_classes, device)
        self._loss, self._steps = torch.zeros(()), 0

    def train(self) -> None:
        """One training step."""
        batches = [self.batch] * self.recipe.accumulate
        self._loss = self.step.run(batches, self.recipe.schedule.at(0), 0, 0)[0]
        self._steps += 1

    def check_numbers(self) -> None:
        """Raise UsageError where the last step's loss or a weight is no number: its speed would be of nothing."""
        Progress(step=self._steps - 1).count(float(self._loss), 0, 0, where=self.step.where_not_finite)
        self.step.check_numbers(self._steps, float(self.step.magnitude()), ended=False)

    def forward(self) -> None:
        """The logits of one batch, as evaluation computes them."""
        with torch.inference_mode(), self.device.autocast(self.level):
            self.step.forward(self.normalise(self.batch.images))

    def describe(self) -> Dict[str, Any]:
        """What a record says about it."""
        recipe = self.recipe
        return {
            "network": self.spec.name,
            "recipe": recipe.name,
            "image_size": recipe.image_size,
            "device": self.device.describe(),
            "machine": provenance.machine(),
            "precision": self.level.name,
            "memory_format": self.memory_format,
            "batch_size": recipe.batch_size,
            "global_batch_size": recipe.batch_size * recipe.accumulate * self.device.count,
            "parameters": run_setup.parameters(self.step.network),
            "versions": run_setup.versions(),
        }

    def line(self) -> str:
        """For the log."""
        recipe, layout = self.recipe, self.memory_format.replace("_", " ")
        return f"network: {self.spec.text()}, batch {recipe.batch_size}, image size {recipe.image_size}, {layout}"


def benchmark(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Print both rates and write result.json. Raises UsageError where the device is not there, Stopped at a signal."""
    started, begin = now(), time.time()
    synthetic = SyntheticStep(config, device, ranks)
    folder = ranks.from_first(lambda: _folder(config))
    with open_log(folder, 0, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        for line in [*run_setup.device_lines(device, synthetic.level), synthetic.line()]:
            log.line(line)
        if ranks.is_first:
            run_setup.write_config(folder, config, synthetic.recipe, synthetic.spec, device)
        steps = config.max_steps or STEPS
        images = synthetic.recipe.batch_size * device.count
        forward = _timed(synthetic.forward, images, steps, device, ranks, interrupts)
        log.line(_rate("forward", forward))
        trained = _timed(synthetic.train, images * synthetic.recipe.accumulate, steps, device, ranks, interrupts)
        synthetic.check_numbers()
        log.line(_rate("training", trained))
        peak = device.peak_memory()
        if peak is not None:
            log.line(f"peak memory: {peak / 2**30:.2f} GiB")
        if not ranks.is_first:
            return
        result = records.build_record(
            half="torch_imagenet",
            mode="benchmark",
            dataset={"name": "synthetic"},
            compiled=config.compile,
            steps_completed=steps,
            throughput=trained,
            forward=forward,
            peak_memory=peak,
            started=started,
            seconds=time.time() - begin,
            **synthetic.describe(),
        )
        write(log, folder, result)


def check(config: RunConfig, device: Device) -> None:
    """Raise UsageError for what every process of a benchmark would find wrong."""
    _spec(config, run_setup.synthetic_recipe(config, device), device)


def _spec(config: RunConfig, recipe: ImageNetRecipe, device: Device) -> NetworkSpec:
    """The network that is measured. Raises UsageError where the recipe's batch is too small for it."""
    spec = NetworkSpec.from_recipe(recipe, config.num_classes or CLASSES)
    if recipe.batch_size == 1:
        least_batch(spec, recipe, config.sync_bn and device.count > 1)
    return spec


def _folder(config: RunConfig) -> Path:
    folder = run_folder(config.output_dir, "benchmark")
    set_aside(folder, "torch_imagenet", "benchmark")
    return folder


def write(log: RunLog, folder: Path, result: Dict[str, Any]) -> None:
    """The record of a measuring mode."""
    records.write_record(folder / "result.json", result)
    log.line(f"record: {folder / 'result.json'}")


def _timed(
    work: Callable[[], None], images: int, steps: int, device: Device, ranks: Ranks, interrupts: Interrupts
) -> Dict[str, Any]:
    """The `throughput` part of a record: each step is waited for, so that its time is its own."""
    device.synchronize()
    ranks.barrier()
    clock = Clock(device.warm_up_steps)
    for _ in range(device.warm_up_steps + steps):
        interrupts.raise_if_requested()
        work()
        device.synchronize()
        clock.step(images)
    return clock.summary()


def _rate(what: str, summary: Dict[str, Any]) -> str:
    return (
        f"{what}: {summary['images_per_second']:.1f} images/s, {summary['step_ms_p50']:.1f} ms a step"
        f" (95 %: {summary['step_ms_p95']:.1f})"
    )
