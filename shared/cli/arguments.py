"""The options that both halves share: every spelling that the originals documented, and the frozen object of them.

Options that override the recipe default to None. An unknown option is an error that names the nearest valid one;
abbreviations are not accepted, because they change meaning when an option is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from shared import schedules
from shared.cli import config_file
from shared.cli.modes import DATA, NETWORK, RUNNING, SEVERAL, STEPS, TRAINING, WEIGHTS, WRITING, Add, ModeParser
from shared.cli.parser import number, numbers, one_of, whole_numbers
from shared.errors import UsageError
from shared.recipes.base import DECAYED
from shared.roofline import Accelerator
from shared.system.paths import expanded, on_disk


@dataclass(frozen=True)
class CommonConfig:
    """What the command line says, by the parser's names. None: not given, and the recipe or a default decides."""

    mode: str
    port: Optional[str]  # whose program's command line this is
    command_notes: Tuple[str, ...]  # how it was read, for the log
    config: Optional[str]  # the file that has options too
    dry_run: bool
    # What to run
    recipe: Optional[str]
    network: Optional[str]
    data_path: Optional[str]
    device: str
    precision: Optional[str]
    deterministic: bool
    workers: Optional[int]
    restrict_classes: bool
    distributed: bool
    num_devices: Optional[int]
    # Training: each overrides a field of the recipe
    epochs: Optional[int]
    max_steps: Optional[int]
    batch_size: Optional[int]  # images per device
    learning_rate: Optional[float]
    scheduler: Optional[str]
    milestones: Optional[Tuple[int, ...]]
    factors: Optional[Tuple[float, ...]]
    warm_up_epochs: Optional[int]
    momentum: Optional[float]
    weight_decay: Optional[float]
    every_step: Optional[bool]
    decayed: Optional[str]
    label_smoothing: Optional[float]
    mixup: Optional[float]
    cutmix: Optional[float]
    drop_path: Optional[float]
    zero_init: Optional[bool]
    ema_decay: Optional[float]
    seed: Optional[int]
    # Files and reports
    output_dir: Optional[str]
    resume: Optional[str]
    checkpoint: Optional[str]
    save_steps: Optional[int]
    keep: int  # numbered checkpoints
    print_freq: int  # steps per log line
    save_trace: Optional[str]
    against: Optional[str]
    # The limits of the device
    peak_flops: Optional[float]
    memory_bandwidth: Optional[float]

    @property
    def accelerator(self) -> Optional[Accelerator]:
        """The limits of the device for the roofline of a step; None where they are not given."""
        if self.peak_flops and self.memory_bandwidth:
            return Accelerator(self.peak_flops, self.memory_bandwidth)
        return None

    def given(self, names: Sequence[str]) -> Dict[str, Any]:
        """Those of these options that are given, by name."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def check_one_checkpoint(self) -> None:
        """Raise UsageError where both --resume and --checkpoint are given."""
        if self.resume is not None and self.checkpoint is not None:
            raise UsageError("--resume and --checkpoint exclude each other; one continues a run, the other starts one")

    def to_json(self) -> Dict[str, Any]:
        """What was given or has a default, by name, for config.json."""
        given = {name: value for name, value in sorted(vars(self).items()) if value is not None}
        return {name: value for name, value in given.items() if name != "command_notes"}


def common_parser(
    prog: str,
    description: str,
    modes: Sequence[str],
    networks: Sequence[str],
    recipes: Sequence[str],
    frameworks: Sequence[str] = (),
    print_freq: int = 50,
    checkpoint: Callable[[str], str] = on_disk,
) -> ModeParser:
    """The parser with all shared options, to which a half adds its own; `checkpoint` is the type of that option."""
    parser = ModeParser(modes, frameworks=frameworks, prog=prog, description=description)
    named = f"{', '.join(modes)} (default: train)"
    parser.set_defaults(command_notes=())
    parser.add_argument("mode", nargs="?", default="train", type=one_of(*modes), metavar="MODE", help=named)
    _add_run(parser.options("what to run", NETWORK), networks, recipes, checkpoint)
    config_file.add_option(parser)
    dry_run = "print what would run, with estimates of memory and time, and end; nothing is written"
    parser.options("what to run", WRITING)("--dry-run", action="store_true", help=dry_run)
    _add_data(parser.options("data", DATA))
    parser.options("network", NETWORK)
    _add_training(parser.options("training", STEPS))
    _add_regularisation(parser.options("training", STEPS))
    _add_device(parser.options("device", RUNNING))
    _add_several(parser.options("several devices", SEVERAL))
    _add_output(parser.options("output", TRAINING), print_freq)
    _add_port_check(parser.options("check-port", ("check-port",)))
    return parser


def _add_run(add: Add, networks: Sequence[str], recipes: Sequence[str], checkpoint: Callable[[str], str]) -> None:
    add("--recipe", type=one_of(*recipes), help="whose settings options override: " + ", ".join(recipes))
    add("--network", type=one_of(*networks), help=", ".join(networks))
    names = ", hf-hub:OWNER/NAME or a URL" if checkpoint is not on_disk else ""
    weights = f"weights: a checkpoint or the folder of a run{names}"
    add("--checkpoint", "--ckpt_path", modes=WEIGHTS, type=checkpoint, metavar="PATH", help=weights)
    resumed = "continue a run exactly, from its folder or a checkpoint, or an old port's from its checkpoint"
    add("--resume", modes=WEIGHTS, type=on_disk, metavar="PATH", help=resumed)


def _add_data(add: Add) -> None:
    data_path = ("--data-path", "--data_path", "--data", "--data_dir", "--data-dir", "-d")
    data = "the data set (default: the usual folder here, else the embedded sample)"
    add(*data_path, type=expanded, metavar="DIR", help=data)
    with_images = (*DATA, "predict")
    workers = number(int, 1, 1025)
    add("--workers", "--num-workers", "-j", modes=with_images, type=workers, metavar="N", help="input workers")
    restricted = "predict only classes of the data set, where the network has more"
    add("--restrict-classes", modes=("evaluate",), action="store_true", help=restricted)


def _add_training(add: Add) -> None:
    whole = (*TRAINING, "check-port")  # has a schedule, of which check-port takes the largest rate
    add("--epochs", "--total_epochs", "--train_epochs", modes=whole, type=number(int, 1), metavar="N")
    add("--max-steps", "--max_step", type=number(int, 1), metavar="N", help="stop after N steps in total")
    batch_size = ("--batch-size", "--batch_size", "--train-batch", "-b")
    add(*batch_size, modes=NETWORK, type=number(int, 1), metavar="N", help="images per device")
    learning_rate = ("--learning-rate", "--lr", "--initial-lr", "--init_learning_rate")
    rate = "the initial rate; the schedule's later rates keep their ratio to it"
    add(*learning_rate, type=number(float, 1e-12), metavar="RATE", help=rate)
    kinds = ", ".join(schedules.KINDS)
    add("--scheduler", "--lr-scheduler", modes=whole, type=one_of(*schedules.KINDS), help=kinds)
    changes = "zero-based epochs at which the rate changes"
    add("--milestones", modes=whole, type=whole_numbers, metavar="E,E,...", help=changes)
    add("--factors", modes=whole, type=numbers, metavar="F,F,...", help="of the initial rate, one per milestone")
    add("--warm-up-epochs", "--warmup-epochs", "--warm_up_epochs", "--warmup", "--wp", type=number(int, 0), metavar="N")
    add("--momentum", "--mom", type=number(float, 0, 1), metavar="M")
    add("--weight-decay", "--weight_decay", "--wd", type=number(float, 0), metavar="W")
    seed = "of the initial weights, the order and the crops"
    add("--seed", "--manualSeed", type=number(int, 0, 2**32), metavar="N", help=seed)


def _add_regularisation(add: Add) -> None:
    share, amount, mixed = number(float, 0, 1), number(float, 0), (*TRAINING, "benchmark", "profile")
    per_step = "the rate changes at every step instead of every epoch"
    add("--every-step", modes=TRAINING, action="store_const", const=True, help=per_step)
    per_epoch = {"dest": "every_step", "action": "store_const", "const": False}
    add("--no-every-step", modes=TRAINING, help="the rate changes at every epoch", **per_epoch)
    add("--decayed", type=one_of(*DECAYED), help="all: weight decay on every parameter; weights: not on biases, norms")
    smoothing = ("--label-smoothing", "--label-smoothing-epsilon", "--label-smoothing-factor", "--ls")
    add(*smoothing, type=share, metavar="E", help="share of the target that goes to other classes")
    add("--mixup", modes=mixed, type=amount, metavar="ALPHA", help="blend images and labels pairwise; 0 is off")
    add("--cutmix", modes=mixed, type=amount, metavar="ALPHA", help="paste a box of another image; 0 is off")
    add("--drop-path", modes=mixed, type=share, metavar="RATE", help="of the deepest block; rises with depth")
    add("--zero-init", modes=TRAINING, action="store_const", const=True, help="residual branches begin at zero")
    usual = {"dest": "zero_init", "action": "store_const", "const": False}
    add("--no-zero-init", modes=TRAINING, help="residual branches begin as drawn", **usual)
    add("--ema-decay", modes=mixed, type=share, metavar="D", help="evaluate an average of the weights, as in 0.9999")


def _add_device(add: Add) -> None:
    add("--device", default="auto", help="auto, cpu, gpu, cuda:0, npu:0, ... (default: auto)")
    add("--precision", modes=NETWORK, help="O0 (float32), O1 (mixed), bf16, ... (default: the recipe's)")
    add("--deterministic", action="store_true", help="use deterministic operators only")
    limits = (*TRAINING, "summary")  # which say how far a step is from the roofline
    arithmetic, traffic = "peak arithmetic per second, as in 790e12", "peak memory traffic per second, as in 4.3e12"
    add("--peak-flops", modes=limits, type=number(float, 1), metavar="FLOP/S", help=arithmetic)
    add("--memory-bandwidth", modes=limits, type=number(float, 1), metavar="B/S", help=traffic)


def _add_several(add: Add) -> None:
    several = "run on several devices: --num-devices, else all"
    add("--distributed", "--multiprocessing-distributed", action="store_true", help=several)
    devices = "devices of this machine to use (default: 1, with --distributed all)"
    add("--num-devices", "--num_devices", type=number(int, 1), metavar="N", help=devices)


def _add_output(add: Add, print_freq: int) -> None:
    recorded = (*STEPS, "evaluate")
    folder = "default: a new folder under runs/"
    add("--output-dir", "--output_dir", modes=recorded, type=expanded, metavar="DIR", help=folder)
    add("--save-steps", "--save_steps", type=number(int, 1), metavar="N", help="also save every N steps")
    add("--keep", type=number(int, 1), default=3, metavar="N", help="numbered checkpoints to keep (default: 3)")
    spellings, steps = ("--print-freq", "--print_freq", "-p"), f"steps per log line (default: {print_freq})"
    add(*spellings, type=number(int, 1), default=print_freq, metavar="N", help=steps)


def _add_port_check(add: Add) -> None:
    add("--save-trace", type=expanded, metavar="FILE", help="write the recorded step, to compare elsewhere")
    add("--against", type=expanded, metavar="FILE", help="compare with a recorded step's weights and batch")
