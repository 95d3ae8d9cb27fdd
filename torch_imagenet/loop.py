"""The training loop: step, count, log, save; after an epoch evaluate, log, save.

The device is read at log steps, checkpoints and ends of epochs alone. Until then what the steps computed stays there,
so that the host runs ahead of the device and never waits for it.

Several processes stop before the same step. One that a signal has asked proposes a step which no other can have begun,
because beginning it takes something that all of them give: on a CPU the next step's gradients, on a device that works
by itself what is read there next. All look for a proposal where they have just received such a thing.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch

from shared import roofline
from shared.cli.signals import Interrupts, Stopped
from shared.errors import DataError, RunEnded
from shared.metrics import Metrics
from shared.recipes.imagenet import ImageNetRecipe
from shared.run import disk_errors
from shared.run.clock import Clock
from shared.run.events import log_evaluation, log_step
from shared.run.log import RunLog
from shared.run.progress import Progress
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.evaluation import documented_lines
from torch_imagenet.input_pipeline.bad_images import BadImages
from torch_imagenet.input_pipeline.loader import Batch, TrainingInput
from torch_imagenet.step.training_step import TrainingStep


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to say and save something, in steps."""

    steps_per_epoch: int
    total_steps: int
    print_freq: int
    save_steps: Optional[int]
    warm_up_steps: int  # left out of throughput
    roofline_seconds: Optional[float] = None  # the least that a step can take, where the device's limits are known
    least_batch: int = 1  # images without which a batch cannot be trained on


@dataclass
class Loop:
    """One run of training, ready to go."""

    step: TrainingStep
    batches: TrainingInput
    evaluate: Callable[[], Metrics]
    save: Callable[[Progress, Clock, bool], Any]  # writes a checkpoint, returns its folder
    epoch_done: Callable[[Progress, bool], None]
    folder: Path
    recipe: ImageNetRecipe
    plan: Plan
    progress: Progress
    clock: Clock
    log: RunLog
    interrupts: Interrupts
    bad: BadImages
    ranks: Ranks
    _pending: List[torch.Tensor] = field(default_factory=list)  # what `TrainingStep.run` gave for each step
    _waited: float = 0.0  # seconds that the pending steps have waited for data
    _whole: bool = True  # the weights are those of a finished step
    _steps_before: int = 0  # of the run that this one continues
    _last: Tuple[float, float, float] = (0.0, 0.0, 0.0)  # the last trained step's loss, top-1 and top-5

    def run(self) -> Metrics:
        """Train to the end of the plan; the metrics of the final weights. Raises Stopped, a checkpoint written."""
        metrics = None
        self._steps_before = self.progress.step
        self.log.start_bar(self.plan.total_steps, self.progress.step)
        try:
            while self.progress.step < self.plan.total_steps or self._evaluation_is_due():
                self._train_epoch()
                metrics = self._evaluate()
                self._finish_epoch(metrics)
            if metrics is None:  # resumed with no step left, perhaps from within the last evaluation
                metrics = self._evaluate()
                self._finish_epoch(metrics)
            return metrics
        except RunEnded as error:
            raise error.in_run(self.folder) from error
        except Stopped:
            if self._whole:
                self._read_device()
                self._save(last=True)
                self.log.line(f"stopped at step {self.progress.step}; continue exactly with --resume {self.folder}")
            else:  # a second signal, which did not wait for the step to end
                self.log.line(
                    f"stopped in the middle of a step; --resume {self.folder} goes on from its last checkpoint"
                )
            raise

    # -- train -------------------------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        progress, plan = self.progress, self.plan
        rate = self.recipe.schedule.at(progress.epoch)
        if self._evaluation_is_due():  # resumed between the epoch's last step and its evaluation
            return
        with self.clock.paused():
            if progress.step_in_epoch == 0:
                progress.begin_epoch()
                self.log.line(f"Learning rate of epoch #{progress.epoch + 1} is {rate:.5f}")
            batches = self._batches()
        left = min(plan.steps_per_epoch - progress.step_in_epoch, plan.total_steps - progress.step)
        for _ in range(left):
            self._stop_if_asked()
            asked = time.perf_counter()
            group = list(itertools.islice(batches, self.recipe.accumulate))
            self._waited += time.perf_counter() - asked
            group = self._readable(group)
            position = progress.step_in_epoch + len(self._pending)
            self._whole = False
            self._pending.append(
                self.step.run(group, rate, progress.epoch, position) if group else self.step.left_out()
            )
            self._whole = True
            self._after_step(rate)
        if not progress.epoch_images:
            raise DataError("not one step of a whole epoch has images that can be read; run check-data on the data set")

    def _batches(self) -> Iterator[Batch]:
        progress = self.progress
        return self.batches.epoch(progress.epoch, progress.step_in_epoch * self.recipe.accumulate)

    def _readable(self, group: List[Batch]) -> List[Batch]:
        """The batches that can be trained on; none where the step is to be left out."""
        for batch in group:
            self.bad.note(batch.bad)
            for line in batch.notes:
                self.log.line(line)
        least = self.plan.least_batch
        readable = [batch for batch in group if len(batch.labels) >= least]
        if not readable:
            what = f"step {self.progress.step + len(self._pending) + 1} has no batch of {least} images that can be read"
            if self.ranks.size > 1:  # the others are about to take it
                raise DataError(f"{what}; run check-data on the data set")
            self.log.line(f"note: {what}; it is left out")
        return readable

    def _after_step(self, rate: float) -> None:
        ahead = len(self._pending)
        log, save = self._logs(ahead), self._saves(ahead)
        if self._reads(ahead):
            self._read_device()
        if log and self.progress.epoch_images:
            self._log_step(rate)
        else:
            self.log.advance_bar()
        if save:
            with self.clock.paused():
                self._save()

    def _ends(self, ahead: int) -> bool:
        """Whether the step that is `ahead` of what has been read is the last of its epoch, or of the plan."""
        in_epoch, step = self.progress.step_in_epoch + ahead, self.progress.step + ahead
        return in_epoch >= self.plan.steps_per_epoch or step >= self.plan.total_steps

    def _logs(self, ahead: int) -> bool:
        return self._ends(ahead) or (self.progress.step_in_epoch + ahead) % self.plan.print_freq == 0

    def _saves(self, ahead: int) -> bool:
        every = self.plan.save_steps
        return every is not None and (self.progress.step + ahead) % every == 0 and not self._ends(ahead)

    def _reads(self, ahead: int) -> bool:
        warmed = self.progress.step + ahead - self._steps_before == self.plan.warm_up_steps
        return warmed or self._logs(ahead) or self._saves(ahead)

    def _read_device(self) -> None:
        """Wait for the pending steps and count them one by one.

        Raises UsageError naming the step whose loss is no number, or after which a weight is none.
        """
        if not self._pending:
            return
        if self.step.device.asynchronous:  # or a process that does not come would only be missed by the device
            self.ranks.barrier()
        pending, self._pending = self._pending, []
        waited, self._waited = self._waited, 0.0
        # The one point that waits for the device.
        *rows, (magnitude, *_) = torch.stack([*pending, self.step.magnitude().expand(4)]).tolist()
        for loss, correct1, correct5, images in rows:
            self.progress.count(loss, int(correct1), int(images), int(correct5), self.step.where_not_finite)
            if images:  # else the step was left out
                self._last = (loss, 100 * correct1 / images, 100 * correct5 / images)
        self.step.check_numbers(self.progress.step, magnitude, self._ends(0))
        self.clock.steps(len(pending), sum(int(row[3]) for row in rows), waited)
        self.bad.note(self.ranks.received())

    def _stop_if_asked(self) -> None:
        """Raise Stopped where this process, or the processes together, end before the next step."""
        if self.ranks.size == 1:
            self.interrupts.raise_if_requested()
            return
        ahead = len(self._pending)
        if self.interrupts.requested is not None:
            further = 1
            while self.step.device.asynchronous and not self._reads(ahead + further):
                further += 1
            self.ranks.propose_stop(self.interrupts.requested, self.progress.step + ahead + further)
        if not ahead or not self.step.device.asynchronous:
            number = self.ranks.agreed_stop(self.progress.step + ahead)
            if number is not None:
                raise Stopped(number)

    def _log_step(self, rate: float) -> None:
        progress, speed = self.progress, self.clock.window()
        loss, top1, top5 = self._last
        head = f"E{progress.epoch + 1}-B{progress.step_in_epoch}/{self.plan.steps_per_epoch}\t\t"
        parts = []
        if speed:
            parts = [f"Time: {speed['step_ms_p50'] / 1000:.3f}", f"FPS: {speed['images_per_second']:.3f}"]
        parts += [f"Loss: {loss:.4f}", f"Acc@1: {top1:.1f}", f"Acc@5: {top5:.1f}"]
        if "data_wait_share" in speed:
            parts.append(f"Data: {100 * speed['data_wait_share']:.1f}%")
        line = head + "\t".join(parts)
        log_step(self.log, line, progress, self.recipe.epochs, rate, loss, speed, **self._skipped())

    def _skipped(self) -> Dict[str, Any]:
        scale = self.step.loss_scale
        if not scale.enabled or scale.skipped is None:
            return {}
        return {"loss_scale": scale.value(), "steps_skipped": int(scale.skipped)}

    # -- evaluate, save ----------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        return self.progress.step_in_epoch >= self.plan.steps_per_epoch

    def _evaluate(self) -> Metrics:
        summary = self.clock.lap()
        if summary:
            seconds = summary["step_ms_p50"] / 1000
            self.log.line(
                f"Training Epoch #{self.progress.epoch + 1}:\tAvg. Batch time: {seconds:.3f}\t"
                f"Avg. FPS: {summary['images_per_second']:.3f}\t"
            )
            if self.plan.roofline_seconds:
                self.log.line(roofline.reached(self.plan.roofline_seconds, summary))
        with self.clock.paused():
            metrics = self.evaluate()
        log_evaluation(self.log, self.progress.step, metrics, self.progress.epoch + 1)
        for line in documented_lines(metrics, self.progress.epoch + 1):
            self.log.line(line)
        return metrics

    def _finish_epoch(self, metrics: Metrics) -> None:
        best = self.progress.is_best(metrics.top1)
        if self._evaluation_is_due():
            self.progress.end_epoch()
        with self.clock.paused():
            self._save(best, last=self.progress.step >= self.plan.total_steps)
            disk_errors.optional(lambda: self.epoch_done(self.progress, best), self.folder, self.log)

    def _save(self, best: bool = False, last: bool = False) -> None:
        """A checkpoint of now; see `full_disk.save_checkpoint`."""
        disk_errors.save_checkpoint(
            lambda: self.save(self.progress, self.clock, best), self.progress.step, self.log, self.folder, best, last
        )
