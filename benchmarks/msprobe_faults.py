"""Faults of a port, each planted on one side, as `msprobe compare` and `check-port` judge them.

    python benchmarks/msprobe_faults.py --folder DIR [--output results/port_check/msprobe-se_resnet50-cpu.csv]

msProbe dumps two training steps without and with the fault (task "statistics", its default, level "L0") and compares
them with its own command; `check-port` gets the faulty step alone. SE-ResNet-50 with 10 classes, 4 images of 64 pixels,
on the CPU; PNASNet-5-Large for its padding. Needs msProbe: `pip install mindstudio-probe` beside torch. DIR gets dumps
and tables, 20 MB. The table that it prints is the one in docs/port-check.md.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import dataclasses
import importlib.metadata
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from shared import recipes  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.devices.precision import precision  # noqa: E402
from torch_imagenet.distributed.process_group import ALONE  # noqa: E402
from torch_imagenet.input_pipeline.loader import Batch  # noqa: E402
from torch_imagenet.networks.spec import NetworkSpec  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402
from torch_imagenet.port_check.record_step import record_step  # noqa: E402
from torch_imagenet.port_check.reference import compare_trace  # noqa: E402
from torch_imagenet.run.setup import RunSetup  # noqa: E402
from torch_imagenet.step.loss_scale import LossScale  # noqa: E402
from torch_imagenet.step.training_step import TrainingStep  # noqa: E402

CLASSES, STEPS = 10, 2


class Fault(NamedTuple):
    """What is planted, and the rows of msProbe's table that are about it, by the beginning of their names."""

    where: str  # in words
    rows: str  # "" where msProbe has no row about it
    plant: Callable[[Any], Any] = lambda network: None
    recipe: Dict[str, Any] = {}  # what the faulty side changes in it
    patch: Callable[[], ContextManager[Any]] = contextlib.nullcontext
    level: str = "O0"
    golden: Optional[str] = None  # the precision of the other side, where it is another
    network: str = "se_resnet50"
    both: Callable[[Any], Any] = lambda network: None  # of both sides: the situation, not the fault


def _epsilon(network: Any) -> None:
    network.layer2[1].bn2.eps = 1e-3


def _padding(network: Any) -> None:
    for layer in network.cell_4.modules():
        if hasattr(layer, "shifted"):
            layer.shifted = False


def _channels(network: Any) -> None:
    forward = network.forward
    network.forward = lambda images: forward(images.flip(1))


def _evaluation_mode(network: Any) -> None:
    layer = network.layer2[1].bn1
    layer.training = False
    layer.train = lambda mode=True: layer


def _stale_mean(network: Any) -> None:
    network.layer2[1].bn1.momentum = 0.0


def _one_weight(network: Any) -> None:
    network.layer2[1].conv2.weight.data[3, 4, 1, 1] += 0.01


def _transposed(network: Any) -> None:
    weight = network.layer2[1].conv2.weight
    weight.data = weight.data.transpose(2, 3).contiguous()


def _gate_after_addition(network: Any) -> None:
    block = network.layer2[1]

    def forward(x: torch.Tensor) -> Any:
        branch = block.relu(block.bn1(block.conv1(x)))
        branch = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(branch)))))
        return block.relu(block.se(block.drop_path(branch) + x))

    block.forward = forward


def _huge(network: Any) -> None:
    network.layer2[1].conv3.weight.data *= 1e5


def _scale_twice() -> ContextManager[Any]:
    scale = torch.amp.GradScaler.scale
    return mock.patch.object(LossScale, "scale", lambda self, loss: scale(self, scale(self, loss)))


def _no_update() -> ContextManager[Any]:
    return mock.patch.object(LossScale, "step_and_update", return_value=None)


BLOCK = "Module.layer2.1."
FAULTS: Dict[str, Fault] = {
    "epsilon 1e-3, not 1e-5": Fault("layer2.1.bn2", BLOCK + "bn2.BatchNorm2d.forward", _epsilon),
    "no zero padding (PNASNet)": Fault("cell_4", "Module.cell_4.", _padding, network="pnasnet5large"),
    "channels in reverse order": Fault("conv1, input", "Module.conv1.Conv2d.forward.0.input", _channels),
    "normalisation in evaluation mode": Fault("layer2.1.bn1", BLOCK + "bn1.BatchNorm2d.forward", _evaluation_mode),
    "float16 overflow": Fault(
        "layer2.1.conv3", BLOCK + "conv3.Conv2d.forward.0.output", level="O1", golden="O0", both=_huge
    ),
    "stale running mean": Fault("layer2.1.bn1", "", _stale_mean),
    "one wrong weight": Fault("layer2.1.conv2", BLOCK + "conv2.Conv2d.forward", _one_weight),
    "kernel transposed": Fault("layer2.1.conv2", BLOCK + "conv2.Conv2d.forward", _transposed),
    "gate after the addition": Fault("layer2.1.se", BLOCK, _gate_after_addition),
    "loss scale applied twice": Fault("the loss", "Module.fc.Linear.backward", patch=_scale_twice, level="O1"),
    "another smoothing formula": Fault("the loss", "Module.fc.Linear.backward", recipe={"smoothing": "others"}),
    "no decay of biases and norms": Fault("the update", "", recipe={"decayed": "weights"}),
    "an update skipped": Fault("the update", "", patch=_no_update),
}


def batch() -> Batch:
    """Four random images of 64 pixels and their labels."""
    pixels = np.random.RandomState(0).randint(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    return Batch(torch.from_numpy(pixels), torch.arange(4) % CLASSES, ())


def setup(fault: Fault, level: str) -> RunSetup:
    """The documented recipe without the fault, with label smoothing, at this precision."""
    recipe = recipes.get(f"{fault.network}_1p").override(label_smoothing=0.1, smoothing="uniform")
    scale = "64" if level == "O1" else None
    recipe = recipe.override(precision=level, loss_scale=scale, auxiliary_weight=0.0, dropout=0.0, drop_path=0.0)
    spec = NetworkSpec.from_recipe(recipe, CLASSES)
    return RunSetup(RunConfig.from_argv([]), open_device("cpu"), ALONE, recipe, spec, precision(level), None)


def network(fault: Fault) -> nn.Module:
    """The same random weights every time, batch normalisation's included."""
    torch.manual_seed(1)
    made = setup(fault, "O0").spec.make()
    for name, value in made.named_parameters():
        if value.ndim == 1:
            torch.nn.init.uniform_(value, 0.5, 1.5) if name.endswith("weight") else torch.nn.init.uniform_(value, -1, 1)
    fault.both(made)
    return made


def dump(fault: Fault, level: str, faulty: bool, folder: Path) -> None:
    """Two training steps as msProbe dumps them, into FOLDER/step0 and step1; it does so once in a process."""
    from msprobe.pytorch import PrecisionDebugger

    folder.mkdir(parents=True)
    task = {"scope": [], "list": [], "data_mode": ["all"], "summary_mode": "statistics"}
    config = {"task": "statistics", "dump_path": str(folder), "rank": [], "step": [], "level": "L0", "statistics": task}
    (folder / "config.json").write_text(json.dumps(config))
    run, side = setup(fault, level), network(fault)
    recipe = run.recipe.override(**fault.recipe) if faulty else run.recipe
    if faulty:
        fault.plant(side)
    debugger = PrecisionDebugger(config_path=str(folder / "config.json"))
    with fault.patch() if faulty else contextlib.nullcontext():
        step = TrainingStep(side, dataclasses.replace(run, recipe=recipe))
        for number in range(STEPS):
            debugger.start(model=step.network)
            step.run([batch()], recipe.largest_rate, 0, number)
            debugger.stop()
            debugger.step()


def file_name(text: str) -> str:
    """The text as part of a path that msProbe takes."""
    return re.sub(r"[^\w-]+", "_", text)


def dumped(name: str, level: str, faulty: bool, folder: Path) -> Path:
    """The dump, made in a process of its own unless it is there."""
    fault = FAULTS[name]
    situation = "huge" if fault.both is _huge else "plain"
    path = folder / file_name(name if faulty else f"clean {fault.network} {level} {situation}")
    if not (path / "done").exists():
        words = [
            sys.executable,
            __file__,
            "--folder",
            str(path),
            "--dump",
            name,
            level,
            "faulty" if faulty else "clean",
        ]
        with open(f"{path}.log", "wb") as log:
            subprocess.run(words, check=True, stdout=log, stderr=log)
        (path / "done").touch()
    return path


def msprobes(name: str, folder: Path) -> Dict[str, Any]:
    """What `msprobe compare` says of the first step in which any number differs."""
    fault = FAULTS[name]
    target = dumped(name, fault.level, True, folder)
    golden = dumped(name, fault.golden or fault.level, False, folder)
    said: Dict[str, Any] = {}
    for step in range(STEPS):
        output = target / f"compared{step}"
        sides = ["--target_path", target / f"step{step}", "--golden_path", golden / f"step{step}"]
        command = [Path(sys.executable).parent / "msprobe", "compare", *sides, "--output_path", output]
        with open(target / "compare.log", "ab") as log:
            subprocess.run([str(word) for word in command], check=True, stdout=log, stderr=log)
        table = max(output.glob("*.csv"))  # the newest; their names have the time
        with table.open(newline="") as file:
            said = {"step": step + 1, **verdicts(list(csv.DictReader(file)), fault.rows)}
        if said["first_different"]:
            break
    return said


def verdicts(rows: List[Dict[str, str]], about: str) -> Dict[str, Any]:
    """The counts of a table of msProbe, whether a row whose name begins with `about` is marked, and the first ones."""
    counts = {kind: sum(row["Result"] == kind for row in rows) for kind in ("pass", "warning", "error")}
    named = [(f"{number}: {row['NPU Name']}", row) for number, row in enumerate(rows, 1)]
    marked = [name for name, row in named if row["Result"] != "pass"]
    pairs = [(f"NPU {what}", f"Bench {what}") for what in ("max", "min", "mean", "l2norm")]
    different = [name for name, row in named if any(row[one] != row[other] for one, other in pairs)]
    return {
        "rows": len(rows),
        **counts,
        "marked": bool(about) and any(name.split(": ")[1].startswith(about) for name in marked),
        "first_marked": marked[0] if marked else "",
        "first_different": different[0] if different else "",
    }


def ours(name: str) -> Dict[str, Any]:
    """What `check-port` says of the faulty side."""
    fault, clean = FAULTS[name], network(FAULTS[name])
    run, side = setup(fault, fault.level), copy.deepcopy(clean)
    fault.plant(side)
    with fault.patch():
        trace = record_step(dataclasses.replace(run, recipe=run.recipe.override(**fault.recipe)), side, batch(), 1)
    first = compare_trace(run.recipe, clean, trace).verdict.first
    if first is None:
        return {"first_layer": "", "first_quantity": "", "x_rounding": "", "exit_status": 0}
    return {
        "first_layer": first.layer or "the loss",
        "first_quantity": f"{first.stage}, {first.quantity}",
        "x_rounding": f"{first.units:.4g}" if math.isfinite(first.units) else "infinite",
        "exit_status": 3,
    }


def markdown(rows: List[Dict[str, Any]]) -> str:
    """The table of docs/port-check.md."""
    head = ["fault", "where", "step", "pass", "warning", "error", "its layer marked", "first row that is marked"]
    head += ["first row that differs", "first value out of tolerance", "x rounding"]
    lines = ["|".join(head), "---|---|" + "---:|" * 4 + "---|" * 4 + "---:"]
    for row in rows:
        first, different = (row[key].replace("Module.", "") or "none" for key in ("first_marked", "first_different"))
        found = f"{row['first_layer']} ({row['first_quantity']})" if row["exit_status"] else "none"
        counts = [f"{row[kind]:,}" for kind in ("step", "pass", "warning", "error")]
        marked = "yes" if row["marked"] else "no"
        cells = [row["fault"], row["where"], *counts, marked, first, different, found, row["x_rounding"]]
        lines.append("|".join(cells))
    return "\n".join(f"|{line}|" for line in lines)


def main() -> int:
    """Parse the options, run every fault through both, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--folder", type=Path, required=True, help="for dumps and msProbe's tables")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a CSV file with all figures")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME")
    parser.add_argument("--dump", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dump:
        dump(FAULTS[options.dump[0]], options.dump[1], options.dump[2] == "faulty", options.folder)
        return 0
    try:
        version = importlib.metadata.version("mindstudio-probe")
    except importlib.metadata.PackageNotFoundError:
        print("error: msProbe is not installed; pip install mindstudio-probe", file=sys.stderr)
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.only:
        done = options.folder / f"{file_name(name)}.json"  # so that an interrupted run goes on
        if not done.exists():
            row = {"fault": name, "where": FAULTS[name].where, **msprobes(name, options.folder), **ours(name)}
            done.write_text(json.dumps(row))
        rows.append(json.loads(done.read_text()))
    print(f"msProbe {version}, torch {torch.__version__}\n{markdown(rows)}")
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
