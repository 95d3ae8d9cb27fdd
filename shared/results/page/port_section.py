"""What the page shows of runs of check-port: the verdict, what is out of tolerance, error by depth; runs compared."""

from __future__ import annotations

import itertools
import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from shared.port_check.findings import Check, Verdict
from shared.port_check.report import ROWS, conclusion, percent_text, units_text, what_is_wrong
from shared.port_check.report_file import Side
from shared.results.language import Language
from shared.results.page import Sheet, escaped, figures, note, plots, table
from shared.results.page.port_plots import Line, errors_by_depth, losses, tolerances_by_depth
from shared.results.page.run_files import Run
from shared.results.tables import title

_CLOSEST = 5
_MOST_GROUPS = 16  # of layers, in the caption
_SETTINGS = ("device", "precision", "compute_dtype", "memory_format", "layers", "versions")
_HEAD = (
    *("where", "compared", "out of tolerance", "largest × rounding"),
    *("error at the last layer", "rounding alone", "error in the gradient at the first", "rounding alone, gradient"),
)
_TEXT_COLUMNS = 2  # with the name
_THICK = "Thick: the side. Thin: rounding alone, the reference with every result rounded as the side does."
_ORDER = "The backward pass goes from right to left."


class _Shown(NamedTuple):
    """A side on the page."""

    run: Run
    side: Side
    number: int  # of its colour

    @property
    def line(self) -> Line:
        return Line(self.number, self.side.found)

    @property
    def agrees(self) -> bool:
        return self.side.found.verdict.agrees


def _shown(runs: Sequence[Run]) -> List[_Shown]:
    """All sides; the first of a run, which is that of its machine, has the run's colour."""
    further = itertools.count(len(runs))
    return [
        _Shown(run, side, next(further) if place else run.number)
        for run in runs
        for place, side in enumerate(run.sides)
    ]


def compared(sheet: Sheet, runs: Sequence[Run]) -> str:
    """The section that compares the runs of check-port among all runs of the page; empty if it has fewer than two."""
    ports = [run for run in runs if run.checks_port]
    if len(ports) < 2:
        return ""
    say = sheet.say
    sides = _shown(runs)
    rows = [_row(shown, _linked(shown.run, shown.side.name), say) for shown in sides]
    lost = [run for run in ports if not run.sides]
    rows += [
        ("", [f"{plots.swatch(run.number)}{_linked(run)}<br>{_mark(None, say)}", *["-"] * len(_HEAD)]) for run in lost
    ]
    parts = [f'<section id="ports-compared"><h2>{say("Ports compared")}</h2>']
    parts.append(table([say("run"), *map(say, _HEAD)], rows, _TEXT_COLUMNS))
    networks: Dict[Tuple[str, ...], List[_Shown]] = {}
    for shown in sides:
        networks.setdefault(tuple(shown.line.layers), []).append(shown)
    for alike in networks.values():
        if len(alike) > 1:
            parts += [f"<h3>{escaped(title(alike[0].run.record['network']))}</h3>"] if len(networks) > 1 else []
            parts.append(plots.key([(shown.number, _linked(shown.run, shown.side.name)) for shown in alike], say))
            parts += _drawn(sheet, alike)
    if len(networks) > 1:
        parts.append(note(say("Only sides with the same layers are drawn together.")))
    return "\n".join([*parts, "</section>"])


def verdict_and_depth(sheet: Sheet, run: Run, runs: Sequence[Run]) -> List[str]:
    """The parts of the own section of one of the page's runs."""
    say = sheet.say
    sides = [shown for shown in _shown(runs) if shown.run is run]
    if not sides:
        nothing = say("Nothing here says whether this port agrees.")
        return [f'<p class="verdict">{_mark(None, say)} {nothing}</p>']
    parts = []
    for shown in sides:
        word, rest = _verdict(shown.side.found.verdict, say)
        name = f"<br><small>{plots.swatch(shown.number)}{escaped(shown.side.name)}</small>" if len(sides) > 1 else ""
        parts.append(f'<p class="verdict {word}">{_mark(shown.agrees, say)} {escaped(rest)}{name}</p>')
    rows = [_row(shown, escaped(shown.side.name), say) for shown in sides]
    parts.append(f"<h3>{say('Compared with float64 on the CPU')}</h3>")
    parts.append(table([say("side"), *map(say, _HEAD)], rows, _TEXT_COLUMNS))
    for shown in sides:
        parts += _findings(shown, len(sides) > 1, say)
    parts.append(f"<h3>{say('Error by depth')}</h3>")
    if len(sides) > 1:
        parts.append(plots.key([(shown.number, escaped(shown.side.name)) for shown in sides], say))
    parts += _drawn(sheet, sides, tolerances=True)
    return parts + [_layers(shown, len(sides) > 1, say) for shown in sides if shown.side.found.by_depth]


def _linked(run: Run, side: str = "") -> str:
    name = f'<a href="#run-{run.number}">{escaped(run.title)}</a>'
    return name + (f" <small>{escaped(side)}</small>" if len(run.sides) > 1 else "")


def _mark(agrees: Optional[bool], say: Language) -> str:
    word, sign = {True: ("agrees", "✓"), False: ("differs", "✗"), None: ("no verdict", "?")}[agrees]
    return f'<b class="mark {word.partition(" ")[0]}">{sign} {say(word)}</b>'


def _verdict(verdict: Verdict, say: Language) -> Tuple[str, str]:
    """`agrees` or `differs`, and the rest of what `conclusion` says, in this language."""
    word, _, rest = conclusion(verdict).partition(": ")
    return word, say.verdict(rest)


def _row(shown: _Shown, name: str, say: Language) -> Tuple[str, List[str]]:
    """The side in a table whose columns are the name and `_HEAD`."""
    found, described = shown.side.found, shown.side.description
    checks, by_depth = found.verdict.checks, found.by_depth
    where = [_text(described[key]) for key in _SETTINGS if described.get(key)]
    where += [f"loss scale {_text(described['loss_scale'])}"] if described.get("loss_scale", 1) != 1 else []
    numbers = [f"{len(checks):,}", f"{len(found.verdict.causes):,}", _units(found.verdict.closest(1)[0].units)]
    if by_depth:
        last, first = by_depth[-1], by_depth[0]
        errors = [last.forward, last.forward_rounded, first.backward, first.backward_rounded]
    else:
        errors = [None] * 4
    numbers += map(percent_text, errors)
    return "", [
        f"{plots.swatch(shown.number)}{name}<br>{_mark(shown.agrees, say)}",
        escaped(" · ".join(where) or "-"),
        *numbers,
    ]


def _text(value: Any) -> str:
    """A value of a trace's description; of a device, kind and name."""
    if isinstance(value, dict):
        if "kind" in value and "name" in value:
            return f"{value['kind']}, {value['name']}"
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else str(value).replace("_", " ")


def _units(units: float) -> str:
    return units_text(units) if math.isfinite(units) else "∞"


def _findings(shown: _Shown, named: bool, say: Language) -> List[str]:
    """The table of what is out of tolerance; of a side that agrees, of what comes closest to it."""
    verdict = shown.side.found.verdict
    checks = verdict.closest(_CLOSEST) if verdict.agrees else verdict.causes[:ROWS]
    title = say("Closest to the tolerance") if verdict.agrees else say("Out of tolerance by themselves")
    name = f" <small>{plots.swatch(shown.number)}{escaped(shown.side.name)}</small>" if named else ""
    head = (say("value"), say("what was found"), say("× rounding"), say("error"))
    parts = [f"<h3>{title}{name}</h3>", table(head, [("", _finding(check, say)) for check in checks], 2)]
    left = len(verdict.causes) - len(checks)
    return parts + ([note(say("And {count} more, listed in port.json.", count=f"{left:,}"))] if left > 0 else [])


def _finding(check: Check, say: Language) -> List[str]:
    value = (
        f"<b>{escaped(check.layer)}</b> {escaped(check.quantity)}<br><small>{escaped(say.known(check.stage))}</small>"
    )
    what = f"{escaped(say.verdict(what_is_wrong(check)))}<br><small>{escaped(check.text)}</small>"
    return [value, what, _units(check.units), percent_text(check.relative_error, 3)]


def _drawn(sheet: Sheet, sides: Sequence[_Shown], tolerances: bool = False) -> List[str]:
    """The figures of sides whose layers are the same, and what they show."""
    say = sheet.say
    lines = [shown.line for shown in sides]
    drawings = errors_by_depth(sheet, lines)
    if tolerances:
        for shown in sides:
            name = f"<figcaption>{plots.swatch(shown.number)}{escaped(shown.side.name)}</figcaption>"
            drawings.append((name if len(sides) > 1 else "") + tolerances_by_depth(sheet, shown.line))
    drawings += losses(sheet, lines)
    faults = [
        f"{line.fault}, {line.found.verdict.first.layer}" for line in lines if line.fault and line.found.verdict.first
    ]
    first = "; ".join(dict.fromkeys(faults))
    dotted = say("Dotted: the first layer out of tolerance: {layers}.", layers=first) if faults else ""
    ends = any(row.forward is None and row.forward_rounded is not None for line in lines for row in line.found.by_depth)
    red = say("Red: out of tolerance; a triangle: no rounding at all explains it.") if tolerances and faults else ""
    dashed = say(
        "Dashed: the reference's loss, and the tolerance, 1." if tolerances else "Dashed: the reference's loss."
    )
    gaps = say("Where a line ends, the values are not finite.") if ends else ""
    groups = _groups(lines[0].layers, say)
    caption = " ".join(filter(None, [say(_THICK), dotted, red, dashed, gaps, say(_ORDER), groups]))
    return [figures(drawings), f'<p class="caption">{escaped(caption)}</p>']


def _groups(layers: Sequence[str], say: Language) -> str:
    """Which numbers the layers of each part of the network have, if there are not too many parts."""
    names = [layer.partition(".")[0].partition("/")[0] for layer in layers]
    groups, number = [], 1
    for name, members in itertools.groupby(names):
        size = len(list(members))
        groups.append(f"{number} {name}" if size == 1 else f"{number}-{number + size - 1} {name}")
        number += size
    return say("Layers: {groups}.", groups=", ".join(groups)) if 1 < len(groups) <= _MOST_GROUPS else ""


def _layers(shown: _Shown, named: bool, say: Language) -> str:
    """Every layer with its numbers, folded; those out of tolerance stand out."""
    largest: Dict[str, float] = {}
    for check in shown.side.found.verdict.checks:
        largest[check.layer] = max(largest.get(check.layer, 0.0), check.units)
    rows = []
    for number, row in enumerate(shown.side.found.by_depth, 1):
        errors = (row.forward, row.forward_rounded, row.backward, row.backward_rounded)
        units = largest.get(row.layer)
        cells = [str(number), escaped(row.layer), "-" if units is None else _units(units), *map(percent_text, errors)]
        rows.append(("differs" if units is not None and not units <= 1 else "", cells))
    names = ("number", "layer", "× rounding", "error", "rounding alone", "error backward", "rounding alone, backward")
    of_side = say("All layers of {side}, by number", side=escaped(shown.side.name))
    summary = of_side if named else say("All layers, by number")
    return f"<details><summary>{summary}</summary>{table([*map(say, names)], rows, 2)}</details>"
