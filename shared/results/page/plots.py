"""The page's figures: matplotlib's curves, reliability diagrams and confusion matrices as inline SVG.

Every colour is a variable of style.css. No text of a record is in a figure; names stand beside it, in HTML.
"""

from __future__ import annotations

import contextlib
import html
import io
import itertools
import math
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from shared.errors import UsageError
from shared.results.course import Curve
from shared.results.language import ENGLISH, Language
from shared.results.page import Sheet
from shared.results.page.run_files import Run

MATPLOTLIB = "3.5"  # the oldest tested version
RUN_COLOURS = 8  # in style.css; further runs repeat them with dashed lines
# matplotlib knows no CSS: it draws in these placeholder colours, which are then replaced by CSS variables.
TEXT, GRID, ACCENT, PAPER, GAP, BAD = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_VARIABLES = {f"#0102{16 + number:02x}": f"var(--run-{number})" for number in range(RUN_COLOURS)}
_VARIABLES.update({GRID: "var(--grid)", ACCENT: "var(--accent)", PAPER: "var(--paper)", GAP: "var(--gap)"})
_VARIABLES.update({BAD: "var(--bad)", TEXT: "currentColor"})
_STYLE: Dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "page",
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), GRID),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.spines.left"), False),
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
    "lines.solid_capstyle": "round",
}
_RINGS = {
    "clip_on": False,
    "linewidth": 0.9,
    "marker": "o",
    "markersize": 5,
    "markerfacecolor": PAPER,
    "markeredgewidth": 1.6,
}
MOST_CELLS = 25  # classes of the largest confusion matrix that can be read
CURVES = (  # title, name of the value, factor
    ("Loss (nats)", "loss", 1.0),
    ("Top-1 accuracy (%)", "top1", 1.0),
    ("Learning rate", "learning_rate", 1.0),
    ("Images per second", "images_per_second", 1.0),
    ("Waiting for data (% of time)", "data_wait_share", 100.0),
)


def run_colour(number: int) -> Tuple[str, str]:
    """Colour and line style of the run with this number."""
    return f"#0102{16 + number % RUN_COLOURS:02x}", ("-", "--", ":")[number // RUN_COLOURS % 3]


def swatch(number: int) -> str:
    """HTML: a dot in the colour of the run with this number."""
    return f'<span class="swatch" style="--own: var(--run-{number % RUN_COLOURS})"></span>'


def key(names: Sequence[Tuple[int, str]], say: Language) -> str:
    """HTML: what the lines of a figure are, as numbers of runs and HTML."""
    dashes = {"-": "", "--": say("(dashed) "), ":": say("(dotted) ")}
    items = "".join(f"<li>{swatch(number)}{dashes[run_colour(number)[1]]}{name}</li>" for number, name in names)
    return f'<ul class="key">{items}</ul>'


@contextlib.contextmanager
def drawing(sheet: Sheet, height: float, label: str, out: List[str]) -> Iterator[Any]:
    """A figure of this height in inches. Its SVG, with `label` as its accessible name, is appended to `out`.

    It is drawn in English; `inline` translates its texts. Raises UsageError if matplotlib is not installed.
    """
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError as error:
        advice = f"pip install 'matplotlib>={MATPLOTLIB}', or choose another --format"
        raise UsageError(f"the page needs matplotlib to draw ({error}); {advice}") from error
    with style.context(["default", _STYLE]):  # "default": the same everywhere, whatever the user's matplotlibrc
        figure = Figure(figsize=(4.6, height), constrained_layout=True)
        yield figure
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    out.append(inline(text.getvalue(), f"f{next(sheet.ids)}", label, sheet.say))


def inline(svg: str, prefix: str, label: str, say: Language = ENGLISH) -> str:
    """An SVG file as a part of a page: ids begin with `prefix`, colours are CSS variables; `label` is not escaped."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda at: f' id="{prefix}-{at.group(1)}"' if at.group(1) in used else "", svg)
    svg = re.sub(r"(url\(|href=\")#", rf"\g<1>#{prefix}-", svg)
    svg = re.sub(r"#0102[0-9a-f]{2}", lambda at: _VARIABLES.get(at.group(0), at.group(0)), svg)
    svg = re.sub(r"font: ((?:\w+ )?)([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)  # of newer matplotlibs
    svg = re.sub(r"<[^>]*>", lambda at: re.sub(r"(\.\d\d)\d+", r"\1", at.group(0)), svg)  # of a pixel; not in texts
    svg = re.sub(r">([^<>]+)</text>", lambda at: f">{_translated(at.group(1), say)}</text>", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r" (width|height)=\"[^\"]*\"", "", head).replace("<svg", f'<svg role="img" aria-label="{say(label)}"')
    return re.sub(r"\s*\n\s*", "\n", f"{head}>{rest}").strip()


def _translated(text: str, say: Language) -> str:
    """A text of an SVG file, escaped as there."""
    english = html.unescape(text)
    return text if say.known(english) == english else html.escape(say.known(english), quote=False)


def curves(sheet: Sheet, runs: Sequence[Run]) -> List[str]:
    """A drawing for each of `CURVES` that a run has. Lines show training; rings joined by a thin line, evaluations."""
    drawn: List[str] = []
    by_epoch = all(run.steps_per_epoch for run in runs)
    for title, name, factor in CURVES:
        if not any(name in curves for run in runs for curves in (run.train, run.evaluation)):
            continue
        with drawing(sheet, 2.9, title, drawn) as figure:
            axes = figure.add_subplot()
            for run in runs:
                colour, dashes = run_colour(run.number)
                scale = run.steps_per_epoch if by_epoch and run.steps_per_epoch else 1.0
                for curve, rings in ((run.train.get(name, ()), {}), (run.evaluation.get(name, ()), _RINGS)):
                    dot = {"marker": "o", "markersize": 4, "clip_on": False} if len(curve) == 1 else {}  # no line
                    style = {"color": colour, "linestyle": dashes, **dot, **rings}
                    if name == "learning_rate":
                        curve, style = held(curve, run.steps_per_epoch), {**style, "drawstyle": "steps-pre"}
                    axes.plot([step / scale for step, _ in curve], [factor * value for _, value in curve], **style)
            axes.set_xlabel("epoch" if by_epoch else "step")
            axes.margins(x=0.02)
            if name != "learning_rate":
                axes.set_ylim(bottom=0)
            axes.set_title(title)
    return drawn


def held(rates: Curve, steps_per_epoch: Optional[float]) -> Curve:
    """The rates of a schedule, all of which change between epochs only, with a point at the end of the epoch before.

    Drawn as steps to the left of the points, the change is then there, however seldom a step was logged.
    """
    if steps_per_epoch is None:
        return rates
    points = list(rates[:1])
    for (before, old), (step, rate) in zip(rates, rates[1:]):
        end = math.floor((step - 1) / steps_per_epoch) * steps_per_epoch
        points += [(end, old)] if rate != old and before < end else []
        points.append((step, rate))
    return points


def reliability(sheet: Sheet, bins: Dict[str, List[Any]], drawn: List[str]) -> None:
    """The reliability diagram: accuracy over confidence, and the share of images in each bin."""
    images = bins["images"]
    width = 100 / max(len(images), 1)
    lefts = [number * width for number in range(len(images))]
    bars = {"width": width, "align": "edge", "edgecolor": PAPER, "linewidth": 1}
    with drawing(sheet, 4.6, "Reliability diagram", drawn) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        for left, accuracy, confidence in zip(lefts, bins["accuracy"], bins["confidence"]):
            if accuracy is not None and confidence is not None:
                low, high = sorted((accuracy, confidence))
                between = ACCENT if accuracy > confidence else GAP  # under- or overconfident
                upper.bar(left, low, color=ACCENT, **bars)
                upper.bar(left, high - low, bottom=low, color=between, alpha=0.4, **bars)
        upper.plot([0, 100], [0, 100], color=TEXT, linewidth=1, linestyle=(0, (4, 3)))
        upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy (%)", title="Reliability: accuracy at each confidence")
        shares = [100 * number / (sum(images) or 1) for number in images]
        lower.bar(lefts, shares, color=ACCENT, alpha=0.6, **bars)
        lower.set(xlabel="confidence (%)", ylabel="images (%)")


def confusion(sheet: Sheet, counts: Sequence[Sequence[int]], drawn: List[str]) -> None:
    """Rows are labels, columns predictions; the shade is the share of the label's images."""
    from matplotlib.patches import Rectangle

    size = len(counts)
    with drawing(sheet, 4.6, "Confusion matrix", drawn) as figure:
        axes = figure.add_subplot()
        for row, column in itertools.product(range(size), repeat=2):
            count = counts[row][column]
            if not count:
                continue
            share = count / sum(counts[row])
            colour, shade = (ACCENT, 0.08 + 0.92 * share) if row == column else (GAP, min(1.0, 0.10 + 1.6 * share))
            corner = (column - 0.47, row - 0.47)
            axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=colour, alpha=shade, linewidth=0))
            if size <= 12:
                ink = PAPER if shade > 0.6 else TEXT
                axes.text(column, row, f"{count}", ha="center", va="center", fontsize=7.5, color=ink)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="prediction", ylabel="label")
        axes.set_title("Confusion matrix: images of each class")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        ticks = range(0, size, 1 if size <= 12 else 5)
        axes.set(xticks=ticks, yticks=ticks)
        axes.tick_params(length=0)
