"""matplotlib's figures as inline SVG in the colours of the page: every colour is a variable of style.css."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from typing import Any, Dict, Iterator, List, Tuple

from shared.errors import UsageError

MATPLOTLIB = "3.5"  # the oldest that the tests run
RUN_COLOURS = 8  # those of style.css; further runs have them again, dashed
# matplotlib knows no CSS. It draws in colours that nobody else uses, and their names take the place of these.
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


def run_colour(number: int) -> Tuple[str, str]:
    """Colour and line style of the run with this number."""
    return f"#0102{16 + number % RUN_COLOURS:02x}", ("-", "--", ":")[number // RUN_COLOURS % 3]


class Drawings:
    """Makes the figures of one page, whose ids differ. Raises UsageError where matplotlib is not installed."""

    def __init__(self) -> None:
        try:
            import matplotlib
            from matplotlib.backends.backend_svg import FigureCanvasSVG
            from matplotlib.figure import Figure
        except ImportError as error:
            raise UsageError(
                f"the page needs matplotlib to draw ({error}); pip install 'matplotlib>={MATPLOTLIB}', or ask for"
                " another --format"
            ) from error
        self._matplotlib, self._canvas, self._figure = matplotlib, FigureCanvasSVG, Figure
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def figure(self, width: float, height: float, label: str, out: List[str]) -> Iterator[Any]:
        """A figure to draw on, in inches; its SVG, which is called `label` to who cannot see it, is added to `out`."""
        # Not the user's own matplotlibrc: a page looks the same wherever it is made.
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
    """A file of SVG as a part of a page: its ids begin with `prefix`, its colours are the page's.

    `label` is ours and holds nothing that would have to be escaped.
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
