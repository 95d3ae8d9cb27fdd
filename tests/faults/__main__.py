"""Runs every fault case with all its rounds and prints a table of losses.

    python -m tests.faults [--rounds N] [--only NAME ...] [--json FILE]
    python -m tests.faults --document docs/reliability.md FILE ...     writes the rows of these files into a document

Exit status 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from shared.system.atomic_files import write_atomic
from tests.faults.case import Case, all_cases, run_round

COLUMNS = ("fault", "half", "rounds", "lost", "seconds")
BEGIN, END = "<!-- tests/faults: begin -->", "<!-- tests/faults: end -->"


def main(argv: Sequence[str]) -> int:
    """Run the command line. Returns its exit status."""
    options = parser().parse_args(argv)
    if options.document:
        rows = [row for path in options.files for row in json.loads(path.read_text(encoding="utf-8"))]
        write_into(options.document, rows)
        return int(any(row["lost"] for row in rows))
    cases = [case for module in all_cases().values() for case in module]
    if options.only:
        cases = [case for case in cases if any(name in case.name for name in options.only)]
    rows = []
    say(" | ".join(COLUMNS))
    for case in cases:
        rows.append(run(case, options.rounds or case.rounds, options.first))
        say(" | ".join(str(rows[-1][column]) for column in COLUMNS))
        if options.json:
            write_atomic(options.json, json.dumps(rows, indent=1) + "\n")
    return int(not rows or any(row["lost"] for row in rows))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="rounds of every case, instead of its own number")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run the cases whose names contain one of these")
    parser.add_argument("--first", type=int, default=0, help="number of the first round, to repeat a round with a loss")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--document", type=Path, help="write the rows of FILE ... into this document and run nothing")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a file written by --json")
    return parser


def run(case: Case, rounds: int, first: int = 0) -> Dict[str, Any]:
    """Run a case and return its row. Folders of rounds with a loss are kept and printed."""
    began, lost = time.monotonic(), 0
    for number in range(first, first + rounds):
        folder = Path(tempfile.mkdtemp(prefix="faults-")) / "round"
        loss = run_round(case, number, folder)
        if loss:
            lost += 1
            say(f"LOST: {case.name}, round {number}: {loss} (see {folder})")
        else:
            shutil.rmtree(str(folder.parent), ignore_errors=True)
    seconds = round(time.monotonic() - began)
    return {"fault": case.name, "half": case.half, "rounds": rounds, "lost": lost, "seconds": seconds}


def table(rows: Sequence[Dict[str, Any]]) -> List[str]:
    """The rows as a table in Markdown; 0 lost reads "nothing"."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|---:|---|---:|"]
    for row in rows:
        lost = f"**{row['lost']}**" if row["lost"] else "nothing"
        lines.append(f"| {row['fault']} | `{row['half']}` | {row['rounds']} | {lost} | {row['seconds']} |")
    return lines


def write_into(document: Path, rows: Sequence[Dict[str, Any]]) -> None:
    """Replace the table between the two marks in the document."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_atomic(document, "\n".join([before + BEGIN, *table(rows), END + after]))


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
