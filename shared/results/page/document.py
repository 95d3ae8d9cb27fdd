"""The page: the comparison of all runs, the tables, then a section per run."""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from shared.class_names import CIFAR10
from shared.results.documented import Row
from shared.results.page import escaped, figures, note, plots, port_section, table
from shared.results.page.run_files import Run, read_runs
from shared.results.rows import rows
from shared.results.tables import COLUMNS, TEXT_COLUMNS, render, split_by_network, title

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
# Names of the classes for records without class names, by data set.
_IMAGENETTE = """
n01440764 tench, n02102040 English springer, n02979186 cassette player, n03000684 chain saw, n03028079 church,
n03394916 French horn, n03417042 garbage truck, n03425413 gas pump, n03445777 golf ball, n03888257 parachute"""
_NAMES = dict(re.findall(r"(n\d+) ([^,]+)", _IMAGENETTE))
CLASSES: Dict[str, Tuple[str, ...]] = {"cifar-10": CIFAR10, "imagenette": tuple(_NAMES.values())}
_MOST_LISTED = 10
_CAPTION = '<p class="caption">Lines: training, averaged over the epoch so far. Rings: evaluation.</p>'
_FACTS: Tuple[Tuple[str, str, str, str, Callable[[Any], str]], ...] = (
    # name, unit, part of the record ("" is the whole), key, format
    ("top-1", "%", "evaluation", "top1", "{:.2f}".format),
    ("top-5", "%", "evaluation", "top5", "{:.2f}".format),
    ("loss", "", "evaluation", "loss", "{:.4f}".format),
    ("calibration error", "%", "evaluation", "expected_calibration_error", "{:.2f}".format),
    ("images/s", "", "throughput", "images_per_second", "{:,.1f}".format),
    ("ms/step, median", "", "throughput", "step_ms_p50", "{:,.1f}".format),
    ("waiting for data", "%", "throughput", "data_wait_share", lambda share: f"{100 * share:.1f}"),
    ("images evaluated", "", "evaluation", "images", "{:,}".format),
    ("hours", "", "", "seconds", lambda seconds: f"{seconds / 3600:.2f}"),
    ("parameters", "", "", "parameters", "{:,}".format),
)
_REPRODUCED = (
    "commit recipe schedule precision seed batch_size global_batch_size epochs_completed steps_completed image_size"
    " machine started"
).split()


def page(paths: Sequence[Path]) -> str:
    """The page about the records in these files. Raises UsageError for an invalid record, or without matplotlib."""
    ids, runs = itertools.count(), read_runs(paths)
    measured = [run for run in runs if not run.checks_port]
    parts = {
        "Compared": _compared(ids, measured) if len(measured) > 1 else "",
        "Ports compared": port_section.compared(ids, runs),
        "Tables": _tables(rows([run.record for run in measured])) if measured or not runs else "",
    }
    links = [f'<a href="#{name.lower().replace(" ", "-")}">{name}</a>' for name, part in parts.items() if part]
    links += [_linked(run) for run in runs]
    return _PAGE.format(
        count=f"{len(runs)} run{'' if len(runs) == 1 else 's'}",
        style=(Path(__file__).parent / "style.css").read_text(encoding="utf-8"),
        links="".join(links),
        main="\n".join([*filter(None, parts.values()), *(_section(ids, run, runs) for run in runs)]),
    )


def _compared(ids: Iterator[int], runs: Sequence[Run]) -> str:
    parts = ['<section id="compared"><h2>Compared</h2>']
    by_dataset: Dict[str, List[Run]] = {}
    for run in runs:
        by_dataset.setdefault(run.record.get("dataset", {}).get("name", "no data set"), []).append(run)
    head = ["run", *(name + (f" ({unit})" if unit else "") for name, unit, _ in _facts({})[:5])]
    for dataset, alike in by_dataset.items():  # an accuracy on another data set is not comparable
        numbers = [[text or "-" for _, _, text in _facts(run.record)[:5]] for run in alike]
        names = [f"{_linked(run)}<br><small>{escaped(_described(run))}</small>" for run in alike]
        lines = [("", [name, *cells]) for name, cells in zip(names, numbers)]
        parts += [f"<h3>{escaped(title(dataset))}</h3>", table(head, lines, 1)]
        with_curves = [run for run in alike if run.train or run.evaluation]
        if len(with_curves) > 1:
            parts.append(plots.key([(run.number, escaped(run.title)) for run in with_curves]))
            parts += [figures(plots.curves(ids, with_curves)), _CAPTION]
    left = sum(not (run.train or run.evaluation) for run in runs)
    if left:
        parts.append(note(f"{left} of {len(runs)} runs have no curves, only a record."))
    return "\n".join([*parts, "</section>"])


def _linked(run: Run) -> str:
    return f'<a href="#run-{run.number}">{plots.swatch(run.number)}{escaped(run.title)}</a>'


def _tables(table_rows: Sequence[Row]) -> str:
    tables, notes = split_by_network(table_rows)
    parts = [
        '<section id="tables"><h2>Documented and measured</h2>',
        '<p class="lead">Batch: over all devices. Accuracies: percent of the images evaluated.'
        f' <a class="file" download="results.csv" href="{_csv(table_rows)}">All rows as CSV</a></p>',
    ]
    for heading, here, sources in tables:
        lines = [(row.kind.replace(" ", "-"), _cells(row, notes)) for row in here]
        parts += [f"<h3>{escaped(heading)}</h3>", table([english for _, english, _, _ in COLUMNS], lines, TEXT_COLUMNS)]
        if sources:
            parts.append(f'<p class="caption">Documented in: {escaped(sources)}</p>')
    items = "".join(f'<li id="note-{number}">{escaped(text)}</li>' for number, text in enumerate(notes, 1))
    return "\n".join([*parts, f'<ol class="footnotes">{items}</ol>' if notes else "", "</section>"])


def _csv(table_rows: Sequence[Row]) -> str:
    """The rows as the content of a link: what `--format csv` prints, without a file beside the page."""
    return "data:text/csv;charset=utf-8," + urllib.parse.quote(render(table_rows, "csv").encode("utf-8", "replace"))


def _cells(row: Row, notes: Sequence[str]) -> List[str]:
    kind, *others = [escaped(cell(row)) for _, _, _, cell in COLUMNS]
    numbers = [notes.index(text) + 1 for text in row.footnotes]
    marks = ", ".join(f'<a href="#note-{number}">{number}</a>' for number in numbers)
    return [f'<span class="kind">{kind}</span>' + (f"<sup>{marks}</sup>" if marks else ""), *others]


def _section(ids: Iterator[int], run: Run, runs: Sequence[Run]) -> str:
    """The section of one of the runs; `ids` make those of its figures unique."""
    parts = [
        f'<section class="run" id="run-{run.number}" style="--own: var(--run-{run.number % plots.RUN_COLOURS})">',
        f'<h2><span class="swatch"></span>{escaped(run.title)}</h2>',
        f'<p class="lead">{escaped(_described(run))}</p>',
        *(note(line) for line in run.missing),
        *(port_section.verdict_and_depth(ids, run, runs) if run.checks_port else _course_and_evaluation(ids, run)),
    ]
    return "\n".join([*parts, _reproduce(run), "</section>"])


def _course_and_evaluation(ids: Iterator[int], run: Run) -> List[str]:
    numbers = [
        f"<li><b>{text}{unit and f'<small> {unit}</small>'}</b><span>{name}</span></li>"
        for name, unit, text in _facts(run.record)
        if text
    ]
    parts = [f'<ul class="facts">{"".join(numbers)}</ul>']
    curves = plots.curves(ids, [run])
    if curves:
        parts += ["<h3>Learning and speed</h3>", figures(curves), _CAPTION]
    else:
        parts.append(note("No learning curves and no throughput over time."))
    names, evaluation = _class_names(run.record), run.record.get("evaluation", {})
    parts += _evaluation(ids, evaluation, names)
    if run.examples is not None:
        parts.append(_examples(run.examples, evaluation["images"], names))
    return parts


def _class_names(record: Dict[str, Any]) -> Sequence[str]:
    """The names of the confusion matrix's rows; empty if unknown."""
    dataset = record.get("dataset", {})
    names = record.get("evaluation", {}).get("classes") or dataset.get("classes")
    if names is None:
        return CLASSES.get(dataset.get("name", ""), ())
    return [_NAMES.get(name, name) for name in names]


def _described(run: Run) -> str:
    """One line of what the title does not say: mode, device, name."""
    device, parts = run.record.get("device", {}), [run.record["mode"]]
    parts += [f"{device['count']} x {device['name']}"] if "name" in device and "count" in device else []
    return " · ".join([*parts, run.name])


def _facts(record: Dict[str, Any]) -> List[Tuple[str, str, str]]:
    """Name, unit and text of what a run is compared by; the text is empty if the record does not have it."""
    parts = {"": record, **record}
    values = [(name, unit, parts.get(part, {}).get(key), form) for name, unit, part, key, form in _FACTS]
    return [(name, unit, "" if value is None else form(value)) for name, unit, value, form in values]


def _evaluation(ids: Iterator[int], evaluation: Dict[str, Any], names: Sequence[str]) -> List[str]:
    if not evaluation:
        return [note("This run has no evaluation.")]
    counts, accuracies = evaluation.get("confusion"), evaluation.get("per_class_accuracy")
    parts = ["<h3>Evaluation</h3>"]
    drawn: List[str] = []
    if evaluation.get("reliability"):
        plots.reliability(ids, evaluation["reliability"], drawn)
    else:
        parts.append(note("This record was written before the bins of confidence were kept: no reliability diagram."))
    size = len(counts or accuracies or ())
    labels = [f"class {label}" for label in range(size)]
    if len(names) == size:
        number = "{} <small>{}</small>".format  # a digit's name is its number
        labels = [
            escaped(name) if name == str(label) else number(escaped(name), label) for label, name in enumerate(names)
        ]
    if counts and size <= plots.MOST_CELLS:
        plots.confusion(ids, counts, drawn)
    drawn += [_classes(labels, accuracies)] if accuracies else []
    parts.append(figures(drawn) if drawn else "")
    if not counts:
        return [*parts, note("The record has no confusion matrix.")]
    if size > plots.MOST_CELLS:
        parts.append(note(f"{size} classes: only the most frequent confusions are shown."))
    return [*parts, _confusions(labels, counts)]


def _examples(examples: Dict[str, Any], evaluated: int, classes: Sequence[str]) -> str:
    """Both rows of images; `classes`, where known, are better names than the file's."""

    def figure(one: Dict[str, Any]) -> str:
        label, predicted = (
            escaped(classes[one[key]] if one[key] < len(classes) else one[f"{key}_name"]) for key in ("label", "answer")
        )
        remark = "correct" if one["label"] == one["answer"] else f"predicted {predicted}"
        caption = f"{label}<small>{remark}, {one['confidence']:.1f}&nbsp;%</small>"
        image = f'<img src="{one["picture"]}" alt="{label}, {remark}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"

    parts = ["<h3>Examples</h3>"]
    for kind, word in (("right", "correct"), ("wrong", "incorrect")):
        if examples[kind]:
            images = "".join(map(figure, examples[kind]))
            parts.append(f'<h4>Most confident {word} predictions</h4><div class="examples">{images}</div>')
    seen = examples["images"]
    share = "" if seen == evaluated else f" Chosen from {seen:,}, the first process's share."
    parts.append(f'<p class="caption">At most one of each class. Percent: the confidence of the prediction.{share}</p>')
    return "\n".join(parts)


def _classes(labels: Sequence[str], accuracies: Sequence[Optional[float]]) -> str:
    """A bar chart, the best class first; of many classes only the best and the worst."""
    known = sorted((-value, number) for number, value in enumerate(accuracies) if value is not None)
    title = "Accuracy of each class (%)"
    if len(known) > plots.MOST_CELLS:
        title = f"The {_MOST_LISTED} best and the {_MOST_LISTED} worst of {len(known)} classes (%)"
        known = known[:_MOST_LISTED] + known[-_MOST_LISTED:]
    bars = "".join(
        f'<li><span>{labels[number]}</span><i style="--share: {-value:.2f}%"></i><b>{-value:.1f}</b></li>'
        for value, number in known
    )
    empty = sum(value is None for value in accuracies)
    more = f'<p class="caption">{empty} class{"" if empty == 1 else "es"} without images.</p>' if empty else ""
    return f'<figcaption>{title}</figcaption><ol class="bars">{bars}</ol>{more}'


def _confusions(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    cells = itertools.product(range(len(counts)), repeat=2)
    confused = sorted((-counts[row][column], row, column) for row, column in cells if row != column)
    lines = []
    for count, row, column in confused[:_MOST_LISTED]:
        if count:
            share = 100 * -count / sum(counts[row])
            lines.append(("", (labels[row], labels[column], str(-count), f"{share:.1f}")))
    if not lines:
        return note("No image was predicted to be of another class.")
    head = ("label", "predicted", "images", "% of the label's")
    return f"<details open><summary>Most frequent confusions</summary>{table(head, lines, 2, narrow=True)}</details>"


def _reproduce(run: Run) -> str:
    record, config = run.record, run.config or {}
    parts = ["<h3>Reproduce</h3>"]
    if isinstance(config.get("command"), str):
        parts.append(f"<pre><code>{escaped(config['command'])}</code></pre>")
    else:
        parts.append(note("The command is in the run's config.json, which is missing."))
    facts = {key.replace("_", " "): record.get(key) for key in _REPRODUCED}
    facts.update((f"{name} version", version) for name, version in record["versions"].items())
    facts["data set's fingerprint"] = record.get("dataset", {}).get("fingerprint")
    known = [f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items() if value is not None]
    parts.append(f"<dl>{''.join(f'<div>{pair}</div>' for pair in known)}</dl>")
    if run.config is not None:
        whole = escaped(json.dumps(run.config, indent=2, ensure_ascii=False))
        summary = "<summary>config.json, the full configuration</summary>"
        parts.append(f"<details>{summary}<pre><code>{whole}</code></pre></details>")
    return "\n".join(parts)
