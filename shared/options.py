"""The options that both halves have in common, with every spelling that the originals documented.

No option has a default here: None means "not given", and the recipe's value stands. An unknown option is refused with
the nearest valid one; abbreviations are not accepted, because they change meaning when an option is added.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, Callable, NoReturn, Optional, Sequence, Tuple, Union

from shared import recipes, schedules
from shared.errors import UsageError

Argv = Optional[Sequence[str]]


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `UsageError`s of one line."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        if ";" not in message:
            message += f"; see {self.prog} --help"
        raise UsageError(message)

    def parse_args(self, args: Argv = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Raises UsageError naming the first unknown option and the nearest that exists."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].split("=")[0]
            if not word.startswith("-"):
                self.error(f"unexpected word {word!r}; options begin with --, see {self.prog} --help")
            known = sorted(option for option in self._option_string_actions if option.startswith("--"))
            hint = recipes.nearest(word, known)
            self.error(f"unknown option {word}; {hint if hint.startswith('did') else 'see ' + self.prog + ' --help'}")
        return parsed


def one_of(*choices: str) -> Callable[[str], str]:
    """An argparse type: one of these words, else an error with the nearest."""

    def convert(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not a choice; {recipes.nearest(text, choices)}")
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


def whole_numbers(text: str) -> Tuple[int, ...]:
    """An argparse type: "80,120" to (80, 120)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers; write 80,120") from None


def common_parser(prog: str, description: str, modes: Sequence[str]) -> Parser:
    """The parser with all common options; a half adds its own to it."""
    parser = Parser(prog=prog, description=description)
    parser.add_argument("mode", nargs="?", default="train", type=one_of(*modes), metavar="MODE",
                        help=f"{', '.join(modes)} (default: train)")  # fmt: skip
    _add_run(parser.add_argument_group("what to run"))
    _add_training(parser.add_argument_group("training: each overrides a field of the recipe"))
    _add_files(parser.add_argument_group("files and reports"))
    return parser


def _add_run(group: Any) -> None:
    group.add_argument("--recipe", type=one_of(*recipes.names()), help=", ".join(recipes.names()))
    group.add_argument("--network", help="the network, where the recipe leaves a choice")
    group.add_argument("--data-path", "--data_path", "--data", "--data_dir", "--data-dir", "-d", metavar="DIR",
                       help="the data set (default: the usual folder here, else the embedded sample)")  # fmt: skip
    group.add_argument("--device", default="auto", help="auto, cpu, gpu, cuda:0, npu:0, ... (default: auto)")
    group.add_argument("--precision", help="O0 (float32), O1 (mixed), bf16, ... (default: the recipe's)")
    group.add_argument("--deterministic", action="store_true", help="refuse operators whose result may vary")
    group.add_argument("--workers", "--num-workers", "-j", type=number(int, 1), metavar="N", help="input threads")


def _add_training(group: Any) -> None:
    add = group.add_argument
    add("--epochs", "--total_epochs", "--train_epochs", type=number(int, 1), metavar="N")
    add("--max-steps", "--max_step", type=number(int, 1), metavar="N", help="stop after N steps in all")
    add("--batch-size", "--batch_size", "--train-batch", "-b", type=number(int, 1), metavar="N", help="per device")
    add("--learning-rate", "--lr", "--initial-lr", "--init_learning_rate", type=number(float, 1e-12), metavar="RATE",
        help="the initial rate; the schedule's later rates keep their ratio to it")  # fmt: skip
    add("--scheduler", "--lr-scheduler", type=one_of(*schedules.KINDS), help=", ".join(schedules.KINDS))
    add("--milestones", type=whole_numbers, metavar="E,E,...", help="zero-based epochs at which the rate changes")
    add("--warm-up-epochs", "--warmup-epochs", "--warm_up_epochs", "--warmup", "--wp", type=number(int, 0), metavar="N")
    add("--momentum", "--mom", type=number(float, 0, 1), metavar="M")
    add("--weight-decay", "--weight_decay", "--wd", type=number(float, 0), metavar="W")
    add("--seed", "--manualSeed", type=number(int, 0, 2**32), metavar="N", help="of weights, order and crops")


def _add_files(group: Any) -> None:
    add = group.add_argument
    add("--output-dir", "--output_dir", metavar="DIR", help="default: a new folder under runs/")
    add("--resume", metavar="PATH", help="continue exactly from a checkpoint or the folder of a run")
    add("--checkpoint", "--ckpt_path", metavar="PATH", help="weights: a checkpoint or the folder of a run")
    add("--save-steps", "--save_steps", type=number(int, 1), metavar="N", help="also save every N steps")
    add("--keep", type=number(int, 1), default=3, metavar="N", help="numbered checkpoints to keep (default: 3)")
    add("--print-freq", "--print_freq", "-p", type=number(int, 1), default=50, metavar="N", help="steps a log line")
