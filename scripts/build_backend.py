"""Builds the wheel and the source distribution (PEP 517): setuptools, with all packages below the one name se_pnas_kit.

The checkout's packages have names that collide with other people's folders, `shared` above all. The wheel has the same
files as `se_pnas_kit.shared`, `se_pnas_kit.tf_seresnet` and `se_pnas_kit.torch_imagenet`: a copy in a temporary folder,
in which their imports, and the names of modules and commands in their texts, are replaced. An editable installation is
the checkout itself and has its names.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, List, Optional

import setuptools
from setuptools import build_meta

if int(setuptools.__version__.split(".")[0]) < 77:
    raise ImportError(f"setuptools {setuptools.__version__} does not know this pyproject.toml; install 77.0.3 or newer")

ROOT = Path(__file__).resolve().parents[1]
NAME = "se_pnas_kit"
PACKAGES = ("shared", "tf_seresnet", "torch_imagenet")
_FILES = ("pyproject.toml", "LICENSE", "MANIFEST.in", "docs/package.md", "scripts/build_backend.py")
_LAUNCHERS = ("launchers", "test")  # the programs behind the checkout's shell scripts, and these
_INIT = '''"""Squeeze-and-excitation and PNAS image classifiers: `torch_imagenet`, `tf_seresnet`, `shared`."""

__version__ = {}
'''
# What a text says to type, in the checkout and where the wheel is installed: pyproject.toml has the names.
_TYPED = (
    (r"(?:python )?torch_imagenet/main\.py", "se-pnas-torch"),
    (r", or start with bash run_gpu\.sh", ""),
    (r"bash run_npu\.sh runs on it", "one that has it runs on it"),
    (r"(?:python )?tf_seresnet/main\.py|bash run_[gn]pu\.sh", "se-pnas-tf"),
    (r" \(on Linux without an NVIDIA GPU: -r requirements/torch-cpu\.txt, a fifth of the size\)", ""),
    (r"python -m shared\.results", "se-pnas-results"),
    (r"-r requirements/(?:beside-)?torch\.txt", f"'{NAME.replace('_', '-')}[torch]'"),
    (r"-r requirements/[cg]pu\.txt", f"'{NAME.replace('_', '-')}[tensorflow]'"),
)
_MODULE = re.compile(
    rf"(?<![\w./({{])({'|'.join(PACKAGES)})(?=\.[a-z]\w)|(?<=\bfrom )({'|'.join(PACKAGES)})(?= import)"
)


def build_wheel(folder: str, settings: Optional[dict] = None, metadata: Optional[str] = None) -> str:
    """Write the wheel into the folder; its name."""
    folder = os.path.abspath(folder)
    with _staged(NAME):
        return str(build_meta.build_wheel(folder, settings))


def build_editable(folder: str, settings: Optional[dict] = None, metadata: Optional[str] = None) -> str:
    """Write a wheel that leads to the checkout, with its names, into the folder; its name."""
    return str(build_meta.build_editable(folder, settings, metadata))


def prepare_metadata_for_build_wheel(folder: str, settings: Optional[dict] = None) -> str:
    """Write the wheel's metadata into the folder; their name there."""
    folder = os.path.abspath(folder)
    with _staged(NAME):
        return str(build_meta.prepare_metadata_for_build_wheel(folder, settings))


def build_sdist(folder: str, settings: Optional[dict] = None) -> str:
    """Write the source distribution, which is as the checkout and builds the same wheel, into the folder; its name."""
    folder = os.path.abspath(folder)
    with _staged(""):
        return str(build_meta.build_sdist(folder, settings))


@contextlib.contextmanager
def _staged(below: str) -> Iterator[None]:
    """The working directory is a copy of the project, with the packages in the folder `below`, named accordingly."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="build-")))
        for name in _FILES:
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
        left_out = shutil.ignore_patterns("__pycache__", *(_LAUNCHERS if below else ()))
        for name in (*PACKAGES, "results"):
            shutil.copytree(ROOT / name, root / below / name, ignore=left_out)
        (root / below / "COMMIT").write_text(commit(), encoding="utf-8")
        if below:
            version = re.search(
                r"^VERSION = (.*?)  #", (ROOT / "shared/run/provenance.py").read_text("utf-8"), re.MULTILINE
            )
            (root / below / "__init__.py").write_text(_INIT.format(version.group(1)), encoding="utf-8")
            (root / below / "py.typed").touch()
            for path in (root / below).rglob("*.py"):
                path.write_text(moved(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")
            project = root / "pyproject.toml"
            project.write_text(moved_text(project.read_text(encoding="utf-8")), encoding="utf-8")
        stack.callback(os.chdir, os.getcwd())
        os.chdir(root)
        yield


def commit() -> str:
    """The checkout's commit as in the record of a run, a source distribution's, or "" where neither is known."""
    if (ROOT / "COMMIT").is_file():
        return (ROOT / "COMMIT").read_text(encoding="utf-8")
    if not (ROOT / ".git").exists():
        return ""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.check_output(git, env=environment, stderr=subprocess.DEVNULL).decode().strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def moved(source: str, name: str) -> str:
    """The source of a module as it is below se_pnas_kit. Raises SyntaxError for `import shared` and the like."""
    encoded, edits = source.encode("utf-8"), []
    starts = [0, *itertools.accumulate(map(len, encoded.splitlines(keepends=True)))]  # columns are counted in bytes
    for node in ast.walk(ast.parse(source, filename=name)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] in PACKAGES for alias in node.names):
            raise SyntaxError(f"{name}:{node.lineno}: write `from PACKAGE import NAME`: this binds a top-level name")
        text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if text or isinstance(node, ast.ImportFrom):
            edits.append((starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset))
    result: List[str] = []
    done = 0
    for start, end in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
        if start >= done:  # else inside an f-string that is done
            result += [encoded[done:start].decode("utf-8"), moved_text(encoded[start:end].decode("utf-8"))]
            done = end
    return "".join([*result, encoded[done:].decode("utf-8")])


def moved_text(text: str) -> str:
    """The text with the names of this project's modules, and what it says to type, as they are in the wheel."""
    for typed, installed in _TYPED:
        text = re.sub(typed, installed, text)
    return _MODULE.sub(rf"{NAME}.\g<0>", text)
