"""The policy of a training run, without a framework: when to read the device, log, save, evaluate and stop.

What steps compute stays on an asynchronous device until it is needed, so that the host runs ahead and never waits.

Several processes stop before the same step. One that has received a signal proposes a step that no other process can
have begun, because every process contributes to what beginning it takes: on a synchronous device the gradients of the
next step, on an asynchronous one the next results that are read. All look for a proposal where they have received such.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, TypeVar

from shared import roofline
from shared.errors import DataError, RunEnded
from shared.metrics import Metrics
from shared.run import disk_errors
from shared.run.clock import Clock
from shared.run.history import History
from shared.run.log import RunLog
from shared.run.plan import Plan
from shared.run.progress import Progress
from shared.system.signals import Interrupts, Stopped

T = TypeVar("T")
# TensorBoard's tag of what `Clock.window` calls so.
_SPEED_TAGS = {"images_per_second": "images_per_second", "step_ms_p50": "step_ms", "data_wait_share": "data_wait_share"}


class StepResult(NamedTuple):
    """What one step computed, over all devices."""

    loss: float  # mean over the images
    correct: int  # images classified correctly
    correct5: int  # images whose class is among the five likeliest
    images: int  # 0 where the step was left out
    data_wait: Optional[float] = None  # seconds that it waited for its batch, where `Run.steps` does not time it
    compiled: bool = False  # whether a program was compiled for it, which is part of no throughput


class Step:
    """What `Run` needs of a half's training step."""

    asynchronous = False  # whether results arrive later than `Run.count` receives them
    steps_per_call: Optional[int] = None  # where it is `read` that runs the steps: how many at most

    def read(self, pending: List[Any]) -> List[StepResult]:
        """Wait for the device, or run the steps; the results of those that `Run.count` received, in order."""
        return pending

    def check_numbers(self, step: int, is_last: bool) -> None:
        """Raise UsageError where a weight is not finite after this step. `is_last`: of its epoch or of the run."""

    def where_not_finite(self) -> str:
        """Which tensors are not finite, for the message about a loss that is not; empty where it is not known."""
        return ""


class StopAgreement:
    """How the processes of a run agree on the step to stop before; of a process by itself, nothing to agree on."""

    size = 1

    def propose_stop(self, number: int, step: int) -> None:
        """Propose, after this signal, that all processes stop before `step`; an earlier proposal stands."""

    def agreed_stop(self, step: int) -> Optional[int]:
        """The number of the signal if all processes stop before `step`, else None."""
        return None

    def barrier(self) -> None:
        """Wait until every process is here. Raises UsageError naming those that do not come in time."""


class Run:
    """One run of training. As a context it ends with a checkpoint when it is stopped.

    `write_checkpoint(state, best)` writes the weights beside `state`, which has this run's progress and clock; None in
    a process that writes nothing. `after_read` is called when results have been read. `resumed` is the state that the
    run goes on from, and `history` continues it.
    """

    def __init__(
        self,
        plan: Plan,
        step: Step,
        log: RunLog,
        interrupts: Interrupts,
        folder: Optional[Path],
        write_checkpoint: Optional[Callable[[Dict[str, Any], bool], Any]],
        resumed: Optional[Dict[str, Any]] = None,
        ranks: Optional[StopAgreement] = None,
        after_read: Optional[Callable[[], None]] = None,
        history: Optional[History] = None,
    ) -> None:
        self.plan, self.step, self.log, self.folder = plan, step, log, folder
        self.progress = Progress(**resumed["progress"]) if resumed else Progress()
        self._resumed, self._history = resumed, history or History()
        self.clock = Clock(plan.warm_up_steps, state=None if self._history.timed_anew else (resumed or {}).get("clock"))
        self.last: Optional[StepResult] = None  # of the last step that had images
        self._interrupts = interrupts
        self._ranks, self._write_checkpoint, self._after_read = ranks or StopAgreement(), write_checkpoint, after_read
        self._first_step = self.progress.step
        self._pending: List[Any] = []  # what `count` received since results were read
        self._data_wait: Optional[float] = None  # seconds that the pending steps have waited for data
        self._step_is_whole = True  # the weights are those of a finished step

    def __enter__(self) -> Run:
        self.log.start_bar(self.plan.total_steps, self.progress.step)
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if isinstance(error, RunEnded) and self.folder is not None:
            raise RunEnded(f"{error}; then {disk_errors.continuation(self.folder)}") from error
        if isinstance(error, Stopped):
            self._save_stopped()

    def _save_stopped(self) -> None:
        what, then = "stopped in the middle of a step", f"; --resume {self.folder} goes on from its last checkpoint"
        if self._step_is_whole:  # else a second signal did not wait for the end of the step
            self.read()
            self.save(last=True)
            what, then = f"stopped at step {self.progress.step}", f"; continue exactly with --resume {self.folder}"
        self.log.line(what + (then if self.folder else ""))

    # -- epochs and steps ------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """The zero-based epochs to train and evaluate; at least one, of a finished run the last one's evaluation."""
        yield self.progress.epoch
        while self.progress.step < self.plan.total_steps or self._evaluation_is_due():
            yield self.progress.epoch

    def steps(self, start: Callable[[], Iterator[T]], timed: bool = True) -> Iterator[T]:
        """The batches of the steps that are left of this epoch, from the iterator that `start` returns.

        `timed`: the wait for a batch is the wait for data. Each step must be passed to `count`. Raises Stopped before a
        step, DataError where no step of the epoch had an image.
        """
        progress, plan = self.progress, self.plan
        left = min(plan.steps_per_epoch - progress.step_in_epoch, plan.total_steps - progress.step)
        if left <= 0:  # resumed between the last step of the epoch and its evaluation
            return
        with self.clock.paused():
            if progress.step_in_epoch == 0:
                progress.begin_epoch()
            batches = start()
        for _ in range(left):
            self._raise_if_stopping()
            begin = time.perf_counter()
            batch = next(batches)
            if timed:
                self._data_wait = (self._data_wait or 0.0) + time.perf_counter() - begin
            self._step_is_whole = False
            yield batch
        if not progress.epoch_images:
            raise DataError("not one step of a whole epoch has images that can be read; run check-data on the data set")

    @property
    def position(self) -> float:
        """Where the next step stands in the run, in epochs from 0.0, for a learning rate that changes every step."""
        progress = self.progress
        return progress.epoch + (progress.step_in_epoch + self.ahead) / self.plan.steps_per_epoch

    @property
    def ahead(self) -> int:
        """How many steps have been counted whose results have not been read: they are not in `progress` yet."""
        return len(self._pending)

    def count(self, result: Any) -> None:
        """A step has been computed or queued; `result` is read later."""
        self._pending.append(result)
        self._step_is_whole = True

    # Of the step that was counted last, or of the one `further` steps after it.

    def is_last(self, further: int = 0) -> bool:
        """Whether this step ends its epoch or the run."""
        ahead, progress, plan = self.ahead + further, self.progress, self.plan
        return progress.step_in_epoch + ahead >= plan.steps_per_epoch or progress.step + ahead >= plan.total_steps

    def should_log(self, further: int = 0) -> bool:
        """Whether this step has a line in the log."""
        step = self.progress.step_in_epoch if self.plan.print_by_epoch else self.progress.step
        return self.is_last(further) or (step + self.ahead + further) % self.plan.print_freq == 0

    def should_save(self, further: int = 0) -> bool:
        """Whether a checkpoint follows this step; the one at the end of an epoch follows its evaluation."""
        step, every = self.progress.step + self.ahead + further, self.plan.save_steps
        return every is not None and step % every == 0 and not self.is_last(further)

    def should_sync(self, further: int = 0) -> bool:
        """Whether results are read after this step: it is logged or saved, throughput is measured, a call is full."""
        ahead = self.ahead + further
        warmed_up = self.progress.step + ahead - self._first_step == self.plan.warm_up_steps
        return warmed_up or ahead == self.step.steps_per_call or self.should_log(further) or self.should_save(further)

    def read(self, check: bool = True) -> int:
        """Count the pending steps, `check` the weights; how many. Raises UsageError naming a step not finite."""
        if not self._pending:
            return 0
        if self.step.asynchronous:  # else only the device would notice a process that does not come
            self._ranks.barrier()
        self._step_is_whole = self.step.steps_per_call is None  # else they are run now
        results, data_wait = self.step.read(self._pending), self._data_wait
        self._pending, self._data_wait, self._step_is_whole = [], None, True
        for result in results:
            self.progress.count(result.loss, result.correct, result.images, result.correct5, self.step.where_not_finite)
            self.last = result if result.images else self.last
            data_wait = data_wait if result.data_wait is None else (data_wait or 0.0) + result.data_wait
        if check:
            self.step.check_numbers(self.progress.step, self.is_last())
        images, compiled = sum(result.images for result in results), any(result.compiled for result in results)
        self.clock.step(images, data_wait, len(results), compiled)
        if self._after_read is not None:
            self._after_read()
        return len(results)

    def log_step(self, rate: float, line: Callable[[Run, float, Dict[str, Any]], str], **more: Any) -> None:
        """Log the step that has just been read; `line(run, rate, throughput)` words it, `more` goes to the events."""
        progress, log = self.progress, self.log
        if self.last is None or not progress.epoch_images:  # every step so far was left out
            log.advance_bar()
            return
        speed = self.clock.window()
        means = {"loss": progress.loss, "top1": progress.top1, "top5": progress.top5, "learning_rate": rate}
        values = {"epoch": progress.epoch + 1, "loss": progress.loss, "step_loss": self.last.loss, **means}
        tags = {f"train/{name}": value for name, value in means.items()}
        tags.update((f"throughput/{tag}", speed[name]) for name, tag in _SPEED_TAGS.items() if name in speed)
        log.event("step", progress.step, {**values, **more, **speed}, tags)
        log.line(line(self, rate, speed))  # behind the event: where nobody reads it, the run stops here
        watched = {"loss": f"{progress.loss:.3f}", "top1": f"{progress.top1:.1f}%"}
        if speed:
            watched["images/s"] = f"{speed['images_per_second']:.4g}"
        if "data_wait_share" in speed:
            watched["data wait"] = f"{100 * speed['data_wait_share']:.0f}%"
        log.advance_bar(f"epoch {progress.epoch + 1}/{self.plan.epochs}", watched)

    def _raise_if_stopping(self) -> None:
        """Raise Stopped where this process, or the processes together, end before the next step."""
        if self._ranks.size == 1:
            self._interrupts.raise_if_requested()
            return
        step = self.progress.step + self.ahead
        if self._interrupts.requested is not None:
            further = 1
            while self.step.asynchronous and not self.should_sync(further):
                further += 1
            self._ranks.propose_stop(self._interrupts.requested, step + further)
        if not self.ahead or not self.step.asynchronous:
            number = self._ranks.agreed_stop(step)
            if number is not None:
                raise Stopped(number)

    # -- evaluation and checkpoints --------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        return self.progress.step_in_epoch >= self.plan.steps_per_epoch

    def log_epoch(self, line: Optional[Callable[[int, Dict[str, Any]], Optional[str]]] = None) -> None:
        """Log the throughput of this epoch's training; `line(epoch, throughput)` words it, its epoch one-based."""
        summary = self.clock.lap()
        if not summary:
            return
        if line is not None:
            self.log.lines(filter(None, [line(self.progress.epoch + 1, summary)]))
        if self.plan.roofline_seconds:
            self.log.line(roofline.reached(self.plan.roofline_seconds, summary))

    def evaluate(self, evaluate: Callable[[], Metrics]) -> Metrics:
        """The metrics of the weights of now, logged as those of this epoch. The clock stands still."""
        with self.clock.paused():
            metrics = evaluate()
        self.log.evaluation(self.progress.step, metrics, self.progress.evaluated_epoch)
        return metrics

    def end_epoch(self, metrics: Metrics) -> bool:
        """Count the epoch and save a checkpoint; whether this evaluation is the best so far."""
        best = self.progress.is_best(metrics.top1)
        if self._evaluation_is_due():
            self.progress.end_epoch()
        self.save(best, last=self.progress.step >= self.plan.total_steps)
        return best

    def save(self, best: bool = False, last: bool = False) -> None:
        """Save a checkpoint of now; see `disk_errors.save_checkpoint` for a disk that does not take it."""
        write, folder = self._write_checkpoint, self.folder
        if write is None or folder is None:
            return
        with self.clock.paused():
            state = self.state()
            disk_errors.save_checkpoint(lambda: write(state, best), self.progress.step, self.log, folder, best, last)

    def state(self) -> Dict[str, Any]:
        """This run's part of the state of a checkpoint of now."""
        progress, history = dict(vars(self.progress)), self._history.record()
        if self._resumed is None or self.progress.step > self._first_step:
            return {"progress": progress, "clock": self.clock.to_state(), "history": history}
        # This sitting has computed no step: who computed them, and how fast, is as before.
        kept = {name: self._resumed.get(name, {}) for name in ("arithmetic", "speed", "clock")}
        begun_on = self._resumed.get("history", {}).get("begun_on", [])
        return {"progress": progress, **kept, "history": {**history, "begun_on": begun_on}}

    # -- record ----------------------------------------------------------------------------------------------------

    def record(self) -> Dict[str, Any]:
        """The run's part of its record."""
        progress = self.progress
        return {
            "epochs_completed": progress.epoch,
            "steps_completed": progress.step,
            "images_trained": progress.images,
            "throughput": self.clock.summary(),
            "train": {"loss": progress.loss, "top1": progress.top1, "top5": progress.top5},
            "best": {"epoch": progress.best_epoch, "top1": progress.best_top1},
            **self._history.record(),
        }
