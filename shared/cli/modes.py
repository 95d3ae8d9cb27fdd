"""The modes of both halves, and a parser whose options say in which of them they have an effect.

An option is shown by the help of these modes alone, and refused in others. The modes that look at what a training does
take its command line, as the old ports' programs did to evaluate and to profile, and run_npu.sh names the device in
every mode: what has no effect there is accepted, with a note.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Union

from shared.cli.parser import WITH_IMAGES, Argv, Parser
from shared.errors import UsageError
from shared.text import nearest

# What each does, for the help.
MODES: Mapping[str, str] = {
    "train": "train a network, evaluate it after every epoch (the default)",
    "evaluate": "the accuracy of a checkpoint, every image counted once",
    "predict": "the classes of images of your own",
    "finetune": "train given weights further, on another data set too",
    "benchmark": "images per second of the network and of its training step, without data",
    "profile": "where the time of a training step goes, as a Chrome trace and a table",
    "check-port": "whether a device computes a training step right, layer by layer",
    "check-data": "whether the data set is complete and undamaged",
    "summary": "parameters, arithmetic and memory traffic of the network; nothing is run",
    "export": "the network with its weights as one file for another runtime",
}
TRAINING = ("train", "finetune")
STEPS = (*TRAINING, "benchmark", "profile", "check-port")  # take training steps
RUNNING = (*STEPS, "evaluate", "predict")  # run a network on a device
NETWORK = (*RUNNING, "summary", "export")  # have a network
WEIGHTS = (*TRAINING, "evaluate", "predict", "check-port", "export")  # begin with given weights
SEVERAL = (*TRAINING, "evaluate", "benchmark", "check-port")  # run on several devices
DATA = (*TRAINING, "evaluate", "check-port", "check-data")  # read the data set
WRITING = (*TRAINING, "evaluate")  # have --dry-run
_AS_TRAINING = ("evaluate", "benchmark", "profile", "check-port")

# Where an option has an effect: (): in every mode; as a mapping, with the values that it may have there.
Modes = Union[Sequence[str], Mapping[str, Sequence[str]]]
Add = Callable[..., argparse.Action]


class ModeParser(Parser):
    """A `Parser` of a command with `modes`; its `options` are shown in groups and refused where they have no effect."""

    def __init__(self, modes: Sequence[str], **settings: Any) -> None:
        super().__init__(add_help=False, usage="%(prog)s [MODE] [options]", **settings)
        self.modes = modes
        self._groups: Dict[str, Any] = {}
        self._effect: Dict[argparse.Action, Modes] = {}
        self._means: Dict[str, str] = {}  # by spelling
        self.add_argument("-h", "--help", "--help-all", action="store_true", default=argparse.SUPPRESS)  # parse_args

    def options(self, group: str, modes: Modes = ()) -> Add:
        """A function that adds an option to the group, as add_argument does.

        It has an effect in `modes`, unless it says otherwise itself; `means` is what another spelling of an option, or
        of an option with its value, stands for.
        """
        parent = self._groups[group] = self._groups.get(group) or self.add_argument_group(group)

        def add(*names: str, modes: Modes = modes, means: str = "", **settings: Any) -> argparse.Action:
            action: argparse.Action = parent.add_argument(*names, **settings)
            self._effect[action] = modes
            self._means.update({name: means or _canonical(action) for name in action.option_strings})
            return action

        return add

    def modes_of(self, option: str) -> Sequence[str]:
        """Where an option has an effect, by any of its spellings."""
        effect = self._effect.get(self._option_string_actions[option])
        return [mode for mode in self.modes if not effect or mode in effect]

    def means(self, word: str) -> str:
        """What a spelling stands for: an option, an option with its value, or a mode; another word is itself."""
        return self._means.get(word, word)

    def with_values(self, argv: Sequence[str]) -> List[str]:
        """The words of a command line, `--option=VALUE` in place of an option whose value may be left out.

        The next word is its value, unless it begins with a dash or is a mode, a file or an image to predict.
        """
        words, images = list(argv), not set(WITH_IMAGES).isdisjoint(argv)

        def is_value(action: argparse.Action, word: str) -> bool:
            with contextlib.suppress(argparse.ArgumentTypeError):
                return bool(action.type(word))  # type: ignore[operator,misc]
            return not (word[:1] == "-" or images or word in self.modes or os.path.exists(word))

        end = words.index("--") if "--" in words else len(words)
        for position in reversed(range(end)):
            action = self._option_string_actions.get(words[position])
            if action is not None and action.nargs == "?":
                has_value = any(is_value(action, word) for word in words[position + 1 : position + 2])
                words[position] += f"={words.pop(position + 1) if has_value else action.const}"
        return words

    def shown(self) -> Iterator[argparse.Action]:
        """The options and words without those that are other spellings, group by group."""
        for group in self._groups.values():
            for action in group._group_actions:
                if not action.option_strings or self.means(_canonical(action)) == _canonical(action):
                    yield action

    def only(self, option: str, modes: Modes) -> None:
        """Change where an option has an effect."""
        self._effect[self._option_string_actions[option]] = modes

    def parse_args(self, args: Argv = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As `Parser.parse_args`; --help ends with status 0. An option without effect is refused, or noted."""
        argv = list(sys.argv[1:] if args is None else args)
        before = argv[: argv.index("--")] if "--" in argv else argv
        if {"-h", "--help", "--help-all"} & set(before):
            mode = next((word for word in map(self.means, before) if word in self.modes), None)
            whole = "--help-all" in before
            text = self._help_of(mode) if mode and not whole else self._overview(whole)
            self._print_message(text, sys.stdout)
            self.exit()
        parsed = super().parse_args(argv, namespace)
        parsed.mode = getattr(parsed, "mode_flag", None) or parsed.mode  # the originals' --evaluate and --profile
        unused = list(self._without_effect(parsed, before))
        if unused:
            parsed.command_notes = (f"note: no effect in the mode {parsed.mode}: {', '.join(unused)}",)
        return parsed

    def _without_effect(self, parsed: Any, argv: Sequence[str]) -> Iterator[str]:
        """The options that a mode which takes a training's command has no use for. Raises UsageError for others."""
        mode = parsed.mode
        for word in self._with_split_short_options(argv):
            name = word.split("=")[0]
            action = self._option_string_actions.get(name)
            modes = self._effect.get(action, ()) if action else ()
            if action and mode in modes:
                value = getattr(parsed, action.dest)
                if isinstance(modes, Mapping) and value not in modes[mode]:
                    raise UsageError(f"{mode} has no {name} {value}; {nearest(value, modes[mode])}")
            elif modes:
                documented = name == "--device" or (mode in _AS_TRAINING and "train" in modes)
                documented = documented or getattr(parsed, "port", None) is not None
                if not documented or modes is WRITING:  # a dry run that is none would be a surprise
                    those = ", ".join(self.modes_of(name))
                    raise UsageError(f"{name} has no effect in the mode {mode}; leave it out, it is for {those}")
                yield name

    # -- help ------------------------------------------------------------------------------------------------------

    def format_help(self) -> str:
        """What --help prints without a mode."""
        return self._overview(False)

    def _overview(self, whole: bool) -> str:
        """The modes; with `whole` all options too, and the table of other spellings."""
        rows = {mode: MODES[mode] for mode in self.modes}
        text = f"usage: {self.prog} [MODE] [options]\n\n{self.description}\n\nmodes:\n{_table(rows)}\n"
        if not whole:
            more = {
                "MODE --help": "the options of a mode",
                "--help-all": "all options, and what the old ports' spellings stand for",
                "--version": "the versions",
            }
            return f"{text}\nmore:\n{_table(more)}\n"
        text += self._sections(lambda action: True)
        others = {name: means for name, means in self._means.items() if name != means}
        return f"{text}\nother spellings, of the old ports and of today:\n{_table(others)}\n"

    def _help_of(self, mode: str) -> str:
        sections = self._sections(lambda action: not self._effect[action] or mode in self._effect[action])
        words = " IMAGE ..." if "IMAGE ..." in sections else ""
        text = f"usage: {self.prog} {mode}{words} [options]\n\n{mode}: {MODES[mode]}\n{sections}"
        return f"{text}\nother spellings of the options: {self.prog} --help-all\n"

    def _sections(self, shown: Callable[[argparse.Action], bool]) -> str:
        """The groups of options, each by its first spelling."""
        formatter, actions = _OneSpelling(self.prog, max_help_position=28), list(self.shown())
        for title, group in self._groups.items():
            formatter.start_section(title)
            for action in group._group_actions:
                if action in actions and shown(action):
                    formatter.add_argument(action)
            formatter.end_section()
        return "\n" + formatter.format_help()


def _canonical(action: argparse.Action) -> str:
    """An option's first long spelling."""
    return next((name for name in action.option_strings if name[:2] == "--"), "")


def _table(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())


class _OneSpelling(argparse.HelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        values = "" if action.nargs == 0 else self._format_args(action, action.dest.upper())
        return f"{_canonical(action)} {values}".strip() if action.option_strings else f"{action.metavar} ..."
