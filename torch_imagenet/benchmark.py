"""The mode `benchmark`: images per second of the forward pass and of a whole training step, on synthetic images.

The step is the one that training runs, from uint8 images on the device to updated weights; no data is loaded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict

import torch

from shared.recipes.imagenet import ImageNetRecipe
from shared.results import record as records
from shared.run.clock import Clock
from shared.run.folder import open_folder
from shared.run.log import RunLog, now
from shared.run.progress import Progress
from shared.system.signals import Interrupts
from torch_imagenet import description
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.recipe import synthetic_recipe
from torch_imagenet.run_setup import RunSetup
from torch_imagenet.step.batch_norm import least_batch

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
    """Network, step and one batch of the configured recipe, for the modes that need no data."""

    def __init__(self, config: RunConfig, device: Device, ranks: Ranks = ALONE) -> None:
        self.setup = setup = _setup(config, device)
        torch.manual_seed(setup.recipe.seed)
        self.step = setup.training_step(setup.spec.make(), ranks)
        self.normalise = setup.normalisation()
        self.batch = synthetic_batch(setup.recipe, setup.spec.num_classes, device)
        self._result, self._steps = self.step.left_out(), 0

    def train(self) -> None:
        """One training step."""
        recipe = self.setup.recipe
        self._result = self.step.run([self.batch] * recipe.accumulate, recipe.schedule.at(0), 0, 0)
        self._steps += 1

    def check_numbers(self) -> None:
        """Raise UsageError where the last step's loss or a weight is not finite: its speed would be of nothing."""
        (result,) = self.step.read([self._result])
        Progress(step=self._steps - 1).count(result.loss, 0, 0, where=self.step.where_not_finite)
        self.step.check_numbers(self._steps, is_last=False)

    def forward(self) -> None:
        """The logits of one batch, as evaluation computes them."""
        with torch.inference_mode(), self.setup.device.autocast(self.setup.precision):
            self.step.forward(self.normalise(self.batch.images))

    def describe(self) -> Dict[str, Any]:
        """What a record says about it."""
        return {
            "memory_format": self.setup.memory_format,
            "batch_size": self.setup.recipe.batch_size,
            "global_batch_size": self.setup.global_batch_size,
            "compiled": self.setup.config.compile,
            **description.for_record(self.setup, self.step.network),
        }

    def line(self) -> str:
        """For the log."""
        recipe, layout = self.setup.recipe, self.setup.memory_format.replace("_", " ")
        network = self.setup.spec.text()
        return f"network: {network}, batch {recipe.batch_size}, image size {recipe.image_size}, {layout}"


def benchmark(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Print both rates and write result.json. Raises UsageError where the device is not there, Stopped at a signal."""
    started, begin = now(), time.time()
    synthetic = SyntheticStep(config, device, ranks)
    setup = synthetic.setup
    folder, _ = ranks.from_first(
        lambda: open_folder("torch_imagenet", "benchmark", "benchmark", config.output_dir, None)
    )
    with RunLog(folder, 0, config.log_file, silent=not ranks.is_first) as log, ranks.listening(log.line):
        for line in [*description.device_lines(setup), synthetic.line()]:
            log.line(line)
        if ranks.is_first:
            description.write_config(setup, folder)
        steps = config.max_steps or STEPS
        images = setup.recipe.batch_size * device.count
        forward = _timed(synthetic.forward, images, steps, device, ranks, interrupts)
        log.line(_rate("forward", forward))
        trained = _timed(synthetic.train, setup.global_batch_size, steps, device, ranks, interrupts)
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
    _setup(config, device)


def _setup(config: RunConfig, device: Device) -> RunSetup:
    """What is measured. Raises UsageError where the recipe's batch is too small for the network."""
    recipe = synthetic_recipe(config, device)
    spec = NetworkSpec.from_recipe(recipe, config.num_classes or CLASSES)
    if recipe.batch_size == 1:
        least_batch(spec, recipe, config.sync_bn and device.count > 1)
    return RunSetup(config, device, recipe, spec, precision(recipe.precision), None)


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
