"""What is drawn: curves of one or several runs, the reliability diagram, the confusion matrix.

No text of a record is in a drawing; names stand beside it, in HTML.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence, Tuple

from shared.results.page.curves import Curve, Run
from shared.results.page.drawing import ACCENT, GAP, PAPER, TEXT, Drawings, run_colour

MOST_CELLS = 25  # classes whose confusion matrix can be read


# Title, name of the value, factor: one drawing each.
LEARNING: Tuple[Tuple[str, str, float], ...] = (
    ("Loss (nats)", "loss", 1.0),
    ("Top-1 accuracy (%)", "top1", 1.0),
    ("Learning rate", "learning_rate", 1.0),
)
SPEED: Tuple[Tuple[str, str, float], ...] = (
    ("Images per second", "images_per_second", 1.0),
    ("Waiting for data (% of time)", "data_wait_share", 100.0),
)


def curves(drawings: Drawings, runs: Sequence[Tuple[int, Run]], wanted: Sequence[Tuple[str, str, float]]) -> List[str]:
    """A drawing for each of the wanted values that one of the runs has; `runs` with the numbers of their colours.

    Lines are the training's, rings joined by a thin line the evaluations'.
    """
    drawn: List[str] = []
    by_epoch = all(run.steps_per_epoch for _, run in runs)
    for title, name, factor in wanted:
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
    """Whether the largest value would press the others to the ground."""
    values = sorted(value for line in axes.lines for value in line.get_ydata() if not math.isnan(value))
    return values[0] > 0 and values[-1] > 12 * values[len(values) // 2]


def _line(axes: Any, curve: Optional[Curve], scale: float, factor: float, style: Dict[str, Any]) -> None:
    if curve:
        if len(curve.steps) == 1:  # one point makes no line
            style = {"marker": "o", "markersize": 4, **style}
        axes.plot([step / scale for step in curve.steps], [factor * value for value in curve.values], **style)


def reliability(drawings: Drawings, bins: Dict[str, List[Any]]) -> str:
    """Accuracy over confidence, and how many images there are at each confidence."""
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
            between = ACCENT if accuracy > confidence else GAP  # too little confidence, or too much
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
    """Rows are labels, columns answers; the shade is the share of the label's images."""
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
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", xlabel="answer", ylabel="label")
        axes.set_title("Confusion matrix: images of each class")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        step = 1 if size <= 12 else 5
        axes.set_xticks(range(0, size, step))
        axes.set_yticks(range(0, size, step))
        axes.tick_params(length=0)
