"""Measures this program beside its peers, a row for each question: bash benchmarks/run.sh [options].

Both sides of a row run in processes of their own, which take turns; a ratio is that of one round, and above 1 this
program is the faster one. A record is written after every row. benchmarks/README.md says how and has the results.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of this folder

from benchmarks import images, table  # noqa: E402
from benchmarks import record as records  # noqa: E402
from benchmarks.environments import ROOT, Environments, advice  # noqa: E402
from benchmarks.rows import Group, Row, Side, groups_of, rows_of  # noqa: E402
from benchmarks.turns import Failed, Process, take_turns  # noqa: E402
from shared.cli.entry_point import run as run_command  # noqa: E402
from shared.cli.parser import Argv, Parser, number  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.system import processor  # noqa: E402
from shared.system.paths import expanded  # noqa: E402
from shared.system.signals import Interrupts, stop_at_once  # noqa: E402
from shared.text import nearest  # noqa: E402

COMMITTED = ROOT / "benchmarks" / "records"
DOCUMENT = ROOT / "benchmarks" / "README.md"
CONTENDERS = "benchmarks.contenders."
GENERATED = "224 generated JPEG files of ImageNet's usual sizes, seed 0"


def parser() -> Parser:
    """All options."""
    result = Parser(prog="bash benchmarks/run.sh", description=__doc__)
    result.set_defaults(mode="measure")
    add = result.add_argument
    add("--list", dest="mode", action="store_const", const="list", help="show the rows and what they ask, and end")
    add("--only", nargs="+", metavar="ROW", help="measure these rows")
    add("--rounds", type=number(int, 1), metavar="N", help="of every row (default: 3 to 41, as long as each takes)")
    add("--device", default="cpu", help="cpu (default) or cuda:N, which asks the questions of a GPU")
    add("--minutes", type=number(float, 0.01), help="begin nothing after so long; what is done is recorded")
    folder = "JPEG files: train/ and val/, or a folder per class (default: files generated with a fixed seed)"
    add("--images", dest="image_folder", type=expanded, metavar="DIR", help=folder)
    add("--python", nargs="+", metavar="PATH", help="environments to use (default: .venv, .venv-torch, this Python)")
    add("--records", type=expanded, default="runs/benchmarks", metavar="DIR", help="default: runs/benchmarks")
    tiny = "the smallest sizes, which measure nothing: to see whether every row runs here"
    add("--tiny", action="store_true", help=tiny)
    renew = "renew the tables of benchmarks/README.md from benchmarks/records, and end"
    add("--document", dest="mode", action="store_const", const="document", help=renew)
    return result


def main(argv: Argv = None) -> int:
    """The exit status; see `shared.cli.entry_point`. 1 also where a row failed."""
    failed: List[str] = []
    modes = {
        "measure": lambda options, interrupts: failed.extend(measure(options, interrupts)),
        "list": lambda options, _: _say(_listed(chosen(options)[1])),
        "document": lambda options, _: renew_document(),
    }
    status = run_command(lambda: parser().parse_args(argv), modes)
    return status or int(bool(failed))


def chosen(options: Namespace) -> Tuple[str, List[Group]]:
    """The kind of the device and the groups to measure. Raises UsageError for an unknown device or row."""
    kind = "cuda" if options.device.split(":")[0] in ("cuda", "gpu") else options.device
    if kind not in records.KINDS:
        raise UsageError(f"unknown device {options.device!r}; {nearest(options.device, ('cpu', 'cuda:0'))}")
    groups = groups_of(kind, options.device, options.tiny)
    names = [row.name for row in rows_of(groups)]
    for name in options.only or ():
        if name not in names:
            raise UsageError(f"there is no row {name!r} for {kind}; {nearest(name, names)}")
    only = [group.only(options.only or names) for group in groups]
    return kind, [group for group in only if group.rows]


def measure(options: Namespace, interrupts: Interrupts) -> List[str]:
    """Measure, record and show the rows; the names of those that failed. Raises UsageError, Stopped."""
    kind, groups = chosen(options)
    if options.image_folder:
        images.splits_of(Path(options.image_folder))
    environments = Environments.found(options.python)
    outcomes: Dict[str, str] = {}
    groups = list(_possible(groups, environments, outcomes))
    done: Dict[str, records.Record] = {}
    with interrupts.forwarded(_stop_once()), tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        try:
            session = Session(kind, options, environments, Path(scratch))
            for group in groups:
                done.update(session.measured(group, outcomes))
        finally:
            _say("\n" + table.text(rows_of(chosen(options)[1]), done, outcomes))
    return [name for name, outcome in outcomes.items() if outcome.startswith("failed")]


def _stop_once() -> Callable[[int], None]:
    """What the first signal calls: raises Stopped. A second one must not interrupt the ending of the processes."""
    received: List[int] = []

    def stop(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            stop_at_once(number)

    return stop


class Session:
    """What the groups share: where processes run and write, and until when."""

    def __init__(self, kind: str, options: Namespace, environments: Environments, scratch: Path) -> None:
        self._kind, self._options, self._environments, self._scratch = kind, options, environments, scratch
        self._deadline = time.monotonic() + 60 * (options.minutes or 1e6)
        self._data: Optional[Path] = None

    def measured(self, group: Group, outcomes: Dict[str, str]) -> Dict[str, records.Record]:
        """Measure a group and write its records; a failure and a lack of time go into `outcomes`."""
        names = [row.name for row in group.rows]
        if time.monotonic() > self._deadline:
            outcomes.update(dict.fromkeys(names, "not measured (out of time)"))
            return {}
        begin = time.monotonic()
        try:
            found = {row.name: self._record(row, sides) for sides in [self._run(group)] for row in group.rows}
        except Failed as error:
            outcomes.update(dict.fromkeys(names, f"failed: {error}"))
            _say(f"{', '.join(names)}: failed: {error}\n")
            return {}
        for row in group.rows:
            records.write(found[row.name], Path(self._options.records))
            _say(_line(row, found[row.name]))
        _say(f"  ({time.monotonic() - begin:.0f} s)\n")
        return found

    def _run(self, group: Group) -> Dict[str, Tuple[Dict[str, Any], records.SideRecord]]:
        """The facts and rounds of every side. Raises Failed."""
        with contextlib.ExitStack() as stack:
            processes: Dict[str, Process] = {}
            for name, side in group.sides.items():
                processes[name] = self._start(side, group.warm_up)
                stack.callback(processes[name].close)  # after all have been asked to end
                if not group.compiled:  # on one device they would disturb each other's tuning, on cores each other
                    processes[name].wait_until_ready(self._deadline)
            for process in processes.values():
                stack.callback(process.terminate)
            if group.compiled:
                for process in processes.values():
                    process.wait_until_ready(self._deadline)
            rounds = (self._options.rounds or group.rounds) if group.rounds else 0
            ran = take_turns(processes, rounds, self._deadline)
            return {
                name: (process.facts, records.SideRecord.of(process.facts, ran[name]))
                for name, process in processes.items()
            }

    def _start(self, side: Side, warm_up: int) -> Process:
        python = self._environments.python(side.needs)
        assert python is not None  # `_possible` has asked
        options = {**side.options, **({"data": str(self._images())} if side.images else {})}
        log = self._scratch / f"{len(list(self._scratch.iterdir()))}.log"
        return Process(python, CONTENDERS + side.target, options, warm_up, side.environment, log)

    def _record(self, row: Row, sides: Dict[str, Any]) -> records.Record:
        facts, ours = sides[row.ours]
        peer = sides[row.peer][1] if row.peer else None
        given = self._options.image_folder
        read = "" if self._data is None else Path(given).name if given else GENERATED
        return records.new_record(row, self._kind, ours, peer, {**facts, "images": read, "tiny": self._options.tiny})

    def _images(self) -> Path:
        """A data set of JPEG files: that of --images, else one that is generated at the first use."""
        if self._data is None:
            self._data = self._scratch / "images"
            if self._options.image_folder:
                images.data_set_of(*images.splits_of(Path(self._options.image_folder)), self._data)
            else:
                self._generate(self._data)
        return self._data

    def _generate(self, folder: Path) -> None:
        python, program = self._environments.python(("PIL",)), str(ROOT / "benchmarks" / "images.py")
        subprocess.run([str(python), program, str(folder), "8" if self._options.tiny else "0"], check=True)


def _possible(groups: List[Group], environments: Environments, outcomes: Dict[str, str]) -> Iterator[Group]:
    """The groups with the rows that can be measured here; why the others cannot goes into `outcomes` and is said."""
    skipped: Dict[str, List[str]] = {}
    for group in groups:
        for row in group.rows:
            sides = [group.sides[name] for name in (row.ours, row.peer) if name]
            missing = {name for side in sides for name in environments.missing(side.needs)}
            if missing:
                skipped.setdefault(advice(sorted(missing)), []).append(row.name)
            elif any(side.bf16 for side in sides) and not processor.multiplies_bf16():
                skipped.setdefault("this processor has no bf16 instructions", []).append(row.name)
        left = [row.name for row in group.rows if not any(row.name in names for names in skipped.values())]
        if left:
            yield group.only(left)
    for why, names in skipped.items():
        outcomes.update(dict.fromkeys(names, "not measured"))
        _say(f"skipped: {', '.join(names)}: {why}\n")


def renew_document() -> None:
    """Write the tables of the committed records into benchmarks/README.md. Raises UsageError for a tiny record."""
    found = {kind: records.read(COMMITTED, kind) for kind in records.KINDS}
    for record in (record for of_kind in found.values() for record in of_kind.values()):
        if record.tiny:
            raise UsageError(f"the record of {record.row} is of --tiny, which measures nothing; remove it")
    DOCUMENT.write_text(table.renewed(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")


def _listed(groups: List[Group]) -> str:
    rows = rows_of(groups)
    width = max(len(row.name) for row in rows)
    return "".join(f"{row.name:<{width}}  {table.cells(row, None)[1]}\n" for row in rows)


def _line(row: Row, record: records.Record) -> str:
    name, _, peer, ours, ratio, _, aim, outcome = table.cells(row, record)
    parts = [f"{ours} | {peer} | ratio {ratio}" if ratio else "", f"aim {aim}: {outcome}" if aim else outcome]
    return f"{name}: {' | '.join(filter(None, parts))}\n"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
