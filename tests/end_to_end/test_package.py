"""The wheel beside other people's packages of the checkout's names; a checkout whose `shared` another one hides."""

from __future__ import annotations

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest

from shared.run.provenance import VERSION, commit
from tests.support import wheel

ROOT = wheel.ROOT
PACKAGES = ("shared", "tf_seresnet", "torch_imagenet")
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    wheel.needs_setuptools()
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import build_backend

    return build_backend


def contents(folder: Path) -> Dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def modules(site: Path) -> Iterator[Tuple[str, ast.Module]]:
    for name, content in contents(site).items():
        if name.endswith(".py"):
            yield name, ast.parse(content)


# -- how a module is moved -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkout", "wheel_has"),
    [
        ("from shared.rng import order", "from se_pnas_kit.shared.rng import order"),
        ("from shared import rng, text", "from se_pnas_kit.shared import rng, text"),
        ("def f():\n    from torch_imagenet import x", "def f():\n    from se_pnas_kit.torch_imagenet import x"),
        ("é = 'ü'; from shared.rng import b", "é = 'ü'; from se_pnas_kit.shared.rng import b"),
        ("import_module('shared.run.log')", "import_module('se_pnas_kit.shared.run.log')"),
        (
            '"""`shared.rng`\nfrom shared import x"""',
            '"""`se_pnas_kit.shared.rng`\nfrom se_pnas_kit.shared import x"""',
        ),
        ('f"python -m shared.results {x}"', 'f"se-pnas-results {x}"'),
        ('"run python torch_imagenet/main.py predict"', '"run se-pnas-torch predict"'),
        ('"python -m pip install -r requirements/torch.txt"', "\"python -m pip install 'se-pnas-kit[torch]'\""),
        # What stays: a half's name as data, variables and attributes of these names, paths, other people's packages.
        *((same, same) for same in ('half = "tf_seresnet"', "shared.keys()", "self.shared.rng", 'f"{shared.name}"')),
        *((same, same) for same in ("from sharedlib.rng import x", '"tests/shared.rng"', '"a.shared.rng"', "")),
    ],
)
def test_imports_and_texts_are_moved(backend, checkout: str, wheel_has: str):
    assert backend.moved(checkout, "a.py") == wheel_has


@pytest.mark.parametrize("statement", ["import shared", "import numpy, shared.rng", "import torch_imagenet.main as m"])
def test_an_import_that_binds_a_top_level_name_is_refused(backend, statement: str):
    with pytest.raises(SyntaxError, match=r"a\.py:2: write `from PACKAGE import NAME`"):
        backend.moved(f"x = 1\n{statement}\n", "a.py")


# -- what is in the wheel --------------------------------------------------------------------------------------


def test_the_wheel_has_every_file_of_the_packages_and_the_records(site: Path):
    left_out = re.compile(r"shared/launchers/|\w+/test/|.*\.csv$")  # the programs of the checkout's shell scripts
    expected = {
        f"{name}/{file}"
        for name in (*PACKAGES, "results")
        for file in contents(ROOT / name)
        if not file.endswith(".pyc")
    }
    expected = {name for name in expected if not left_out.match(name)}
    found = set(contents(site / "se_pnas_kit"))
    assert found - expected == {"COMMIT", "__init__.py", "py.typed"}
    assert expected - found == set()
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"se_pnas_kit"}


def test_every_import_of_ours_is_below_the_one_name(site: Path):
    seen = 0
    for name, tree in modules(site):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "se_pnas_kit":
                found = site.joinpath(*node.module.split("."))
                assert found.with_suffix(".py").is_file() or (found / "__init__.py").is_file(), f"{name}:{node.lineno}"
                seen += 1
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] not in PACKAGES, f"{name}:{node.lineno}"
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names}.isdisjoint(PACKAGES), f"{name}:{node.lineno}"
    assert seen > 500


def test_no_text_of_the_wheel_names_what_only_a_checkout_has(site: Path):
    only = re.compile(r"(torch_imagenet|tf_seresnet)/main\.py|python -m shared|requirements/|bash run_")
    texts: List[Tuple[str, str]] = []
    for name, tree in modules(site):
        texts += [(name, str(node.value)) for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert [(name, text) for name, text in texts if only.search(text)] == []


def test_the_metadata(site: Path):
    (folder,) = site.glob("*.dist-info")
    metadata = email.message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    assert (metadata["Name"], metadata["Version"]) == ("se-pnas-kit", VERSION)
    assert (metadata["License-Expression"], metadata["License"]) == ("Apache-2.0", None)
    assert (folder / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert f'\n__version__ = "{VERSION}"\n' in (site / "se_pnas_kit" / "__init__.py").read_text(encoding="utf-8")
    points = re.findall(r"(\S+) = (\S+):main", (folder / "entry_points.txt").read_text())
    assert {name for name, _ in points} == {"se-pnas-torch", "se-pnas-tf", "se-pnas-results"}
    for _, module in points:
        assert "\ndef main(" in site.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_source_distribution_builds_the_same_wheel(site: Path, tmp_path: Path):
    with tarfile.open(str(wheel.build("sdist", tmp_path / "sdist"))) as archive:
        archive.extractall(str(tmp_path / "sources"))
    (sources,) = (tmp_path / "sources").iterdir()
    assert contents(wheel.installed(tmp_path, sources)) == contents(site)


# -- in use ----------------------------------------------------------------------------------------------------

EVERY_MODULE = """
import importlib, json, pathlib, sys
site, package = pathlib.Path(sys.argv[1]), sys.argv[2]
names = [path.relative_to(site).with_suffix("") for path in sorted((site / "se_pnas_kit" / package).rglob("*.py"))]
names = [".".join(name.parts) for name in names]
for name in names:
    importlib.import_module(name[: -len(".__init__")] if name.endswith(".__init__") else name)
ours = [name for name in sys.modules if name.split(".")[0] in ("shared", "tf_seresnet", "torch_imagenet")]
print(json.dumps([len(names), ours]))
"""


def test_every_shared_module_is_imported_beside_a_foreign_one(site: Path, tmp_path: Path):
    status, output, error = wheel.beside_a_foreign_shared(site, tmp_path, "-c", EVERY_MODULE, str(site), "shared")
    assert (status, error) == (0, "")
    assert re.fullmatch(r"\[[6-9][0-9], \[\]\]\n", output)


def test_the_commands_say_the_version_and_commit_of_the_checkout(site: Path, tmp_path: Path):
    for module in ("torch_imagenet.main", "tf_seresnet.main", "shared.results"):
        command = ("-m", f"se_pnas_kit.{module}", "--version")
        status, output, error = wheel.beside_a_foreign_shared(site, tmp_path, *command)
        assert (status, error, output.count("\n")) == (0, "", 1)
        head = commit()
        assert output.startswith(f"se-pnas-kit {VERSION}, " + (f"commit {head}, " if head else ""))


def test_the_results_are_those_of_the_checkout_and_none_is_published_into_the_package(site: Path, tmp_path: Path):
    command = ("-m", "se_pnas_kit.shared.results")
    status, output, error = wheel.beside_a_foreign_shared(site, tmp_path, *command)
    assert (status, error) == (0, "")
    assert output == subprocess.check_output([sys.executable, "-m", "shared.results"], cwd=str(ROOT)).decode()
    record = next((ROOT / "results").rglob("*.json"))
    before = contents(site)
    status, output, error = wheel.beside_a_foreign_shared(site, tmp_path, *command, "--publish", str(record))
    said = "error: --publish copies into the results/ of a checkout, and this is a package; run it in one\n"
    assert (status, output, error) == (2, "", said)
    assert contents(site) == before


# -- the checkout ----------------------------------------------------------------------------------------------


def checkout(folder: Path, *command: str, path: Tuple[Path, ...]) -> Tuple[int, str]:
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, path)))
    done = subprocess.run([sys.executable, *command], cwd=str(folder), env=environment, stderr=subprocess.PIPE)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("half", PACKAGES[1:])
@pytest.mark.parametrize("foreign", ["shared/__init__.py", "shared.py"])
def test_a_shared_that_hides_ours_is_named_in_the_last_line_and_not_run(tmp_path: Path, half: str, foreign: str):
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text(wheel.FOREIGN)
    status, error = checkout(tmp_path, "-c", f"import {half}", path=(ROOT,))
    assert status == 1
    last = error.splitlines()[-1]
    assert last.startswith(f"ImportError: {half} needs its own package shared, {ROOT / 'shared'}, and Python finds ")
    assert str(tmp_path / foreign) in last
    assert f"put {ROOT} first on the path, or install the wheel" in last


def test_a_half_alone_says_that_its_other_package_is_missing(tmp_path: Path):
    (tmp_path / "tf_seresnet").mkdir()
    (tmp_path / "tf_seresnet" / "__init__.py").write_bytes((ROOT / "tf_seresnet" / "__init__.py").read_bytes())
    status, error = checkout(tmp_path, "-c", "import tf_seresnet", path=())
    assert (status, "and Python finds nothing; put" in error) == (1, True)


@pytest.mark.parametrize("half", PACKAGES[1:])
def test_the_commands_of_a_checkout_find_their_own_shared(tmp_path: Path, half: str):
    (tmp_path / "shared.py").write_text(wheel.FOREIGN)
    status, error = checkout(tmp_path, str(ROOT / half / "main.py"), "--version", path=(tmp_path,))
    assert (status, error) == (0, "")
