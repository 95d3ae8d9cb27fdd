"""The lines that a run writes to its log, in the form of the port that its network comes from.

Scripts that read the log of an original with grep and awk read ours with the same patterns. The forms are those of the
programs that the ports' documents describe, their epochs and steps counted as there; the numbers are this project's:
rates are images over seconds without the first steps, losses are not multiplied by the loss scale.
"""

from __future__ import annotations

import datetime
import math
import time
from typing import Any, Dict, List, Mapping, Optional, Type

from shared.metrics import Metrics
from shared.run.loop import Run
from torch_imagenet.run.setup import RunSetup

Speed = Mapping[str, Any]  # a summary of `shared.run.clock`


class LogLines:
    """The lines of SENet154's form, and what the other forms replace.

    Epochs are zero-based. Accuracies are percent, losses nats, times seconds and rates images per second of all
    devices. The lines of a step in the warm-up show that step's own time, which no average includes.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    def before_epoch(self, epoch: int, rate: float) -> str:
        """The learning rate of the epoch that begins."""
        return f"Learning rate of epoch #{epoch + 1} is {rate:.5f}"

    def step(self, run: Run, rate: float, speed: Speed) -> str:
        """The step that was read last; `speed` is the throughput since the line before it."""
        assert run.last is not None
        loss, correct, correct5, images = run.last[:4]
        speed, progress = speed or run.clock.warm_up(), run.progress
        parts = [f"Time: {_seconds(speed):.3f}", f"FPS: {speed.get('images_per_second', 0.0):.3f}"]
        parts += [f"Loss: {loss:.4f}", f"Acc@1: {100 * correct / images:.1f}", f"Acc@5: {100 * correct5 / images:.1f}"]
        if "data_wait_share" in speed:
            parts.append(f"Data: {100 * speed['data_wait_share']:.1f}%")
        return f"E{progress.epoch + 1}-B{progress.step_in_epoch}/{run.plan.steps_per_epoch}\t\t" + "\t".join(parts)

    def after_epoch(self, epoch: int, speed: Speed) -> Optional[str]:
        """The training of an epoch, here one-based; only where steps of it were timed."""
        rate = speed["images_per_second"]
        return f"Training Epoch #{epoch}:\tAvg. Batch time: {_seconds(speed):.3f}\tAvg. FPS: {rate:.3f}\t"

    def evaluation(self, metrics: Metrics, run: Optional[Run] = None) -> List[str]:
        """An evaluation at the end of an epoch of `run`, or by itself."""
        rule, head = "-" * 40, "" if run is None else f"Validation Epoch #{run.progress.evaluated_epoch}:\t"
        return [rule, f"{head}Avg. Acc@1: {metrics.top1:.3f}\tAvg. Acc@5: {metrics.top5:.3f}", rule]

    def last(self) -> List[str]:
        """What ends the log."""
        return []


class SEResNet50Lines(LogLines):
    """SE-ResNet-50's form: every number with its average over the epoch so far behind it."""

    def before_epoch(self, epoch: int, rate: float) -> str:
        return f"=> Epoch[{epoch}] Setting lr: {rate:.4f}"

    def step(self, run: Run, rate: float, speed: Speed) -> str:
        assert run.last is not None
        loss, correct, correct5, images = run.last[:4]
        speed, progress, steps = speed or run.clock.warm_up(), run.progress, str(run.plan.steps_per_epoch)
        epoch = run.clock.lap_so_far()  # empty in the warm-up, where the original's averages are 0
        meters = [f"Time {_seconds(speed):6.3f} ({_seconds(epoch):6.3f})"]
        meters.append(f"Data {_data_seconds(speed):6.3f} ({_data_seconds(epoch):6.3f})")
        meters.append(f"Loss {loss:.4e} ({progress.loss:.4e})")
        meters.append(f"Acc@1 {100 * correct / images:6.2f} ({progress.top1:6.2f})")
        meters.append(f"Acc@5 {100 * correct5 / images:6.2f} ({progress.top5:6.2f})")
        number = f"{progress.step_in_epoch - 1:{len(steps)}d}/{steps}"
        return "\t".join([f"Epoch: [{progress.epoch}][{number}]", *meters])

    def after_epoch(self, epoch: int, speed: Speed) -> Optional[str]:
        images, rate = self._setup.global_batch_size, speed["images_per_second"]
        return f"{self._device()} batch_size: {images} Time: {images / rate:.3f} * FPS@all {rate:.3f}"

    def evaluation(self, metrics: Metrics, run: Optional[Run] = None) -> List[str]:
        return [f"{self._device()} [AVG-ACC] * Acc@1 {metrics.top1:.3f} Acc@5 {metrics.top5:.3f}"]

    def _device(self) -> str:
        device = self._setup.device
        return f"[{device.kind} id: {device.torch_device.index or 0} ]"


class PNASNetLines(LogLines):
    """PNASNet's form: a line for the console, and a table with a row per epoch, in which the log ends.

    The original has the table in a file of its own, whose last row its scripts read.
    """

    _TRAINING = ("Learning Rate", "Train Loss", "Valid Loss", "Train Acc.", "Valid Acc.", "Training FPS")
    _EVALUATION = ("Test Loss", "Test Acc")

    def __init__(self, setup: RunSetup) -> None:
        super().__init__(setup)
        self._begin = time.monotonic()
        self._rate = math.nan  # images per second of the epoch; unknown where no step of it was timed
        self._has_header = False
        self._table: List[str] = []  # what is left of it for the end of the log

    def before_epoch(self, epoch: int, rate: float) -> str:
        self._begin, self._rate = time.monotonic(), math.nan
        return f"=> Epoch[{epoch}] Setting lr: {rate:.4f}"

    def step(self, run: Run, rate: float, speed: Speed) -> str:
        assert run.last is not None
        speed, progress = speed or run.clock.warm_up(), run.progress
        parts = [f"({progress.step_in_epoch}/{run.plan.steps_per_epoch}) | Batch: {_seconds(speed):.3f}s"]
        parts.append(f"Total: {datetime.timedelta(seconds=int(time.monotonic() - self._begin))}")
        parts.append(f"OldLoss: {run.last.loss: .4f} |Loss: {progress.loss:.4f}")  # of the step; of the epoch so far
        parts += [f"top1: {progress.top1: .4f}", f"top5: {progress.top5: .4f}"]
        parts.append(f"fps: {speed.get('images_per_second', 0.0): .1f} ")
        return " | ".join(parts)

    def after_epoch(self, epoch: int, speed: Speed) -> Optional[str]:
        self._rate = speed["images_per_second"]
        return None

    def evaluation(self, metrics: Metrics, run: Optional[Run] = None) -> List[str]:
        if run is None:
            self._table = [_row(self._EVALUATION), _row(_six_decimals(metrics.loss, metrics.top1))]
            return [f" Test Loss:  {metrics.loss:.8f}, Test Acc:  {metrics.top1:.2f}"]
        progress, rate = run.progress, self._setup.recipe.schedule.at(run.progress.epoch)
        values = (rate, progress.loss, metrics.loss, progress.top1, metrics.top1, self._rate)
        table = [] if self._has_header else [_row(self._TRAINING)]
        table.append(_row(_six_decimals(*values)))
        self._has_header = True
        if progress.step < run.plan.total_steps:
            return table
        self._table = table
        return []

    def last(self) -> List[str]:
        return self._table


def _seconds(speed: Speed) -> float:
    """The median step."""
    return float(speed.get("step_ms_p50", 0.0)) / 1000


def _data_seconds(speed: Speed) -> float:
    """How much of a step was spent waiting for images."""
    return float(speed.get("data_wait_share", 0.0)) * _seconds(speed)


def _six_decimals(*values: float) -> List[str]:
    return [f"{value:.6f}" for value in values]


def _row(cells: Any) -> str:
    return "".join(f"{cell}\t" for cell in cells)


_FORMS: Dict[str, Type[LogLines]] = {
    "senet154": LogLines,
    "se_resnet50": SEResNet50Lines,
    "se_resnet50_caffe": SEResNet50Lines,
    "pnasnet5large": PNASNetLines,
}


def log_lines(setup: RunSetup) -> LogLines:
    """The lines of this run, in the form of its network's port."""
    return _FORMS[setup.spec.name](setup)
