"""The results tables as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from shared.results.columns import padded, width, wrapped
from shared.results.documented import Documented, Expected, Row
from shared.results.language import LANGUAGES, Language

WIDTH = 120  # of the text table, in columns of a terminal
FORMATS = ("text", "markdown", "csv", "json")
# The columns: header in text and in Markdown, and the function that formats a cell.
COLUMNS: Tuple[Tuple[str, str, Callable[[Row, Language], str]], ...] = (
    ("row", "row", lambda row, say: say(row.kind)),
    ("settings", "settings", lambda row, say: say.settings(row.settings or "-")),
    ("hardware", "hardware", lambda row, say: say.hardware(row.hardware or "-")),
    ("prec.", "precision", lambda row, say: say.known(row.precision or "-")),
    ("batch", "batch", lambda row, say: _decimals(row.batch_size)),
    ("epochs", "epochs", lambda row, say: say("{steps} st.", steps=row.steps) if row.steps else _decimals(row.epochs)),
    ("top-1", "top-1 (%)", lambda row, say: _top1(row, say)),
    ("top-5", "top-5 (%)", lambda row, say: _accuracy(row.top5, row.top5_std, row.dataset)),
    ("images/s", "images/s", lambda row, say: _decimals(row.images_per_second, 1)),
    ("ms/step", "ms/step", lambda row, say: _decimals(row.step_ms, 1)),
    ("hours", "hours", lambda row, say: _decimals(row.hours, 2)),
    ("tested", "images evaluated", lambda row, say: _decimals(row.images_evaluated)),
)
_LEGEND = "Batch: over all devices. top-1, top-5: percent, from as many images as `tested` says. st.: steps."
TEXT_COLUMNS = 4  # the others are numbers, right-aligned
# Columns that shrink when a line gets too long, in this order, with their minimum widths.
_SHRINKABLE = ((7, 7), (6, 7), (2, 10), (1, 16))
_TITLES = {
    "senet154": "SENet154",
    "se_resnet50_caffe": "SE-ResNet-50 (Caffe)",
    "pnasnet5large": "PNASNet-5-Large",
    "cifar-10": "CIFAR-10",
    "imagenet": "ImageNet",
}


def title(name: str) -> str:
    """A network or data set as its paper spells it; another name as it is."""
    depth = re.fullmatch(r"se_resnet(\d+)", name)
    return f"SE-ResNet-{depth.group(1)}" if depth else _TITLES.get(name, name)


def _decimals(value: Optional[float], digits: int = 0) -> str:
    """A documented number has its document's digits."""
    if isinstance(value, Documented):
        return str(value)
    return "-" if value is None else f"{value:.{digits}f}"


def _top1(row: Row, say: Language) -> str:
    error = "" if row.error is None else say(" (error {percent})", percent=_decimals(row.error, 2))
    return _accuracy(row.top1, row.top1_std, row.dataset) + error


def _accuracy(value: Optional[float], deviation: Optional[float], dataset: str) -> str:
    """With as many digits as are significant: one image in 50,000 is 0.002 percent, one in 10,000 is 0.01."""
    digits = 3 if dataset == "imagenet" else 2
    return _decimals(value, digits) + ("" if deviation is None else f" ±{deviation:.{digits}f}")


class Table(NamedTuple):
    """The rows of one network and data set; `sources` are the titles of their documents, separated by commas."""

    title: str
    rows: List[Row]
    sources: str


def split_by_network(table_rows: Sequence[Row]) -> Tuple[List[Table], List[str]]:
    """A table for each network and data set, and the footnotes of all, which are numbered from 1."""
    groups: Dict[Tuple[str, str], List[Row]] = {}
    for row in table_rows:
        groups.setdefault((row.network, row.dataset), []).append(row)
    tables = []
    for names, rows in groups.items():
        sources = dict.fromkeys(str(row.source) for row in rows if row.kind == "documented")
        tables.append(Table(", ".join(map(title, names)), rows, ", ".join(sources)))
    return tables, list(dict.fromkeys(note for row in table_rows for note in row.footnotes))


def cells(row: Row, say: Language) -> List[str]:
    """The row's texts in the order of `COLUMNS`."""
    return [cell(row, say) for _, _, cell in COLUMNS]


def _marked(row: Row, notes: Sequence[str], mark: str, say: Language) -> List[str]:
    """The row's cells; the numbers of its footnotes, as in 1,2, follow the first in the form of `mark`."""
    kind, *others = cells(row, say)
    numbers = ",".join(str(notes.index(note) + 1) for note in row.footnotes)
    return [kind + (mark.format(numbers) if numbers else ""), *others]


def render(table_rows: Sequence[Row], form: str = "text", language: str = "en") -> str:
    """The rows in one of `FORMATS`, ending in a newline; text and Markdown are in one of `LANGUAGES`."""
    names = [field.name for field in dataclasses.fields(Row) if field.name != "recipe"]
    if form == "json":
        values = [{name: getattr(row, name) for name in names} for row in table_rows]
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in table_rows:  # of a range its middle, as in JSON
            plain = {name: float(value) if isinstance(value, Expected) else value for name, value in vars(row).items()}
            writer.writerow({**plain, "footnotes": " ".join(row.footnotes)})
        return file.getvalue()
    say = LANGUAGES[language]
    tables, notes = split_by_network(table_rows)
    if form == "markdown":
        parts = [_markdown(table, notes, say) for table in tables]
        parts += ["\n".join(f"{number}. {say.known(note)}" for number, note in enumerate(notes, 1))]
    else:
        parts = [_text(table, notes, say) for table in tables] + [_text_footnotes(notes, say)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown(table: Table, notes: Sequence[str], say: Language) -> str:
    lines = [f"**{table.title}**", ""]
    lines.append("| " + " | ".join(say(name) for _, name, _ in COLUMNS) + " |")
    lines.append("|" + "|".join(["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)) + "|")
    for row in table.rows:
        texts = _marked(row, notes, " <sup>{}</sup>", say)
        lines.append("| " + " | ".join(text.replace("|", "\\|").replace("*", "\\*") for text in texts) + " |")
    if table.sources:
        lines += ["", say("Documented in: {sources}", sources=table.sources)]
    return "\n".join(lines) + "\n"


def _text(table: Table, notes: Sequence[str], say: Language) -> str:
    lines = [[say(column[0]) for column in COLUMNS]] + [_marked(row, notes, " [{}]", say) for row in table.rows]
    widths = [max(map(width, column)) for column in zip(*lines)]
    for column in range(TEXT_COLUMNS, len(COLUMNS)):
        if all(line[column] == "-" for line in lines[1:]):
            widths[column] = 0  # an empty column would only make the others narrower
    for column, least in _SHRINKABLE:
        excess = sum(wide + 2 for wide in widths if wide) - 2 - WIDTH
        widths[column] = max(min(least, widths[column]), widths[column] - max(0, excess))
    rule = "  ".join("-" * wide for wide in widths if wide)
    head, *body = [_text_line(line, widths) for line in lines]
    title = table.title + (say("   (documented in: {sources})", sources=table.sources) if table.sources else "")
    return "\n".join([title, *head, rule, *itertools.chain(*body)]) + "\n"


def _text_line(texts: Sequence[str], widths: Sequence[int]) -> List[str]:
    """A row as one or more lines of text, with cells wrapped to their columns. Width 0 hides a column."""
    shown = [column for column, wide in enumerate(widths) if wide]
    lines = []
    for stack in itertools.zip_longest(*(wrapped(texts[column], widths[column]) for column in shown), fillvalue=""):
        aligned = zip(shown, stack)
        lines.append(
            "  ".join(padded(text, widths[column], right=column >= TEXT_COLUMNS) for column, text in aligned).rstrip()
        )
    return lines


def _text_footnotes(notes: Sequence[str], say: Language) -> str:
    lines = wrapped(say(_LEGEND), WIDTH)
    for number, note in enumerate(notes, 1):
        mark = f"[{number}] "
        lines += wrapped(mark + say.known(note), WIDTH, indent=" " * len(mark))
    return "\n".join(lines)
