"""Documented rows beside measured rows: which rows there are, and how they look as text, Markdown, CSV and
JSON.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import statistics
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from shared.results.documented import ROWS, Documented

Record = Dict[str, Any]
WIDTH = 120  # columns of a terminal that the text table is made for
FORMATS = ("text", "markdown", "csv", "json")


@dataclass(frozen=True)
class Row:
    """One line of a table; None is what is not known. Percent, images, milliseconds, hours."""

    network: str
    dataset: str
    kind: str  # documented, measured or not measured
    settings: Optional[str] = None
    hardware: Optional[str] = None
    precision: Optional[str] = None
    batch_size: Optional[int] = None
    epochs: Optional[int] = None
    steps: Optional[int] = None
    top1: Optional[float] = None
    top1_std: Optional[float] = None
    top5: Optional[float] = None
    top5_std: Optional[float] = None
    images_per_second: Optional[float] = None
    step_ms: Optional[float] = None
    hours: Optional[float] = None
    images_evaluated: Optional[int] = None
    runs: Optional[int] = None
    source: Optional[str] = None  # title of the document, or commit that was measured
    footnotes: Tuple[str, ...] = ()


def rows(records: Sequence[Record]) -> List[Row]:
    """All documented rows, then per network and data set the measured ones and what is still not measured."""
    documented = [_documented(row) for row in ROWS]
    measured = [_measured(runs) for runs in _repeated(records)]
    tables = list(dict.fromkeys((row.network, row.dataset) for row in documented + measured))
    return [
        row
        for table in tables
        for row in documented + measured + _not_measured(*table, records=records)
        if (row.network, row.dataset) == table
    ]


def _documented(row: Documented) -> Row:
    hardware = row.hardware if row.devices is None else f"{row.devices} x {row.hardware}"
    if row.framework:
        hardware += ", " + row.framework
    names = [field.name for field in dataclasses.fields(Row) if hasattr(row, field.name)]
    same: Dict[str, Any] = {name: getattr(row, name) for name in names}
    same.update(kind="documented", settings=row.recipe or row.schedule, hardware=hardware)
    return Row(**same)


def _repeated(records: Sequence[Record]) -> List[List[Record]]:
    """The records with a speed or an accuracy; those that differ in nothing but the seed stand together."""
    groups: Dict[Tuple[Any, ...], List[Record]] = {}
    for record in records:
        if "evaluation" not in record and "throughput" not in record:
            continue
        row = dataclasses.asdict(_measured([record]))
        settings = ("network", "dataset", "settings", "hardware", "precision", "batch_size", "epochs")
        key = [row[name] for name in settings] + [record.get("dataset", {}).get("fingerprint")]
        key += [record.get(name) for name in ("half", "machine", "steps_completed", "variant", "layers")]
        groups.setdefault(tuple(key), []).append(record)
    return list(groups.values())


def _measured(runs: Sequence[Record]) -> Row:
    """The row of a run, or of several that repeat it: means, and the sample deviation of the accuracies."""
    first = runs[0]
    device = first.get("device", {})
    hardware = re.sub(
        r"\((R|TM)\)| CPU\b| @.*|\d+-Core Processor", "", device.get("name", ""), flags=re.IGNORECASE
    )

    def values(part: str, key: str) -> List[float]:
        return [run[part][key] for run in runs if key in run.get(part, {})]

    top1, top5 = values("evaluation", "top1"), values("evaluation", "top5")
    images = values("evaluation", "images")
    trained = first["mode"] in ("train", "finetune")
    epochs = first.get("epochs_completed") if trained else None
    return Row(
        network=_family(first),
        dataset=first.get("dataset", {}).get("name", "no data set"),
        kind="measured",
        settings=_settings(runs),
        hardware=f"{device.get('count', 1)} x {' '.join(hardware.split())}" if hardware else None,
        precision=first.get("precision"),
        batch_size=first.get("global_batch_size"),
        epochs=epochs,
        steps=first.get("steps_completed") if trained and not epochs else None,
        top1=_mean(top1),
        top1_std=_deviation(top1),
        top5=_mean(top5),
        top5_std=_deviation(top5),
        images_per_second=_mean(values("throughput", "images_per_second")),
        step_ms=_mean(values("throughput", "step_ms_p50")),
        hours=_mean([run["seconds"] / 3600 for run in runs]) if trained else None,
        images_evaluated=int(images[0]) if images else None,
        runs=len(runs),
        source=first.get("commit"),
    )


def _family(record: Record) -> str:
    """The network whose table a record is for: on CIFAR-10 a shallow SE-ResNet stands with the deep one."""
    if record["half"] == "tf_seresnet" and record.get("dataset", {}).get("name") == "cifar-10":
        return "se_resnet110"
    return str(record.get("network", "no network"))


def _settings(runs: Sequence[Record]) -> str:
    first = runs[0]
    parts = [first["recipe"] if "recipe" in first else first.get("network", "")]
    parts += [first["mode"]] if first["mode"] != "train" else []
    parts += [f"depth {first['depth']}"] if first.get("depth", 110) != 110 else []
    parts += [first["variant"]] if first.get("variant", "port") != "port" else []
    parts += [first["layers"]] if first.get("layers", "core") != "core" else []
    if len(runs) > 1:
        seeds = {run.get("seed") for run in runs}
        parts.append(f"{len(runs)} {'seeds' if len(seeds) == len(runs) else 'runs'}")
    return ", ".join(parts)


def _not_measured(network: str, dataset: str, records: Sequence[Record]) -> List[Row]:
    """A row for each documented recipe not yet run to its end; without recipes, one if nothing has run."""
    here = [row for row in ROWS if (row.network, row.dataset) == (network, dataset)]
    of_network = [record for record in records if _family(record) == network]
    recipes = [row for row in here if row.recipe]
    if here and not recipes and not of_network:
        return [Row(network, dataset, "not measured")]
    return [
        Row(network, dataset, "not measured", row.recipe)
        for row in recipes
        if not any(_completes(record, row) for record in of_network)
    ]


def _completes(record: Record, row: Documented) -> bool:
    """Whether the run is the documented recipe to its end on its own data, and not a shortened one."""
    return (
        record["mode"] == "train"
        and record.get("recipe") == row.recipe
        and "evaluation" in record
        and record.get("dataset", {}).get("name") == row.dataset
        and record.get("variant", "port") == "port"
        and record.get("depth", 110) == 110
        and record.get("global_batch_size") == row.batch_size
        and record.get("epochs_completed", 0) >= (row.epochs or 0)
    )


def _mean(values: Sequence[float]) -> Optional[float]:
    return statistics.mean(values) if values else None


def _deviation(values: Sequence[float]) -> Optional[float]:
    return statistics.stdev(values) if len(values) > 1 else None


# The columns of the printed tables: header in text, in English and in Chinese Markdown, and how a cell reads.
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
_LEFT = 4  # columns of words; the others are numbers, set flush right
# Column and least width, in the order in which columns give way when a line gets too long.
_GIVE_WAY = ((7, 6), (6, 6), (2, 10), (1, 17))
LANGUAGES = ("en", "zh")
_CHINESE = {
    "documented": "文档值",
    "measured": "实测",
    "not measured": "未测",
    "Documented in:": "文档来源：",
}
TITLES = {
    "se_resnet110": "SE-ResNet-110",
    "senet154": "SENet154",
    "se_resnet50": "SE-ResNet-50",
    "pnasnet5large": "PNASNet-5-Large",
    "cifar-10": "CIFAR-10",
    "imagenet": "ImageNet",
}


def _whole(value: Optional[int]) -> str:
    return "-" if value is None else str(value)


def _decimals(value: Optional[float], digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _accuracy(value: Optional[float], deviation: Optional[float], dataset: str) -> str:
    """One image in 50,000 is 0.002 percent, one in 10,000 is 0.01: that many digits mean something."""
    digits = 3 if dataset == "imagenet" else 2
    return _decimals(value, digits) + ("" if deviation is None else f" ±{deviation:.{digits}f}")


def render(table_rows: Sequence[Row], form: str = "text", language: str = "en") -> str:
    """The rows in one of `FORMATS`, ending in a newline; `language` is that of the Markdown headings."""
    if form == "json":
        return (
            json.dumps([dataclasses.asdict(row) for row in table_rows], indent=1, ensure_ascii=False) + "\n"
        )
    if form == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        writer.writerows(
            dataclasses.astuple(dataclasses.replace(row, footnotes=(" ".join(row.footnotes),)))
            for row in table_rows
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


def _markdown(
    title: str, here: Sequence[Row], sources: str, notes: Sequence[str], chinese: Dict[str, str]
) -> str:
    lines = [f"**{title}**", ""]
    lines.append("| " + " | ".join(zh if chinese else english for _, english, zh, _ in COLUMNS) + " |")
    lines.append("|" + "|".join(["---"] * _LEFT + ["---:"] * (len(COLUMNS) - _LEFT)) + "|")
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
    for column in range(_LEFT, len(COLUMNS)):
        if all(line[column] == "-" for line in table[1:]):
            widths[column] = 0  # nobody gives this number: the column would only make the others narrow
    for column, least in _GIVE_WAY:
        excess = sum(width + 2 for width in widths if width) - 2 - WIDTH
        widths[column] = max(min(least, widths[column]), widths[column] - max(0, excess))
    lines = [title + (f"   (documented in: {sources})" if sources else "")]
    lines += _text_line(table[0], widths)
    lines.append("  ".join("-" * width for width in widths if width))
    for cells in table[1:]:
        lines += _text_line(cells, widths)
    return "\n".join(lines) + "\n"


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> List[str]:
    """A row as one or more lines of text: what does not fit its column goes on below.

    Width 0 hides a column.
    """
    stacks = [textwrap.wrap(cell, width) or [""] if width else [] for cell, width in zip(cells, widths)]
    lines = []
    for level in range(max(len(stack) for stack in stacks)):
        words = [stack[level] if level < len(stack) else "" for stack in stacks]
        padded = [
            word.ljust(width) if column < _LEFT else word.rjust(width)
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
    """How many columns more than characters a terminal needs for the text: Chinese characters take two."""
    return sum(unicodedata.east_asian_width(character) in "WF" for character in text)
