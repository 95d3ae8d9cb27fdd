"""The page: the comparison of all runs, the tables, then a section per run."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

from shared.results.page import plots
from shared.results.page.plots import Drawings, run_colour
from shared.results.page.run_files import Run, read_run
from shared.results.page.run_section import described, section
from shared.results.page.text import escaped, figures, note, table
from shared.results.record import read_record
from shared.results.rows import Row, rows
from shared.results.tables import COLUMNS, TEXT_COLUMNS, TITLES

# Forbids scripts and network requests, whatever the page contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""


def page(paths: Sequence[Path]) -> str:
    """The page about the records in these files. Raises UsageError for an invalid record, or without matplotlib."""
    drawings = Drawings()
    records = [read_record(path) for path in paths]
    runs = [read_run(path, record) for path, record in zip(paths, records)]
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    parts = [
        _HEAD.format(policy=_POLICY, title=f"Results of {count}", style=style),
        f'<header><p class="kicker">se-pnas-kit</p><h1>Results of {count}</h1>',
        '<p class="lead">Documented and measured results, and the course of each run.</p>',
        _contents(runs),
        "</header>\n<main>",
    ]
    if len(runs) > 1:
        parts.append(_compared(drawings, runs))
    parts.append(_tables(rows(records)))
    parts += [section(drawings, number, run) for number, run in enumerate(runs)]
    command = "<code>python -m shared.results --format html</code>"
    parts.append(f"</main>\n<footer>Written by {command} from the runs' records.</footer>\n</body>\n</html>\n")
    return "\n".join(parts)


def _contents(runs: Sequence[Run]) -> str:
    links = ['<a href="#compared">Compared</a>'] if len(runs) > 1 else []
    links.append('<a href="#tables">Tables</a>')
    links += [f'<a href="#run-{number}">{_swatch(number)}{escaped(run.name)}</a>' for number, run in enumerate(runs)]
    return "<nav>" + "".join(links) + "</nav>"


def _swatch(number: int) -> str:
    return f'<span class="swatch" style="--own: var(--run-{number % 8})"></span>'


def _compared(drawings: Drawings, runs: Sequence[Run]) -> str:
    lines = []
    for number, run in enumerate(runs):
        evaluation, speed = run.record.get("evaluation", {}), run.record.get("throughput", {})
        cells = [f'{_swatch(number)}<a href="#run-{number}">{escaped(run.name)}</a>', escaped(described(run))]
        cells += [f"{evaluation[key]:.2f}" if key in evaluation else "-" for key in ("top1", "top5")]
        cells.append(f"{evaluation['loss']:.4f}" if "loss" in evaluation else "-")
        error = evaluation.get("expected_calibration_error")
        cells.append("-" if error is None else f"{error:.2f}")
        cells.append(f"{speed['images_per_second']:,.1f}" if "images_per_second" in speed else "-")
        lines.append(("", cells))
    head = ("run", "what", "top-1 (%)", "top-5 (%)", "loss", "calibration error (%)", "images/s")
    parts = ['<section id="compared"><h2>Compared</h2>', table(head, lines, 2)]
    with_curves = [(number, run) for number, run in enumerate(runs) if run.train or run.evaluation]
    drawn = plots.curves(drawings, with_curves, (*plots.LEARNING, *plots.SPEED)) if with_curves else []
    if drawn:
        key = "".join(f"<li>{_swatch(number)}{_dashes(number)}{escaped(run.name)}</li>" for number, run in with_curves)
        parts += [f'<ul class="key">{key}</ul>', figures(drawn)]
        parts.append('<p class="caption">Lines: training. Rings: evaluation.</p>')
    if len(with_curves) < len(runs):
        left = len(runs) - len(with_curves)
        parts.append(note(f"{left} of {len(runs)} runs have no curves, only a record."))
    return "\n".join([*parts, "</section>"])


def _dashes(number: int) -> str:
    return {"-": "", "--": "(dashed) ", ":": "(dotted) "}[run_colour(number)[1]]


def _tables(table_rows: Sequence[Row]) -> str:
    notes = list(dict.fromkeys(text for row in table_rows for text in row.footnotes))
    parts = [
        '<section id="tables"><h2>Documented and measured</h2>',
        '<p class="lead">Batch: over all devices. Accuracies: percent of the images evaluated.</p>',
    ]
    for network, dataset in dict.fromkeys((row.network, row.dataset) for row in table_rows):
        here = [row for row in table_rows if (row.network, row.dataset) == (network, dataset)]
        parts.append(f"<h3>{escaped(TITLES.get(network, network))}, {escaped(TITLES.get(dataset, dataset))}</h3>")
        head = [escaped(english) for _, english, _, _ in COLUMNS]
        lines = [(row.kind.replace(" ", "-"), _cells(row, notes)) for row in here]
        parts.append(table(head, lines, TEXT_COLUMNS))
        sources = dict.fromkeys(str(row.source) for row in here if row.kind == "documented")
        if sources:
            parts.append(f'<p class="caption">Documented in: {escaped(", ".join(sources))}</p>')
    items = "".join(f'<li id="note-{number}">{escaped(text)}</li>' for number, text in enumerate(notes, 1))
    return "\n".join([*parts, f'<ol class="footnotes">{items}</ol>' if notes else "", "</section>"])


def _cells(row: Row, notes: Sequence[str]) -> List[str]:
    cells = [escaped(cell(row)) for _, _, _, cell in COLUMNS]
    numbers = [notes.index(text) + 1 for text in row.footnotes]
    cells[0] = f'<span class="kind">{cells[0]}</span>'
    if numbers:
        cells[0] += "<sup>" + ", ".join(f'<a href="#note-{number}">{number}</a>' for number in numbers) + "</sup>"
    return cells
