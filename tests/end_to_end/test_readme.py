"""What the READMEs and docs/ say, against the project: commands, options, links, tables, and one another."""

from __future__ import annotations

import ast
import collections
import importlib.util
import itertools
import json
import random
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, List, Set

import pytest

from scripts import documented_launcher
from shared import recipes
from shared.cli.old_ports import PORTS
from shared.errors import UsageError
from shared.launchers.documented import LAUNCHERS, NEVER_READ
from shared.launchers.plan import launcher_parser
from shared.recipes.imagenet import elsewhere
from shared.results.__main__ import COMMITTED, find_records
from shared.results.__main__ import _parser as results_parser
from shared.results.__main__ import main as results
from tests.faults.__main__ import parser as fault_parser
from tf_seresnet.options import parser
from torch_imagenet import options as torch_options
from torch_imagenet.networks.registry import NETWORKS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.once
READMES = ("README.md", "README.zh-CN.md")
# Not docs/scaling.md: its programs need torch, and tests/scaling/test_document.py looks at it.
CHAPTERS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name != "scaling.md")
DOCUMENTS = (*READMES, "CHANGELOG.md", "benchmarks/README.md", *CHAPTERS)
IMAGENET = "torch_imagenet/main.py"
RENEW = "tests/torch_imagenet/golden/renew.py"
OF_OTHERS = ("torch.distributed.launch",)  # modules of what is not installed here
# What the scripts say to main.py before the options of the user.
SCRIPTS = {"run_gpu.sh": [], "run_npu.sh": ["--device", "npu", "--recipe", "se_resnet110_npu"], "eval.sh": ["evaluate"]}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str) -> List[str]:
    """Code blocks, fenced ones first, then indented ones."""
    text = _text(name)
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return fenced + re.findall(r"(?:^    .*\n)+", rest, re.MULTILINE)


def _spans(name: str) -> List[str]:
    """Inline code outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", _text(name), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def _commands(name: str) -> List[List[str]]:
    """Every `bash ...` and `python ...` of a document as words, without variables set in front."""
    lines = [line for block in _blocks(name) for line in block.splitlines()] + _spans(name)
    started = (re.match(r"\s*(?:\w+=\S+ )*((?:bash|python[\d.]*) .*)", line) for line in lines)
    return [shlex.split(match.group(1), comments=True) for match in started if match]


def _benchmark_parser() -> Any:
    from benchmarks.run import parser as benchmark_parser  # for Python 3.8 and newer; this file is read by 3.7 too

    return benchmark_parser()


def _accuracy_parser() -> Any:
    from benchmarks.accuracy import parser as accuracy_parser  # likewise

    return accuracy_parser()


def _imagenet_parser() -> Any:
    return torch_options.parser()


def _parsed(words: List[str]) -> None:
    """Parse the command as the program would. Raises UsageError or AssertionError."""
    program, arguments = words[1], words[2:]
    if program == "-m" and arguments[0] == "pip":
        assert (arguments[1], arguments[-2]) == ("install", "-r")
        assert set(arguments[2:-2]) <= {"--no-compile"}
        assert (ROOT / arguments[-1]).is_file(), arguments[-1]
        return
    if program == "-m":
        assert arguments[0] in OF_OTHERS or importlib.util.find_spec(arguments[0]), arguments[0]
        if arguments[0] == "shared.results":
            results_parser().parse_args(arguments[1:])
        return
    assert (ROOT / program).is_file(), program
    half, folder = Path(program).parts[0], Path(program).parts[1:-1]
    if folder[:1] == ("test",):
        documented_launcher.plan(half, Path(program).stem, arguments)
    elif program in SCRIPTS:
        before = SCRIPTS[program]
        if arguments and not arguments[0].startswith("-"):
            before, arguments = [arguments[0], *before], arguments[1:]
        parser().parse_args(before + arguments)
    elif program == "tf_seresnet/main.py":
        if arguments != ["--help"]:
            parser().parse_args(arguments)
    elif program == IMAGENET:
        if "--port" in arguments:
            torch_options.RunConfig.from_argv(arguments)
        elif arguments != ["--help"]:
            _imagenet_parser().parse_args(arguments)
    elif program == RENEW:
        assert arguments == []
    elif program == "scripts/code_map.py":
        assert arguments in ([], ["--picture", "docs/architecture.md"])
    elif program == "scripts/trace_image.py":
        assert arguments[0] in ("HALF", "tf_seresnet", "torch_imagenet")
        assert arguments[1:] in ([], ["--update", "docs/architecture.md"])
    elif program == "benchmarks/run.sh":
        _benchmark_parser().parse_args(arguments)
    elif program == "benchmarks/accuracy.py":
        _accuracy_parser().parse_args(arguments)
    elif program == "tests/faults/run.sh":
        fault_parser().parse_args(arguments)
    else:
        assert program == "tests/run.sh"
        assert arguments in ([], ["--full"], ["--full", "--durations"], ["--help"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_is_accepted(name):
    for words in _commands(name):
        _parsed(words)


def test_every_program_and_every_mode_has_its_command():
    for name in READMES:
        assert {words[1] for words in _commands(name)} >= {*SCRIPTS, "tests/run.sh", IMAGENET, "-m"}
    commands = _commands("docs/imagenet.md")
    modes = {words[2] for words in commands if words[1] == IMAGENET and words[2:] and words[2][0] != "-"}
    assert modes == set(torch_options.MODES) - {"train"}  # the default is in the commands that name no mode
    assert "tf_seresnet/main.py" in {words[1] for words in _commands("docs/cifar10.md")}


@pytest.mark.parametrize(
    "command",
    [
        "bash run_gpu.sh --dpeth 11",
        "bash no.sh",
        "bash eval.sh --batch-size no",
        "python -m shared.nothing",
        "python -m shared.results --fromat text",
        "python -m pip install -r requirements/no.txt",
        "python -m pip install torch",
        "python torch_imagenet/main.py evalute",
        "python torch_imagenet/main.py --network senet145",
        "python torch_imagenet/main.py --recipe senet154_8p",
        "python torch_imagenet/main.py --depth 11",
        "bash torch_imagenet/test/train_full_9p.sh --data_path=DIR",
        "bash torch_imagenet/test/train_full_8p.sh --data_path=DIR --nodes=2",
    ],
)
def test_a_wrong_command_is_noticed(command):
    with pytest.raises((UsageError, AssertionError)):
        _parsed(command.split())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_option_exists(name):
    launchers = [launcher_parser(half, launcher) for half in LAUNCHERS for launcher in LAUNCHERS[half]]
    parsers = (parser(), _imagenet_parser(), results_parser(), fault_parser(), _benchmark_parser(), _accuracy_parser())
    parsers = (*parsers, *launchers)
    known = {option for made in parsers for option in made._option_string_actions}
    known |= {spelling for port in PORTS.values() for option in port.options for spelling in option.spellings}
    known |= {option for options in NEVER_READ.values() for option in options}  # documented as refused
    known |= {"--full", "--durations", "--picture", "--update", "--no-compile"}  # of tests/run.sh, scripts/ and pip
    code = "\n".join(_blocks(name) + _spans(name))
    # The options of other programs.
    theirs = r"^ *(#SBATCH|torchrun|atc|pip|uv|docker|hf) (.*\\\n)*.*?(?=torch_imagenet/main\.py|$)"
    code = re.sub(theirs, "", code, flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", code))
    assert named
    assert sorted(named - known) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", _text(name))
    assert links or name == "docs/checkpoints.md"
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.is_file(), link
        if anchor:
            assert anchor in _anchors(target.read_text(encoding="utf-8")), link


def _anchors(text: str) -> Set[str]:
    """The anchors that the headings get on the usual code hosts."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_exist(name):
    for span in _spans(name):
        if re.match(r"(shared|tf_seresnet|torch_imagenet|tests|docs|requirements|scripts)/[\w/.-]*$", span):
            assert (ROOT / span).exists(), span


def test_the_tests_that_the_differences_name_are_in_the_files_named_before_them():
    seen = 0
    for line in _text("docs/differences.md").splitlines():
        functions: Set[str] = set()
        for span in re.findall(r"`([^`]+)`", line):
            if re.match(r"tests/.*\.py$", span):
                functions = _functions(ROOT / span)
            elif functions and re.match(r"test_\w+$", span):
                assert span in functions, span
                seen += 1
    assert seen > 10


def _table(name: str, first: str) -> List[List[str]]:
    """The rows of the one table whose first heading is `first`: cells without the marks of code."""
    lines = _text(name).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"| {first} |")]
    assert len(starts) == 1, first
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[starts[0] + 2 :])
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_networks_is_the_codes():
    rows = [[row[0].split(" ")[0], *row[1:]] for row in _table("docs/imagenet.md", "`--network`")]
    assert [row[0] for row in rows] == list(NETWORKS)
    assert [int(row[2]) for row in rows] == [spec.image_size for spec in NETWORKS.values()]
    # Without torch nobody can count parameters: the networks' own test does, and its numbers stand here.
    counted = ast.parse(_text("tests/torch_imagenet/networks/test_create.py"))
    (sizes,) = [node.value for node in counted.body if isinstance(node, ast.Assign) and node.targets[0].id == "SIZES"]
    plain = {size[0]: size[2] for size in ast.literal_eval(sizes) if not size[1]}
    assert {row[0]: int(row[1].replace(",", "")) for row in rows} == plain


def test_the_table_of_recipes_is_the_codes():
    rows = _table("docs/imagenet.md", "`--recipe`")
    as_run = [name for row in _table("docs/imagenet.md", "recipe") for name in row[0].split(", ")]
    assert sorted([row[0] for row in rows] + as_run) == sorted(recipes.names("torch_imagenet"))
    for title, network, rate, epochs, batch, devices, result in rows:
        recipe = recipes.get(title)
        assert (network, int(epochs), int(batch)) == (recipe.network, recipe.epochs, recipe.batch_size)
        assert int(devices) == recipe.devices
        steps = f", {recipe.steps_per_epoch:,} steps" if recipe.steps_per_epoch else ""
        on_npu, _, other = rate.partition("; not on an NPU: ")
        for text, here in ((on_npu, recipe), (other or on_npu, elsewhere(recipe))):
            constant = f"{here.schedule.at(0):g}" if here.epochs == 1 else here.schedule.describe()
            assert text in (here.schedule.describe() + steps, constant + steps)
        documented = recipes.document(title).partition("Documented:")[2].split("\n\n")[0]
        numbers = re.findall(r"\d\d\.\d{3}|\d+(?=[^(]*images/s)", result)
        assert set(numbers) <= set(re.findall(r"[\d.]+", documented)), title
        assert set(numbers) >= set(re.findall(r"\d\d\.\d{3}", documented)), title


@pytest.mark.parametrize("name", ["docs/cifar10.md", "docs/imagenet.md", "docs/checkpoints.md"])
def test_pythons_imports_of_ours_exist(name):
    blocks = re.findall(r"^```python\n(.*?)^```$", _text(name), re.DOTALL | re.MULTILINE)
    ours = [
        node
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("shared", "tf_seresnet", "torch_imagenet")
    ]
    assert ours
    for node in ours:
        path = ROOT / node.module.replace(".", "/")
        module = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for alias in node.names:
            there = (path / f"{alias.name}.py").is_file() or (path / alias.name / "__init__.py").is_file()
            assert there or alias.name in _defined(module), alias.name


def _defined(path: Path) -> Set[str]:
    """What a module binds by def, class, import and plain assignment."""
    names: Set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def _functions(path: Path) -> Set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_a_door_and_no_manual(name):
    assert len(_text(name).splitlines()) < 180


def test_both_readmes_say_the_same():
    """Commands, output, links, numbers, headings and tables; the folders of the tree in the same order."""
    english, chinese = READMES
    trees = [[block for block in _blocks(name) if block.startswith("tf_seresnet/")] for name in READMES]
    assert [len(tree) for tree in trees] == [1, 1]
    assert [block for block in _blocks(english) if block not in trees[0]] == [
        block for block in _blocks(chinese) if block not in trees[1]
    ]
    paths = [re.findall(r"[a-z_0-9]+(?:/|\.py)", tree[0]) for tree in trees]
    assert paths[0] == paths[1]
    assert len(paths[0]) > 20
    for parts in (_headings, _rows, _commands_as_text, _links, _numbers):
        assert parts(english) == parts(chinese), parts.__name__


def _links(name: str) -> List[str]:
    """Where the links lead, in whatever language, but for those between the languages and within the page."""
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", _text(name)) if link[0] != "#" and link not in READMES]
    return [link.replace(".zh-CN.md", ".md") for link in links]


def _numbers(name: str) -> List[str]:
    """The numbers of the text outside of the results block, in the order of their size."""
    return sorted(re.findall(r"\d[\d.]*\d|\d", _text(name).replace(_results_block(_text(name)).group(), "")))


def _commands_as_text(name: str) -> List[str]:
    return sorted(" ".join(words) for words in _commands(name))


def _headings(name: str) -> List[int]:
    """The levels of the headings, in order."""
    without_code = re.sub(r"^```.*?^```$", "", _text(name), flags=re.DOTALL | re.MULTILINE)
    return [len(marks) for marks in re.findall(r"^(#+) ", without_code, re.MULTILINE)]


def _rows(name: str) -> List[int]:
    """How many cells each line of each table has."""
    return [line.count("|") for line in _text(name).splitlines() if line.startswith("|")]


def test_the_results_tables_are_those_of_the_records(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert results(["--check", *READMES]) == 0, capsys.readouterr().out


def _results_block(text: str) -> "re.Match[str]":
    return re.search(r"<!-- results:begin.*?<!-- results:end -->", text, re.DOTALL)


def _digits(text: str) -> List[int]:
    """Where one digit of each line of the results block stands, and every digit of the measured rows."""
    block, choice, chosen = _results_block(text), random.Random(0), []
    for line in re.finditer(r".+", block.group()):
        places = [block.start() + line.start() + digit.start() for digit in re.finditer(r"\d", line.group())]
        measured = line.group().startswith(("| measured |", "| 实测 |"))
        chosen += places if measured else [choice.choice(places)] if places else []
    return chosen


@pytest.mark.parametrize("name", READMES)
def test_a_changed_digit_of_a_results_table_is_noticed(name, tmp_path, capsys):
    text, copy = _text(name), tmp_path / name
    places = _digits(text)
    assert len(places) > 150
    for place in places:
        changed = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        copy.write_text(changed, encoding="utf-8")
        assert results(["--check", str(copy)]) == 1, place
        line = changed[changed.rindex("\n", 0, place) + 1 : changed.index("\n", place)]
        said = capsys.readouterr()
        assert f"\n-{line}\n" in said.out
        assert str(copy) in said.err
    copy.write_text(text, encoding="utf-8")
    assert results(["--check", str(copy)]) == 0


RECORDS = sorted(path.relative_to(COMMITTED).as_posix() for path in find_records([]))


@pytest.mark.parametrize("name", READMES)
@pytest.mark.parametrize("record", RECORDS)
def test_without_its_record_a_row_goes_and_no_other(record, name, tmp_path, monkeypatch):
    shutil.copytree(str(COMMITTED), str(tmp_path / "results"))
    monkeypatch.setattr("shared.results.__main__.COMMITTED", tmp_path / "results")
    copy, before = tmp_path / name, _text(name)
    copy.write_text(before, encoding="utf-8")
    gone = tmp_path / "results" / record
    evaluation = json.loads(gone.read_text(encoding="utf-8"))["evaluation"]
    gone.unlink()
    assert results(["--check", str(copy)]) == 1
    assert results(["--update-readme", str(copy)]) == 0
    lost, come = _lines_lost_and_come(before, copy.read_text(encoding="utf-8"))
    missing = ("| not measured |", "| 未测 |")  # which may name one recipe more
    lost = [line for line in lost if not line.startswith(missing)]
    (row,) = (line for line in lost if line.startswith(("| measured |", "| 实测 |")))
    error = r"( \((error|错误率) [\d.]+\))?"  # on CIFAR-10
    assert re.search(rf" \| {evaluation['top1']:.2f}{error} \| {evaluation['top5']:.2f} \| ", row)
    parts = before.split("\n\n")
    (number,) = (number for number, part in enumerate(parts) if row in part)
    table = parts[number].splitlines()
    # The title and the head of a table go with its last row.
    assert sorted(lost) == sorted([row] if len(table) > 3 else [parts[number - 1], *table])
    assert all(line.startswith(missing) for line in come)


def _lines_lost_and_come(before: str, after: str) -> List[List[str]]:
    old, new = (collections.Counter(filter(None, text.splitlines())) for text in (before, after))
    return [list((old - new).elements()), list((new - old).elements())]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_folder_of_one_machine_is_named(name):
    assert not re.search(r"/(root|home|work|Users|tmp)/", _text(name))
