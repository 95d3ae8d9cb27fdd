"""Comparisons as tables, for the console and for benchmarks/README.md."""

from __future__ import annotations

import re
import statistics
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from benchmarks.comparisons.plan import Comparison, Side
from benchmarks.comparisons.records import Trained, by_side, deviation, in_deviations

HEADER = ("training", "top-1 (%)", "error (%)", "seeds", "images seen", "evaluated on", "minutes each", "aim", "")
BEGIN, END = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"


def cells(side: Side, trained: Sequence[Trained]) -> Tuple[str, ...]:
    """The row of a side."""
    aim = "" if side.most_error is None else f"error at most {side.most_error:g}"
    if not trained:
        return (side.name, "", "", "", "", "", "", aim, "not measured")
    top1 = [record.top1 for record in trained]
    mean, spread = statistics.mean(top1), deviation(top1)
    shown = f"{mean:.2f}" + ("" if spread is None else f" ±{spread:.2f}")
    verdict = "" if side.most_error is None else "met" if round(100 - mean, 2) <= side.most_error else "missed"
    images = f"{trained[0].images_trained:,}"
    evaluated = f"{trained[0].images_evaluated:,} of {trained[0].dataset}"
    minutes = f"{statistics.mean(record.seconds for record in trained) / 60:.1f}"
    return (side.name, shown, f"{100 - mean:.2f}", str(len(top1)), images, evaluated, minutes, aim, verdict)


def conclusion(comparison: Comparison, found: Mapping[str, Sequence[Trained]]) -> str:
    """How the last side compares with the first, in a sentence; empty where nothing can be said."""
    if comparison.least is None or len(comparison.sides) < 2:
        return ""
    first, last = comparison.sides[0].name, comparison.sides[-1].name
    one, other = ([record.top1 for record in found[name]] for name in (first, last))
    if not one or not other:
        return ""
    difference = f"{last} is {statistics.mean(other) - statistics.mean(one):+.2f} points from {first}"
    by = in_deviations(one, other)
    if by is None:
        return f"{difference}; one seed says nothing about its deviation"
    met = by > comparison.least if comparison.least > 0 else by >= comparison.least
    verdict, aim = "met" if met else "missed", "more than" if comparison.least > 0 else "not less than"
    return f"{difference}, {by:+.1f} standard deviations of a training (aim: {aim} {comparison.least:g}): {verdict}"


def text(comparison: Comparison, records: Sequence[Trained], outcomes: Mapping[str, str]) -> str:
    """The table for a console, and the conclusion; `outcomes` say by side why trainings are missing."""
    found = by_side(comparison, records)
    rows: List[Tuple[str, ...]] = [HEADER]
    for side in comparison.sides:
        row = cells(side, found[side.name])
        rows.append((*row[:-1], "; ".join(filter(None, (row[-1], outcomes.get(side.name, ""))))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([comparison.question, *lines, *filter(None, [conclusion(comparison, found)])]) + "\n"


def markdown(comparisons: Sequence[Comparison], records: Sequence[Trained]) -> str:
    """The sections of benchmarks/README.md."""
    return "\n".join(_section(comparison, records) for comparison in comparisons)


def _section(comparison: Comparison, records: Sequence[Trained]) -> str:
    found = by_side(comparison, records)
    trained = [record for of_side in found.values() for record in of_side]
    lines = [f"**{comparison.question}**", ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|---|---:|---:|---:|---:|---|---:|---|---|"]
    lines += ["| " + " | ".join(cells(side, found[side.name])) + " |" for side in comparison.sides]
    said = conclusion(comparison, found)
    lines += ["", f"{said[0].upper()}{said[1:]}."] if said else []
    lines += ["", *_provenance(trained)] if trained else []
    options = {side.name: " ".join(side.options) for side in comparison.sides}
    lines += ["", *(f"- {name}: `{words}`" for name, words in options.items())]
    return "\n".join([*lines, ""])


def _provenance(trained: Sequence[Trained]) -> List[str]:
    """Where the records are from. Different values are all named."""
    values: Dict[str, List[Optional[str]]] = {
        "Machine": [record.machine for record in trained],
        "Device": [record.device for record in trained],
        "Precision": [record.precision for record in trained],
        "Versions": [f"{name} {version}" for record in trained for name, version in record.versions.items()],
        "Commit": [commit[:12] for record in trained for commit in record.commit.split()],
        "Date": [record.date[:10] for record in trained],
    }
    named = {name: sorted({value for value in found if value}) for name, found in values.items()}
    return [". ".join(f"{name}: {', '.join(found)}" for name, found in named.items() if found) + "."]


def renewed(document: str, comparisons: Sequence[Comparison], records: Sequence[Trained]) -> str:
    """The document with these tables between its marks."""
    block = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    return block.sub(lambda _: f"{BEGIN}\n{markdown(comparisons, records)}{END}", document)
