"""Measures the size of the code against its limits, and draws which room imports which.

python scripts/code_map.py                        prints the measures nearest to their limits; exit status 1 beyond one
python scripts/code_map.py --picture FILE.md      renews the picture between the marks in a Markdown file
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("shared", "tf_seresnet", "torch_imagenet")
HALVES = PACKAGES[1:]
FIRST_GRADIENT = ("{half}/training.py", "{half}/step/training_step.py", "{half}/run/setup.py", "shared/run/loop.py")
MODES = ("main", "training", "evaluation", "predict", "benchmark", "profiling", "summary", "check_data", "export")
START_FILES = ("run_npu", "run_gpu", "eval", "modelart_senet", "imagenet_fast")  # the old ports' names for main.py
PURE = ("metrics", "schedules", "rng", "roofline")  # the modules of shared that compute and do nothing else
EVERYWHERE = ("shared/errors", "shared/text", "shared/system")  # every room may import them


class Measure(NamedTuple):
    """A measured number and the largest one allowed."""

    what: str
    value: int
    limit: int


def sources(*packages: str) -> List[str]:
    """Every Python file of these packages, as a path relative to the root with forward slashes."""
    return sorted(path.relative_to(ROOT).as_posix() for name in packages for path in (ROOT / name).rglob("*.py"))


def parse(name: str) -> ast.Module:
    """The syntax tree of a file that is named relative to the root."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=name)


# -- sizes -----------------------------------------------------------------------------------------------------


def measures() -> Iterator[Measure]:
    """The sizes of trainings, folders, files and functions."""
    for half in HALVES:
        yield Measure(f"{half}/training.py, lines", _lines(f"{half}/training.py"), 199)
        yield Measure(f"{half}, names before the first gradient", len(names_before_the_first_gradient(half)), 59)
    names = sources(*PACKAGES, "scripts", "benchmarks")
    limits = {"shared": 8, **dict.fromkeys(HALVES, 14)}  # of the packages' tops
    for folder in sorted({str(Path(name).parent) for name in names}):
        yield Measure(f"{folder}/, files", len(list((ROOT / folder).glob("*.py"))), limits.get(folder, 18))
    for name in names:
        yield Measure(f"{name}, lines", _lines(name), 16 if Path(name).stem in START_FILES else 320)
        for node in ast.walk(parse(name)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                last = max(getattr(child, "end_lineno", None) or 0 for child in ast.walk(node))
                yield Measure(f"{name} {node.name}(), lines", last - first + 1, 60)


def names_before_the_first_gradient(half: str) -> Set[Tuple[str, str]]:
    """(file, name) of what the files that one reads to understand training import from this project.

    A name that several of the files import from the same place counts once. Imports between these files count.
    """
    return {found for name in FIRST_GRADIENT for found in imported(name.format(half=half))}


def _lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


# -- imports ---------------------------------------------------------------------------------------------------


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
    package, *folders, file = name.split("/")
    stem = file[: -len(".py")]
    if folders:
        return f"{package}/{folders[0]}"
    if package == "shared" and stem in PURE:
        return "shared/pure"
    return f"{package}/modes" if package != "shared" and stem in MODES + START_FILES else f"{package}/{stem}"


def room_graph() -> Dict[str, Set[str]]:
    """Which rooms each room imports, without EVERYWHERE and the packages' own files."""
    left_out = {*EVERYWHERE, *(f"{package}/__init__" for package in PACKAGES)}
    graph: Dict[str, Set[str]] = {}
    for name in sources(*PACKAGES):
        graph.setdefault(room(name), set()).update(room(file) for file, _ in imported(name))
    return {source: targets - {source, *left_out} for source, targets in graph.items() if source not in left_out}


def picture() -> str:
    """The rooms and their imports as a Mermaid flowchart in a Markdown code block.

    An arrow points from a room to one that it imports. One that follows from others is left out, and so are those to
    EVERYWHERE; between a half and `shared` there is one arrow.
    """
    graph = room_graph()
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        rooms = sorted(name for name in graph if name.split("/")[0] == package)
        nodes = {name: name.replace("/", "__") for name in rooms}  # which Mermaid takes for no keyword or subgraph
        lines.append(f"    subgraph {package}")
        for name in rooms:
            title = ", ".join(PURE) if name == "shared/pure" else name.split("/")[1]
            lines.append(f'        {nodes[name]}["{title}"]')
        inside = _reduced({name: graph[name] & set(rooms) for name in rooms})
        lines += [f"        {nodes[a]} --> {nodes[b]}" for a in rooms for b in sorted(inside[a])]
        lines.append("    end")
    lines += [f"    {half} --> shared" for half in HALVES]
    return "\n".join([*lines, "```"]) + "\n"


def _reduced(graph: Dict[str, Set[str]]) -> Dict[str, Set[str]]:
    """The graph without the arrows that follow from the others, taken in alphabetical order."""
    kept = {name: set(targets) for name, targets in graph.items()}
    for source in sorted(kept):
        for target in sorted(kept[source]):
            kept[source].remove(target)
            if target not in _reachable(kept, source):
                kept[source].add(target)
    return kept


def _reachable(graph: Dict[str, Set[str]], start: str) -> Set[str]:
    found: Set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def renewed(text: str, name: str, content: str) -> str:
    """The Markdown text with this content between its marks `<!-- name:begin -->` and `<!-- name:end -->`."""
    marks = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    return marks.sub(lambda match: match.group(1) + content + match.group(2), text)


def main(argv: List[str]) -> int:
    """The exit status."""
    if argv[:1] == ["--picture"]:
        path = Path(argv[1])
        path.write_text(renewed(path.read_text(encoding="utf-8"), "imports", picture()), encoding="utf-8")
        return 0
    worst = sorted(measures(), key=lambda measure: measure.value / measure.limit, reverse=True)
    beyond = sum(measure.value > measure.limit for measure in worst)
    for what, value, limit in worst[: max(beyond, 20)]:
        sys.stdout.write(f"{value:5d} of {limit:3d}  {what}\n")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
