"""argparse as the programs here use it: errors in one line that say what to do, no abbreviations; types of values."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, Callable, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from shared.errors import UsageError, one_line
from shared.run.provenance import version_line
from shared.system.paths import on_disk
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
