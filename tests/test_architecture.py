"""The walls: which package may import which, which Python a file is for, which files may write to the console.

Each rule is one test, which names every line of every file that breaks it. Sizes: tests/end_to_end/test_code_map.py.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.code_map import parse, sources

ROOT = Path(__file__).resolve().parents[1]
HALVES = ("tf_seresnet", "torch_imagenet")
FOREIGN = tuple(
    (
        "tensorflow torch keras jax sklearn PIL matplotlib tqdm tensorboard scipy pandas tf_slim tflearn "
        "npu_bridge npu_device torch_npu torchvision timm moxing"
    ).split()
)


def lines(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


tree = functools.lru_cache(maxsize=None)(parse)


def imports(name):
    """(line, top-level package) of what the file imports anywhere, functions included."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: imports are written in full"
            yield node.lineno, node.module.split(".")[0]


def importing(names, packages):
    """FILE:LINE of each import of one of the packages in these files."""
    return [f"{name}:{line}" for name in names for line, package in imports(name) if package in packages]


SHARED = sources("shared")
HALF_FILES = sources(*HALVES)
PYTHON37 = sources("shared", "tf_seresnet")


def test_the_files_are_found():
    assert "shared/schedules.py" in SHARED
    assert "shared/results/__main__.py" in SHARED
    assert "shared/recipes/base.py" in SHARED
    assert "tf_seresnet/layers/core.py" in HALF_FILES


# -- who imports whom ------------------------------------------------------------------------------------------


def test_shared_imports_numpy_alone():
    """In a fresh interpreter, one module after another, looking after each at what has been loaded."""
    modules = [name[:-3].replace("/", ".").replace(".__init__", "") for name in SHARED]
    program = (
        "import importlib, json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "modules, foreign = json.loads(sys.argv[2])\n"
        "blame = {}\n"
        "for module in modules:\n"
        "    importlib.import_module(module)\n"
        "    for name in foreign:\n"
        "        if name in sys.modules: blame.setdefault(name, module)\n"
        "print(json.dumps([blame, sorted(set(modules) & set(sys.modules)), 'numpy' in sys.modules]))\n"
    )
    command = [sys.executable, "-c", program, str(ROOT), json.dumps([modules, FOREIGN + HALVES])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout
    blame, loaded, numpy = json.loads(output.decode("utf-8"))
    assert blame == {}, "package: the module of shared whose import brought it"
    assert loaded == sorted(modules)
    assert numpy


@pytest.mark.once
def test_shared_knows_no_half_and_no_framework():
    """Not even inside a function: what a function may ask for when it is used are plots, images and log files."""
    assert importing(SHARED, {*HALVES, "tensorflow", "torch", "keras", "jax", "tf_slim", "tflearn"}) == []


@pytest.mark.once
def test_the_halves_do_not_know_each_other():
    assert [line for half in HALVES for line in importing(sources(half), set(HALVES) - {half})] == []


@pytest.mark.once
def test_only_the_page_draws():
    """And matplotlib comes in functions alone: the test above has imported all of shared without it."""
    drawing = {line.partition(":")[0] for line in importing(SHARED + HALF_FILES, {"matplotlib"})}
    assert drawing == {"shared/results/page/plots.py"}


# -- Python 3.7 ------------------------------------------------------------------------------------------------


def test_files_are_python_37():
    refused = []
    for name in PYTHON37:
        source = (ROOT / name).read_text(encoding="utf-8")
        try:
            if sys.version_info >= (3, 8):
                ast.parse(source, filename=name, feature_version=(3, 7))
            else:
                compile(source, name, "exec", dont_inherit=True)
        except SyntaxError as error:
            refused.append(f"{name}:{error.lineno}: {error.msg}")
    assert refused == []


# What Python 3.6 reads before it is refused (shared.cli.interpreter): a file is compiled as a whole, and the future
# statement is not known to it.
OLDER = {"shared/cli/interpreter.py", "shared/results/__main__.py", "tf_seresnet/main.py", "torch_imagenet/main.py"}


def test_annotations_are_not_evaluated():
    """Of a file that holds more than one statement, but for what older Pythons read."""
    sentence, evaluated = "from __future__ import annotations", set()
    for name in {*PYTHON37, *OLDER}:
        if sentence not in lines(name) and len(tree(name).body) > 1:
            evaluated.add(name)
    assert evaluated == OLDER


@pytest.mark.skipif(sys.version_info < (3, 8), reason="ast.parse knows feature_version from Python 3.8 on")
@pytest.mark.parametrize("name", sorted(OLDER))
def test_python_36_reads_as_far_as_the_check(name):
    ast.parse("\n".join(lines(name)), filename=name, feature_version=(3, 6))


@pytest.mark.skipif(sys.version_info < (3, 8), reason="ast.parse knows feature_version from Python 3.8 on")
@pytest.mark.parametrize("newer", ["if (a := 1): pass", "def f(a, /): pass", "with (open(a) as b, open(c) as d): pass"])
def test_the_check_for_python_37_sees_newer_syntax(newer):
    if newer.startswith("with") and sys.version_info < (3, 9):
        pytest.skip("this Python has no such syntax at all")
    with pytest.raises(SyntaxError):
        ast.parse(newer, feature_version=(3, 7))


# -- who speaks, who names a device ----------------------------------------------------------------------------

SPEAKERS = {
    "shared/run/log.py",  # the one writer
    "shared/results/__main__.py",
    "shared/cli/entry_point.py",  # the command lines
    "shared/cli/interpreter.py",
    "tf_seresnet/devices/startup_output.py",  # hands on what native code has written to standard error
}


def _speaks(node):
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id == "print"
    written = isinstance(node.func, ast.Attribute) and node.func.attr == "write"
    return written and any(stream in ast.dump(node.func) for stream in ("'stdout'", "'stderr'"))


@pytest.mark.once
def test_only_the_run_log_and_the_command_lines_speak():
    silent = [name for name in SHARED + HALF_FILES if name not in SPEAKERS]
    assert [f"{name}:{node.lineno}" for name in silent for node in ast.walk(tree(name)) if _speaks(node)] == []


def _compared_words(name):
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Compare):
            for side in [node.left, *node.comparators]:
                try:
                    value = ast.literal_eval(side)
                except ValueError:
                    continue
                for word in value if isinstance(value, (tuple, list, set)) else [value]:
                    yield node.lineno, word


@pytest.mark.once
def test_only_devices_asks_which_device_it_is():
    devices = ("cpu", "gpu", "cuda", "npu")
    others = [name for name in HALF_FILES if "devices" not in Path(name).with_suffix("").parts]
    assert [f"{name}:{line}" for name in others for line, word in _compared_words(name) if word in devices] == []


# -- what a file may hold --------------------------------------------------------------------------------------


@pytest.mark.once
def test_files_name_no_folder_of_one_machine():
    folders = "|".join(("root", "work", "home", "Users"))
    found = re.compile(f"(?<![\\w./])/({folders})/")
    assert [
        f"{name}:{number}: {line}"
        for name in SHARED + HALF_FILES
        for number, line in enumerate(lines(name), 1)
        if found.search(line)
    ] == []


@pytest.mark.once
def test_the_formatter_wins_everywhere():
    mark = "# fmt: " + "skip"
    names = sources("shared", *HALVES, "scripts", "benchmarks", "tests")
    assert [f"{name}:{number}" for name in names for number, line in enumerate(lines(name), 1) if mark in line] == []


@pytest.mark.once
def test_options_are_typed_outside_of_the_command_line():
    """After parsing there is a frozen RunConfig."""
    untyped = re.compile(r"(?<![\w*])options: Any")
    names = [name for name in SHARED + HALF_FILES if name not in [f"{half}/options.py" for half in HALVES]]
    assert [
        f"{name}:{number}" for name in names for number, line in enumerate(lines(name), 1) if untyped.search(line)
    ] == []


@pytest.mark.once
def test_a_module_says_what_it_is_for():
    assert [name for name in SHARED + HALF_FILES if not ast.get_docstring(tree(name))] == []
