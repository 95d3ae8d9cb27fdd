"""port.json is read back as it was written, and nothing in it can make a run that differs look like one that agrees."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from shared.port_check.findings import STAGES, Check, compare, verdict
from shared.port_check.report import FILE, Comparison, LayerError, conclusion, lines, percent_text, units_text, write
from shared.port_check.report_file import read_report
from shared.port_check.trace import Trace
from shared.run.log import RunLog

DESCRIPTION = {"half": "tf_seresnet", "precision": "O0", "device": {"kind": "cpu", "name": "Small", "count": 1}}


def check(units, stage="forward", layer="layer1.0.bn1", quantity="output", relative=1e-7):
    return Check(stage, layer, quantity, "batch normalisation", units, relative, "1 where 2 is right, at [0]")


def comparison(checks, layers=("layer1.0.bn1", "fc")):
    depth = [LayerError(layer, 1e-7 * (n + 1), 2e-7, 3e-7, 4e-7) for n, layer in enumerate(layers)]
    return Comparison(verdict(checks), depth, {"side": [2.0, math.nan], "reference": [2.0, 1.0], "rounded": [2.0, 1.5]})


def written(folder, **sides):
    """The text of the port.json of these comparisons, and whether they agree."""
    with RunLog(None) as log:
        agrees = write(folder, log, ((name, Trace(DESCRIPTION), found) for name, found in sides.items()))
    return (folder / FILE).read_text(encoding="utf-8"), agrees


def test_what_was_written_is_read(tmp_path):
    lost = compare("forward", "fc", "output", "dense", np.ones(2), np.array([1.0, np.nan]), np.ones(2))
    clean = comparison([check(0.5, stage) for stage in STAGES])
    faulty = comparison([check(0.25), check(467.3), lost, check(2.0, "backward", relative=math.inf)])
    text, agrees = written(tmp_path, here=clean, there=faulty)
    assert not agrees
    here, there = read_report(text)
    assert (here.name, there.name) == ("here", "there")
    assert here.description == DESCRIPTION
    assert here.found.verdict == clean.verdict
    assert here.found.by_depth == clean.by_depth
    assert there.found.verdict.agrees is False
    assert [cause.units for cause in there.found.verdict.causes] == [467.3, math.inf, 2.0]
    assert [cause.relative_error for cause in there.found.verdict.causes] == [1e-7, math.inf, math.inf]
    assert conclusion(there.found.verdict) == lines(faulty.verdict, "there", faulty.by_depth)[-1]
    assert there.found.losses["reference"] == [2.0, 1.0]
    assert math.isnan(there.found.losses["side"][1])


def changed(text, path, value):
    content = json.loads(text)
    *parts, last = ["sides", "here", *path]
    inner = content
    for part in parts:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("agrees",), True, "agrees is True, and 1 comparisons are out of tolerance"),
        (("checks", 1, "agrees"), True, "agrees is True with units 3.5"),
        (("checks", 1, "units"), 0.5, "agrees is False with units 0.5"),
        (("checks",), [], "nothing was compared"),
        (("checks", 0), 7, "the content is 7"),
        (("checks", 0, "units"), -1, "units is -1"),
        (("checks", 0, "units"), True, "units is True"),
        (("checks", 0, "stage"), "elsewhere", "stage is 'elsewhere'"),
        (("checks", 0, "hint"), None, "hint is missing"),
        (("error_by_depth", 0, "forward"), "much", "forward is 'much'"),
        (("losses", "side"), None, "losses is None"),
        (("losses", "side", 0), 10**400, "losses is 1000"),
        (("description",), [], "description is []"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, path, value, said):
    text, _ = written(tmp_path, here=comparison([check(0.5), check(3.5)]))
    assert read_report(text)[0].found.verdict.agrees is False
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        read_report(changed(text, path, value))
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["", "7", "[]", "{}", '{"schema": 2, "sides": {}}', '{"schema": 1, "sides": {}}'])
def test_another_file_is_refused(text):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        read_report(text)


def test_not_a_number_is_no_agreement(tmp_path):
    text, _ = written(tmp_path, here=comparison([check(3.5)]))
    (side,) = read_report(text.replace('"units": 3.5', '"units": NaN'))
    assert side.found.verdict.causes[0].units == math.inf


@pytest.mark.parametrize(
    ("units", "text"), [(467.31, "467.3"), (1.0, "1"), (1.00001, "1.00001"), (0.99999, "1"), (math.inf, "-")]
)
def test_more_than_1_never_reads_as_1(units, text):
    assert units_text(units) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [(1.1, "110 %"), (0.999, "100 %"), (1e7, "1e+09 %"), (1.8e-5, "0.0018 %"), (None, "-"), (math.nan, "-")],
)
def test_percent(error, text):
    assert percent_text(error) == text
