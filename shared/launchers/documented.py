"""The originals' scripts as data: a mode, a number of devices, and the options of each network.

Epochs, steps and log frequency are those of the scripts, or of the nearest one where a network's original has no such
script. What the recipe sets (learning rate, batch size, epochs of a full training) is not repeated here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping


@dataclass(frozen=True)
class Launcher:
    """One documented script. `suffix` ends its CaseName; `suffixes` has the networks that document another."""

    title: str
    devices: int
    suffix: str
    networks: Mapping[str, str]  # options of main.py by network; the first is the default
    mode: str = "train"
    suffixes: Mapping[str, str] = field(default_factory=dict)
    several_machines: bool = False  # its --batch_size is documented as the global one
    environment: Mapping[str, str] = field(default_factory=dict)  # on an NPU

    @property
    def needs_checkpoint(self) -> bool:
        """Whether it starts from the trained weights named by --resume."""
        return self.mode != "train"


def _networks(se_resnet50: str, senet154: str, pnasnet5large: str) -> Dict[str, str]:
    caffe = f"{se_resnet50} --network se_resnet50_caffe"
    names = ("se_resnet50", "se_resnet50_caffe", "senet154", "pnasnet5large")
    return dict(zip(names, (se_resnet50, caffe, senet154, pnasnet5large)))


# SE-ResNet-50's scripts print every step; SENet154's for 8 devices every 100th.
_ONE_DEVICE = _networks(
    "--recipe se_resnet50_1p --print-freq 1", "--recipe senet154_1p --epochs 1", "--recipe pnasnet5large_1p"
)
_EIGHT_DEVICES = _networks(
    "--recipe se_resnet50_8p --print-freq 1", "--recipe senet154_cosine --print-freq 100", "--recipe pnasnet5large_8p"
)
_EIGHT_DEVICES_SHORT = _networks(
    "--recipe se_resnet50_8p --epochs 2 --print-freq 1",
    "--recipe senet154_cosine --epochs 3 --print-freq 100",
    "--recipe pnasnet5large_8p --epochs 1 --steps-per-epoch 1000",
)
_FROM_CHECKPOINT = _networks("", "", "")  # the checkpoint and main.py know the recipe

_IMAGENET = {
    "train_full_1p": Launcher("trains on one device, for the accuracy", 1, "acc", _ONE_DEVICE),
    "train_performance_1p": Launcher("trains on one device, for the throughput", 1, "perf", _ONE_DEVICE),
    "train_full_8p": Launcher("trains on eight devices to the end, for the accuracy", 8, "acc", _EIGHT_DEVICES),
    "train_performance_8p": Launcher(
        "trains on eight devices for a short time, for the throughput", 8, "perf", _EIGHT_DEVICES_SHORT
    ),
    "train_eval_8p": Launcher(
        "evaluates the checkpoint that --resume names on eight devices",
        8,
        "eval",
        _FROM_CHECKPOINT,
        mode="evaluate",
        suffixes={"pnasnet5large": "acc"},
    ),
    "train_finetune_1p": Launcher(
        "trains the weights that --resume names further on one device", 1, "acc", _FROM_CHECKPOINT, "finetune"
    ),
    "train_performance_multinodes": Launcher(
        "trains on several machines for a short time, for the throughput; start it on each",
        8,
        "perf",
        _EIGHT_DEVICES_SHORT,
        several_machines=True,
    ),
}

# The device's own recipe has the 160 epochs; a performance run is documented as ten steps.
_TEN_STEPS = {"se_resnet110": "--epochs 1 --steps-per-epoch 10 --print-freq 1"}
_CIFAR = {
    "train_full_1p": Launcher("trains on one device, for the accuracy", 1, "acc", {"se_resnet110": ""}),
    "train_performance_1p": Launcher("trains ten steps on one device, for the throughput", 1, "perf", _TEN_STEPS),
    "train_RT2_performance_1p": Launcher(
        "trains ten steps on one device with the second runtime of CANN, for the throughput",
        1,
        "RT2_perf",
        _TEN_STEPS,
        environment={"ENABLE_RUNTIME_V2": "1"},
    ),
}

LAUNCHERS: Mapping[str, Mapping[str, Launcher]] = {"torch_imagenet": _IMAGENET, "tf_seresnet": _CIFAR}

# Options that an original's --help names but its scripts never read, with the options that work here.
NEVER_READ: Mapping[str, Mapping[str, str]] = {
    "tf_seresnet": {
        "--precision_mode": "--precision O1, or --npu-option precision_mode=MODE",
        "--over_dump": "--npu-option enable_dump_debug=true --npu-option dump_path=DIR",
        "--data_dump_flag": "--npu-option enable_dump=true --npu-option dump_path=DIR",
        "--data_dump_step": "--npu-option dump_step=STEPS",
        "--profiling": "--npu-option profiling_mode=true",
    }
}
