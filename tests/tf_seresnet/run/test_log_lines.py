"""What a user is told when the recipe would take days here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from tf_seresnet.run.log_lines import ADVICE_STEP, LONG, log_advice  # noqa: E402

pytestmark = pytest.mark.once


def advice(seconds_left, step=ADVICE_STEP, **given):
    """The lines about a run of 1,000 further steps."""
    lines, options = [], dict({"max_steps": None, "epochs": None}, **given)
    run = SimpleNamespace(
        progress=SimpleNamespace(step=step),
        plan=SimpleNamespace(total_steps=step + 1000),
        clock=SimpleNamespace(summary=lambda: {"step_ms_p50": seconds_left}),
        log=SimpleNamespace(line=lines.append),
    )
    log_advice(run, SimpleNamespace(config=SimpleNamespace(**options), recipe=recipes.get("se_resnet110_gpu")))
    return lines


def test_a_long_run_says_how_long_and_what_is_shorter():
    (line,) = advice(3.3 * 86400)
    assert line.startswith("note: the rest of recipe se_resnet110_gpu takes 3.3 days here; a smaller --depth")
    assert "--resume" in line


@pytest.mark.parametrize(
    "arguments",
    [{"seconds_left": LONG * 0.999}, {"seconds_left": LONG, "step": ADVICE_STEP + 1}]
    + [{"seconds_left": LONG, name: 1} for name in ("max_steps", "epochs")],
)
def test_no_advice(arguments):
    assert advice(LONG) != []
    assert advice(**arguments) == []
