"""The lines of train.log in the form of the originals' (SENet154's), which their users' scripts read."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from shared.metrics import Metrics
from shared.run.loop import Run

RULE = "-" * 40


def step_line(run: Run, rate: float, speed: Dict[str, Any]) -> str:
    """The step that was read last; `speed` is the throughput since the line before it."""
    assert run.last is not None
    loss, correct, correct5, images = run.last
    parts = []
    if speed:
        parts = [f"Time: {speed['step_ms_p50'] / 1000:.3f}", f"FPS: {speed['images_per_second']:.3f}"]
    parts += [f"Loss: {loss:.4f}", f"Acc@1: {100 * correct / images:.1f}", f"Acc@5: {100 * correct5 / images:.1f}"]
    if "data_wait_share" in speed:
        parts.append(f"Data: {100 * speed['data_wait_share']:.1f}%")
    progress = run.progress
    return f"E{progress.epoch + 1}-B{progress.step_in_epoch}/{run.plan.steps_per_epoch}\t\t" + "\t".join(parts)


def epoch_line(epoch: int, speed: Dict[str, Any]) -> str:
    """The training of an epoch, one-based."""
    seconds = speed["step_ms_p50"] / 1000
    return f"Training Epoch #{epoch}:\tAvg. Batch time: {seconds:.3f}\tAvg. FPS: {speed['images_per_second']:.3f}\t"


def evaluation_lines(metrics: Metrics, epoch: Optional[int] = None) -> List[str]:
    """An evaluation at the end of a one-based epoch, or by itself."""
    head = "" if epoch is None else f"Validation Epoch #{epoch}:\t"
    return [RULE, f"{head}Avg. Acc@1: {metrics.top1:.3f}\tAvg. Acc@5: {metrics.top5:.3f}", RULE]
