"""The rows as a table, for the console and for benchmarks/README.md."""

from __future__ import annotations

import re
import statistics
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from benchmarks.record import KINDS, Record, SideRecord, spread, verdict
from benchmarks.rows import Row, groups_of, rows_of

HEADER = ("row", "question", "peer", "ours", "ratio (range)", "rounds", "aim", "")
_NAMES = {"cpu": "CPU", "cuda": "GPU"}
_IMPORTANT = ("torch", "timm", "torchvision", "Pillow", "tensorflow", "tensorflow-cpu", "keras", "jax", "python")


def cells(row: Row, record: Optional[Record], outcome: str = "") -> Tuple[str, ...]:
    """A row of the table; `outcome` says why it was not measured."""
    aim = "" if row.aim is None else (f"{row.aim:g} s" if row.aim_seconds else f"{row.aim:g}")
    question = f"{row.question} ({row.note})" if row.note else row.question
    if record is None:
        return (row.name, question, "", "", "", "", aim, outcome or verdict(row, None))
    if record.peer is None:
        return (row.name, question, "", "", "", "", aim, "; ".join([verdict(row, record), *record.findings]))
    ratio = spread(record.ratios)
    return (
        row.name,
        question,
        f"{_figure(record.peer, row.unit)}, {record.peer.what}",
        f"{_figure(record.ours, row.unit)}, {record.ours.what}",
        f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})",
        str(len(record.ratios)),
        aim,
        verdict(row, record),
    )


def _figure(side: SideRecord, unit: str) -> str:
    if unit == "images/s":
        return f"{statistics.median(side.rates):.1f} images/s"
    seconds = statistics.median(side.seconds)
    return f"{seconds:.1f} s" if unit == "s" else f"{1000 * seconds:.0f} ms"


def text(rows: Sequence[Row], records: Mapping[str, Record], outcomes: Mapping[str, str]) -> str:
    """The table for a console: without the questions, which --list has."""
    drop = HEADER.index("question")
    table = [HEADER, *(cells(row, records.get(row.name), outcomes.get(row.name, "")) for row in rows)]
    table = [line[:drop] + line[drop + 1 :] for line in table]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)
    return "".join(f"{line}\n" for line in lines)


def markdown(records: Mapping[str, Mapping[str, Record]]) -> str:
    """The tables of benchmarks/README.md from the records by kind of device and row."""
    return "\n".join(_section(kind, records.get(kind, {})) for kind in KINDS)


def _section(kind: str, records: Mapping[str, Record]) -> str:
    rows = rows_of(groups_of(kind, kind))
    lines = [f"### {_NAMES[kind]}", "", *_provenance([records[row.name] for row in rows if row.name in records])]
    lines += ["| " + " | ".join(HEADER) + " |", "|---|---|---|---|---|---:|---:|---|"]
    lines += ["| " + " | ".join(cells(row, records.get(row.name))) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _provenance(records: Sequence[Record]) -> List[str]:
    """Where the records are from. Different values are all named."""
    if not records:
        return ["Nothing of this has been measured yet.", ""]
    of: Dict[str, Callable[[Record], str]] = {
        "Device": lambda record: record.device,
        "Machine": lambda record: record.machine,
        "Versions": lambda record: "",
        "Commit": lambda record: record.commit[:12] + ("-dirty" if record.commit.endswith("-dirty") else ""),
        "Date": lambda record: record.date[:10],
        "Image files": lambda record: record.images,
    }
    found = {name: sorted({value(record) for record in records} - {""}) for name, value in of.items()}
    found["Versions"] = _versions(records)
    return [*(f"- {name}: {', '.join(values)}" for name, values in found.items() if values), ""]


def _versions(records: Sequence[Record]) -> List[str]:
    sides = [side for record in records for side in (record.ours, record.peer) if side]
    versions = {(name, side.versions[name]) for side in sides for name in _IMPORTANT if name in side.versions}
    return [f"{name} {version}" for name, version in sorted(versions, key=lambda one: (_IMPORTANT.index(one[0]), one))]


def renewed(document: str, records: Mapping[str, Mapping[str, Record]]) -> str:
    """The document with the tables of these records between its marks."""
    begin, end = "<!-- records:begin -->\n", "<!-- records:end -->"
    return re.sub(
        f"(?s)({re.escape(begin)}).*?({re.escape(end)})", lambda found: f"{begin}{markdown(records)}{end}", document
    )
