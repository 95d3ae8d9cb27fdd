"""The options that both halves share: every spelling that the originals documented, and the frozen object of them.

Options that override the recipe default to None. An unknown option is an error that names the nearest valid one;
abbreviations are not accepted, because they change meaning when an option is added.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from shared import schedules
from shared.errors import UsageError, one_line
from shared.roofline import Accelerator
from shared.run.provenance import version_line
from shared.system.paths import expanded, on_disk
from shared.text import closest, nearest

WITH_IMAGES = ("predict",)  # the modes that take words, the images
_LONGEST = 2000  # characters of a message

Argv = Optional[Sequence[str]]


class _Version(argparse.Action):
    """Prints the versions, which are looked up only here, and exits with status 0."""

    def __call__(self, parser: Any, *values: Any) -> None:
        parser._print_message(version_line(parser.frameworks) + "\n", sys.stdout)
        parser.exit()


class Parser(argparse.ArgumentParser):
    """argparse that raises `UsageError` and has --version, which also shows the first of `frameworks` installed."""

    def __init__(self, frameworks: Sequence[str] = (), **settings: Any) -> None:
        self.frameworks = frameworks
        self.replaced: Mapping[str, str] = {}  # by option of an old program, what to give instead
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        shown = "show the versions and exit"
        self.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help=shown)

    def error(self, message: str) -> NoReturn:
        message = one_line(" ".join(message.splitlines()))
        if len(message) > _LONGEST:  # usually the text of one very long argument
            message = message[: _LONGEST // 2] + " ... " + message[-_LONGEST // 2 :]
        if ";" not in message:
            message += f"; see {self.prog} --help"
        raise UsageError(message)

    def parse_args(self, args: Argv = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Raises UsageError naming the first unknown option and the nearest that exists."""
        argv = self._with_split_short_options(sys.argv[1:] if args is None else args)
        parsed, words = self.parse_known_args(argv, namespace)
        words = [*(getattr(parsed, "images", None) or ()), *words]  # argparse stops to take these at an option
        if words and getattr(parsed, "mode", None) not in WITH_IMAGES:
            self.error(f"unexpected word {words[0]!r}; options begin with --, see {self.prog} --help")
        if hasattr(parsed, "images"):
            parsed.images = tuple(self._image(word) for word in words if word != "--") or None
        return parsed

    def _image(self, word: str) -> str:
        if not word.strip():
            self.error("the name of an image is empty; give one, or leave it out")
        return on_disk(word)

    def _get_values(self, action: argparse.Action, arg_strings: List[str]) -> Any:
        """argparse's; refuses an empty value, as an unset shell variable gives."""
        if not all(text.strip() for text in arg_strings):
            name = action.option_strings[0] if action.option_strings else action.metavar
            self.error(f"the value of {name} is empty; give one, or leave {name} out")
        return super()._get_values(action, arg_strings)

    def _with_split_short_options(self, argv: Sequence[str]) -> List[str]:
        """The arguments with -b128 as -b 128: with allow_abbrev=False, Python 3.7's argparse does not split it.

        Unknown options are refused here, because argparse would complain about their values as unknown modes.
        """
        checked: List[str] = []
        for position, word in enumerate(argv):
            option = word.split("=")[0]
            if word == "--":
                return checked + list(argv[position:])
            if word.endswith("=--") and option in self._option_string_actions:
                self.error(f"argument {option}: '--' is no value; see {self.prog} --help")  # argparse drops it
            # As in argparse, a negative number or a text with a space is a value, although it begins with a dash.
            is_option = len(word) > 1 and word[0] == "-" and word[1] not in "0123456789." and " " not in word
            if not is_option or option in self._option_string_actions:
                checked.append(word)
            elif option in self.replaced:
                self.error(f"{option} is an option of an old port's program; {self.replaced[option]}")
            elif word[:2] in self._option_string_actions:
                checked += [word[:2], word[2:]]
            else:
                near = closest(option, sorted(known for known in self._option_string_actions if known[:2] == "--"))
                hint = f"see {self.prog} --help" if near is None else f"did you mean {near!r}?"
                self.error(f"unknown option {option}; {hint}")
        return checked


def one_of(*choices: str) -> Callable[[str], str]:
    """An argparse type: one of these choices, else an error with the nearest."""

    def convert(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not a choice; {nearest(text, choices)}")
        return text

    return convert


def number(kind: Any, least: float, below: float = math.inf) -> Callable[[str], Union[int, float]]:
    """An argparse type: an int or float that is at least `least` and below `below`."""

    def convert(text: str) -> Union[int, float]:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value < below:
            limit = "" if math.isinf(below) else f" and below {below:g}"
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} does not fit; give {name} of at least {least:g}{limit}")
        return value

    return convert


def list_of(kind: Any) -> Callable[[str], Tuple[Any, ...]]:
    """An argparse type: "80,120" to (80, 120), of ints or floats."""

    def convert(text: str) -> Tuple[Any, ...]:
        try:
            return tuple(map(kind, text.split(",")))
        except ValueError:
            what = "whole numbers; write 80,120" if kind is int else "numbers; write 0.1,0.01"
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of {what}") from None

    return convert


whole_numbers, numbers = list_of(int), list_of(float)


@dataclass(frozen=True)
class CommonConfig:
    """What the command line says, by the parser's names. None: not given, and the recipe or a default decides."""

    mode: str
    port: Optional[str]  # whose program's command line this is
    command_notes: Tuple[str, ...]  # how it was read, for the log
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
) -> Parser:
    """The parser with all shared options, to which a half adds its own; `checkpoint` is the type of that option."""
    parser = Parser(frameworks, prog=prog, usage="%(prog)s [MODE] [options]", description=description)
    named = f"{', '.join(modes)} (default: train)"
    parser.set_defaults(command_notes=())
    parser.add_argument("mode", nargs="?", default="train", type=one_of(*modes), metavar="MODE", help=named)
    _add_run(parser.add_argument_group("what to run"), networks, recipes)
    _add_training(parser.add_argument_group("training: each overrides a field of the recipe"))
    _add_files(parser.add_argument_group("files and reports"), print_freq, checkpoint)
    add = parser.add_argument_group("peak performance of the device, for the roofline of a step").add_argument
    add("--peak-flops", type=number(float, 1), metavar="FLOP/S", help="peak arithmetic per second, as in 790e12")
    add("--memory-bandwidth", type=number(float, 1), metavar="B/S", help="peak memory traffic per second, as in 4.3e12")
    return parser


def _add_run(group: Any, networks: Sequence[str], recipes: Sequence[str]) -> None:
    add = group.add_argument
    add("--recipe", type=one_of(*recipes), help=", ".join(recipes))
    add("--network", type=one_of(*networks), help=", ".join(networks))
    data_path = ("--data-path", "--data_path", "--data", "--data_dir", "--data-dir", "-d")
    data = "the data set (default: the usual folder here, else the embedded sample)"
    add(*data_path, type=expanded, metavar="DIR", help=data)
    add("--device", default="auto", help="auto, cpu, gpu, cuda:0, npu:0, ... (default: auto)")
    add("--precision", help="O0 (float32), O1 (mixed), bf16, ... (default: the recipe's)")
    add("--deterministic", action="store_true", help="use deterministic operators only")
    add("--workers", "--num-workers", "-j", type=number(int, 1, 1025), metavar="N", help="input workers")
    restricted = "evaluate: predict only classes of the data set, where the network has more"
    add("--restrict-classes", action="store_true", help=restricted)
    several = "train on several devices: --num-devices, else all"
    add("--distributed", "--multiprocessing-distributed", action="store_true", help=several)
    devices = "devices of this machine to use (default: 1, with --distributed all)"
    add("--num-devices", "--num_devices", type=number(int, 1), metavar="N", help=devices)


def _add_training(group: Any) -> None:
    add = group.add_argument
    add("--epochs", "--total_epochs", "--train_epochs", type=number(int, 1), metavar="N")
    add("--max-steps", "--max_step", type=number(int, 1), metavar="N", help="stop after N steps in total")
    add("--batch-size", "--batch_size", "--train-batch", "-b", type=number(int, 1), metavar="N", help="per device")
    learning_rate = ("--learning-rate", "--lr", "--initial-lr", "--init_learning_rate")
    rate = "the initial rate; the schedule's later rates keep their ratio to it"
    add(*learning_rate, type=number(float, 1e-12), metavar="RATE", help=rate)
    add("--scheduler", "--lr-scheduler", type=one_of(*schedules.KINDS), help=", ".join(schedules.KINDS))
    add("--milestones", type=whole_numbers, metavar="E,E,...", help="zero-based epochs at which the rate changes")
    add("--factors", type=numbers, metavar="F,F,...", help="of the initial rate, one per milestone")
    add("--warm-up-epochs", "--warmup-epochs", "--warm_up_epochs", "--warmup", "--wp", type=number(int, 0), metavar="N")
    add("--momentum", "--mom", type=number(float, 0, 1), metavar="M")
    add("--weight-decay", "--weight_decay", "--wd", type=number(float, 0), metavar="W")
    seed = "of the initial weights, the order and the crops"
    add("--seed", "--manualSeed", type=number(int, 0, 2**32), metavar="N", help=seed)


def _add_files(group: Any, print_freq: int, checkpoint: Callable[[str], str]) -> None:
    add = group.add_argument
    add("--output-dir", "--output_dir", type=expanded, metavar="DIR", help="default: a new folder under runs/")
    resumed = "continue a run exactly, from its folder or a checkpoint, or an old port's from its checkpoint"
    add("--resume", type=on_disk, metavar="PATH", help=resumed)
    names = ", hf-hub:OWNER/NAME or a URL" if checkpoint is not on_disk else ""
    weights = f"weights: a checkpoint or the folder of a run{names}"
    add("--checkpoint", "--ckpt_path", type=checkpoint, metavar="PATH", help=weights)
    add("--save-steps", "--save_steps", type=number(int, 1), metavar="N", help="also save every N steps")
    add("--keep", type=number(int, 1), default=3, metavar="N", help="numbered checkpoints to keep (default: 3)")
    spellings, steps = ("--print-freq", "--print_freq", "-p"), "steps per log line"
    add(*spellings, type=number(int, 1), default=print_freq, metavar="N", help=steps)
    add("--save-trace", type=expanded, metavar="FILE", help="check-port: write the recorded step, to compare elsewhere")
    add("--against", type=expanded, metavar="FILE", help="check-port: compare with a recorded step's weights and batch")
