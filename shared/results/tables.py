"""The results tables as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
import unicodedata
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from shared.results.rows import Row

WIDTH = 120  # of the text table, in columns of a terminal
FORMATS = ("text", "markdown", "csv", "json")


# The columns: header in text, in English and in Chinese Markdown, and the function that formats a cell.
COLUMNS: Tuple[Tuple[str, str, str, Callable[[Row], str]], ...] = (
    ("row", "row", "类别", lambda row: row.kind),
    ("settings", "settings", "设置", lambda row: row.settings or "-"),
    ("hardware", "hardware", "硬件", lambda row: row.hardware or "-"),
    ("prec.", "precision", "精度模式", lambda row: row.precision or "-"),
    ("batch", "batch", "批大小", lambda row: _whole(row.batch_size)),
    ("epochs", "epochs", "轮数", lambda row: f"{row.steps} st." if row.steps else _whole(row.epochs)),
    ("top-1", "top-1 (%)", "Top-1 (%)", lambda row: _accuracy(row.top1, row.top1_std, row.dataset)),
    ("top-5", "top-5 (%)", "Top-5 (%)", lambda row: _accuracy(row.top5, row.top5_std, row.dataset)),
    ("images/s", "images/s", "图像/秒", lambda row: _decimals(row.images_per_second, 1)),
    ("ms/step", "ms/step", "毫秒/步", lambda row: _decimals(row.step_ms, 1)),
    ("hours", "hours", "小时", lambda row: _decimals(row.hours, 2)),
    ("tested", "images evaluated", "评估图像数", lambda row: _whole(row.images_evaluated)),
)
_LEGEND = "Batch: over all devices. top-1, top-5: percent, from as many images as `tested` says. st.: steps."
TEXT_COLUMNS = 4  # the others are numbers, right-aligned
# Columns that shrink when a line gets too long, in this order, with their minimum widths.
_SHRINKABLE = ((7, 7), (6, 7), (2, 10), (1, 16))
LANGUAGES = ("en", "zh")
_CHINESE = {"documented": "文档值", "measured": "实测", "not measured": "未测", "Documented in:": "文档来源："}
TITLES = {
    "se_resnet110": "SE-ResNet-110",
    "senet154": "SENet154",
    "se_resnet50": "SE-ResNet-50",
    "se_resnet50_caffe": "SE-ResNet-50 (Caffe)",
    "pnasnet5large": "PNASNet-5-Large",
    "cifar-10": "CIFAR-10",
    "imagenet": "ImageNet",
}


def _whole(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def _decimals(value: Optional[float], digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(value: Optional[float], deviation: Optional[float], dataset: str) -> str:
    """With as many digits as are significant: one image in 50,000 is 0.002 percent, one in 10,000 is 0.01."""
    digits = 3 if dataset == "imagenet" else 2
    return _decimals(value, digits) + ("" if deviation is None else f" ±{deviation:.{digits}f}")


def render(table_rows: Sequence[Row], form: str = "text", language: str = "en") -> str:
    """The rows in one of `FORMATS`, ending in a newline; `language` is that of the Markdown headings."""
    if form == "json":
        return json.dumps([dataclasses.asdict(row) for row in table_rows], indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        writer.writerows(
            dataclasses.astuple(dataclasses.replace(row, footnotes=(" ".join(row.footnotes),))) for row in table_rows
        )
        return file.getvalue()
    notes = list(dict.fromkeys(note for row in table_rows for note in row.footnotes))
    parts = []
    for table in dict.fromkeys((row.network, row.dataset) for row in table_rows):
        here = [row for row in table_rows if (row.network, row.dataset) == table]
        title = f"{TITLES.get(table[0], table[0])}, {TITLES.get(table[1], table[1])}"
        sources = ", ".join(dict.fromkeys(str(row.source) for row in here if row.kind == "documented"))
        if form == "markdown":
            parts.append(_markdown(title, here, sources, notes, _CHINESE if language == "zh" else {}))
        else:
            parts.append(_text(title, here, sources, notes))
    return "\n".join(parts + [_footnotes(notes, form)]).rstrip("\n") + "\n"


def _cells(row: Row, notes: Sequence[str], mark: str) -> List[str]:
    cells = [cell(row) for _, _, _, cell in COLUMNS]
    if row.footnotes:
        cells[0] += mark.format(",".join(str(notes.index(note) + 1) for note in row.footnotes))
    return cells


def _markdown(title: str, here: Sequence[Row], sources: str, notes: Sequence[str], chinese: Dict[str, str]) -> str:
    lines = [f"**{title}**", ""]
    lines.append("| " + " | ".join(zh if chinese else english for _, english, zh, _ in COLUMNS) + " |")
    lines.append("|" + "|".join(["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)) + "|")
    for row in here:
        cells = _cells(row, notes, " <sup>{}</sup>")
        cells[0] = cells[0].replace(row.kind, chinese.get(row.kind, row.kind))
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |")
    if sources:
        heading = "Documented in:"
        lines += ["", chinese.get(heading, heading + " ") + sources]
    return "\n".join(lines) + "\n"


def _text(title: str, here: Sequence[Row], sources: str, notes: Sequence[str]) -> str:
    table = [[column[0] for column in COLUMNS]] + [_cells(row, notes, " [{}]") for row in here]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    for column in range(TEXT_COLUMNS, len(COLUMNS)):
        if all(line[column] == "-" for line in table[1:]):
            widths[column] = 0  # an empty column would only make the others narrower
    for column, least in _SHRINKABLE:
        excess = sum(width + 2 for width in widths if width) - 2 - WIDTH
        widths[column] = max(min(least, widths[column]), widths[column] - max(0, excess))
    lines = [title + (f"   (documented in: {sources})" if sources else "")]
    lines += _text_line(table[0], widths)
    lines.append("  ".join("-" * width for width in widths if width))
    for cells in table[1:]:
        lines += _text_line(cells, widths)
    return "\n".join(lines) + "\n"


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> List[str]:
    """A row as one or more lines of text, with cells wrapped to their columns. Width 0 hides a column."""
    stacks = [textwrap.wrap(cell, width) or [""] if width else [] for cell, width in zip(cells, widths)]
    lines = []
    for level in range(max(len(stack) for stack in stacks)):
        words = [stack[level] if level < len(stack) else "" for stack in stacks]
        padded = [
            word.ljust(width) if column < TEXT_COLUMNS else word.rjust(width)
            for column, (word, width) in enumerate(zip(words, widths))
            if width
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def _footnotes(notes: Sequence[str], form: str) -> str:
    if form == "markdown":
        return "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))
    lines = [_LEGEND]
    for number, note in enumerate(notes, 1):
        mark = f"[{number}] "
        lines += textwrap.wrap(mark + note, WIDTH - _wide(note), subsequent_indent=" " * len(mark))
    return "\n".join(lines)


def _wide(text: str) -> int:
    """The columns of a terminal that the text needs beyond one per character: Chinese characters take two."""
    return sum(unicodedata.east_asian_width(character) in "WF" for character in text)
