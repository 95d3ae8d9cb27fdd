"""The command line of this half: the common options, and those of ImageNet networks. No torch is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Sequence, Tuple

from shared import recipes
from shared.cli import command_line, old_command
from shared.cli.arguments import CommonConfig, common_parser
from shared.cli.modes import DATA, NETWORK, RUNNING, SEVERAL, STEPS, TRAINING, Add, ModeParser
from shared.cli.parser import number, one_of, whole_numbers
from shared.imagenet.download_cache import DEFAULT_GIB, ShardCache, is_url, make_cache
from shared.prediction.options import add_options
from shared.recipes.imagenet import NORMALISATIONS, SMOOTHING
from shared.system import processor
from shared.system.paths import anywhere, expanded
from torch_imagenet.devices import npu_options
from torch_imagenet.devices.npu_options import NpuSettings
from torch_imagenet.networks.registry import NETWORKS

MEMORY_FORMATS = ("channels_last", "contiguous")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
GROUPED_CONV = ("native", "dense", "split")
EXPORT_FORMATS = ("onnx", "safetensors", "torch")
DECODERS = ("crop", "pillow")
PRECISIONS = ("O0", "O1", "O2", "bf16", "bf16_weights")
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
    auxiliary_weight: Optional[float]
    zero_pad: Optional[bool]
    normalisation: Optional[str]
    # Training of this half.
    loss_scale: Optional[str]
    smoothing: Optional[str]
    period: Optional[int]
    factor: Optional[float]
    minimum: Optional[float]
    clip_norm: Optional[float]
    accumulate: Optional[int]
    randaugment: Optional[Tuple[int, ...]]
    trivialaugment: Optional[bool]
    erasing: Optional[float]
    steps_per_epoch: Optional[int]
    freeze_body: Optional[bool]
    # Images.
    decoder: Optional[str]
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
    tf32: Optional[bool]
    grouped_conv: str
    compile: Optional[str]
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
        options = command_line.parsed(parser(), argv, "torch_imagenet")
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    @property
    def npu(self) -> NpuSettings:
        """What only an Ascend NPU has."""
        return NpuSettings(self.npu_fused_sgd, self.npu_jit_compile, self.npu_internal_format)

    def to_json(self) -> Dict[str, Any]:
        """As `CommonConfig.to_json`, without `argv`, which config.json has as its command."""
        return {name: value for name, value in super().to_json().items() if name != "argv"}


def parser() -> ModeParser:
    """All options; those that the recipe has a field for are None unless given."""
    description = "SENet154, SE-ResNet-50 (the default) and PNASNet-5-Large on ImageNet"
    names = recipes.names("torch_imagenet")
    networks = tuple(NETWORKS)
    result = common_parser("torch_imagenet/main.py", description, MODES, networks, names, ("torch",), 10, anywhere)
    _add_network(result.options("network", NETWORK))
    _add_training(result.options("training", STEPS))
    _add_images(result.options("data", (*TRAINING, "evaluate", "predict")))
    add_options(result.options("predict", ("predict",)), EXPORT_FORMATS)
    _add_device(result.options("device", RUNNING))
    npu_options.add_options(result.options("device", RUNNING))
    _add_several(result.options("several devices", SEVERAL))
    old_command.add_option(result, "torch_imagenet")
    _add_files(result.options("output"))
    add = result.options("what to run")
    add("-e", "--evaluate", means="evaluate", dest="mode_flag", action="store_const", const="evaluate")
    profile = ("--profile", "--prof", "--run-prof")
    add(*profile, means="profile", dest="mode_flag", action="store_const", const="profile")
    dump = "write the step as a dump of msProbe; --against reads one"
    add = result.options("check-port", ("check-port",))
    add("--msprobe", type=expanded, metavar="DIR", help=dump)
    return result


def _add_network(add: Add) -> None:
    count, share, amount = number(int, 1), number(float, 0, 1), number(float, 0)
    random, normalised = (*TRAINING, "benchmark", "profile"), (*RUNNING, "export")
    add("--num-classes", "--num_classes", type=count, metavar="K", help="default: those of the data set")
    add("--image-size", type=number(int, 32, 4097), metavar="PIXELS", help="its side (default: 224, PNASNet 331)")
    add("--dropout", modes=random, type=share, metavar="RATE", help="before the head")
    second, auxiliary = "PNASNet's second head; 0 is off", ("--auxiliary-weight", "--aux-weight")
    with_second = (*STEPS, "summary")
    add(*auxiliary, modes=with_second, type=amount, metavar="W", help=second)
    weight: Dict[str, Any] = {"dest": "auxiliary_weight", "action": "store_const", "const": 0.4}
    add("--use_aux", means="--auxiliary-weight 0.4", modes=with_second, **weight)
    add("--zero-pad", action="store_const", const=True, help="PNASNet as published, with zero padding")
    add("--no-zero-pad", dest="zero_pad", action="store_const", const=False, help="PNASNet as documented, without it")
    normalisations = "of the inputs: " + ", ".join(NORMALISATIONS) + " (default: the network's own; none: 0 to 1)"
    spellings = ("--normalisation", "--normalization")
    add(*spellings, modes=normalised, type=one_of(*NORMALISATIONS), metavar="NAME", help=normalisations)


def _add_training(add: Add) -> None:
    count, amount, positive = number(int, 1), number(float, 0), number(float, 1e-9)
    mixed, schedule = (*TRAINING, "benchmark", "profile"), (*TRAINING, "check-port")
    add("--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number, as in 128")
    add("--smoothing", type=one_of(*SMOOTHING), help="uniform: over all classes; others: over the wrong ones")
    add("--nowd-bn", means="--decayed weights", dest="decayed", action="store_const", const="weights")
    add("--wd-all", means="--decayed all", dest="decayed", action="store_const", const="all")
    add("--period", "--lr-step-n", modes=schedule, type=count, metavar="N", help="epochs of a step schedule's step")
    factor = ("--factor", "--lr-step-gamma", "--gamma")
    add(*factor, modes=schedule, type=positive, metavar="F", help="of step, exponential")
    add("--minimum", "--lr-cosine-eta-min", modes=schedule, type=amount, metavar="RATE", help="where a cosine ends")
    add("--clip-norm", type=positive, metavar="N", help="clip all gradients together to this norm")
    add("--accumulate", modes=mixed, type=count, metavar="N", help="batches a step, gradients averaged")
    operations = "operations and magnitude, as in 2,9; torchvision's, as MixUp and CutMix are"
    add("--randaugment", modes=schedule, type=whole_numbers, metavar="N,M", help=operations)
    trivial = "an operation of any strength for each image; torchvision's"
    add("--trivialaugment", modes=TRAINING, action="store_const", const=True, help=trivial)
    without: Dict[str, Any] = {"dest": "trivialaugment", "action": "store_const", "const": False}
    add("--no-trivialaugment", modes=TRAINING, help="where the recipe has it", **without)
    erased = "probability of a rectangle of zeros, the mean colour; torchvision's"
    add("--erasing", modes=mixed, type=amount, metavar="P", help=erased)
    add("--steps-per-epoch", modes=TRAINING, type=count, metavar="N", help="shorten every epoch")
    add("--freeze-body", action="store_const", const=True, help="train the head alone")
    proportion = "in proportion to the images of a step (Goyal et al. 2017)"
    add("--scale-learning-rate", action="store_true", help=proportion)


def _add_images(add: Add) -> None:
    unreadable, decoding = "fatal (default), or skip and count it", (*TRAINING, "evaluate", "predict", "check-port")
    add("--on-bad-image", modes=decoding, type=one_of("fatal", "skip"), default="fatal", help=unreadable)
    decoder = "of JPEGs: crop decodes what is needed, with Pillow's pixels (default: where it can be compiled)"
    reading = (*TRAINING, "evaluate", "check-port")
    add("--decoder", modes=reading, type=one_of(*DECODERS), metavar="NAME", help=decoder)
    add("--eval-batch-size", "--test-batch", type=number(int, 1), metavar="N", help="default: that of training")
    add("--do-not-preserve-aspect-ratio", dest="keep_aspect", action="store_false", help="evaluate squeezed images")
    checked = ("check-data",)
    add("--sort-val", modes=checked, type=expanded, metavar="LIST", help="sort val/ by valprep.sh or the devkit's list")
    shards = "write tar shards of the images, check those"
    add("--write-shards", modes=checked, type=expanded, metavar="DIR", help=shards)
    size = "of a shard, about (default: 256)"
    add("--shard-size", modes=checked, type=number(int, 1), default=256, metavar="MIB", help=size)
    cache = "for shards of a URL (default: in the user's cache)"
    add("--shard-cache", modes=DATA, type=expanded, metavar="DIR", help=cache)
    kept, limit = f"how much is kept there (default: {DEFAULT_GIB:g})", number(float, 0)
    add("--shard-cache-size", modes=DATA, type=limit, default=DEFAULT_GIB, metavar="GIB", help=kept)


def _add_device(add: Add) -> None:
    levels = ", ".join(PRECISIONS) + " (on a CPU O0 unless given)"
    add("--opt-level", means="--precision", modes=NETWORK, dest="precision", metavar="LEVEL", help=levels)
    add("--amp", means="--precision O2", modes=NETWORK, dest="precision", action="store_const", const="O2")
    grouped_conv = "how SENet154's grouped convolutions are computed, the same function: " + ", ".join(GROUPED_CONV)
    forms = one_of(*GROUPED_CONV)
    add("--grouped-conv", modes=(*RUNNING, "export"), type=forms, default="native", help=grouped_conv)
    add("--memory-format", type=one_of(*MEMORY_FORMATS), help=", ".join(MEMORY_FORMATS) + " (default: by network)")
    rounded = (
        "NVIDIA: round the factors of float32 products to TF32, in linear layers too (default: convolutions alone)"
    )
    add("--tf32", modes=RUNNING, action="store_const", const=True, help=rounded)
    add("--no-tf32", modes=RUNNING, dest="tf32", action="store_const", const=False, help="in no layer")
    modes = "compile the network by torch.compile: " + ", ".join(COMPILE_MODES) + " (if none is named: default)"
    add("--compile", nargs="?", const="default", type=one_of(*COMPILE_MODES), metavar="MODE", help=modes)


def _add_several(add: Add) -> None:
    add("--nnodes", type=number(int, 1), metavar="N", help="machines; the same command on each (default: 1)")
    add("--node-rank", "--node_rank", type=number(int, 0), metavar="K", help="this machine's number, from 0")
    add("--master-addr", "--master_addr", "--addr", metavar="HOST", help="address of machine 0")
    add("--master-port", "--master_port", type=number(int, 1, 2**16), metavar="PORT", help="there (default: 29500)")
    add("--local-addr", "--local_addr", metavar="HOST", help="this machine's own address, where it has several")
    add("--local-rank", "--local_rank", type=number(int, 0), metavar="K", help="torch.distributed.launch passes it")
    restarts = "start again from the last checkpoint after a failure, N times at most (default: 0)"
    add("--max-restarts", type=number(int, 0), default=0, metavar="N", help=restarts)
    timeout, waiting = "how long to wait for another process, a data worker too (default: 600)", (*SEVERAL, "predict")
    add("--timeout", modes=waiting, type=number(float, 1), default=600.0, metavar="SECONDS", help=timeout)
    add("--sync-bn", action="store_true", help="batch normalisation over all devices' images")
    add("--no-affinity", dest="affinity", action="store_false", help="do not bind processes to their share of cores")


def _add_files(add: Add) -> None:
    log = "default: train.log in the output folder"
    add("--log-file", "-log", modes=(*STEPS, "evaluate"), type=expanded, metavar="FILE", help=log)
    original = "also write checkpoint.pth.tar and model_best.pth.tar"
    add("--original-names", modes=TRAINING, action="store_true", help=original)
    written, exported = "to write: FILE.onnx, FILE.pt2, FILE.safetensors", ("export",)
    add("--output", modes=exported, type=expanded, metavar="FILE", help=written)
    whole = "resize, crop and normalise inside: the file takes uint8 [B, H, W, 3] of any height and width"
    add("--with-preprocessing", modes=exported, action="store_const", const="all", help=whole)
    part: Dict[str, Any] = {"dest": "with_preprocessing", "action": "store_const", "const": "normalisation"}
    crops = "normalise inside: the file takes uint8 [B, S, S, 3] that is resized and cropped"
    add("--with-normalisation", modes=exported, help=crops, **part)


def shard_cache(config: RunConfig, path: str) -> Optional[ShardCache]:
    """Where shards of the data set are kept; None for one that is on this machine."""
    return make_cache(config.shard_cache, config.shard_cache_size) if is_url(path) else None


def workers(config: RunConfig, cpus: Optional[int] = None) -> int:
    """Processes that decode images: --workers, else one for each of `cpus` (default: this process's)."""
    return config.workers or (processor.cores() if cpus is None else cpus)
