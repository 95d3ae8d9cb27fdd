"""The command line of this half: the common options, and those of ImageNet networks. No torch is needed to read it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from shared import recipes
from shared.cli import old_command
from shared.cli.arguments import CommonConfig, Parser, common_parser, number, one_of, whole_numbers
from shared.errors import UsageError
from shared.imagenet.download_cache import DEFAULT_GIB, ShardCache, is_url, make_cache
from shared.prediction.options import add_options
from shared.prediction.output import FORMATS
from shared.recipes.imagenet import DECAYED, NORMALISATIONS, SMOOTHING
from shared.system.paths import anywhere, expanded
from shared.text import nearest
from torch_imagenet.devices import npu_options
from torch_imagenet.devices.npu_options import NpuSettings
from torch_imagenet.networks.registry import NETWORKS

MEMORY_FORMATS = ("channels_last", "contiguous")
GROUPED_CONV = ("native", "dense", "split")
EXPORT_FORMATS = ("onnx", "torch")
PRECISIONS = ("O0", "O1", "O2", "bf16")
FORM = ("zero_pad", "normalisation")  # what must be as the weights of a network were trained
MODES = tuple("train evaluate predict finetune benchmark profile check-port check-data summary export".split())


@dataclass(frozen=True)
class RunConfig(CommonConfig):
    """The command line, parsed once; what follows from a checkpoint or from the devices is a `replace`d copy."""

    argv: Tuple[str, ...]  # as it was typed, to start other processes with
    # The network.
    num_classes: Optional[int]
    image_size: Optional[int]
    dropout: Optional[float]
    drop_path: Optional[float]
    auxiliary_weight: Optional[float]
    zero_pad: Optional[bool]
    normalisation: Optional[str]
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
    randaugment: Optional[Tuple[int, ...]]
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
    # Predictions.
    images: Optional[Tuple[str, ...]]
    top_k: Optional[int]
    grad_cam: Optional[str]
    format: Optional[str]
    # Device and speed.
    memory_format: Optional[str]
    grouped_conv: str
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
    msprobe: Optional[str]
    # The mode export.
    output: Optional[str]
    with_preprocessing: Optional[str]

    @classmethod
    def from_argv(cls, argv: Optional[Sequence[str]] = None) -> RunConfig:
        """Parse a command line, by default this process's. Raises UsageError."""
        command = old_command.read(parser(), sys.argv[1:] if argv is None else argv, "torch_imagenet", MODES)
        options = parser().parse_args(command.argv)
        options.command_notes = command.notes
        options.mode = options.mode_flag or options.mode  # the originals' --evaluate and --profile
        formats = {"predict": FORMATS, "export": EXPORT_FORMATS}.get(options.mode, ())
        if options.format and formats and options.format not in formats:
            raise UsageError(f"{options.mode} has no --format {options.format}; {nearest(options.format, formats)}")
        if options.grad_cam and options.mode != "predict":
            raise UsageError(f"--grad-cam {options.grad_cam} is for predict alone; leave it out")
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
    description = "SENet154, SE-ResNet-50 (the default) and PNASNet-5-Large on ImageNet"
    names = recipes.names("torch_imagenet")
    networks = tuple(NETWORKS)
    result = common_parser("torch_imagenet/main.py", description, MODES, networks, names, ("torch",), 10, anywhere)
    _add_recipe(result)
    _add_images(result.add_argument_group("images").add_argument)
    add = result.add_argument_group("predict").add_argument
    add_options(add, EXPORT_FORMATS)
    overlays = "predict: write each image with the regions that speak for its class in colours (Grad-CAM)"
    add("--grad-cam", type=expanded, metavar="DIR", help=overlays)
    _add_machines(result)
    old_command.add_option(result, "torch_imagenet")
    npu_options.add_options(result.add_argument_group("Ascend NPU"))
    add = result.add_argument_group("modes, as the originals' options").add_argument
    add("-e", "--evaluate", dest="mode_flag", action="store_const", const="evaluate", help="the mode evaluate")
    profile = ("--profile", "--prof", "--run-prof")
    add(*profile, dest="mode_flag", action="store_const", const="profile", help="the mode profile")
    add = result.add_argument_group("more files").add_argument
    add("--log-file", "-log", type=expanded, metavar="FILE", help="default: train.log in the output folder")
    add("--original-names", action="store_true", help="also write checkpoint.pth.tar and model_best.pth.tar")
    add(
        "--msprobe",
        type=expanded,
        metavar="DIR",
        help="check-port: write the step as a dump of msProbe; --against reads one",
    )
    add = result.add_argument_group("export: weights as a file for another runtime").add_argument
    add("--output", type=expanded, metavar="FILE", help="to write: FILE.onnx or FILE.pt2 (torch.export)")
    whole = "resize, crop and normalise inside: the file takes uint8 [B, H, W, 3] of any height and width"
    add("--with-preprocessing", action="store_const", const="all", help=whole)
    part = "normalise inside: the file takes uint8 [B, S, S, 3] that is resized and cropped"
    add("--with-normalisation", dest="with_preprocessing", action="store_const", const="normalisation", help=part)
    return result


def _add_recipe(result: Parser) -> None:
    count, share, amount, positive = number(int, 1), number(float, 0, 1), number(float, 0), number(float, 1e-9)
    add = result.add_argument_group("network: each overrides a field of the recipe").add_argument
    add("--num-classes", "--num_classes", type=count, metavar="K", help="default: those of the data set")
    add("--image-size", type=number(int, 32, 4097), metavar="PIXELS", help="its side (default: 224, PNASNet 331)")
    add("--dropout", type=share, metavar="RATE", help="before the head")
    add("--drop-path", type=share, metavar="RATE", help="of the deepest block; rises with depth")
    add("--auxiliary-weight", "--aux-weight", type=amount, metavar="W", help="PNASNet's second head; 0 is off")
    add("--use_aux", dest="auxiliary_weight", action="store_const", const=0.4, help="the documented weight, 0.4")
    add("--zero-pad", action="store_const", const=True, help="PNASNet as published, with zero padding")
    add("--no-zero-pad", dest="zero_pad", action="store_const", const=False, help="PNASNet as documented, without it")
    normalisations = "of the inputs: " + ", ".join(NORMALISATIONS) + " (default: the network's own; none: 0 to 1)"
    add("--normalisation", "--normalization", type=one_of(*NORMALISATIONS), metavar="NAME", help=normalisations)

    add = result.add_argument_group("training of this half: each overrides a field of the recipe").add_argument
    add("--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number, as in 128")
    smoothing = ("--label-smoothing", "--label-smoothing-epsilon", "--label-smoothing-factor", "--ls")
    add(*smoothing, type=share, metavar="E", help="share of the target that goes to other classes")
    add("--smoothing", type=one_of(*SMOOTHING), help="uniform: over all classes; others: over the wrong ones")
    add("--decayed", type=one_of(*DECAYED), help="all: weight decay on every parameter; weights: not on biases, norms")
    add("--nowd-bn", dest="decayed", action="store_const", const="weights", help="the same as --decayed weights")
    add("--wd-all", dest="decayed", action="store_const", const="all", help="the same as --decayed all")
    add("--period", "--lr-step-n", type=count, metavar="N", help="epochs of a step schedule's step")
    add("--factor", "--lr-step-gamma", "--gamma", type=positive, metavar="F", help="of step, exponential")
    add("--minimum", "--lr-cosine-eta-min", type=amount, metavar="RATE", help="where a cosine ends")
    add("--clip-norm", type=positive, metavar="N", help="clip all gradients together to this norm")
    add("--accumulate", type=count, metavar="N", help="batches a step, gradients averaged")
    add("--ema-decay", type=share, metavar="D", help="evaluate an average of the weights, as in 0.9999")
    add("--mixup", type=amount, metavar="ALPHA", help="from torchvision, as are the next two")
    add("--cutmix", type=amount, metavar="ALPHA")
    add("--randaugment", type=whole_numbers, metavar="N,M", help="operations and magnitude, as in 2,9")
    add("--steps-per-epoch", type=count, metavar="N", help="shorten every epoch")
    add("--freeze-body", action="store_const", const=True, help="train the head alone")


def _add_images(add: Callable[..., Any]) -> None:
    add("--on-bad-image", type=one_of("fatal", "skip"), default="fatal", help="fatal (default), or skip and count it")
    add("--eval-batch-size", "--test-batch", type=number(int, 1), metavar="N", help="default: that of training")
    add("--do-not-preserve-aspect-ratio", dest="keep_aspect", action="store_false", help="evaluate squeezed images")
    add("--sort-val", type=expanded, metavar="LIST", help="check-data: sort val/ by valprep.sh or the devkit's list")
    add("--write-shards", type=expanded, metavar="DIR", help="check-data: write tar shards of the images, check those")
    add("--shard-size", type=number(int, 1), default=256, metavar="MIB", help="of a shard, about (default: 256)")
    add("--shard-cache", type=expanded, metavar="DIR", help="for shards of a URL (default: in the user's cache)")
    size = f"how much is kept there (default: {DEFAULT_GIB:g})"
    add("--shard-cache-size", type=number(float, 0), default=DEFAULT_GIB, metavar="GIB", help=size)


def _add_machines(result: Parser) -> None:
    add = result.add_argument_group("device and speed").add_argument
    levels = "the same as --precision: " + ", ".join(PRECISIONS) + " (on a CPU O0 unless given)"
    add("--opt-level", dest="precision", metavar="LEVEL", help=levels)
    add("--amp", dest="precision", action="store_const", const="O2", help="the same as --precision O2")
    grouped_conv = "how SENet154's grouped convolutions are computed, the same function: " + ", ".join(GROUPED_CONV)
    add("--grouped-conv", type=one_of(*GROUPED_CONV), default="native", help=grouped_conv)
    add("--memory-format", type=one_of(*MEMORY_FORMATS), help=", ".join(MEMORY_FORMATS) + " (default: by network)")
    add("--compile", action="store_true", help="compile the network with torch.compile")

    add = result.add_argument_group("several devices").add_argument
    add("--nnodes", type=number(int, 1), metavar="N", help="machines; the same command on each (default: 1)")
    add("--node-rank", "--node_rank", type=number(int, 0), metavar="K", help="this machine's number, from 0")
    add("--master-addr", "--master_addr", "--addr", metavar="HOST", help="address of machine 0")
    add("--master-port", "--master_port", type=number(int, 1, 2**16), metavar="PORT", help="there (default: 29500)")
    add("--local-addr", "--local_addr", metavar="HOST", help="this machine's own address, where it has several")
    add("--local-rank", "--local_rank", type=number(int, 0), metavar="K", help="torch.distributed.launch passes it")
    restarts = "start again from the last checkpoint after a failure, N times at most (default: 0)"
    add("--max-restarts", type=number(int, 0), default=0, metavar="N", help=restarts)
    timeout = "how long to wait for another process, a data worker too (default: 600)"
    add("--timeout", type=number(float, 1), default=600.0, metavar="SECONDS", help=timeout)
    add("--scale-learning-rate", action="store_true", help="in proportion to the images of a step (Goyal et al. 2017)")
    add("--sync-bn", action="store_true", help="batch normalisation over all devices' images; not on a CPU")
    add("--no-affinity", dest="affinity", action="store_false", help="do not bind processes to their share of cores")


def shard_cache(config: RunConfig, path: str) -> Optional[ShardCache]:
    """Where shards of the data set are kept; None for one that is on this machine."""
    return make_cache(config.shard_cache, config.shard_cache_size) if is_url(path) else None


def workers(config: RunConfig, cpus: Optional[int] = None) -> int:
    """Processes that decode images: --workers, else one for each of `cpus` (default: this process's), 16 at most."""
    if cpus is None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return config.workers or min(cpus, 16)
