"""docs/architecture.md against the code: sizes within their limits, the picture of the imports, one image's way."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import List

import pytest

from scripts import code_map, trace_image
from scripts.code_map import imported, parse, room

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
pytestmark = pytest.mark.once


def test_the_code_keeps_its_limits():
    found = list(code_map.measures())
    assert len(found) > 1000
    assert [measure for measure in found if measure.value > measure.limit] == []


@pytest.mark.parametrize("half", code_map.HALVES)
@pytest.mark.parametrize("method", ["epochs", "steps"])
def test_training_shows_its_loop(half, method):
    """training.py itself has `for ... in run.epochs(...)` and `for ... in run.steps(...)`."""
    loops = [node.iter for node in ast.walk(parse(f"{half}/training.py")) if isinstance(node, ast.For)]
    calls = [loop.func for loop in loops if isinstance(loop, ast.Call)]
    assert method in [call.attr for call in calls if isinstance(call, ast.Attribute)]


@pytest.mark.parametrize("half", code_map.HALVES)
def test_the_names_before_the_first_gradient_are_counted(half):
    assert len(code_map.names_before_the_first_gradient(half)) > 20


def test_imports_are_found_whatever_their_form():
    found = set(imported("tests/end_to_end/test_code_map.py"))
    assert found == set()  # scripts and tests are no packages of the program
    found = set(imported("shared/results/__main__.py"))
    assert ("shared/results/rows.py", "rows") in found
    assert ("shared/cli/entry_point.py", "prepare_streams") in found
    names = ["shared/rng.py", "shared/errors.py", "shared/run/log.py", "tf_seresnet/main.py", "tf_seresnet/step/a.py"]
    rooms = ["shared/pure", "shared/errors", "shared/run", "tf_seresnet/modes", "tf_seresnet/step"]
    assert [room(name) for name in names] == rooms


def test_a_function_is_measured_from_its_decorator_to_its_end():
    sizes = {measure.what: measure.value for measure in code_map.measures()}
    (main,) = [node for node in parse("scripts/code_map.py").body if getattr(node, "name", "") == "main"]
    lines = (ROOT / "scripts" / "code_map.py").read_text(encoding="utf-8").splitlines()
    ends = next(number for number in range(main.lineno, len(lines)) if not lines[number].strip())
    assert sizes["scripts/code_map.py main(), lines"] == ends - main.lineno + 1


def test_arrows_that_follow_from_others_are_left_out():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert code_map._reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}
    circle = {"a": {"b"}, "b": {"a"}}
    assert code_map._reduced(circle) == circle


def test_the_picture_is_that_of_the_imports():
    """Renew it with `python scripts/code_map.py --picture docs/architecture.md`."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert text.count("```mermaid") == 1
    assert code_map.renewed(text, "imports", code_map.picture()) == text


def documented_way(half: str) -> List[str]:
    """The files of the table of one image's way, in its order."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = re.search(rf"<!-- {half}:begin -->\n(.*?)<!-- {half}:end -->", text, re.DOTALL).group(1)
    return re.findall(r"^\| `([\w/.]+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("half", code_map.HALVES)
def test_one_image_touches_few_files_and_their_descriptions_are_the_codes(half):
    """That the files are the right ones is tested beside each framework: `test_the_way_of_an_image`."""
    files = documented_way(half)
    assert 10 < len(files) <= 26
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert code_map.renewed(text, half, trace_image.table(files)) == text


@pytest.mark.slow
def test_the_way_of_an_image():
    """Renew it with `python scripts/trace_image.py tf_seresnet --update docs/architecture.md`."""
    assert set(trace_image.trace("tf_seresnet")) == set(documented_way("tf_seresnet"))


def test_the_answers_are_files_of_the_tree():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    questions = text[text.index("## Ten questions") :]
    rows = [line for line in questions.splitlines() if line.startswith("| Where ")]
    assert len(rows) == 10
    for row in rows:
        paths = re.findall(r"`((?:shared|tf_seresnet|torch_imagenet)/[\w/.]*)`", row)
        assert paths, row
        assert [path for path in paths if not (ROOT / path).exists()] == []
