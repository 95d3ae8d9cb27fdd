"""The mode `benchmark`: images per second of the forward pass and of a whole training step, on synthetic images.

The step is the one that training runs, from uint8 images on the device to updated weights; no data is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Tuple

import torch

from shared.results import record as records
from shared.run.clock import Clock
from shared.run.history import History
from shared.run.log import RunLog
from shared.run.progress import Progress
from shared.system.signals import Interrupts
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device
from torch_imagenet.devices.precision import precision
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.loader import Batch
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run import description
from torch_imagenet.run.recipe import choose_recipe
from torch_imagenet.run.setup import RunSetup, least_batch
from torch_imagenet.step.training_step import TrainingStep

STEPS = 20  # timed ones, unless --max-steps says otherwise
CLASSES = 1000


class SyntheticStep:
    """Network, step and one random batch, on the device already, of the recipe, for the modes that need no data."""

    def __init__(self, config: RunConfig, device: Device, ranks: Ranks) -> None:
        self._history = History()
        self.setup = setup = prepare(config, device, ranks)
        recipe = setup.recipe
        torch.manual_seed(recipe.seed)
        self.step = TrainingStep(setup.spec.make(), setup)
        self.normalise = setup.normalisation()
        generator = torch.Generator().manual_seed(recipe.seed)
        shape = (recipe.batch_size, recipe.image_size, recipe.image_size, 3)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, setup.spec.num_classes, shape[:1], generator=generator)
        self.batch = Batch(images.to(device.torch_device), labels.to(device.torch_device), ())
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
        device = self.setup.device
        with torch.inference_mode(), device.autocast(self.setup.precision):
            out_of_memory.limited(self._logits, self.batch.images, device, "--batch-size")

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.step.forward(self.normalise(images))

    def line(self) -> str:
        """For the log."""
        return description.sizes_line(self.setup)

    def open_run(self) -> ContextManager[Tuple[Path, RunLog]]:
        """See `description.open_run`."""
        return description.open_run(self.setup, [*description.device_lines(self.setup), self.line()])

    def write_record(self, folder: Path, log: RunLog, **parts: Any) -> None:
        """Write result.json and log where it is. Raises UsageError where it cannot be written."""
        parts = {**description.of_steps(self.setup), **parts, **self._history.record()}
        record = description.build_record(self.setup, self.step.network, **parts)
        records.write_record(folder / "result.json", record)
        log.line(f"record: {folder / 'result.json'}")


def benchmark(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """Print both rates and write result.json. Raises UsageError where the device is not there, Stopped at a signal."""
    synthetic = SyntheticStep(config, device, ranks)
    setup, steps = synthetic.setup, config.max_steps or STEPS

    def timed(work: Callable[[], None], images: int) -> Dict[str, Any]:
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

    with synthetic.open_run() as (folder, log):
        trained = timed(synthetic.train, setup.global_batch_size)  # first: what fits here fits the other, too
        synthetic.check_numbers()
        forward = timed(synthetic.forward, setup.recipe.batch_size * device.count)
        log.line(_rate("forward", forward))
        log.line(_rate("training", trained))
        peak = device.peak_memory()
        if peak is not None:
            log.line(f"peak memory: {peak / 2**30:.2f} GiB")
        if ranks.is_first:
            speeds = {"throughput": trained, "forward": forward}
            synthetic.write_record(folder, log, steps_completed=steps, peak_memory=peak, **speeds)


def _rate(what: str, speed: Dict[str, Any]) -> str:
    times = f"{speed['step_ms_p50']:.1f} ms a step (95 %: {speed['step_ms_p95']:.1f})"
    return f"{what}: {speed['images_per_second']:.1f} images/s, {times}"


def prepare(config: RunConfig, device: Device, ranks: Ranks = ALONE) -> RunSetup:
    """What is measured. Raises UsageError where the recipe's batch is too small for the network."""
    recipe = choose_recipe(config, device)
    spec = NetworkSpec.from_recipe(recipe, config.num_classes or CLASSES)
    if recipe.batch_size == 1:
        least_batch(spec, recipe, config.sync_bn and device.count > 1)
    return RunSetup(config, device, ranks, recipe, spec, precision(recipe.precision), None)
