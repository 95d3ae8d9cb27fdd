"""The results tables as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
import textwrap
import unicodedata
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from shared.results.documented import Documented, Row

WIDTH = 120  # of the text table, in columns of a terminal
FORMATS = ("text", "markdown", "csv", "json")
# The columns: header in text, in English and in Chinese Markdown, and the function that formats a cell.
COLUMNS: Tuple[Tuple[str, str, str, Callable[[Row], str]], ...] = (
    ("row", "row", "类别", lambda row: row.kind),
    ("settings", "settings", "设置", lambda row: row.settings or "-"),
    ("hardware", "hardware", "硬件", lambda row: row.hardware or "-"),
    ("prec.", "precision", "精度模式", lambda row: row.precision or "-"),
    ("batch", "batch", "批大小", lambda row: _decimals(row.batch_size)),
    ("epochs", "epochs", "轮数", lambda row: f"{row.steps} st." if row.steps else _decimals(row.epochs)),
    ("top-1", "top-1 (%)", "Top-1 (%)", lambda row: _top1(row)),
    ("top-5", "top-5 (%)", "Top-5 (%)", lambda row: _accuracy(row.top5, row.top5_std, row.dataset)),
    ("images/s", "images/s", "图像/秒", lambda row: _decimals(row.images_per_second, 1)),
    ("ms/step", "ms/step", "毫秒/步", lambda row: _decimals(row.step_ms, 1)),
    ("hours", "hours", "小时", lambda row: _decimals(row.hours, 2)),
    ("tested", "images evaluated", "评估图像数", lambda row: _decimals(row.images_evaluated)),
)
_LEGEND = "Batch: over all devices. top-1, top-5: percent, from as many images as `tested` says. st.: steps."
TEXT_COLUMNS = 4  # the others are numbers, right-aligned
# Columns that shrink when a line gets too long, in this order, with their minimum widths.
_SHRINKABLE = ((7, 7), (6, 7), (2, 10), (1, 16))
LANGUAGES = ("en", "zh")
_CHINESE = {"documented": "文档值", "measured": "实测", "not measured": "未测", "Documented in:": "文档来源："}
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


def _top1(row: Row) -> str:
    error = "" if row.error is None else f" (error {_decimals(row.error, 2)})"
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


def _cells(row: Row, notes: Sequence[str], mark: str) -> List[str]:
    """The row's cells; the numbers of its footnotes, as in 1,2, follow the first in the form of `mark`."""
    kind, *others = [cell(row) for _, _, _, cell in COLUMNS]
    numbers = ",".join(str(notes.index(note) + 1) for note in row.footnotes)
    return [kind + (mark.format(numbers) if numbers else ""), *others]


def render(table_rows: Sequence[Row], form: str = "text", language: str = "en") -> str:
    """The rows in one of `FORMATS`, ending in a newline; `language` is that of the Markdown headings."""
    names = [field.name for field in dataclasses.fields(Row) if field.name != "recipe"]
    if form == "json":
        values = [{name: getattr(row, name) for name in names} for row in table_rows]
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**vars(row), "footnotes": " ".join(row.footnotes)} for row in table_rows)
        return file.getvalue()
    tables, notes = split_by_network(table_rows)
    if form == "markdown":
        parts = [_markdown(table, notes, _CHINESE if language == "zh" else {}) for table in tables]
        parts += ["\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    else:
        parts = [_text(table, notes) for table in tables] + [_text_footnotes(notes)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown(table: Table, notes: Sequence[str], chinese: Dict[str, str]) -> str:
    lines = [f"**{table.title}**", ""]
    lines.append("| " + " | ".join(zh if chinese else english for _, english, zh, _ in COLUMNS) + " |")
    lines.append("|" + "|".join(["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)) + "|")
    for row in table.rows:
        texts = _cells(row, notes, " <sup>{}</sup>")
        texts[0] = texts[0].replace(row.kind, chinese.get(row.kind, row.kind))
        lines.append("| " + " | ".join(text.replace("|", "\\|").replace("*", "\\*") for text in texts) + " |")
    if table.sources:
        heading = "Documented in:"
        lines += ["", chinese.get(heading, heading + " ") + table.sources]
    return "\n".join(lines) + "\n"


def _text(table: Table, notes: Sequence[str]) -> str:
    lines = [[column[0] for column in COLUMNS]] + [_cells(row, notes, " [{}]") for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for column in range(TEXT_COLUMNS, len(COLUMNS)):
        if all(line[column] == "-" for line in lines[1:]):
            widths[column] = 0  # an empty column would only make the others narrower
    for column, least in _SHRINKABLE:
        excess = sum(width + 2 for width in widths if width) - 2 - WIDTH
        widths[column] = max(min(least, widths[column]), widths[column] - max(0, excess))
    rule = "  ".join("-" * width for width in widths if width)
    head, *body = [_text_line(line, widths) for line in lines]
    title = table.title + (f"   (documented in: {table.sources})" if table.sources else "")
    return "\n".join([title, *head, rule, *itertools.chain(*body)]) + "\n"


def _text_line(texts: Sequence[str], widths: Sequence[int]) -> List[str]:
    """A row as one or more lines of text, with cells wrapped to their columns. Width 0 hides a column."""
    shown = [column for column, width in enumerate(widths) if width]
    lines = []
    for stack in itertools.zip_longest(
        *(textwrap.wrap(texts[column], widths[column]) for column in shown), fillvalue=""
    ):
        aligned = zip(shown, stack)
        padded = [f"{text:{'<' if column < TEXT_COLUMNS else '>'}{widths[column]}}" for column, text in aligned]
        lines.append("  ".join(padded).rstrip())
    return lines


def _text_footnotes(notes: Sequence[str]) -> str:
    lines = [_LEGEND]
    for number, note in enumerate(notes, 1):
        mark = f"[{number}] "
        wide = sum(unicodedata.east_asian_width(character) in "WF" for character in note)  # two columns each
        lines += textwrap.wrap(mark + note, WIDTH - wide, subsequent_indent=" " * len(mark))
    return "\n".join(lines)
