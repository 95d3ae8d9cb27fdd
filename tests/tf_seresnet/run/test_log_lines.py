"""What the original's scripts read from the log, and what a user is told when the recipe would take days here."""

from __future__ import annotations

import shlex
import subprocess
from types import SimpleNamespace

import pytest

pytest.importorskip("tensorflow")

from shared import recipes  # noqa: E402
from tf_seresnet.run.log_lines import ADVICE_STEP, LONG, log_advice, seconds_line  # noqa: E402

pytestmark = pytest.mark.once


def advice(seconds_left, step=ADVICE_STEP, just_read=1, **given):
    """The lines about a run of 1,000 further steps."""
    lines, options = [], dict({"max_steps": None, "epochs": None}, **given)
    run = SimpleNamespace(
        progress=SimpleNamespace(step=step),
        plan=SimpleNamespace(total_steps=step + 1000),
        clock=SimpleNamespace(summary=lambda: {"step_ms_p50": seconds_left}),
        log=SimpleNamespace(line=lines.append),
    )
    setup = SimpleNamespace(config=SimpleNamespace(**options), recipe=recipes.get("se_resnet110_gpu"))
    log_advice(run, setup, just_read)
    return lines


@pytest.mark.parametrize("first", [1, 2, 11, 12])
def test_a_long_run_says_it_once_however_many_steps_a_call_has(first):
    ends = range(first, 60, 12)
    assert sum(len(advice(LONG, end, 12 if end > first else first)) for end in ends) == 1


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


# -- the original's own patterns, as its scripts have them -----------------------------------------------------------

SECONDS = "grep '^0.' {} | tail -n 1"
ACCURACY = "grep 'test_acc' {} | awk -F 'test_acc: ' 'END {{print $2}}'"
LOSSES = "grep train_loss {} | awk -F 'train_loss: ' '{{print $2}}' | awk -F ',' '{{print $1}}'"


def found(pattern, log):
    command = pattern.format(shlex.quote(str(log)))
    return subprocess.run(
        ["bash", "-c", command], check=True, universal_newlines=True, stdout=subprocess.PIPE
    ).stdout.split()


def test_the_patterns_find_throughput_accuracy_and_losses(finished):
    """Six steps, of which the last alone is timed: the rate of its epoch is the run's."""
    run = finished()
    log, record = run.folder / "train.log", run.record
    assert record["throughput"]["steps_timed"] == 1
    (seconds,) = found(SECONDS, log)
    rate = record["throughput"]["images_per_second"]
    assert record["batch_size"] / float(seconds) == pytest.approx(rate, abs=rate * 6e-7 / float(seconds))
    assert float(found(ACCURACY, log)[0]) == pytest.approx(record["evaluation"]["top1"] / 100, abs=5.1e-5)
    losses = [float(text) for text in found(LOSSES, log)]
    assert len(losses) == 2
    assert losses[-1] == pytest.approx(record["train"]["loss"], abs=5.1e-5)


def test_the_seconds_of_a_step_are_those_of_the_whole_batch():
    assert seconds_line(128, 3, {"images_per_second": 1406.593}) == "0.091000"
