"""Compares what recipes and networks reach: python benchmarks/accuracy.py COMPARISON --data-path DIR [options].

cifar10       the modern recipe against the documented one, on all of CIFAR-10, in about an hour of two cores
imagenette    se_resnet50 against timm's seresnet50 in the same loop, from random weights
se_resnet110  the documented recipe and the modern one at full length: 160 epochs, 110 layers; for a GPU

Every training is a run of the program with a seed of its own. What is stopped, by Ctrl-C or --minutes, goes on where it
was when the same command is given again. benchmarks/README.md has the results, docs/accuracy.md what they mean.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Dict, List, Tuple

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of this folder

from shared.cli.interpreter import INSTALL_TORCH, unfit  # noqa: E402

if unfit((3, 9), INSTALL_TORCH):
    sys.exit(2)

from benchmarks.comparisons import held_out, plan, records, table  # noqa: E402
from benchmarks.comparisons.training import Training, train  # noqa: E402
from benchmarks.environments import ROOT, Environments, advice  # noqa: E402
from shared.cli.entry_point import run as run_command  # noqa: E402
from shared.cli.parser import Argv, Parser, number, one_of  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.system.paths import expanded, writing  # noqa: E402
from shared.system.signals import Interrupts  # noqa: E402
from shared.text import nearest  # noqa: E402

COMMITTED = ROOT / "benchmarks" / "records"
DOCUMENT = ROOT / "benchmarks" / "README.md"


def parser() -> Parser:
    """All options. None of them changes a recipe."""
    result = Parser(prog="python benchmarks/accuracy.py", description=__doc__)
    result.set_defaults(mode="measure")
    add = result.add_argument
    add("comparison", nargs="?", type=one_of(*plan.NAMES), metavar="COMPARISON", help=", ".join(plan.NAMES))
    add("--data-path", type=expanded, metavar="DIR", help="CIFAR-10, or imagenette with train/ and val/")
    held = "of cifar10: compare the candidates on training images that are held out; test images are not read"
    add("--choose", action="store_true", help=held)
    add("--seeds", type=number(int, 1), metavar="N", help="trainings of each side (default: as the comparison has it)")
    add("--only", nargs="+", metavar="SIDE", help="train these sides")
    add("--minutes", type=number(float, 0), metavar="N", help="stop after so long; the same command goes on later")
    add("--device", default="cpu", help="cpu (default), cuda:0, ...")
    add("--precision", default="O0", type=one_of("O0", "bf16"), help="of every training: O0 (float32, default), bf16")
    add(
        "--layers", type=one_of("core", "keras"), help="of the CIFAR-10 half: core (default), or keras on KERAS_BACKEND"
    )
    add("--python", nargs="+", metavar="PATH", help="environments to use (default: .venv, .venv-torch, this Python)")
    add("--runs", type=expanded, default="runs/accuracy", metavar="DIR", help="of the trainings: runs/accuracy")
    add("--records", type=expanded, default="runs/benchmarks", metavar="DIR", help="default: runs/benchmarks")
    tiny = "the smallest sizes, on the embedded sample, which measure nothing: to see whether everything runs here"
    add("--tiny", action="store_true", help=tiny)
    show = "print the table of the records, and end"
    add("--table", dest="mode", action="store_const", const="table", help=show)
    renew = "renew the tables of benchmarks/README.md from benchmarks/records, and end"
    add("--document", dest="mode", action="store_const", const="document", help=renew)
    return result


def main(argv: Argv = None) -> int:
    """The exit status; see `shared.cli.entry_point`."""
    modes = {
        "measure": measure,
        "table": lambda options, _: _say(_table(options, chosen(options), {})),
        "document": lambda options, _: renew_document(),
    }
    return run_command(lambda: parser().parse_args(argv), modes)


def chosen(options: Namespace) -> plan.Comparison:
    """The comparison that the options name. Raises UsageError."""
    if options.comparison is None:
        raise UsageError(f"no comparison is named; give one of {', '.join(plan.NAMES)}")
    if options.choose and options.comparison != "cifar10":
        raise UsageError(f"{options.comparison} has no candidates to choose from; leave --choose out")
    name = options.comparison + ("-choice" if options.choose else "")
    whole = plan.comparison(name, options.tiny, options.precision)
    known = [side.name for side in whole.sides]
    for side in options.only or ():
        if side not in known:
            raise UsageError(f"{options.comparison} has no side {side!r}; {nearest(side, known)}")
    if options.layers and whole.half != "tf_seresnet":
        raise UsageError(f"--layers is of the CIFAR-10 half; leave it out for {options.comparison}")
    return whole


def measure(options: Namespace, interrupts: Interrupts) -> None:
    """Train what has no record yet, record it and show the table. Raises UsageError, Stopped."""
    deadline = time.monotonic() + 60 * (1e6 if options.minutes is None else options.minutes)
    comparison = chosen(options)
    pythons = _pythons(options, comparison)
    trainings = _trainings(options, comparison)
    todo = [training for training in trainings if records.earlier(training, Path(options.records)) is None]
    if len(todo) < len(trainings):
        known = f"{len(trainings) - len(todo)} of {len(trainings)} trainings have their record in {options.records}"
        _say(f"{known} and are not run again, whatever --device and --data-path are; other --records begin anew\n")
    outcomes: Dict[str, str] = {}
    try:
        for number_, training in enumerate(todo, 1):
            if time.monotonic() >= deadline:
                outcomes.setdefault(training.side.name, "out of time")
                continue
            name = training.folder.name
            _say(f"training {number_} of {len(todo)}: {name}: {' '.join(training.command('python')[1:])}\n")
            result = train(training, pythons[training.side.name], deadline, interrupts)
            if result is None:
                outcomes[training.side.name] = "out of time"
                continue
            path = records.path_of(training, Path(options.records))
            records.write(records.record_of(training, result, options.tiny), path)
            _say(f"training {number_} of {len(todo)}: {name}: top-1 {result['evaluation']['top1']:.2f} %, in {path}\n")
    finally:
        _say("\n" + _table(options, comparison, outcomes))
    if outcomes:
        _say("out of time; the same command goes on\n")


def _pythons(options: Namespace, comparison: plan.Comparison) -> Dict[str, str]:
    """The Python of each side. Raises UsageError where one lacks packages."""
    environments, found = Environments.found(options.python), {}
    for side in comparison.sides:
        needs = ("keras",) if options.layers == "keras" else side.needs  # whose backend may be another
        python = environments.python(needs)
        if python is None:
            raise UsageError(advice(environments.missing(needs)))
        found[side.name] = python
    return found


def _trainings(options: Namespace, comparison: plan.Comparison) -> List[Training]:
    """All trainings, seed by seed, so that a part of them has every side."""
    data, layers = _data(options), {"layers": options.layers or "core"} if comparison.half == "tf_seresnet" else {}
    sides = [side for side in comparison.sides if not options.only or side.name in options.only]
    found = []
    for seed in range(options.seeds or comparison.seeds):
        for side in sides:
            name = f"{comparison.name}-{side.name}-{seed}" + ("-tiny" if options.tiny else "")
            settings = {"device": options.device, **layers}
            found.append(Training(comparison, side, seed, Path(options.runs) / name, data, settings))
    return found


def _data(options: Namespace) -> Tuple[str, ...]:
    """The option that names the data set; for --choose one is written that has no test images. Raises UsageError."""
    if options.data_path is None and not options.tiny:
        raise UsageError("no data set is named; give --data-path DIR")
    if not options.choose:
        return () if options.data_path is None else (f"--data-path={options.data_path}",)
    from shared.sample.dataset import cifar10_folder

    folder = Path(options.runs) / ("held-out-tiny" if options.tiny else "held-out")
    _say(f"data: training images, a sixth of them held out, are written to {folder}\n")
    with writing(folder, "choose other --runs"):
        held_out.write_held_out(options.data_path or cifar10_folder(), folder)
    return (f"--data-path={folder}",)


def _table(options: Namespace, comparison: plan.Comparison, outcomes: Dict[str, str]) -> str:
    found = [record for record in records.read_all(Path(options.records)) if record.tiny == options.tiny]
    return table.text(comparison, found, outcomes)


def renew_document() -> None:
    """Write the tables of the committed records into benchmarks/README.md. Raises UsageError for one that may not."""
    found = records.read_all(COMMITTED)
    comparisons = [plan.comparison(name) for name in ("cifar10", "cifar10-choice", "imagenette", "se_resnet110")]
    for record in found:
        name = f"the record of {record.comparison}, {record.side}, seed {record.seed}"
        expected = next((one.dataset for one in comparisons if one.name == record.comparison), record.dataset)
        if record.tiny or record.dataset != expected:
            raise UsageError(f"{name} is of {'--tiny' if record.tiny else record.dataset}, not {expected}; remove it")
        if not record.commit or "-dirty" in record.commit:
            raise UsageError(f"{name} is of code that was not committed; commit, remove it and train again")
    DOCUMENT.write_text(table.renewed(DOCUMENT.read_text(encoding="utf-8"), comparisons, found), encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
