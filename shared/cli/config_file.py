"""Options from a file: --config FILE, a config.json that a run has written, or TOML or JSON with options by name.

The file becomes words in front of those that were typed, so what is typed wins, and both are checked alike.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, Dict, Iterator, List, Sequence

from shared import sample
from shared.cli.modes import MODES, ModeParser
from shared.cli.old_command import Command, split
from shared.errors import UsageError
from shared.system.paths import on_disk, reading
from shared.text import closest, nearest

# What a run's own options say of the run itself, not of what it computes.
_OF_THE_RUN = ("config", "dry_run", "local_rank", "log_file", "output_dir", "port")
_NO_OPTIONS = ("config", "images", "mode_flag")


def add_option(parser: ModeParser) -> None:
    """Add --config."""
    text = "options from a file, TOML or JSON by their names, or of a run, its config.json; what is typed wins"
    parser.options("what to run")("--config", type=on_disk, metavar="FILE", help=text)


def read(parser: ModeParser, argv: Sequence[str]) -> Command:
    """The command line with the words of --config in front, and how the file was read. Raises UsageError."""
    words = split(parser, argv)
    named = words.own.get("--config", "").strip()
    if not named:
        return Command(list(argv), ())
    path = on_disk(named)
    path = os.path.join(path, "config.json") if os.path.isdir(path) else path
    options = _options(path)
    mode = str(options.pop("mode", "train"))
    if mode not in parser.modes:
        raise UsageError(f"{path} has the mode {mode!r}; {nearest(mode, parser.modes)}")
    meant = [parser.means(word) for word in (*words.own, *words.loose)]
    chosen = [] if any(word in MODES for word in meant) else [mode]
    made = [*chosen, *(word for name, value in options.items() for word in _words(parser, path, name, value))]
    return Command([*made, *argv], (f"config {path}: read as {' '.join(made)}",))


def _options(path: str) -> Dict[str, Any]:
    """The options in a file; of a run's config.json those that decide what it computes."""
    content = _content(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} has no options by name; write them as batch_size = 128")
    if not isinstance(content.get("options"), dict) or "command" not in content:
        return {name.replace("-", "_"): value for name, value in content.items()}
    options, data = dict(content["options"]), content.get("data")
    if options.get("resume"):
        run = os.path.dirname(path) or "."
        raise UsageError(
            f"{path} is of a run that was resumed, and has not the options it began with; go on with --resume {run},"
            " or give the config.json of its beginning"
        )
    if isinstance(data, dict) and data.get("name") not in (sample.NAME, "synthetic") and data.get("path"):
        options["data_path"] = data["path"]  # what was found there, from whatever folder
    return {name: value for name, value in options.items() if name not in _OF_THE_RUN}


def _content(path: str) -> Any:
    advice = "give a run's config.json, or TOML or JSON with options by name"
    if os.path.lexists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is no file; {advice}")
    with reading(path, advice), open(path, "rb") as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
        return _toml(path, text) if path.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.endswith(".toml") else "JSON (TOML ends in .toml)"
        raise UsageError(f"{path} is no {kind}: {error}; {advice}") from error


def _toml(path: str, text: str) -> Any:
    try:
        import tomllib
    except ImportError:
        raise UsageError(f"{path} needs Python 3.11 or newer, which reads TOML; write it as JSON") from None
    return tomllib.loads(text)


def _words(parser: ModeParser, path: str, name: str, value: Any) -> Iterator[str]:
    """One option as it is typed; nothing for its default, or for null."""
    known = _known(parser)
    if name not in known:
        near = closest(name, sorted(known))
        advice = f"see {parser.prog} --help-all" if near is None else f"did you mean {near!r}?"
        raise UsageError(f"{path} has {name!r}, which is no option of {parser.prog}; {advice}")
    actions = known[name]
    default = parser.get_default(actions[0].dest)
    if value is None or value == default and isinstance(value, bool) == isinstance(default, bool):
        return
    takes = next((one for one in actions if one.nargs != 0), None)
    switches = {repr(one.const): one.option_strings[0] for one in actions if one.nargs == 0}  # 1 is not true
    if repr(value) in switches and (takes is None or isinstance(value, bool)):
        yield switches[repr(value)]
        return
    if takes is not None and takes.nargs == "?" and isinstance(value, bool):  # its value may be left out
        if value:
            yield f"{takes.option_strings[0]}={takes.const}"
        return
    if takes is None or isinstance(value, (bool, dict)):
        values = {json.dumps(one) for one in (default, *(one.const for one in actions if one.nargs == 0))}
        fitting = " or ".join(sorted(values, reverse=True))
        fitting = fitting if takes is None else f"a value of {takes.option_strings[0]}"
        raise UsageError(f"{path} has {name} = {value!r}, which does not fit; give {fitting}")
    if isinstance(value, list) and not isinstance(takes.default, list):
        value = ",".join(map(str, value))
    for one in value if isinstance(value, list) else [value]:
        yield f"{takes.option_strings[0]}={one}"


def _known(parser: ModeParser) -> Dict[str, List[argparse.Action]]:
    """The options by the names that a file may give them: those of the configuration."""
    known: Dict[str, List[argparse.Action]] = {}
    for action in parser.shown():
        if action.dest not in _NO_OPTIONS:
            known.setdefault(action.dest, []).append(action)
    return known
