"""The command line of this half: the common options, and those of ImageNet networks. No torch is needed to read it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Sequence, Tuple

from shared import recipes
from shared.cli.arguments import CommonConfig, Parser, common_parser, number, one_of
from shared.imagenet.download_cache import DEFAULT_GIB, ShardCache, is_url, make_cache
from shared.recipes.imagenet import DECAYED, SMOOTHING
from shared.system.paths import expanded
from torch_imagenet.devices import npu_options
from torch_imagenet.devices.npu_options import NpuSettings
from torch_imagenet.networks.registry import NETWORKS

DESCRIPTION = "SENet154, SE-ResNet-50 (the default) and PNASNet-5-Large on ImageNet"
ON_BAD_IMAGE = ("fatal", "skip")
MEMORY_FORMATS = ("channels_last", "contiguous")
PRECISIONS = ("O0", "O1", "O2", "bf16")

MODES = ("train", "evaluate", "finetune", "benchmark", "profile", "check-data", "summary")


@dataclass(frozen=True)
class RunConfig(CommonConfig):
    """The command line, parsed once: the common options and those of this half.

    What follows from a checkpoint or from the devices is a `replace`d copy.
    """

    argv: Tuple[str, ...]  # as it was typed, to start other processes with
    # The network.
    num_classes: Optional[int]
    image_size: Optional[int]
    dropout: Optional[float]
    drop_path: Optional[float]
    auxiliary_weight: Optional[float]
    zero_pad: Optional[bool]
    # Training of this half.
    loss_scale: Optional[str]
    label_smoothing: Optional[float]
    smoothing: Optional[str]
    decayed: Optional[str]
    period: Optional[int]
    factor: Optional[float]
    minimum: Optional[float]
    clip_norm: Optional[float]
    accumulate: Optional[int]
    ema_decay: Optional[float]
    mixup: Optional[float]
    cutmix: Optional[float]
    randaugment: Optional[Tuple[int, int]]
    steps_per_epoch: Optional[int]
    freeze_body: Optional[bool]
    # Images.
    on_bad_image: str
    eval_batch_size: Optional[int]
    keep_aspect: bool
    sort_val: Optional[str]
    write_shards: Optional[str]
    shard_size: int
    shard_cache: Optional[str]
    shard_cache_size: float
    # Device and speed.
    memory_format: Optional[str]
    compile: bool
    # Several devices.
    nnodes: Optional[int]
    node_rank: Optional[int]
    master_addr: Optional[str]
    master_port: Optional[int]
    local_addr: Optional[str]
    local_rank: Optional[int]
    max_restarts: int
    timeout: float
    scale_learning_rate: bool
    sync_bn: bool
    affinity: bool
    # Ascend NPU.
    npu_fused_sgd: bool
    npu_jit_compile: bool
    npu_internal_format: bool
    # More files.
    log_file: Optional[str]
    original_names: bool

    @classmethod
    def from_argv(cls, argv: Optional[Sequence[str]] = None) -> RunConfig:
        """Parse a command line, by default this process's. Raises UsageError."""
        options = parser().parse_args(argv)
        options.mode = options.mode_flag or options.mode  # the originals' --evaluate and --profile
        options.argv = tuple(sys.argv[1:] if argv is None else argv)
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    @property
    def npu(self) -> NpuSettings:
        """What only an Ascend NPU has."""
        return NpuSettings(self.npu_fused_sgd, self.npu_jit_compile, self.npu_internal_format)

    def to_json(self) -> Dict[str, Any]:
        """As `CommonConfig.to_json`, without `argv`, which config.json has as its command."""
        return {name: value for name, value in super().to_json().items() if name != "argv"}


def parser() -> Parser:
    """All options; those that the recipe has a field for are None unless given."""
    made = common_parser(
        "torch_imagenet/main.py",
        DESCRIPTION,
        MODES,
        tuple(NETWORKS),
        recipes.names("torch_imagenet"),
        ("torch",),
        print_freq=10,
    )
    _add_network(made.add_argument_group("network: each overrides a field of the recipe"))
    _add_regularisation(made.add_argument_group("training of this half: each overrides a field of the recipe"))
    _add_data(made.add_argument_group("images"))
    _add_machine(made.add_argument_group("device and speed"))
    _add_several(made.add_argument_group("several devices"))
    npu_options.add_options(made.add_argument_group("Ascend NPU"))
    _add_modes(made.add_argument_group("modes, as the originals' options"))
    _add_files(made.add_argument_group("more files"))
    return made


def pair(text: str) -> Tuple[int, int]:
    """An argparse type: "2,9" to (2, 9)."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} does not fit; write operations and magnitude, as in 2,9")
    return int(parts[0]), int(parts[1])


def _add_network(group: Any) -> None:
    add = group.add_argument
    add("--num-classes", "--num_classes", type=number(int, 1), metavar="K", help="default: those of the data set")
    add(
        "--image-size",
        type=number(int, 32, 4097),
        metavar="PIXELS",
        help="side of the square (default: 224, PNASNet 331)",
    )
    add("--dropout", type=number(float, 0, 1), metavar="RATE", help="before the head")
    add("--drop-path", type=number(float, 0, 1), metavar="RATE", help="of the deepest block; rises with depth")
    add(
        "--auxiliary-weight", "--aux-weight", type=number(float, 0), metavar="W", help="PNASNet's second head; 0 is off"
    )
    add("--use_aux", dest="auxiliary_weight", action="store_const", const=0.4, help="the documented weight, 0.4")
    add("--no-zero-pad", dest="zero_pad", action="store_const", const=False, help="PNASNet as ported, without padding")


def _add_regularisation(group: Any) -> None:
    add = group.add_argument
    add("--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number, as in 128")
    add(
        "--label-smoothing",
        "--label-smoothing-epsilon",
        "--label-smoothing-factor",
        "--ls",
        type=number(float, 0, 1),
        metavar="E",
        help="share of the target that goes to other classes",
    )
    add("--smoothing", type=one_of(*SMOOTHING), help="uniform: over all classes; others: over the wrong ones")
    add("--decayed", type=one_of(*DECAYED), help="all: weight decay on every parameter; weights: not on biases, norms")
    add("--nowd-bn", dest="decayed", action="store_const", const="weights", help="the same as --decayed weights")
    add("--wd-all", dest="decayed", action="store_const", const="all", help="the same as --decayed all")
    add("--period", "--lr-step-n", type=number(int, 1), metavar="N", help="epochs of a step schedule's step")
    add("--factor", "--lr-step-gamma", "--gamma", type=number(float, 1e-9), metavar="F", help="of step, exponential")
    add("--minimum", "--lr-cosine-eta-min", type=number(float, 0), metavar="RATE", help="where a cosine ends")
    add("--clip-norm", type=number(float, 1e-9), metavar="N", help="clip all gradients together to this norm")
    add("--accumulate", type=number(int, 1), metavar="N", help="batches a step, gradients averaged")
    add("--ema-decay", type=number(float, 0, 1), metavar="D", help="evaluate an average of the weights, as in 0.9999")
    add("--mixup", type=number(float, 0), metavar="ALPHA", help="needs torchvision, as do the next two")
    add("--cutmix", type=number(float, 0), metavar="ALPHA")
    add("--randaugment", type=pair, metavar="N,M", help="operations and magnitude, as in 2,9")
    add("--steps-per-epoch", type=number(int, 1), metavar="N", help="shorten every epoch")
    add("--freeze-body", action="store_const", const=True, help="train the head alone")


def _add_data(group: Any) -> None:
    add = group.add_argument
    on_bad_image = "fatal (default), or skip: leave it out, name it and count it"
    add("--on-bad-image", type=one_of(*ON_BAD_IMAGE), default="fatal", help=on_bad_image)
    add("--eval-batch-size", "--test-batch", type=number(int, 1), metavar="N", help="default: that of training")
    squeezed = "evaluate on images squeezed to a square"
    add("--do-not-preserve-aspect-ratio", dest="keep_aspect", action="store_false", help=squeezed)
    sort_val = "check-data: sort val/ into class folders; valprep.sh, or the devkit's list"
    add("--sort-val", type=expanded, metavar="LIST", help=sort_val)
    write_shards = "check-data: write the images as tar shards, and check those"
    add("--write-shards", type=expanded, metavar="DIR", help=write_shards)
    add("--shard-size", type=number(int, 1), default=256, metavar="MIB", help="of a shard, about (default: 256)")
    cache = "where shards of a URL are kept (default: in the user's cache)"
    add("--shard-cache", type=expanded, metavar="DIR", help=cache)
    size = f"how much is kept there (default: {DEFAULT_GIB:g})"
    add("--shard-cache-size", type=number(float, 0), default=DEFAULT_GIB, metavar="GIB", help=size)


def _add_machine(group: Any) -> None:
    add = group.add_argument
    levels = "the same as --precision: " + ", ".join(PRECISIONS) + " (on a CPU O0 unless given)"
    add("--opt-level", dest="precision", metavar="LEVEL", help=levels)
    add("--amp", dest="precision", action="store_const", const="O2", help="the same as --precision O2")
    add("--memory-format", type=one_of(*MEMORY_FORMATS), help=", ".join(MEMORY_FORMATS) + " (default: by network)")
    add("--compile", action="store_true", help="compile the network with torch.compile")


def _add_several(group: Any) -> None:
    add = group.add_argument
    add("--nnodes", type=number(int, 1), metavar="N", help="machines; the same command on each (default: 1)")
    add("--node-rank", "--node_rank", type=number(int, 0), metavar="K", help="this machine's number, from 0")
    add("--master-addr", "--master_addr", "--addr", metavar="HOST", help="address of machine 0")
    add("--master-port", "--master_port", type=number(int, 1, 2**16), metavar="PORT", help="there (default: 29500)")
    add("--local-addr", "--local_addr", metavar="HOST", help="this machine's own address, where it has several")
    local_rank = "what torch.distributed.launch passes; with torchrun leave it out"
    add("--local-rank", "--local_rank", type=number(int, 0), metavar="K", help=local_rank)
    restarts = "start again from the last checkpoint after a failure, N times at most (default: 0)"
    add("--max-restarts", type=number(int, 0), default=0, metavar="N", help=restarts)
    timeout = "how long to wait for another process, a data worker too (default: 600)"
    add("--timeout", type=number(float, 1), default=600.0, metavar="SECONDS", help=timeout)
    add("--scale-learning-rate", action="store_true", help="in proportion to the images of a step (Goyal et al. 2017)")
    add("--sync-bn", action="store_true", help="batch normalisation over all devices' images; not on a CPU")
    add("--no-affinity", dest="affinity", action="store_false", help="do not bind processes to their share of cores")


def _add_modes(group: Any) -> None:
    add = group.add_argument
    add("-e", "--evaluate", dest="mode_flag", action="store_const", const="evaluate", help="the mode evaluate")
    profile = ("--profile", "--prof", "--run-prof")
    add(*profile, dest="mode_flag", action="store_const", const="profile", help="the mode profile")


def _add_files(group: Any) -> None:
    add = group.add_argument
    log_file = "the text log (default: train.log in the output folder)"
    add("--log-file", "-log", type=expanded, metavar="FILE", help=log_file)
    add("--original-names", action="store_true", help="also write checkpoint.pth.tar and model_best.pth.tar")


def shard_cache(config: RunConfig, path: str) -> Optional[ShardCache]:
    """Where shards of the data set are kept; None for one that is on this machine."""
    return make_cache(config.shard_cache, config.shard_cache_size) if is_url(path) else None


def patience(config: RunConfig, ranks: int) -> float:
    """Seconds in which a data worker must have given a batch: --timeout; among ranks less, so that it is told of before
    the others give this one up.
    """
    return config.timeout * (0.9 if ranks > 1 else 1.0)


def workers(config: RunConfig, cpus: Optional[int] = None) -> int:
    """Processes that decode images: --workers, else one for each of `cpus` (default: this process's), 16 at most."""
    if cpus is None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return config.workers or min(cpus, 16)
