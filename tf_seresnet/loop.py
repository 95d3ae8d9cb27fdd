"""The training loop: step, count, log, save; after an epoch evaluate, log, save."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from shared import roofline
from shared.cifar10.dataset import Cifar10
from shared.cli.signals import Interrupts, Stopped
from shared.errors import RunEnded
from shared.metrics import Metrics
from shared.recipes.cifar10 import CifarRecipe
from shared.run import disk_errors
from shared.run.clock import Clock
from shared.run.events import log_evaluation, log_step
from shared.run.examples import MostConfident
from shared.run.log import RunLog
from shared.run.progress import Progress
from tf_seresnet import estimate, evaluation
from tf_seresnet.checkpoints import Checkpoints
from tf_seresnet.input_pipeline import TrainingInput
from tf_seresnet.step.not_finite import in_variables
from tf_seresnet.step.replicas import Replicas
from tf_seresnet.step.training_step import Inference, TrainingStep, model_variables


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to say and save something, in steps."""

    steps_per_epoch: int
    total_steps: int
    print_freq: int
    save_steps: Optional[int]
    whole_recipe: bool  # nothing on the command line made the run smaller
    roofline_seconds: Optional[float] = None  # the least that a step can take, where the device's limits are known


@dataclass
class Loop:
    """One run of training, ready to go: a session with its variables set, and everything around it."""

    session: Any
    data: Cifar10
    recipe: CifarRecipe
    plan: Plan
    batch: TrainingInput
    step: TrainingStep
    inference: Inference
    progress: Progress
    clock: Clock
    log: RunLog
    interrupts: Interrupts
    checkpoints: Optional[Checkpoints]  # the first process has them
    run_state: Dict[str, Any]  # what every checkpoint of this run says besides its progress
    replicas: Replicas
    most_confident: MostConfident = field(default_factory=MostConfident)  # of the last evaluation

    def run(self) -> Metrics:
        """Train to the end of the plan; the metrics of the final weights. Raises Stopped, a checkpoint written."""
        metrics = None
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
            if self.checkpoints is None:
                raise
            raise error.in_run(self.checkpoints.run) from error
        except Stopped:
            self._save(last=True)
            then = f"; continue exactly with --resume {self.checkpoints.run}" if self.checkpoints else ""
            self.log.line(f"stopped at step {self.progress.step}{then}")
            raise

    # -- train ---------------------------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        progress, plan = self.progress, self.plan
        rate = self.recipe.schedule.at(progress.epoch)
        with self.clock.paused():
            if progress.step_in_epoch == 0:
                progress.begin_epoch()
            if not self._evaluation_is_due():
                self.batch.start_epoch(self.session, progress.epoch, progress.step_in_epoch)
        while progress.step < plan.total_steps and not self._evaluation_is_due():
            self.interrupts.raise_if_requested()
            # The session call returns when the step is done, so this is also the only point that waits for the device.
            result = self.step.run(self.session, rate, self.interrupts.requested is not None)
            self.replicas.agree(result.stopping)
            progress.count(result.loss, result.correct, result.images, result.correct5, self._where_not_finite)
            self.clock.step(result.images, result.data_wait)
            last = progress.step == plan.total_steps or self._evaluation_is_due()
            if last or progress.step % plan.print_freq == 0:
                self.step.check_scale(self.session, progress.step, last)
                self._log_step(rate, result.loss)
            else:
                self.log.advance_bar()
            if plan.save_steps and progress.step % plan.save_steps == 0 and not self._evaluation_is_due():
                with self.clock.paused():
                    self._save()
            if plan.whole_recipe and progress.step == estimate.AFTER_STEPS:
                self._advise()

    def _where_not_finite(self) -> str:
        return in_variables(self.session, model_variables())

    def _evaluation_is_due(self) -> bool:
        return self.progress.step_in_epoch >= self.plan.steps_per_epoch

    def _log_step(self, rate: float, step_loss: float) -> None:
        progress, speed = self.progress, self.clock.window()
        parts = [
            f"epoch: {progress.epoch + 1}/{self.recipe.epochs}",
            f"step: {progress.step_in_epoch}/{self.plan.steps_per_epoch}",
            f"loss: {progress.loss:.4f}",
            f"acc: {progress.top1 / 100:.4f}",
            f"lr: {rate:g}",
        ]
        if speed:
            parts += [f"images/s: {speed['images_per_second']:.1f}", f"ms/step: {speed['step_ms_p50']:.1f}"]
        if "data_wait_share" in speed:
            parts.append(f"data wait: {100 * speed['data_wait_share']:.1f} %")
        log_step(self.log, ", ".join(parts), progress, self.recipe.epochs, rate, step_loss, speed)

    def _advise(self) -> None:
        summary = self.clock.summary()
        if summary:
            left = self.plan.total_steps - self.progress.step
            for line in estimate.advice(summary["step_ms_p50"] / 1000, left, self.recipe, self.plan.steps_per_epoch):
                self.log.line(line)

    # -- evaluate ------------------------------------------------------------------------------------------

    def _evaluate(self) -> Metrics:
        """All test images with the moving averages. Raises UsageError where they give no result."""
        self.most_confident = MostConfident()
        with self.clock.paused():
            metrics = evaluation.count_images(
                self.session,
                self.inference,
                self.data.test_images,
                self.data.test_labels,
                len(self.data.label_names),
                self.data.path,
                True,
                self.interrupts,
                self.most_confident,
                self.replicas,
            )
        progress, lap = self.progress, self.clock.lap()
        if self.plan.roofline_seconds and lap:
            self.log.line(roofline.reached(self.plan.roofline_seconds, lap))
        self.log.line(
            f"epoch: {progress.epoch + 1}/{self.recipe.epochs}, train_loss: {progress.loss:.4f}, train_acc:"
            f" {progress.top1 / 100:.4f}, test_loss: {metrics.loss:.4f}, test_acc: {metrics.top1 / 100:.4f}"
        )
        log_evaluation(self.log, progress.step, metrics, progress.epoch + 1)
        return metrics

    # -- save ----------------------------------------------------------------------------------------------

    def _finish_epoch(self, metrics: Metrics) -> None:
        best = self.progress.is_best(metrics.top1)
        if self._evaluation_is_due():
            self.progress.end_epoch()
        with self.clock.paused():
            self._save(best, last=self.progress.step >= self.plan.total_steps)

    def _save(self, best: bool = False, last: bool = False) -> None:
        """A checkpoint of now; see `full_disk.save_checkpoint`."""
        checkpoints = self.checkpoints
        if checkpoints is None:
            return
        state = dict(self.run_state, progress=self.progress.to_json(), clock=self.clock.to_state())
        disk_errors.save_checkpoint(
            lambda: checkpoints.save(self.session, state, best),
            self.progress.step,
            self.log,
            checkpoints.run,
            best,
            last,
        )
