"""The page's figures: matplotlib's curves, reliability diagrams and confusion matrices as inline SVG.

Every colour is a variable of style.css. No text of a record is in a figure; names stand beside it, in HTML.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from shared.errors import UsageError
from shared.results.page.run_files import Curve, Run

MATPLOTLIB = "3.5"  # the oldest tested version
RUN_COLOURS = 8  # in style.css; further runs repeat them with dashed lines
# matplotlib knows no CSS: it draws in these placeholder colours, which are then replaced by CSS variables.
TEXT, GRID, ACCENT, PAPER, GAP = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {
    TEXT: "currentColor",
    GRID: "var(--grid)",
    ACCENT: "var(--accent)",
    PAPER: "var(--paper)",
    GAP: "var(--gap)",
}
_VARIABLES.update({f"#0102{16 + number:02x}": f"var(--run-{number})" for number in range(RUN_COLOURS)})
_STYLE: Dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "page",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.edgecolor": GRID,
    "grid.color": GRID,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "grid.linewidth": 0.8,
    "path.simplify": True,
    "lines.solid_capstyle": "round",
}
MOST_CELLS = 25  # classes of the largest confusion matrix that can be read
# Drawings: title, name of the value, factor.
LEARNING: Tuple[Tuple[str, str, float], ...] = (
    ("Loss (nats)", "loss", 1.0),
    ("Top-1 accuracy (%)", "top1", 1.0),
    ("Learning rate", "learning_rate", 1.0),
)
SPEED: Tuple[Tuple[str, str, float], ...] = (
    ("Images per second", "images_per_second", 1.0),
    ("Waiting for data (% of time)", "data_wait_share", 100.0),
)


def run_colour(number: int) -> Tuple[str, str]:
    """Colour and line style of the run with this number."""
    return f"#0102{16 + number % RUN_COLOURS:02x}", ("-", "--", ":")[number // RUN_COLOURS % 3]


class Drawings:
    """Draws the figures of one page, with unique ids. Raises UsageError if matplotlib is not installed."""

    def __init__(self) -> None:
        try:
            import matplotlib
            from matplotlib.backends.backend_svg import FigureCanvasSVG
            from matplotlib.figure import Figure
        except ImportError as error:
            raise UsageError(
                f"the page needs matplotlib to draw ({error}); pip install 'matplotlib>={MATPLOTLIB}', or choose"
                " another --format"
            ) from error
        self._matplotlib, self._canvas, self._figure = matplotlib, FigureCanvasSVG, Figure
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def figure(self, width: float, height: float, label: str, out: List[str]) -> Iterator[Any]:
        """A figure of this size in inches. Its SVG, with `label` as its accessible name, is appended to `out`."""
        # The user's matplotlibrc is ignored, so that a page looks the same everywhere.
        with self._matplotlib.rc_context():
            self._matplotlib.rcdefaults()
            settings: Any = self._matplotlib.rcParams
            settings.update(_STYLE)
            figure = self._figure(figsize=(width, height), constrained_layout=True)
            self._canvas(figure)
            yield figure
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        out.append(inline(text.getvalue(), f"f{next(self._numbers)}", label))


def inline(svg: str, prefix: str, label: str) -> str:
    """An SVG file as a part of a page: its ids begin with `prefix`, its colours are CSS variables.

    `label` is not escaped.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda at: f' id="{prefix}-{at.group(1)}"' if at.group(1) in used else "", svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\g<1>#{prefix}-", svg)
    svg = re.sub(r"#0102[0-9a-f]{2}", lambda at: _VARIABLES.get(at.group(0), at.group(0)), svg)
    svg = re.sub(r"font: ((?:\w+ )?)([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", svg)
    svg = re.sub(r"<svg ([^>]*?)width=\"[^\"]*\" ?", rf'<svg role="img" aria-label="{label}" \1', svg, count=1)
    svg = re.sub(r"(<svg [^>]*?) ?height=\"[^\"]*\"", r"\1", svg, count=1)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def curves(drawings: Drawings, runs: Sequence[Tuple[int, Run]], values: Sequence[Tuple[str, str, float]]) -> List[str]:
    """A drawing for each of the `values` that a run has; `runs` are pairs of the number of a colour and a run.

    Lines show training; rings joined by a thin line show evaluations.
    """
    drawn: List[str] = []
    by_epoch = all(run.steps_per_epoch for _, run in runs)
    for title, name, factor in values:
        if not any(name in curves for _, run in runs for curves in (run.train, run.evaluation)):
            continue
        with drawings.figure(4.6, 2.9, title, drawn) as figure:
            axes = figure.add_subplot()
            for number, run in runs:
                colour, dashes = run_colour(number)
                scale = run.steps_per_epoch if by_epoch and run.steps_per_epoch else 1.0
                _line(axes, run.train.get(name), scale, factor, {"color": colour, "linestyle": dashes})
                ringed = {
                    "color": colour,
                    "linestyle": dashes,
                    "linewidth": 0.9,
                    "marker": "o",
                    "markersize": 5,
                    "markerfacecolor": PAPER,
                    "markeredgewidth": 1.6,
                }
                _line(axes, run.evaluation.get(name), scale, factor, ringed)
            axes.set_xlabel("epoch" if by_epoch else "step")
            axes.margins(x=0.02)
            if name == "loss" and _far_apart(axes):
                axes.set_yscale("log")
                title += ", logarithmic"
            elif name != "learning_rate":
                axes.set_ylim(bottom=0)
            axes.set_title(title)
    return drawn


def _far_apart(axes: Any) -> bool:
    """Whether the largest value would flatten the rest of the curve."""
    values = sorted(value for line in axes.lines for value in line.get_ydata() if not math.isnan(value))
    return values[0] > 0 and values[-1] > 12 * values[len(values) // 2]


def _line(axes: Any, curve: Optional[Curve], scale: float, factor: float, style: Dict[str, Any]) -> None:
    if curve:
        if len(curve.steps) == 1:  # a single point has no line
            style = {"marker": "o", "markersize": 4, **style}
        axes.plot([step / scale for step in curve.steps], [factor * value for value in curve.values], **style)


def reliability(drawings: Drawings, bins: Dict[str, List[Any]]) -> str:
    """The reliability diagram: accuracy over confidence, and the share of images in each bin."""
    drawn: List[str] = []
    count, images = len(bins["images"]), bins["images"]
    width, total = 100 / max(count, 1), sum(images) or 1
    with drawings.figure(4.6, 4.6, "Reliability diagram", drawn) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        for number, (accuracy, confidence) in enumerate(zip(bins["accuracy"], bins["confidence"])):
            if accuracy is None or confidence is None:
                continue
            left = number * width
            low, high = sorted((accuracy, confidence))
            between = ACCENT if accuracy > confidence else GAP  # under- or overconfident
            upper.bar(left, low, width, align="edge", color=ACCENT, edgecolor=PAPER, linewidth=1)
            upper.bar(
                left,
                high - low,
                width,
                bottom=low,
                align="edge",
                color=between,
                alpha=0.4,
                edgecolor=PAPER,
                linewidth=1,
            )
        upper.plot([0, 100], [0, 100], color=TEXT, linewidth=1, linestyle=(0, (4, 3)))
        upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy (%)", title="Reliability: accuracy at each confidence")
        shares = [100 * number / total for number in images]
        lower.bar(
            [number * width for number in range(count)],
            shares,
            width,
            align="edge",
            color=ACCENT,
            alpha=0.6,
            edgecolor=PAPER,
            linewidth=1,
        )
        lower.set(xlabel="confidence (%)", ylabel="images (%)")
    return drawn[0]


def confusion(drawings: Drawings, counts: Sequence[Sequence[int]], drawn: List[str]) -> None:
    """Rows are labels, columns predictions; the shade is the share of the label's images."""
    from matplotlib.patches import Rectangle

    size = len(counts)
    with drawings.figure(4.6, 4.6, "Confusion matrix", drawn) as figure:
        axes = figure.add_subplot()
        for row, cells in enumerate(counts):
            total = sum(cells) or 1
            for column, count in enumerate(cells):
                if not count:
                    continue
                share = count / total
                colour = ACCENT if row == column else GAP
                strength = 0.08 + 0.92 * share if row == column else min(1.0, 0.10 + 1.6 * share)
                axes.add_patch(
                    Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=colour, alpha=strength, linewidth=0)
                )
                if size <= 12:
                    axes.text(
                        column,
                        row,
                        f"{count}",
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color=PAPER if strength > 0.6 else TEXT,
                    )
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="prediction", ylabel="label")
        axes.set_title("Confusion matrix: images of each class")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        step = 1 if size <= 12 else 5
        axes.set_xticks(range(0, size, step))
        axes.set_yticks(range(0, size, step))
        axes.tick_params(length=0)
