"""The result file of a documented launcher: ten fields as `key = value`, from a run's record and its events.

The originals extract them from their logs with grep and awk; docs/launchers.md lists what that got wrong. Accuracies
are percent and TrainingTime is milliseconds in both halves. A field that the run does not have is None, never 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from shared.errors import UsageError

# The originals' names. Only SE-ResNet-50 has the global batch size in BatchSize and CaseName.
NETWORKS = {
    "senet154": "SENet154",
    "se_resnet50": "SE_Resnet50",
    "se_resnet50_caffe": "SE_Resnet50_caffe",
    "pnasnet5large": "PnasNet5Large",
}
_CIFAR = "senet_ID0145_for_TensorFlow"
# The lines that the originals print at the end of a launcher.
CONSOLE = """\
------------------ Final result ------------------
Final Performance images/sec : {ActualFPS}
Final Train Accuracy : {TrainAccuracy}
E2E Training Duration sec : {E2ETrainingTime}"""


def fields(record: Mapping[str, Any], losses: List[float], suffix: str, machine: str, seconds: float) -> Dict[str, str]:
    """The ten fields, in the documented order; CaseName is of the actual run, as in SENet154_bs128_8p_acc.

    `losses` are those of `logged_losses`; an evaluation has none, and ActualLoss is its own loss. `machine` is the
    architecture of `uname -m`, `seconds` the wall time of the launcher.
    """
    name = _CIFAR if record["half"] == "tf_seresnet" else NETWORKS.get(record["network"], record["network"])
    devices, batch_size = record["device"]["count"], record["batch_size"]
    if name.startswith("SE_Resnet50"):
        batch_size = record.get("global_batch_size", batch_size * devices)  # an evaluation has none
    rate = record.get("throughput", {}).get("images_per_second")
    evaluation = record.get("evaluation", {})
    loss = losses[-1] if losses else evaluation.get("loss") if record["mode"] == "evaluate" else None
    return {
        "Network": name,
        "RankSize": str(devices),
        "BatchSize": str(batch_size),
        "DeviceType": machine,
        "CaseName": f"{name}_bs{batch_size}_{devices}p_{suffix}",
        "ActualFPS": _decimals(rate, 3),
        "TrainingTime": _decimals(1000 * record["global_batch_size"] / rate if rate else None, 2),
        "TrainAccuracy": _decimals(evaluation.get("top1"), 3),
        "ActualLoss": _decimals(loss, 6),
        "E2ETrainingTime": _decimals(seconds, 1),
    }


def _decimals(value: Optional[float], places: int) -> str:
    """None is the originals' text for a number that was not measured."""
    return "None" if value is None else f"{value:.{places}f}"


def logged_losses(events: Path) -> List[float]:
    """The training loss of each logged step in nats, without those that are not numbers.

    Raises UsageError if the file cannot be read.
    """
    try:
        lines = events.read_text(encoding="utf-8").splitlines()
        steps = [event for event in map(json.loads, lines) if event["event"] == "step"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"cannot read {events} ({error}); start the launcher again") from error
    return [float(event["step_loss"]) for event in steps if event["step_loss"] is not None]
