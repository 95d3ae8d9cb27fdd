"""The page: the comparison of all runs, the tables, then a section per run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Iterator, List, Sequence

from shared.results.documented import Row
from shared.results.page import escaped, figures, note, plots, table
from shared.results.page.run_files import Run, read_run
from shared.results.page.run_section import described, facts, section
from shared.results.rows import rows
from shared.results.tables import COLUMNS, TEXT_COLUMNS, split_by_network

# The policy forbids scripts and network requests, whatever the page contains.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Results of {count}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="kicker">se-pnas-kit</p><h1>Results of {count}</h1>
<p class="lead">Documented and measured results, and the course of each run.</p>
<nav>{links}</nav>
</header>
<main>
{main}
</main>
<footer>Written by <code>python -m shared.results --format html</code> from the runs' records.</footer>
</body>
</html>
"""


def page(paths: Sequence[Path]) -> str:
    """The page about the records in these files. Raises UsageError for an invalid record, or without matplotlib."""
    ids, runs = itertools.count(), [read_run(number, path) for number, path in enumerate(paths)]
    links = ['<a href="#compared">Compared</a>'] if len(runs) > 1 else []
    links.append('<a href="#tables">Tables</a>')
    links += [f'<a href="#run-{run.number}">{_swatch(run)}{escaped(run.name)}</a>' for run in runs]
    parts = [_compared(ids, runs)] if len(runs) > 1 else []
    parts += [_tables(rows([run.record for run in runs])), *(section(ids, run) for run in runs)]
    return _PAGE.format(
        count=f"{len(runs)} run{'' if len(runs) == 1 else 's'}",
        style=(Path(__file__).parent / "style.css").read_text(encoding="utf-8"),
        links="".join(links),
        main="\n".join(parts),
    )


def _swatch(run: Run) -> str:
    return f'<span class="swatch" style="--own: var(--run-{run.number % plots.RUN_COLOURS})"></span>'


def _compared(ids: Iterator[int], runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        name = f'{_swatch(run)}<a href="#run-{run.number}">{escaped(run.name)}</a>'
        numbers = [text or "-" for _, _, text in facts(run.record)[:5]]
        lines.append(("", [name, escaped(described(run)), *numbers]))
    head = ["run", "what", *(name + (f" ({unit})" if unit else "") for name, unit, _ in facts({})[:5])]
    parts = ['<section id="compared"><h2>Compared</h2>', table(head, lines, 2)]
    with_curves = [run for run in runs if run.train or run.evaluation]
    if with_curves:
        dashes = {"-": "", "--": "(dashed) ", ":": "(dotted) "}
        key = [f"{_swatch(run)}{dashes[plots.run_colour(run.number)[1]]}{escaped(run.name)}" for run in with_curves]
        parts.append(f'<ul class="key">{"".join(f"<li>{name}</li>" for name in key)}</ul>')
        parts.append(figures(plots.curves(ids, with_curves)))
        parts.append('<p class="caption">Lines: training. Rings: evaluation.</p>')
    if len(with_curves) < len(runs):
        left = len(runs) - len(with_curves)
        parts.append(note(f"{left} of {len(runs)} runs have no curves, only a record."))
    return "\n".join([*parts, "</section>"])


def _tables(table_rows: Sequence[Row]) -> str:
    tables, notes = split_by_network(table_rows)
    parts = [
        '<section id="tables"><h2>Documented and measured</h2>',
        '<p class="lead">Batch: over all devices. Accuracies: percent of the images evaluated.</p>',
    ]
    for title, here, sources in tables:
        lines = [(row.kind.replace(" ", "-"), _cells(row, notes)) for row in here]
        parts += [f"<h3>{escaped(title)}</h3>", table([english for _, english, _, _ in COLUMNS], lines, TEXT_COLUMNS)]
        if sources:
            parts.append(f'<p class="caption">Documented in: {escaped(sources)}</p>')
    items = "".join(f'<li id="note-{number}">{escaped(text)}</li>' for number, text in enumerate(notes, 1))
    return "\n".join([*parts, f'<ol class="footnotes">{items}</ol>' if notes else "", "</section>"])


def _cells(row: Row, notes: Sequence[str]) -> List[str]:
    kind, *others = [escaped(cell(row)) for _, _, _, cell in COLUMNS]
    numbers = [notes.index(text) + 1 for text in row.footnotes]
    marks = ", ".join(f'<a href="#note-{number}">{number}</a>' for number in numbers)
    return [f'<span class="kind">{kind}</span>' + (f"<sup>{marks}</sup>" if marks else ""), *others]
