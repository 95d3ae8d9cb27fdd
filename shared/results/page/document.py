"""The page: the comparison of all runs, the tables, then a section per run."""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from shared.class_names import CIFAR10
from shared.results.documented import Row
from shared.results.language import ENGLISH, LANGUAGES, Language
from shared.results.page import Sheet, escaped, figures, note, plots, port_section, table
from shared.results.page.run_files import Run, read_runs
from shared.results.rows import rows
from shared.results.tables import COLUMNS, TEXT_COLUMNS, cells, render, split_by_network, title

# The policy forbids scripts and network requests, whatever the page contains.
_PAGE = """<!DOCTYPE html>
<html lang="{tag}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{heading}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="kicker">se-pnas-kit</p><h1>{heading}</h1>
<p class="lead">{lead}</p>
<nav>{links}</nav>
</header>
<main>
{main}
</main>
<footer>{footer}</footer>
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
_CAPTION = "Lines: training, averaged over the epoch so far. Rings: evaluation."
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
    "commit earlier_commits recipe schedule precision seed batch_size global_batch_size epochs_completed"
    " steps_completed image_size machine begun_on started"
).split()


def page(paths: Sequence[Path], language: str = "en") -> str:
    """The page about the records in these files, in one of `LANGUAGES`.

    Raises UsageError for an invalid record, or without matplotlib.
    """
    say = LANGUAGES[language]
    sheet, runs = Sheet(say, itertools.count()), read_runs(paths, say)
    measured = [run for run in runs if not run.checks_port]
    parts = {
        "Compared": _compared(sheet, measured) if len(measured) > 1 else "",
        "Ports compared": port_section.compared(sheet, runs),
        "Tables": _tables(rows([run.record for run in measured]), say) if measured or not runs else "",
    }
    links = [f'<a href="#{name.lower().replace(" ", "-")}">{say(name)}</a>' for name, part in parts.items() if part]
    links += [_linked(run) for run in runs]
    command = "python -m shared.results --format html" + ("" if say is ENGLISH else f" --lang {say.name}")
    footer = say("Written by {command} from the runs' records.", command=f"<code>{command}</code>")
    return _PAGE.format(
        tag=say.tag,
        heading=say("Results of 1 run" if len(runs) == 1 else "Results of {count} runs", count=len(runs)),
        lead=say("Documented and measured results, and the course of each run."),
        footer=footer,
        style=(Path(__file__).parent / "style.css").read_text(encoding="utf-8"),
        links="".join(links),
        main="\n".join([*filter(None, parts.values()), *(_section(sheet, run, runs) for run in runs)]),
    )


def _compared(sheet: Sheet, runs: Sequence[Run]) -> str:
    say = sheet.say
    parts = [f'<section id="compared"><h2>{say("Compared")}</h2>']
    by_dataset: Dict[str, List[Run]] = {}
    for run in runs:
        by_dataset.setdefault(run.record.get("dataset", {}).get("name", say("no data set")), []).append(run)
    head = [say("run"), *(name + (f" ({unit})" if unit else "") for name, unit, _ in _facts({}, say)[:5])]
    for dataset, alike in by_dataset.items():  # an accuracy on another data set is not comparable
        numbers = [[text or "-" for _, _, text in _facts(run.record, say)[:5]] for run in alike]
        names = [f"{_linked(run)}<br><small>{escaped(_described(run, say))}</small>" for run in alike]
        lines = [("", [name, *cells]) for name, cells in zip(names, numbers)]
        parts += [f"<h3>{escaped(title(dataset))}</h3>", table(head, lines, 1)]
        with_curves = [run for run in alike if run.train or run.evaluation]
        if len(with_curves) > 1:
            parts.append(plots.key([(run.number, escaped(run.title)) for run in with_curves], say))
            parts += [figures(plots.curves(sheet, with_curves)), _caption(say(_CAPTION))]
    left = sum(not (run.train or run.evaluation) for run in runs)
    if left:
        parts.append(note(say("{left} of {count} runs have no curves, only a record.", left=left, count=len(runs))))
    return "\n".join([*parts, "</section>"])


def _caption(text: str) -> str:
    return f'<p class="caption">{text}</p>'


def _linked(run: Run) -> str:
    return f'<a href="#run-{run.number}">{plots.swatch(run.number)}{escaped(run.title)}</a>'


def _tables(table_rows: Sequence[Row], say: Language) -> str:
    tables, notes = split_by_network(table_rows)
    parts = [
        f'<section id="tables"><h2>{say("Documented and measured")}</h2>',
        f'<p class="lead">{say("Batch: over all devices. Accuracies: percent of the images evaluated.")}'
        f' <a class="file" download="results.csv" href="{_csv(table_rows)}">{say("All rows as CSV")}</a></p>',
    ]
    for heading, here, sources in tables:
        lines = [(row.kind.replace(" ", "-"), _cells(row, notes, say)) for row in here]
        parts += [f"<h3>{escaped(heading)}</h3>", table([say(name) for _, name, _ in COLUMNS], lines, TEXT_COLUMNS)]
        if sources:
            parts.append(_caption(say("Documented in: {sources}", sources=escaped(sources))))
    items = "".join(f'<li id="note-{number}">{escaped(say.known(text))}</li>' for number, text in enumerate(notes, 1))
    return "\n".join([*parts, f'<ol class="footnotes">{items}</ol>' if notes else "", "</section>"])


def _csv(table_rows: Sequence[Row]) -> str:
    """The rows as the content of a link: what `--format csv` prints, without a file beside the page."""
    return "data:text/csv;charset=utf-8," + urllib.parse.quote(render(table_rows, "csv").encode("utf-8", "replace"))


def _cells(row: Row, notes: Sequence[str], say: Language) -> List[str]:
    kind, *others = map(escaped, cells(row, say))
    numbers = [notes.index(text) + 1 for text in row.footnotes]
    marks = ", ".join(f'<a href="#note-{number}">{number}</a>' for number in numbers)
    return [f'<span class="kind">{kind}</span>' + (f"<sup>{marks}</sup>" if marks else ""), *others]


def _section(sheet: Sheet, run: Run, runs: Sequence[Run]) -> str:
    """The section of one of the runs."""
    parts = [
        f'<section class="run" id="run-{run.number}" style="--own: var(--run-{run.number % plots.RUN_COLOURS})">',
        f'<h2><span class="swatch"></span>{escaped(run.title)}</h2>',
        f'<p class="lead">{escaped(_described(run, sheet.say))}</p>',
        *(note(line) for line in run.missing),
        *(port_section.verdict_and_depth(sheet, run, runs) if run.checks_port else _course_and_evaluation(sheet, run)),
    ]
    return "\n".join([*parts, _reproduce(run, sheet.say), "</section>"])


def _course_and_evaluation(sheet: Sheet, run: Run) -> List[str]:
    say = sheet.say
    numbers = [
        f"<li><b>{text}{unit and f'<small> {unit}</small>'}</b><span>{name}</span></li>"
        for name, unit, text in _facts(run.record, say)
        if text
    ]
    parts = [f'<ul class="facts">{"".join(numbers)}</ul>']
    curves = plots.curves(sheet, [run])
    if curves:
        parts += [f"<h3>{say('Learning and speed')}</h3>", figures(curves), _caption(say(_CAPTION))]
    else:
        parts.append(note(say("No learning curves and no throughput over time.")))
    names, evaluation = _class_names(run.record), run.record.get("evaluation", {})
    parts += _evaluation(sheet, evaluation, names)
    if run.examples is not None:
        parts.append(_examples(run.examples, evaluation["images"], names, say))
    return parts


def _class_names(record: Dict[str, Any]) -> Sequence[str]:
    """The names of the confusion matrix's rows; empty if unknown."""
    dataset = record.get("dataset", {})
    names = record.get("evaluation", {}).get("classes") or dataset.get("classes")
    if names is None:
        return CLASSES.get(dataset.get("name", ""), ())
    return [_NAMES.get(name, name) for name in names]


def _described(run: Run, say: Language) -> str:
    """One line of what the title does not say: mode, device, name."""
    device, parts = run.record.get("device", {}), [say(run.record["mode"])]
    parts += [f"{device['count']} x {device['name']}"] if "name" in device and "count" in device else []
    return " · ".join([*parts, run.name])


def _facts(record: Dict[str, Any], say: Language) -> List[Tuple[str, str, str]]:
    """Name, unit and text of what a run is compared by; the text is empty if the record does not have it."""
    parts = {"": record, **record}
    values = [(name, unit, parts.get(part, {}).get(key), form) for name, unit, part, key, form in _FACTS]
    return [(say(name), unit, "" if value is None else form(value)) for name, unit, value, form in values]


def _evaluation(sheet: Sheet, evaluation: Dict[str, Any], names: Sequence[str]) -> List[str]:
    say = sheet.say
    if not evaluation:
        return [note(say("This run has no evaluation."))]
    counts, accuracies = evaluation.get("confusion"), evaluation.get("per_class_accuracy")
    parts = [f"<h3>{say('Evaluation')}</h3>"]
    drawn: List[str] = []
    if evaluation.get("reliability"):
        plots.reliability(sheet, evaluation["reliability"], drawn)
    else:
        why = say("This record was written before the bins of confidence were kept: no reliability diagram.")
        parts.append(note(why))
    size = len(counts or accuracies or ())
    labels = [say("class {number}", number=label) for label in range(size)]
    if len(names) == size:
        number = "{} <small>{}</small>".format  # a digit's name is its number
        labels = [
            escaped(name) if name == str(label) else number(escaped(name), label) for label, name in enumerate(names)
        ]
    if counts and size <= plots.MOST_CELLS:
        plots.confusion(sheet, counts, drawn)
    drawn += [_classes(labels, accuracies, say)] if accuracies else []
    parts.append(figures(drawn) if drawn else "")
    if not counts:
        return [*parts, note(say("The record has no confusion matrix."))]
    if size > plots.MOST_CELLS:
        parts.append(note(say("{size} classes: only the most frequent confusions are shown.", size=size)))
    return [*parts, _confusions(labels, counts, say)]


def _examples(examples: Dict[str, Any], evaluated: int, classes: Sequence[str], say: Language) -> str:
    """Both rows of images; `classes`, where known, are better names than the file's."""

    def figure(one: Dict[str, Any]) -> str:
        label, predicted = (
            escaped(classes[one[key]] if one[key] < len(classes) else one[f"{key}_name"]) for key in ("label", "answer")
        )
        right = one["label"] == one["answer"]
        remark = say("correct") if right else say("predicted {name}", name=predicted)
        caption = f"{label}<small>{remark}, {one['confidence']:.1f}&nbsp;%</small>"
        image = f'<img src="{one["picture"]}" alt="{label}, {remark}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"

    parts = [f"<h3>{say('Examples')}</h3>"]
    headings = (say("Most confident correct predictions"), say("Most confident incorrect predictions"))
    for kind, heading in zip(("right", "wrong"), headings):
        if examples[kind]:
            images = "".join(map(figure, examples[kind]))
            parts.append(f'<h4>{heading}</h4><div class="examples">{images}</div>')
    seen = examples["images"]
    share = "" if seen == evaluated else say(" Chosen from {count}, the first process's share.", count=f"{seen:,}")
    parts.append(_caption(say("At most one of each class. Percent: the confidence of the prediction.") + share))
    return "\n".join(parts)


def _classes(labels: Sequence[str], accuracies: Sequence[Optional[float]], say: Language) -> str:
    """A bar chart, the best class first; of many classes only the best and the worst."""
    known = sorted((-value, number) for number, value in enumerate(accuracies) if value is not None)
    title = say("Accuracy of each class (%)")
    if len(known) > plots.MOST_CELLS:
        all_of_them = {"most": _MOST_LISTED, "count": len(known)}
        title = say("The {most} best and the {most} worst of {count} classes (%)", **all_of_them)
        known = known[:_MOST_LISTED] + known[-_MOST_LISTED:]
    bars = "".join(
        f'<li><span>{labels[number]}</span><i style="--share: {-value:.2f}%"></i><b>{-value:.1f}</b></li>'
        for value, number in known
    )
    empty = sum(value is None for value in accuracies)
    without = say("1 class without images." if empty == 1 else "{count} classes without images.", count=empty)
    more = _caption(without) if empty else ""
    return f'<figcaption>{title}</figcaption><ol class="bars">{bars}</ol>{more}'


def _confusions(labels: Sequence[str], counts: Sequence[Sequence[int]], say: Language) -> str:
    cells = itertools.product(range(len(counts)), repeat=2)
    confused = sorted((-counts[row][column], row, column) for row, column in cells if row != column)
    lines = []
    for count, row, column in confused[:_MOST_LISTED]:
        if count:
            share = 100 * -count / sum(counts[row])
            lines.append(("", (labels[row], labels[column], str(-count), f"{share:.1f}")))
    if not lines:
        return note(say("No image was predicted to be of another class."))
    head = (say("label"), say("predicted"), say("images"), say("% of the label's"))
    summary = f"<summary>{say('Most frequent confusions')}</summary>"
    return f"<details open>{summary}{table(head, lines, 2, narrow=True)}</details>"


def _reproduce(run: Run, say: Language) -> str:
    record, config = run.record, run.config or {}
    parts = [f"<h3>{say('Reproduce')}</h3>"]
    if isinstance(config.get("command"), str):
        parts.append(f"<pre><code>{escaped(config['command'])}</code></pre>")
    else:
        parts.append(note(say("The command is in the run's config.json, which is missing.")))
    facts = {say(key.replace("_", " ")): record.get(key) for key in _REPRODUCED}
    facts = {name: "; ".join(value) if isinstance(value, list) else value for name, value in facts.items()}
    facts.update((say("{name} version", name=name), version) for name, version in record["versions"].items())
    facts[say("data set's fingerprint")] = record.get("dataset", {}).get("fingerprint")
    known = [f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items() if value is not None]
    parts.append(f"<dl>{''.join(f'<div>{pair}</div>' for pair in known)}</dl>")
    if run.config is not None:
        whole = escaped(json.dumps(run.config, indent=2, ensure_ascii=False))
        summary = f"<summary>{say('config.json, the full configuration')}</summary>"
        parts.append(f"<details>{summary}<pre><code>{whole}</code></pre></details>")
    return "\n".join(parts)
