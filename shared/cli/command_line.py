"""The command line of a half, read once: the words of --config, then those of an old port, then argparse."""

from __future__ import annotations

import sys
from typing import Any

from shared.cli import config_file, old_command
from shared.cli.modes import ModeParser
from shared.cli.parser import Argv
from shared.errors import UsageError


def parsed(parser: ModeParser, argv: Argv, half: str) -> Any:
    """The options of a command line, by default this process's; `argv` as it was typed, `command_notes` for the log.

    Raises UsageError.
    """
    typed = tuple(sys.argv[1:] if argv is None else argv)
    file = config_file.read(parser, parser.with_values(typed))
    command = old_command.read(parser, file.argv, half, parser.modes)
    options = parser.parse_args(command.argv)
    if (options.peak_flops is None) != (options.memory_bandwidth is None):
        raise UsageError("a roofline needs both --peak-flops and --memory-bandwidth; give both, or neither")
    options.command_notes = (*file.notes, *command.notes, *options.command_notes)
    options.argv = typed
    return options
