"""Turns the options of a documented launcher into one command of main.py.

Options of main.py are passed on unchanged, in any spelling, and override the documented values. Nothing is started or
written here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set

from shared.cli.arguments import Parser, number, one_of
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS, NEVER_READ, Launcher
from shared.launchers.placement import ADAPTERS, Placement, placement
from shared.system.paths import on_disk

OUTPUT = Path("test") / "output"  # in the folder of the half


@dataclass(frozen=True)
class Half:
    """A half: its name, its folder and a function that returns the parser of its main.py."""

    name: str
    folder: Path
    parser: Callable[[], Parser]


@dataclass(frozen=True)
class Plan:
    """What a launcher does: the command, its environment variables, and where the files go."""

    launcher: Launcher
    command: List[str]
    exported: Mapping[str, str]
    output: Path  # test/output/<device-id>
    log: Path  # the command's output, in the folder `output`
    run: Path  # the run's folder
    first: bool  # whether rank 0, which writes the run's folder, is on this machine
    adapters: Sequence[str] = ()  # packages of which one must be installed, because no device was named
    mode: str = "launch"  # for shared.cli.entry_point


def make_plan(half: Half, name: str, argv: Sequence[str]) -> Plan:
    """The plan for the launcher `name` of the half with these arguments.

    Raises UsageError for an option that neither the launcher nor main.py has, with the nearest, and for options that
    contradict each other; SystemExit after --help.
    """
    launcher = LAUNCHERS[half.name][name]
    _refuse_never_read(half.name, argv)
    own, rest = launcher_parser(half.name, name).parse_known_args(list(argv))
    parser = half.parser()
    parser.add_argument("--device_id", "--device-id")  # so that it can be the nearest to a misspelled one
    options = parser.parse_args([launcher.mode, *rest])
    if getattr(options, "mode_flag", None):
        raise UsageError(
            f"{name}.sh is for the mode {launcher.mode}; for {options.mode_flag} use python {half.name}/main.py"
            f" {options.mode_flag}"
        )
    _check_sources(name, launcher, own, options)
    placed = placement(half.name, own.device, own.device_id, own.num_devices, os.environ, launcher.environment)
    output = half.folder / OUTPUT / placed.device_id
    run = output / name if options.output_dir is None else Path(options.output_dir)
    node = int(getattr(own, "node_rank", None) or 0)
    log = f"train_{placed.device_id}" + (f"_node{node}" if node else "")
    command = [
        sys.executable,
        str(half.folder / "main.py"),
        launcher.mode,
        *_documented(parser, launcher, own, rest),
        *_device_options(placed, own),
        "--output-dir",
        str(run),
        *rest,
    ]
    adapters = ADAPTERS[half.name] if own.device is None else ()
    return Plan(launcher, command, placed.exported, output, output / f"{log}.log", run, node == 0, adapters)


def launcher_parser(half: str, name: str) -> Parser:
    """The parser of the options that a launcher does not pass on to main.py unchanged."""
    launcher = LAUNCHERS[half][name]
    needed = "needed" if launcher.needs_checkpoint else "needed, except with --resume"
    parser = Parser(
        prog=f"{half}/test/{name}.sh",
        usage="bash %(prog)s --data_path=DIR [options]",
        description=f"{launcher.title[0].upper()}{launcher.title[1:]}.",
        epilog="\n".join(_documented_options(half, launcher, needed)) + _EPILOG.format(half=half),
    )
    add = parser.add_argument
    if len(launcher.networks) > 1:
        default = "the checkpoint's" if launcher.needs_checkpoint else next(iter(launcher.networks))
        add(
            "--network",
            type=one_of(*launcher.networks),
            metavar="NAME",
            help=f"{', '.join(launcher.networks)} (default: {default})",
        )
    add("--device", metavar="KIND", help="npu (default), cuda, cpu, auto")
    add(
        "--device_id",
        "--device-id",
        metavar="N",
        help="number of a single device (default: 0); ASCEND_DEVICE_ID overrides it",
    )
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
    return parser


def _add_machines(add: Any) -> None:
    add("--nnodes", type=number(int, 1), default=1, metavar="N", help="machines (default: 1)")
    add(
        "--node_rank",
        "--node-rank",
        type=number(int, 0),
        default=0,
        metavar="R",
        help="number of this machine, from 0 (default: 0)",
    )
    add(
        "--batch_size",
        "--batch-size",
        "--train-batch",
        "-b",
        type=number(int, 1),
        metavar="N",
        help="images per step over all devices of all machines, as documented for this launcher only",
    )


def _documented_options(half: str, launcher: Launcher, needed: str) -> List[str]:
    """Lines of the help: the documented options of main.py that apply to this launcher."""
    lines = [
        f"options of main.py, of which these are documented; python {half}/main.py --help lists all:",
        f"  --data_path=DIR          the data set; {needed}",
    ]
    if launcher.several_machines:
        lines.append("  --local_addr=A, --master_addr=A, --master_port=P    this machine's address, and machine 0's")
    else:
        lines.append("  --batch_size=N           images per step and device")
    if launcher.mode != "evaluate":
        lines.append("  --train_epochs=N, --total_epochs=N, --seed=N")
    if half == "tf_seresnet":
        lines += [
            "  --iteration=N, --test_iteration=N    steps per epoch, batches per evaluation",
            "  --ckpt_path=PATH         weights to start from",
        ]
    return [*lines, "  --workers=N              input processes per device"]


_EPILOG = """

--name=value and --name value are the same. Output: {half}/test/output/<device-id>/, see docs/launchers.md.
The Python is the one that PYTHON names, else python3 or python where it has the framework, else the checkout's own.
"""


def _refuse_never_read(half: str, argv: Sequence[str]) -> None:
    for argument in argv:
        option = argument.split("=")[0]
        instead = NEVER_READ[half].get(option)
        if instead:
            raise UsageError(f"the original's help names {option}, but its script never reads it; use {instead}")


def _check_sources(name: str, launcher: Launcher, own: Any, options: Any) -> None:
    """Data and weights must be named: a result on the embedded sample would pass for the documented one."""
    if launcher.needs_checkpoint and own.resume is None:
        raise UsageError(f"{name}.sh starts from trained weights; name them with --resume=PATH")
    if options.data_path is None and (own.resume is None or launcher.needs_checkpoint):
        raise UsageError(f"{name}.sh needs the data set; name its folder with --data_path=DIR")


def _documented(parser: Parser, launcher: Launcher, own: Any, rest: Sequence[str]) -> List[str]:
    """The documented options that the command line does not override; with --resume the checkpoint has them."""
    network = getattr(own, "network", None)
    if own.resume is not None:
        source = ["--checkpoint" if launcher.needs_checkpoint else "--resume", own.resume]
        return [*source, *(["--network", network] if network else [])]
    documented: Dict[str, str] = dict(launcher.networks[network or next(iter(launcher.networks))])
    overridden = _destinations(parser, rest)
    options = [(f"--{key.replace('_', '-')}", value) for key, value in documented.items() if key not in overridden]
    return [argument for option in options for argument in option]


def _destinations(parser: Parser, argv: Sequence[str]) -> Set[str]:
    """The names in the parser's namespace that these arguments set."""
    known = parser._option_string_actions
    options = [text.split("=")[0] for text in argv] + [text[:2] for text in argv if text[:2] != "--"]  # -b4 is -b 4
    return {known[option].dest for option in options if option in known}


def _device_options(placed: Placement, own: Any) -> List[str]:
    """main.py's options for the device and, where there are several, the ranks."""
    options = ["--device", placed.device]
    machines = getattr(own, "nnodes", 1)
    if own.num_devices > 1 or machines > 1:
        options += ["--distributed", "--num-devices", str(own.num_devices)]
    if machines > 1:
        options += ["--nnodes", str(machines), "--node-rank", str(own.node_rank)]
    if getattr(own, "batch_size", None) is not None:
        options += ["--batch-size", str(_per_device(own.batch_size, own.num_devices * machines))]
    return options


def _per_device(batch_size: int, devices: int) -> int:
    if batch_size % devices:
        raise UsageError(
            f"--batch_size={batch_size} is for all {devices} devices and is not divisible by {devices}; give a"
            f" multiple of {devices}"
        )
    return batch_size // devices
