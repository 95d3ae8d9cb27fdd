"""The result file of a documented launcher: ten fields as `key = value`, from a run's record and its events.

    Network, RankSize, BatchSize, DeviceType, CaseName, ActualFPS, TrainingTime, TrainAccuracy, ActualLoss,
    E2ETrainingTime

The originals extract them from their logs with grep and awk; docs/launchers.md lists what that got wrong. Accuracies
are percent and TrainingTime is milliseconds in both halves. A field that the run does not have is None, never 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from shared.errors import UsageError

NONE = "None"  # the originals' text for a number that was not measured
# The originals' names. Only SE-ResNet-50 has the global batch size in BatchSize and CaseName.
NETWORKS = {
    "senet154": "SENet154",
    "se_resnet50": "SE_Resnet50",
    "se_resnet50_caffe": "SE_Resnet50_caffe",
    "pnasnet5large": "PnasNet5Large",
}
_GLOBAL_BATCH = ("se_resnet50", "se_resnet50_caffe")
_CIFAR = "senet_ID0145_for_TensorFlow"


def case_name(record: Mapping[str, Any], suffix: str) -> str:
    """As in SENet154_bs128_8p_acc, with the network, batch size and number of devices of the run."""
    return f"{_network(record)}_bs{_batch_size(record)}_{record['device']['count']}p_{suffix}"


def fields(record: Mapping[str, Any], losses: List[float], suffix: str, machine: str, seconds: float) -> Dict[str, str]:
    """The ten fields, in the documented order.

    `losses` are those of `logged_losses`; an evaluation has none, and ActualLoss is its own loss. `machine` is the
    architecture of `uname -m`, `seconds` the wall time of the launcher.
    """
    rate = record.get("throughput", {}).get("images_per_second")
    evaluation = record.get("evaluation", {})
    loss = losses[-1] if losses else evaluation.get("loss") if record["mode"] == "evaluate" else None
    return {
        "Network": _network(record),
        "RankSize": str(record["device"]["count"]),
        "BatchSize": str(_batch_size(record)),
        "DeviceType": machine,
        "CaseName": case_name(record, suffix),
        "ActualFPS": _decimals(rate, 3),
        "TrainingTime": _decimals(1000 * record["global_batch_size"] / rate if rate else None, 2),
        "TrainAccuracy": _decimals(evaluation.get("top1"), 3),
        "ActualLoss": _decimals(loss, 6),
        "E2ETrainingTime": _decimals(seconds, 1),
    }


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


def console_lines(values: Mapping[str, str]) -> List[str]:
    """The lines that the originals print at the end of a launcher."""
    return [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {values['ActualFPS']}",
        f"Final Train Accuracy : {values['TrainAccuracy']}",
        f"E2E Training Duration sec : {values['E2ETrainingTime']}",
    ]


def text(values: Mapping[str, str]) -> str:
    """The content of <CaseName>.log."""
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def _network(record: Mapping[str, Any]) -> str:
    return _CIFAR if record["half"] == "tf_seresnet" else NETWORKS.get(record["network"], record["network"])


def _batch_size(record: Mapping[str, Any]) -> int:
    each = int(record["batch_size"])
    if record["network"] not in _GLOBAL_BATCH:
        return each
    return int(record.get("global_batch_size", each * record["device"]["count"]))  # an evaluation has none


def _decimals(value: Optional[float], places: int) -> str:
    return NONE if value is None else f"{value:.{places}f}"
