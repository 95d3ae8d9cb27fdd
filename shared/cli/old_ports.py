"""The command lines of the four old ports' programs as data, for `shared.cli.old_command`.

Only options that mean another thing here, or that are not here, are listed: the others are read as ours. `defaults` are
what a program used where an option was not given. Sources: the documents of SENet154 (train.py), SE-ResNet-50
(main.py), PNASNet-5-Large (imagenet_fast.py) and SE-ResNet-110 for TensorFlow (run_npu.py), and these programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple


@dataclass(frozen=True)
class OldOption:
    """An option of an old program: its spellings, and whether it takes no value (""), "one" or "many".

    `becomes` is ours, with {} for the value; "" is worked out together with others. None: left out because of `why`.
    `refused` says what to do where it cannot be carried over.
    """

    spellings: Tuple[str, ...]
    values: str = "one"
    becomes: Optional[str] = None
    why: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Port:
    """The program of an old port."""

    title: str
    half: str
    defaults: str  # of the program, as our options
    options: Tuple[OldOption, ...]
    device: str = ""
    numbers: bool = True  # whether its rank names the device of a single process
    several: str = ""  # the option that asks for several devices; "always"; "" for one device
    count: Tuple[str, int] = ("", 1)  # the option that says how many, and its default
    rank: str = ""  # the option that says which of them this process is
    master_port: int = 0  # where its processes met
    batch: Optional[int] = None  # images of all devices, where that is what --batch-size means
    amp: bool = False  # float32 without --amp
    folder: bool = False  # the data set is a word without an option
    folder_option: str = ""  # the first spelling of the option for the folder of its files
    numbered: str = ""  # the checkpoint of an epoch
    evaluates: Tuple[str, ...] = ()  # options that ask for the mode evaluate


def _same(spellings: str, values: str = "one") -> OldOption:
    """One that is worked out together with others."""
    return OldOption(tuple(spellings.split()), values, "")


def _no(spellings: str, why: str, values: str = "one") -> OldOption:
    return OldOption(tuple(spellings.split()), values, None, why)


def _refused(spellings: str, instead: str, values: str = "one") -> OldOption:
    return OldOption(tuple(spellings.split()), values, refused=instead)


_NEVER_READ = "the program never read it"
_ITS_EPOCH = "a checkpoint knows its epoch"
_DOWNLOAD = "download the weights and name the file with --checkpoint FILE"

SENET154 = Port(
    "SENet154",
    "torch_imagenet",
    # Period 30 and factor 0.1 are documented; the program has the two swapped.
    "--network senet154 --recipe senet154_step_as_run --epochs 100 --batch-size 256 --learning-rate 0.6"
    " --label-smoothing 0 --workers 8",
    (
        OldOption(("--scheduler", "--lr-scheduler"), "one", "--recipe senet154_{}_as_run"),
        _same("--device"),
        _same("--local_rank --local-rank"),
        _same("--distributed", ""),
        _same("--num-devices"),
        _same("--start-epoch"),
        _same("--resume"),
        _same("--pretrained", ""),
        _same("--debug", ""),
        _same("--eval-from-local --evaluate-from-local", ""),
        OldOption(("--evaluate-model-path",), "one", "--checkpoint {}"),
        _refused("--eval-from-url", _DOWNLOAD, ""),
        _no("--loss-scale", f"{_NEVER_READ}: it is dynamic"),
        _no("--save-freq", "every epoch is saved"),
        _no("--lr-cosine-t-max", "a cosine ends with the epochs"),
    ),
    device="cpu",
    several="--distributed",
    count=("--num-devices", 8),
    rank="--local_rank",
    numbers=False,
    master_port=23333,
    numbered="models/checkpoint-{}.pth.rar",
    evaluates=("--eval-from-local",),
)
SE_RESNET50 = Port(
    "SE-ResNet-50",
    "torch_imagenet",
    "--network se_resnet50 --recipe se_resnet50_8p --epochs 90 --learning-rate 0.1",
    (
        _same("--batch-size -b"),
        _same("--workers -j"),
        _same("--amp", ""),
        _same("--opt-level"),
        _same("--loss-scale"),
        _same("--gpu"),
        _same("--multiprocessing-distributed", ""),
        _same("--world-size"),
        _same("--rank"),
        _same("--device_list"),
        _same("--start-epoch"),
        _same("--device"),
        _same("--addr"),
        _no("--dist-url", "--addr and port 29688 were used"),
        _no("--dist-backend", "the device decides"),
        _refused("--pretrained", _DOWNLOAD, ""),
    ),
    device="npu",
    several="--multiprocessing-distributed",
    count=("--num-devices", 8),
    rank="--gpu",
    master_port=29688,
    batch=256,
    amp=True,
    folder=True,
)
_MIXING = "--mixup ALPHA and --cutmix ALPHA work here without --port; the old program failed with them"
PNASNET = Port(
    "PNASNet",
    "torch_imagenet",
    "--network pnasnet5large --recipe pnasnet5large_8p_as_run --no-zero-pad --normalisation none --epochs 100"
    " --batch-size 256 --eval-batch-size 200 --learning-rate 0.1 --weight-decay 1e-4 --warm-up-epochs 5"
    " --auxiliary-weight 0 --workers 4",
    (
        _same("--device"),
        _same("--checkpoint -c"),
        _same("-log"),
        _same("--local_rank"),
        _same("--world_size"),
        _same("--start-epoch"),
        OldOption(("--max_step",), "one", "--steps-per-epoch {}"),
        _no("--label-smoothing --ls", _NEVER_READ),
        _no("--schedule", _NEVER_READ, "many"),
        _no("--gamma", _NEVER_READ),
        _no("--drop", _NEVER_READ),
        _no("--depth", _NEVER_READ),
        _no("--cardinality", _NEVER_READ),
        _no("--base-width", _NEVER_READ),
        _no("--widen-factor", _NEVER_READ),
        _no("--cos", _NEVER_READ, ""),
        _no("--pretrained", _NEVER_READ, ""),
        _no("--keep-batchnorm-fp32", "always on", ""),
        _refused("--mixup", _MIXING, ""),
        _refused("--alpha", _MIXING),
        _refused("--cutmix", _MIXING, ""),
        _refused("--cutmix_prob", _MIXING),
        _refused("--cutout", "no documented row used it; leave it out", ""),
        _refused("--cutout_size", "no documented row used it; leave it out"),
        _refused("--el2", "no documented row used that optimizer; leave it out", ""),
        _refused("--mineps --lam", "no documented row used that optimizer; leave it out"),
        _refused("--nowd-fc --nowd-conv", "--decayed weights, without --port, leaves out biases and norms", ""),
    ),
    device="npu",
    several="always",
    count=("--world_size", 8),
    rank="--local_rank",
    master_port=50001,
    folder_option="--checkpoint",
)
TENSORFLOW = Port(
    "SE-ResNet-110",
    "tf_seresnet",
    "--variant port",
    (_no("--num_class --num_classes", "the data set has its classes"),),
)
PORTS: Mapping[str, Port] = {
    "senet154": SENET154,
    "se_resnet50": SE_RESNET50,
    "pnasnet5large": PNASNET,
    "tf": TENSORFLOW,
}

_PARALLEL = "give --distributed --num-devices N in one command, which starts the processes"
# Options that scripts pass to an old program, refused here without --port: by half, what replaces each.
REPLACED: Mapping[str, Mapping[str, str]] = {
    "torch_imagenet": {
        "--gpu": "give --device npu:N",
        "--dist-url": "give --master-addr and --master-port, for several machines only",
        "--dist-backend": "leave it out, the device decides",
        "--world-size": f"give --nnodes N for machines; {_PARALLEL}",
        "--world_size": _PARALLEL,
        "--rank": "give --node-rank R",
        "--device_list": _PARALLEL,
        "--start-epoch": "give --resume PATH, a checkpoint knows its epoch",
        "-c": "give --output-dir DIR",
        "--num_class": "leave it out, the data set has its classes (or --num-classes K, which checks it)",
        "--save-freq": "leave it out, every epoch is saved",
        "--pretrained": _DOWNLOAD,
        "--eval-from-local": "give the mode evaluate and --checkpoint PATH",
        "--evaluate-from-local": "give the mode evaluate and --checkpoint PATH",
        "--eval-from-url": _DOWNLOAD,
        "--lr-cosine-t-max": "give --epochs N, with which a cosine ends",
        "--debug": "give --steps-per-epoch N",
    },
    "tf_seresnet": {"--num_class": "leave it out, the data set has its classes"},
}
