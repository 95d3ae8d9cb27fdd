"""The import graph of the program, read from its source: modules, rooms, and the names that a file imports."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("shared", "tf_seresnet", "torch_imagenet")
MODES = ("main", "training", "evaluation", "benchmark", "profiling", "summary", "check_data")
BASE = ("__init__", "errors", "text")
PURE = ("metrics", "schedules", "rng", "roofline")  # the modules of shared that compute and do nothing else


def sources(package: str) -> List[str]:
    """Every Python file of a package, as a path relative to the root with forward slashes."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py"))


def parse(name: str) -> ast.Module:
    """The syntax tree of a file that is named relative to the root."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=name)


def imported(name: str) -> Iterator[Tuple[str, str]]:
    """(file, name) of everything that a file imports from this project, also inside functions.

    `from shared import metrics` gives ("shared/metrics.py", "metrics"), and
    `from shared.rng import order` gives ("shared/rng.py", "order").
    """
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.Import):
            found = [(alias.name, alias.name.rpartition(".")[2]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(f"{node.module}.{alias.name}", alias.name) for alias in node.names]
        else:
            continue
        for dotted, bound in found:
            if dotted.split(".")[0] in PACKAGES:
                yield _file(dotted), bound


def _file(dotted: str) -> str:
    """The file that defines `package.module` or `package.module.name`."""
    path = ROOT.joinpath(*dotted.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py", path.parent.with_suffix(".py")):
        if candidate.is_file():
            return candidate.relative_to(ROOT).as_posix()
    return (path.parent / "__init__.py").relative_to(ROOT).as_posix()


def room(name: str) -> str:
    """The room of a file: its folder; at the top of a half its modes together, and every other file by itself."""
    parts = name.split("/")
    if len(parts) > 2:
        return "/".join(parts[:2])
    stem = parts[1][:-3]
    if parts[0] != "shared":
        return f"{parts[0]}/{'modes' if stem in MODES else stem}"
    if stem in PURE:
        return "shared/pure"
    return "shared/base" if stem in BASE else f"shared/{stem}"


def room_graph() -> Dict[str, Set[str]]:
    """Which rooms each room imports."""
    graph: Dict[str, Set[str]] = {}
    for package in PACKAGES:
        for name in [name for name in sources(package) if name != f"{package}/__init__.py"]:
            targets = graph.setdefault(room(name), set())
            targets.update(room(file) for file, _ in imported(name) if file != f"{file.split('/')[0]}/__init__.py")
    return {source: targets - {source} for source, targets in graph.items()}
