"""Predictions as text, JSON lines and CSV, read back by other readers."""

from __future__ import annotations

import csv
import io
import json

import pytest

from shared.errors import UsageError
from shared.prediction.output import FORMATS, Prediction, heading, rendered, write
from shared.system.signals import Stopped

BEST = [Prediction("n02012849", "crane (n02012849)", 134, 0.75), Prediction("n01443537", 'gold, "fish"', 1, 1 / 3e7)]
STRANGE = 'a "b",\nc\udce9\u732b.jpg'


def test_text_names_the_class_once_and_keeps_to_its_lines():
    assert rendered("text", "x/cat.jpg", BEST) == (
        'x/cat.jpg\n   75.00 %  crane (n02012849)\n    0.00 %  gold, "fish" (n01443537)\n'
    )
    assert rendered("text", STRANGE, []).count("\n") == 1


def test_json_is_one_line_of_ascii():
    text = rendered("json", STRANGE, BEST)
    assert text.isascii() if hasattr(text, "isascii") else True
    assert text.count("\n") == 1
    content = json.loads(text)
    assert content["image"] == STRANGE
    assert content["predictions"][1] == {
        "class": "n01443537",
        "name": 'gold, "fish"',
        "index": 1,
        "probability": 3.33333e-08,
    }


def test_csv_has_a_row_for_each_class():
    text = heading("csv") + rendered("csv", STRANGE, BEST)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert {row["image"] for row in rows} == {STRANGE}
    assert rows[1]["name"] == 'gold, "fish"'
    assert float(rows[0]["probability"]) == 0.75


def test_only_csv_has_a_heading():
    assert [form for form in FORMATS if heading(form)] == ["csv"]


@pytest.mark.parametrize(
    ("error", "raised"), [(BrokenPipeError(), Stopped), (OSError(28, "No space left on device"), UsageError)]
)
def test_an_answer_that_is_not_written_is_an_error(error, raised):
    class Full(io.StringIO):
        def flush(self):
            raise error

    with pytest.raises(raised):
        write(Full(), "x\n")


def test_every_form_says_where_the_overlay_is():
    text = rendered("text", "a.jpg", BEST, "maps/a.png")
    assert text == rendered("text", "a.jpg", BEST) + "overlay:    maps/a.png\n"
    assert json.loads(rendered("json", "a.jpg", BEST, "maps/a.png"))["overlay"] == "maps/a.png"
    rows = list(csv.DictReader(io.StringIO(heading("csv", True) + rendered("csv", "a.jpg", BEST, "maps/a.png"))))
    assert [row["overlay"] for row in rows] == ["maps/a.png"] * 2
    assert "overlay" not in heading("csv") + rendered("json", "a.jpg", BEST)
