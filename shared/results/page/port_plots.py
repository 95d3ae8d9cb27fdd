"""The figures of runs of check-port: error and tolerance of each layer in order of computation, and the loss curves."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from shared.port_check.report import Comparison
from shared.results.course import MOST_POINTS
from shared.results.page import Sheet, plots

LEAST = 1e-3  # times rounding; smaller errors are not drawn
_THIN = {"linewidth": 0.9, "alpha": 0.75}  # what rounding alone does
_PANELS = (  # of the tolerance: title, stages
    ("forward, statistics", ("weights", "forward", "statistics")),
    ("backward, update", ("backward", "exchange", "update")),
)


class Line(NamedTuple):
    """A side in a figure, in the colour of this number."""

    number: int
    found: Comparison

    @property
    def layers(self) -> List[str]:
        """The calls of layers in order of computation; the figures number them from 1."""
        return [row.layer for row in self.found.by_depth]

    @property
    def fault(self) -> Optional[int]:
        """The number of the first layer out of tolerance; None where there is none, or it is not a layer's value."""
        first = self.found.verdict.first
        return self.layers.index(first.layer) + 1 if first and first.layer in self.layers else None


def errors_by_depth(sheet: Sheet, lines: Sequence[Line]) -> List[str]:
    """Forward and backward: the relative error of each layer in a whole run, and thin, that of rounding alone.

    A dotted line stands at the first layer out of tolerance. What is not finite is left out.
    """
    drawn: List[str] = []
    for direction in ("forward", "backward"):
        curves: List[Tuple[int, str, Dict[str, Any]]] = [(line.number, f"{direction}_rounded", _THIN) for line in lines]
        curves += [(line.number, direction, {}) for line in lines]
        rows = {line.number: line.found.by_depth for line in lines}
        points = [
            (number, style, _positive([100 * (getattr(row, name) or 0) for row in rows[number]]))
            for number, name, style in curves
        ]
        values = [value for _, _, curve in points for _, value in curve]
        if not values:
            continue
        title = f"Error by depth, {direction} (%), logarithmic"
        with plots.drawing(sheet, 2.9, title, drawn) as figure:
            axes = figure.add_subplot()
            for number, style, curve in points:
                _plot(axes, number, curve, style)
            for line in lines:
                if line.fault is not None:
                    axes.axvline(line.fault, color=plots.run_colour(line.number)[0], linestyle=":", linewidth=1.4)
            _logarithmic(axes, values)
            axes.set_xlim(0, max(map(len, rows.values())) + 1)
            axes.set_xlabel("layer, in order of computation")
            axes.set_title(title)
    return drawn


def tolerances_by_depth(sheet: Sheet, line: Line) -> str:
    """The largest error of each layer in units of its tolerance, as bars; those above 1 stand out.

    A triangle at the top is a value that is not finite where it should be.
    """
    drawn: List[str] = []
    places = {layer: number for number, layer in reversed(list(enumerate(line.layers, 1)))}
    title = "× rounding of each layer, logarithmic"
    with plots.drawing(sheet, 4.6, title, drawn) as figure:
        for axes, (name, stages) in zip(figure.subplots(2, 1, sharex=True), _PANELS):
            largest: Dict[int, float] = {}
            for check in line.found.verdict.checks:
                if check.stage in stages and check.layer in places:
                    place = places[check.layer]
                    largest[place] = max(largest.get(place, 0.0), check.units)
            finite = [value for value in largest.values() if math.isfinite(value)]
            top = 10.0 ** math.ceil(math.log10(max([5.0, *finite])))
            bars = {place: min(value, top) for place, value in largest.items() if value > LEAST}
            width = min(3.0, 240 / max(len(places), 1))
            for out, style in ((False, {"color": plots.TEXT, "alpha": 0.5}), (True, {"color": plots.BAD})):
                stems = [point for point in sorted(bars.items()) if (point[1] > 1) == out]
                numbers = [number for place, _ in stems for number in (place, place, math.nan)]
                heights = [height for _, value in stems for height in (LEAST, value, math.nan)]
                axes.plot(numbers, heights, **style, linewidth=max(width, 2.0 * out), solid_capstyle="butt")
            lost = [place for place, value in largest.items() if not math.isfinite(value)]
            if lost:
                axes.plot(lost, [top] * len(lost), "^", color=plots.BAD, markersize=5, clip_on=False)
            axes.axhline(1, color=plots.TEXT, linewidth=1, linestyle=(0, (4, 3)))
            _logarithmic(axes, [LEAST, top])
            axes.set(xlim=(0, len(line.layers) + 1), ylabel=name)
        figure.axes[0].set_title(title)
        figure.axes[1].set_xlabel("layer, in order of computation")
    return drawn[0]


def losses(sheet: Sheet, lines: Sequence[Line]) -> List[str]:
    """The training loss of each step, and how far it is from the reference's; thin, those of rounding alone."""
    drawn: List[str] = []
    steps = max(len(line.found.losses["side"]) for line in lines)
    if not steps:
        return drawn
    kinds: Sequence[Tuple[str, Dict[str, Any]]] = (("rounded", _THIN), ("side", {}))
    with plots.drawing(sheet, 2.9, "Loss of each step (nats)", drawn) as figure:
        axes = figure.add_subplot()
        for line in lines:
            for name, style in kinds:
                _plot(axes, line.number, _curve(line.found.losses[name]), style)
            reference = {"color": plots.TEXT, "linestyle": (0, (4, 3)), "linewidth": 1.2}
            axes.plot(*_columns(_curve(line.found.losses["reference"])), **reference)
        axes.set(xlabel="step", xlim=(0.9, steps + 0.1))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title("Loss of each step (nats)")
    points = [(line.number, style, _positive(_distances(line, name))) for line in lines for name, style in kinds]
    values = [value for _, _, curve in points for _, value in curve]
    if values:
        title = "Distance from the reference's loss (nats)"
        with plots.drawing(sheet, 2.9, title, drawn) as figure:
            axes = figure.add_subplot()
            for number, style, curve in points:
                _plot(axes, number, curve, style)
            _logarithmic(axes, values)
            axes.set(xlabel="step", xlim=(0.9, steps + 0.1))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(title)
    return drawn


def _distances(line: Line, name: str) -> List[float]:
    return [abs(value - right) for value, right in zip(line.found.losses[name], line.found.losses["reference"])]


def _positive(values: Sequence[float]) -> List[Tuple[int, float]]:
    """Numbers from 1 and values of those that a logarithmic axis has, without nan and infinity."""
    return [(number, value) for number, value in _curve(values) if 0 < value < math.inf]


def _curve(values: Sequence[float]) -> List[Tuple[int, float]]:
    """Numbers from 1 and values, at most some hundreds."""
    return list(enumerate(values, 1))[:: -(-len(values) // MOST_POINTS) or 1]


def _columns(curve: Sequence[Tuple[int, float]]) -> Tuple[List[int], List[float]]:
    return [number for number, _ in curve], [value for _, value in curve]


def _plot(axes: Any, number: int, curve: Sequence[Tuple[int, float]], style: Dict[str, Any]) -> None:
    colour, dashes = plots.run_colour(number)
    dot = {"marker": "o", "markersize": 3, "clip_on": False} if len(curve) < 12 else {}
    axes.plot(*_columns(curve), **{"color": colour, "linestyle": dashes, **dot, **style})


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    """From the power of ten below the values to the one above, with plain numbers."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
