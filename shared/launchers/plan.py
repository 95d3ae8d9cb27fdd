"""Turns the options of a documented launcher into one command of main.py.

Options of main.py are passed on unchanged, in any spelling, and override the documented values. Nothing is started or
written here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from shared import recipes
from shared.checkpoint.folder import holds_one
from shared.cli.parser import Parser, number, one_of
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS, NEVER_READ, Launcher
from shared.launchers.placement import ADAPTERS, placement
from shared.system.paths import anywhere, on_disk

_EPILOG = """\
options of main.py, of which these are documented; python {half}/main.py --help-all lists all:
  --data_path=DIR          the data set; needed, except where --resume continues a training
  --train_epochs=N, --total_epochs=N, --seed=N
  --workers=N              input processes per device
{more}

--name=value and --name value are the same. Output: {half}/test/output/<device-id>/, see docs/launchers.md.
The Python is the one that PYTHON names, else python3 or python where it has the framework, else the checkout's own.
"""
_BATCH = "  --batch_size=N           images per step and device"
_MACHINES = "  --local_addr=A, --master_addr=A, --master_port=P    this machine's address, and machine 0's"
_CIFAR = """
  --iteration=N, --test_iteration=N    steps per epoch, batches per evaluation
  --ckpt_path=PATH         weights to start from"""


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
    head: Sequence[str] = ()  # the first lines of the console and the log
    mode: str = "launch"  # for shared.cli.entry_point


def make_plan(folder: Path, parser: Parser, name: str, argv: Sequence[str]) -> Plan:
    """The plan for the launcher `name` of the half in `folder` with these arguments; `parser` is that of its main.py.

    Raises UsageError for an option that neither the launcher nor main.py has, with the nearest, and for options that
    contradict each other; SystemExit after --help.
    """
    half = folder.name
    launcher = LAUNCHERS[half][name]
    for option in (argument.split("=")[0] for argument in argv):
        if option in NEVER_READ.get(half, {}):
            instead = NEVER_READ[half][option]
            raise UsageError(f"the original's help names {option}, but its script never reads it; use {instead}")
    own, rest = launcher_parser(half, name).parse_known_args(list(argv))
    parser.add_argument("--device_id", "--device-id")  # so that it can be the nearest to a misspelled one
    options = parser.parse_args([launcher.mode, *rest])
    if getattr(options, "mode_flag", None):
        raise UsageError(f"{name}.sh is for the mode {launcher.mode}; use python {half}/main.py {options.mode_flag}")
    if options.port is not None:
        raise UsageError("--port is for a command line of main.py; a launcher takes its port with --network=NAME")
    # Data and weights must be named: a result on the embedded sample would pass for the documented one.
    if launcher.needs_checkpoint and own.resume is None:
        raise UsageError(f"{name}.sh starts from trained weights; name them with --resume=PATH")
    if options.data_path is None and (own.resume is None or launcher.needs_checkpoint):
        raise UsageError(f"{name}.sh needs the data set; name its folder with --data_path=DIR")
    device, device_id, exported = placement(
        half, own.device, own.device_id, own.num_devices, os.environ, launcher.environment
    )
    output = folder / "test" / "output" / device_id
    run = output / name if options.output_dir is None else Path(options.output_dir)
    log = f"train_{device_id}" + (f"_node{own.node_rank}" if own.node_rank else "")
    command = [sys.executable, str(folder / "main.py"), launcher.mode, *_documented(launcher, own), "--device", device]
    command += [*_distributed(own), "--output-dir", str(run), *rest]
    adapters = ADAPTERS[half] if own.device is None else ()
    head = _first_line(half, name, own, options.recipe)
    return Plan(launcher, command, exported, output, output / f"{log}.log", run, own.node_rank == 0, adapters, head)


def _first_line(half: str, name: str, own: Any, recipe: Optional[str]) -> List[str]:
    """Which network was chosen, and how another is: three of the originals have launchers of the same names."""
    launcher = LAUNCHERS[half][name]
    networks = list(launcher.networks)
    if len(networks) == 1:
        return []
    if own.resume is not None and own.network is None and not _is_old_file(launcher, own):
        return [f"network: that of {own.resume}"]
    chosen, how = own.network or networks[0], "by --network" if own.network else "the default"
    if recipe is not None:
        chosen, how = own.network or recipes.get(recipe).network, f"by --recipe {recipe}"
    others = ", ".join(f"--network={network}" for network in networks if network != chosen)
    return [f"network: {chosen}, {how}; others: {others}, or test/NETWORK/{name}.sh"]


def launcher_parser(half: str, name: str) -> Parser:
    """The parser of the options that a launcher does not pass on to main.py unchanged."""
    launcher = LAUNCHERS[half][name]
    more = (_MACHINES if launcher.several_machines else _BATCH) + (_CIFAR if half == "tf_seresnet" else "")
    parser = Parser(
        prog=f"{half}/test/{name}.sh",
        usage="bash %(prog)s --data_path=DIR [options]",
        description=f"{launcher.title[0].upper()}{launcher.title[1:]}.",
        epilog=_EPILOG.format(half=half, more=more),
    )
    parser.set_defaults(network=None, nnodes=1, node_rank=0, batch_size=None)
    add = parser.add_argument
    if len(launcher.networks) > 1:
        names = ", ".join(launcher.networks)
        default = "the checkpoint's" if launcher.needs_checkpoint else next(iter(launcher.networks))
        add("--network", type=one_of(*launcher.networks), metavar="NAME", help=f"{names} (default: {default})")
    add("--device", metavar="KIND", help="npu (default), cuda, cpu, auto")
    device_id = "number of a single device (default: 0); ASCEND_DEVICE_ID overrides it"
    add("--device_id", "--device-id", metavar="N", help=device_id)
    count: Dict[str, Any] = {"type": number(int, 1), "metavar": "N"}
    devices = f"devices on this machine (default: {launcher.devices})"
    add("--num_devices", "--num-devices", default=launcher.devices, help=devices, **count)
    if launcher.needs_checkpoint:
        weights = "the weights; a run's folder, a file, hf-hub:OWNER/NAME or a URL"
        add("--resume", "--checkpoint", "--ckpt_path", type=anywhere, metavar="PATH", help=weights)
    else:
        add("--resume", type=on_disk, metavar="PATH", help="continue the run in this folder, or of an old file")
    if launcher.several_machines:
        add("--nnodes", default=1, help="machines (default: 1)", **count)
        rank = "number of this machine, from 0 (default: 0)"
        add("--node_rank", "--node-rank", type=number(int, 0), default=0, metavar="R", help=rank)
        batch = "images per step over all devices of all machines, as documented for this launcher only"
        add("--batch_size", "--batch-size", "--train-batch", "-b", help=batch, **count)
    return parser


def _documented(launcher: Launcher, own: Any) -> List[str]:
    """The documented options, which the rest of the command line overrides; a run that is resumed has them itself."""
    documented = launcher.networks[own.network or next(iter(launcher.networks))].split()
    if own.resume is None:
        return documented
    if _is_old_file(launcher, own):
        return [*documented, "--resume", own.resume]
    source = ["--checkpoint" if launcher.needs_checkpoint else "--resume", own.resume]
    return [*source, *(["--network", own.network] if own.network else [])]


def _is_old_file(launcher: Launcher, own: Any) -> bool:
    """Whether a training goes on from an old port's file, which does not say what was trained."""
    path = own.resume
    return path is not None and not launcher.needs_checkpoint and os.path.isfile(path) and not holds_one(path)


def _distributed(own: Any) -> List[str]:
    """main.py's options for several devices and machines; of the global batch size, the share of each device."""
    devices = own.num_devices * own.nnodes
    options = ["--distributed", "--num-devices", str(own.num_devices)] if devices > 1 else []
    if own.nnodes > 1:
        options += ["--nnodes", str(own.nnodes), "--node-rank", str(own.node_rank)]
    if own.batch_size is not None:
        if own.batch_size % devices:
            raise UsageError(
                f"--batch_size={own.batch_size} is for all {devices} devices; give a multiple of {devices}"
            )
        options += ["--batch_size", str(own.batch_size // devices)]
    return options
