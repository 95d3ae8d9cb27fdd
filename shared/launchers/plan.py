"""From the options of a documented launcher to one command of main.py.

Options that main.py has are handed on as they are, whatever their spelling. A documented value gives way to one on the
command line. Nothing is started and nothing written here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set, Tuple

from shared.cli.arguments import Parser, number, one_of
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS, NEVER_READ, Launcher
from shared.launchers.placement import ADAPTERS, Placement, placement
from shared.system.paths import on_disk

OUTPUT = Path("test") / "output"  # in the folder of the half


@dataclass(frozen=True)
class Half:
    """A half as a launcher knows it: its name, its folder and what makes the parser of its main.py."""

    name: str
    folder: Path
    parser: Callable[[], Parser]


@dataclass(frozen=True)
class Plan:
    """What a launcher does: the command, what is exported to it, and where its files go."""

    launcher: Launcher
    command: List[str]
    exported: Mapping[str, str]
    output: Path  # test/output/<device-id>
    log: Path  # what the command says, in `output`
    run: Path  # the run's own folder
    first: bool  # whether rank 0, which writes the run's folder, is on this machine
    adapters: Sequence[str] = ()  # one of these packages is needed, because no device was named
    mode: str = "launch"  # for shared.cli.entry_point


def make_plan(half: Half, name: str, words: Sequence[str]) -> Plan:
    """The plan for the launcher `name` of the half with these words behind it.

    Raises UsageError for an option that neither the launcher nor main.py has, with the nearest, and where options
    contradict each other; SystemExit after --help.
    """
    launcher = LAUNCHERS[half.name][name]
    _refuse_never_read(half.name, words)
    own, rest = launcher_parser(half.name, name).parse_known_args(list(words))
    parser = half.parser()
    parser.add_argument("--device_id", "--device-id")  # so that it can be the nearest to a misspelled one
    options = parser.parse_args([launcher.mode, *rest])
    if getattr(options, "mode_flag", None):
        raise UsageError(
            f"{name}.sh is for the mode {launcher.mode}; for {options.mode_flag} use python {half.name}/main.py"
            f" {options.mode_flag}"
        )
    _check_sources(name, launcher, own, options)
    place = placement(half.name, own.device, own.device_id, own.num_devices, os.environ, launcher.environment)
    output = half.folder / OUTPUT / place.device_id
    run = output / name if options.output_dir is None else Path(options.output_dir)
    node = int(getattr(own, "node_rank", None) or 0)
    log = f"train_{place.device_id}" + (f"_node{node}" if node else "")
    command = [
        sys.executable,
        str(half.folder / "main.py"),
        launcher.mode,
        *_documented(parser, launcher, own, rest),
        *_placed(place, own),
        "--output-dir",
        str(run),
        *rest,
    ]
    adapters = ADAPTERS[half.name] if own.device is None else ()
    return Plan(launcher, command, place.exported, output, output / f"{log}.log", run, node == 0, adapters)


def launcher_parser(half: str, name: str) -> Parser:
    """The options that a launcher does not hand on to main.py as they are."""
    launcher = LAUNCHERS[half][name]
    needed = "needed" if launcher.needs_checkpoint else "needed, except with --resume"
    made = Parser(
        prog=f"{half}/test/{name}.sh",
        usage="bash %(prog)s --data_path=DIR [options]",
        description=f"{launcher.title[0].upper()}{launcher.title[1:]}.",
        epilog="\n".join(_documented_options(half, launcher, needed)) + _EPILOG.format(half=half),
    )
    add = made.add_argument
    if len(launcher.networks) > 1:
        default = "the checkpoint's" if launcher.needs_checkpoint else next(iter(launcher.networks))
        add(
            "--network",
            type=one_of(*launcher.networks),
            metavar="NAME",
            help=f"{', '.join(launcher.networks)} (default: {default})",
        )
    add("--device", metavar="KIND", help="npu (default), cuda, cpu, auto")
    add("--device_id", "--device-id", metavar="N", help="which one, of one alone (default: 0); ASCEND_DEVICE_ID wins")
    add(
        "--num_devices",
        "--num-devices",
        type=number(int, 1),
        default=launcher.devices,
        metavar="N",
        help=f"devices on this machine (default: {launcher.devices})",
    )
    if launcher.needs_checkpoint:
        add(
            "--resume",
            "--checkpoint",
            "--ckpt_path",
            type=on_disk,
            metavar="PATH",
            help="the weights; a run's folder or a file",
        )
    else:
        add("--resume", type=on_disk, metavar="PATH", help="continue the run in this folder exactly")
    if launcher.several_machines:
        _add_machines(add)
    return made


def _add_machines(add: Any) -> None:
    add("--nnodes", type=number(int, 1), default=1, metavar="N", help="machines (default: 1)")
    add(
        "--node_rank",
        "--node-rank",
        type=number(int, 0),
        default=0,
        metavar="R",
        help="this one's number, from 0 (default: 0)",
    )
    add(
        "--batch_size",
        "--batch-size",
        "--train-batch",
        "-b",
        type=number(int, 1),
        metavar="N",
        help="images a step of all devices of all machines, as documented for this launcher alone",
    )


def _documented_options(half: str, launcher: Launcher, needed: str) -> List[str]:
    """The documented options that go on to main.py: those that it takes, and this launcher has a use for."""
    lines = [
        f"options of main.py, of which these are documented; python {half}/main.py --help lists all:",
        f"  --data_path=DIR          the data set; {needed}",
    ]
    if launcher.several_machines:
        lines.append("  --local_addr=A, --master_addr=A, --master_port=P    this machine's address, and machine 0's")
    else:
        lines.append("  --batch_size=N           images a step and device")
    if launcher.mode != "evaluate":
        lines.append("  --train_epochs=N, --total_epochs=N, --seed=N")
    if half == "tf_seresnet":
        lines += [
            "  --iteration=N, --test_iteration=N    steps an epoch, batches of an evaluation",
            "  --ckpt_path=PATH         weights to start from",
        ]
    return [*lines, "  --workers=N              input processes a device"]


_EPILOG = """

--name=value and --name value are the same. Output: {half}/test/output/<device-id>/, see docs/launchers.md.
The Python is the one that PYTHON names, else python3 or python where it has the framework, else the checkout's own.
"""


def _refuse_never_read(half: str, words: Sequence[str]) -> None:
    for word in words:
        option = word.split("=")[0]
        instead = NEVER_READ[half].get(option)
        if instead:
            raise UsageError(f"the original's help names {option}, but its script never reads it; use {instead}")


def _check_sources(name: str, launcher: Launcher, own: Any, options: Any) -> None:
    """Data and weights must be named: a documented launcher that took the sample would be taken for the real thing."""
    if launcher.needs_checkpoint and own.resume is None:
        raise UsageError(f"{name}.sh starts from trained weights; name them with --resume=PATH")
    if options.data_path is None and (own.resume is None or launcher.needs_checkpoint):
        raise UsageError(f"{name}.sh needs the data set; name its folder with --data_path=DIR")


def _documented(parser: Parser, launcher: Launcher, own: Any, rest: Sequence[str]) -> List[str]:
    """The documented options, without those that the command line gives; with --resume the checkpoint has them all."""
    network = getattr(own, "network", None)
    if own.resume is not None:
        words = ["--checkpoint" if launcher.needs_checkpoint else "--resume", own.resume]
        return [*words, *(["--network", network] if network else [])]
    documented: Dict[str, str] = dict(launcher.networks[network or next(iter(launcher.networks))])
    given = _given(parser, rest)
    return [word for key, value in documented.items() if key not in given for word in _option(key, value)]


def _given(parser: Parser, words: Sequence[str]) -> Set[str]:
    """What these words set, by the names in the namespace."""
    known = parser._option_string_actions
    options = [word.split("=")[0] for word in words] + [word[:2] for word in words if word[:2] != "--"]  # -b4 is -b 4
    return {known[option].dest for option in options if option in known}


def _placed(place: Placement, own: Any) -> List[str]:
    """The device, and the ranks where there are several."""
    words = ["--device", place.device]
    machines = getattr(own, "nnodes", 1)
    if own.num_devices > 1 or machines > 1:
        words += ["--distributed", "--num-devices", str(own.num_devices)]
    if machines > 1:
        words += ["--nnodes", str(machines), "--node-rank", str(own.node_rank)]
    if getattr(own, "batch_size", None) is not None:
        words += ["--batch-size", str(_per_device(own.batch_size, own.num_devices * machines))]
    return words


def _per_device(batch_size: int, devices: int) -> int:
    if batch_size % devices:
        raise UsageError(
            f"--batch_size={batch_size} is that of all {devices} devices here and does not divide among them; give a"
            f" multiple of {devices}"
        )
    return batch_size // devices


def _option(key: str, value: str) -> Tuple[str, str]:
    return "--" + key.replace("_", "-"), value
