"""Reads a command line as an old port's program did (`--port NAME`), and says where the same words mean another thing.

What each program understood is data: `shared.cli.old_ports`. Sources: the four documents and their programs.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from shared.cli.modes import ModeParser
from shared.cli.old_ports import PORTS, REPLACED, Port
from shared.cli.parser import WITH_IMAGES, Parser, one_of
from shared.errors import UsageError


class Command(NamedTuple):
    """A command line in our options, and what the log says of it."""

    argv: List[str]
    notes: Tuple[str, ...]


@dataclass
class Words:
    """A command line in parts. Values that were given twice are the last ones, as in argparse."""

    old: Dict[str, str] = field(default_factory=dict)  # options of the port, by their first spelling
    own: Dict[str, str] = field(default_factory=dict)  # options of ours, by the spelling that was typed
    rest: List[str] = field(default_factory=list)  # ours again, as they were typed
    unknown: bool = False  # whether there is an option that nobody has: the parser says so
    loose: List[str] = field(default_factory=list)  # words that belong to no option


def read(parser: Parser, argv: Sequence[str], half: str, modes: Sequence[str]) -> Command:
    """The command line of a half in our options: translated where it has --port, else as it is, with notes.

    Raises UsageError for a word that neither program understands, a folder without an option, and an option of the
    port that has no equivalent.
    """
    words = split(parser, argv)
    name = words.own.get("--port")
    if name is None:
        if not words.unknown:  # a word may be the value of one
            _refuse_folder(words, modes, half)
        return Command(list(argv), tuple(_differences(words)) if half == "torch_imagenet" else ())
    if name not in PORTS or PORTS[name].half != half:
        return Command(list(argv), ())  # the parser names the nearest
    port = PORTS[name]
    words = split(parser, argv, port)
    made, left_out = _translated(port, words, modes)
    translated = _last_ones(parser, made)
    line = f"port {name}: read as {' '.join(translated)}"
    line += f"; left out: {', '.join(left_out)}" if left_out else ""
    return Command([*translated, "--port", name], (line,))


def split(parser: Parser, argv: Sequence[str], port: Optional[Port] = None) -> Words:
    """The parts of the command line; an option that `port` has is the port's, also where ours has the same name."""
    words, ours, waiting = Words(), parser._option_string_actions, list(argv)
    theirs = {} if port is None else {spelling: option for option in port.options for spelling in option.spellings}
    while waiting:
        word = waiting.pop(0)
        name, joined, value = word.partition("=")
        if name not in theirs and name not in ours and not name.startswith("--") and name[:2] in {**theirs, **ours}:
            name, joined, value = word[:2], "=", word[2:]  # -b128
        known = theirs.get(name)
        if known is not None:
            if known.values and not joined:
                if not waiting:
                    raise UsageError(f"{name} needs a value; give one, or leave {name} out")
                value = waiting.pop(0)
                while known.values == "many" and waiting and not waiting[0].startswith("-"):
                    value = f"{value},{waiting.pop(0)}"
            words.old[known.spellings[0]] = value
        elif name in ours:
            if ours[name].nargs != 0 and not joined and waiting:
                value = waiting.pop(0)
                joined = "="
            words.rest += [name, value] if joined else [name]
            words.own[name] = value
        elif word.startswith("-") and len(word) > 1:
            words.rest.append(word)
            words.unknown = True
        else:
            words.loose.append(word)
    return words


def _last_ones(parser: Parser, argv: Sequence[str]) -> List[str]:
    """The command line in our first spellings, without --port and without the options that later ones override."""
    kept: Dict[str, List[str]] = {}
    others, ours, waiting = [], parser._option_string_actions, list(argv)
    while waiting:
        name, joined, value = waiting.pop(0).partition("=")
        action = ours.get(name)
        if action is None:
            others.append(name + joined + value)
        else:
            takes = action.nargs != 0
            value = value if joined or not takes or not waiting else waiting.pop(0)
            key = f"{action.dest} {value}" if isinstance(action.default, list) else action.dest  # may be repeated
            kept.pop(key, None)
            kept[key] = [action.option_strings[0] if takes else name, *([value] if takes else [])]
    kept.pop("port", None)
    return [*others, *(word for words in kept.values() for word in words)]


def _refuse_folder(words: Words, modes: Sequence[str], half: str) -> None:
    if words.loose[:1] and words.loose[0] in WITH_IMAGES:
        return
    for word in words.loose:
        if word not in modes and ("/" in word or os.path.isdir(word)):
            shown = word if len(word) < 500 else word[:500] + "..."
            what = f"{shown!r} is no mode; name the data set's folder with --data-path {shown}"
            as_port = ", or read the line as SE-ResNet-50's program did with --port se_resnet50"
            raise UsageError(what + (as_port if half == "torch_imagenet" else ""))


# -- with --port ------------------------------------------------------------------------------------------------


def _translated(port: Port, words: Words, modes: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Our command line, and the port's options that have no effect in it, each with its reason."""
    old, own = words.old, words.own
    given = [word for word in words.loose if word in modes]
    folders = [word for word in words.loose if word not in modes]
    if folders and not port.folder:
        raise UsageError(f"unexpected word {folders[0]!r}; name the data set's folder with --data_path")
    left_out, made = [], []
    for option in port.options:
        name = option.spellings[0]
        if name not in old or (name == "--max_step" and old[name] == "0"):  # PNASNet's default: whole epochs
            continue
        if option.refused:
            raise UsageError(f"{name} of the old program is not carried over; {option.refused}")
        if option.becomes is None:
            left_out.append(f"{name} ({option.why})")
        made += [word.format(old[name]) for word in (option.becomes or "").split()]
    mode = [*given, *("evaluate" for flag in port.evaluates if flag in old)][:1]
    if "--pretrained" in old:  # SENet154's: the weights of --resume with a new head
        mode = ["finetune"]
    if mode and mode != ["train"] and "--resume" in old:
        made += ["--checkpoint", old["--resume"]]
    elif "--resume" in old:
        made += ["--resume", old["--resume"]]
    start = _start_epoch(port, old, own)
    defaults = port.defaults.split()
    evaluating = mode == ["evaluate"] or "-e" in own or "--evaluate" in own
    translated = [*mode, *defaults, *_devices(port, old, own), *_precision(port, old), *_files(port, old, evaluating)]
    translated += [*(["--data-path", folders[0]] if folders else []), *made, *start, *_debug(old, own)]
    return [*translated, *words.rest], left_out


def _devices(port: Port, old: Mapping[str, str], own: Mapping[str, str]) -> List[str]:
    """How many devices, which of them is this process's, and what of the batch and the workers is one device's."""
    if not port.several:
        return []
    kind, rank, nodes, count = old.get("--device", port.device), old.get(port.rank), 1, 1
    if port.several == "always" or port.several in old:
        listed = len(old["--device_list"].split(",")) if "--device_list" in old else port.count[1]
        count = _whole({**old, **own}, "--num-devices", _whole(old, port.count[0], listed))
        nodes = max(1, _whole(old, "--world-size", 1))
    words = ["--device", kind]
    if count * nodes > 1:
        words += ["--distributed", "--num-devices", str(count)]
        if nodes > 1:
            words += ["--nnodes", str(nodes), "--node-rank", str(max(0, _whole(old, "--rank", 0)))]
            words += ["--master-addr", old["--addr"]] if "--addr" in old else []
        if rank is not None:  # one process for each device, which the old script starts
            words += ["--local-rank", rank, "--master-port", str(port.master_port)]
    elif port.numbers and _whole(old, port.rank, 0):
        words = ["--device", f"{kind}:{rank}"]
    if port.batch is not None:
        batch, devices = _whole(old, "--batch-size", port.batch), count * nodes
        if batch < devices:
            raise UsageError(f"--batch-size {batch} is for all {devices} devices; give a multiple of {devices}")
        words += ["--batch-size", str(batch // devices)]
        words += ["--workers", str(math.ceil(_whole(old, "--workers", 4) / count))]
    return words


def _precision(port: Port, old: Mapping[str, str]) -> List[str]:
    """SE-ResNet-50's program was in float32 without --amp, whatever --opt-level said."""
    if not port.amp:
        return []
    if "--amp" not in old:
        return ["--precision", "O0"]
    return ["--precision", old.get("--opt-level", "O2"), "--loss-scale", old.get("--loss-scale", "1024")]


def _files(port: Port, old: Mapping[str, str], evaluating: bool) -> List[str]:
    """PNASNet's folder of checkpoints and log; the record of an evaluation may not replace that of a training."""
    if not port.folder_option:
        return []
    folder = old.get(port.folder_option, "checkpoint")
    folder = os.path.join(folder, "evaluate") if evaluating else folder
    words = ["--output-dir", folder]
    return words + (["--log-file", os.path.join(folder, old["-log"])] if "-log" in old else [])


def _start_epoch(port: Port, old: Mapping[str, str], own: Mapping[str, str]) -> List[str]:
    epoch = _whole(old, "--start-epoch", 0)
    if epoch > 1 and port.numbered:  # SENet154 numbers its checkpoints by epoch, from 1
        return ["--resume", port.numbered.format(epoch - 1)]
    if epoch > 0 and not port.numbered and "--resume" not in {**old, **own}:
        raise UsageError(
            f"--start-epoch {epoch} without --resume would train the end of the schedule from new weights; name the"
            " checkpoint with --resume, which knows its epoch"
        )
    return []


def _debug(old: Mapping[str, str], own: Mapping[str, str]) -> List[str]:
    """SENet154's --debug stops after five printed lines."""
    printed = own.get("--print-freq", own.get("-p", "10"))
    return ["--steps-per-epoch", str(5 * int(printed))] if "--debug" in old and printed.isdigit() else []


def _whole(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"argument {name}: {text!r} does not fit; give a whole number") from None


# -- without it -------------------------------------------------------------------------------------------------


def _differences(words: Words) -> List[str]:
    """A line for each option that was typed and meant another thing in the ImageNet network's old program.

    Raises UsageError where --checkpoint names a folder that PNASNet's old program would have made.
    """
    own, notes = words.own, []
    network = own.get("--network") or own.get("--recipe", "se_resnet50")
    several = {"--distributed", "--multiprocessing-distributed", "--num-devices", "--num_devices"} & set(own)
    if network.startswith("se_resnet50") and several:
        for option, was in (("--batch-size", "of all devices together"), ("-b", "of all devices together")):
            if option in own:
                notes.append(_note(option, "is per device here", was, "se_resnet50"))
        for option in ("--workers", "-j"):
            if option in own:
                notes.append(_note(option, "is per device here", "of the whole machine", "se_resnet50"))
    typed = {"--multiprocessing-distributed", "--mom", "--addr", "--warm_up_epochs"} & set(own)
    if network.startswith("se_resnet50") and typed and not {"--amp", "--precision", "--opt-level"} & set(own):
        notes.append(_note("--amp", "is the default on a GPU and an NPU", "off unless given", "se_resnet50"))
    if "--max_step" in own:
        notes.append(_note("--max_step", "ends the training", "the end of each epoch", "pnasnet5large"))
    if network.startswith("pnasnet") and "--checkpoint" in own:
        folder = own["--checkpoint"]
        if not os.path.exists(os.path.expanduser(folder)):
            raise UsageError(
                f"there is no {folder}, and --checkpoint names weights to start from; for the output folder, which it"
                f" was in PNASNet's old program, give --output-dir {folder}, or --port pnasnet5large"
            )
        notes.append(_note("--checkpoint", "names weights to start from", "the output folder", "pnasnet5large"))
    return notes


def _note(option: str, here: str, was: str, port: str) -> str:
    return f"note: {option} {here}; in {PORTS[port].title}'s old program it was {was}: --port {port} reads it so"


def add_option(parser: ModeParser, half: str) -> None:
    """Add --port to the parser of a half, and the answers to options of the old programs."""
    names = [name for name, port in PORTS.items() if port.half == half]
    text = f"read the command line as an old port's program did, and say how: {', '.join(names)}"
    parser.options("what to run")("--port", type=one_of(*names), metavar="NAME", help=text)
    parser.replaced = _replaced(half, names)


def _replaced(half: str, names: Sequence[str]) -> Dict[str, str]:
    """What is said of the options of old programs that the parser of a half does not have, by option."""
    said = {}
    for option, instead in REPLACED[half].items():
        of = [name for name in names if any(option in known.spellings for known in PORTS[name].options)]
        whole = f"; or read the whole line as the old program did, with --port {' or '.join(of)}" if of else ""
        said[option] = instead + whole
    return said
