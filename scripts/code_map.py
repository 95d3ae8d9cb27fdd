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
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder

from scripts.imports import PACKAGES, imported, parse, room_graph, sources  # noqa: E402

HALVES = PACKAGES[1:]
PROGRAM = (*PACKAGES, "scripts", "benchmarks")
FIRST_GRADIENT = ("{half}/training.py", "{half}/step/training_step.py", "{half}/run_setup.py", "shared/run/loop.py")
EVERYWHERE = ("shared/base", "shared/system")  # errors and text; files, caches, processes: every room may import them
PICTURE = re.compile(r"(<!-- imports:begin -->\n).*?(<!-- imports:end -->)", re.DOTALL)


class Measure(NamedTuple):
    """A measured number and the largest one allowed."""

    what: str
    value: int
    limit: int


def measures() -> List[Measure]:
    """All of them."""
    return [*sizes_of_trainings(), *sizes_of_folders(), *sizes_of_files(), *sizes_of_functions()]


def sizes_of_trainings() -> Iterator[Measure]:
    """Lines of each training.py, and the project names that are imported before the first gradient."""
    for half in HALVES:
        yield Measure(f"{half}/training.py, lines", _lines(f"{half}/training.py"), 199)
        yield Measure(f"{half}, names before the first gradient", len(names_before_the_first_gradient(half)), 59)


def names_before_the_first_gradient(half: str) -> Set[Tuple[str, str]]:
    """(file, name) of what the files that one reads to understand training import from this project.

    A name that several of the files import from the same place counts once. Imports between these files count.
    """
    files = [name.format(half=half) for name in FIRST_GRADIENT]
    return {found for name in files if (ROOT / name).is_file() for found in imported(name)}


def has_the_loop(half: str) -> bool:
    """Whether training.py itself has `for ... in run.epochs(...)` and `for ... in run.steps(...)`."""
    nodes = list(ast.walk(parse(f"{half}/training.py")))
    return all(any(_iterates(node, method) for node in nodes) for method in ("epochs", "steps"))


def _iterates(node: ast.AST, method: str) -> bool:
    if not isinstance(node, ast.For) or not isinstance(node.iter, ast.Call):
        return False
    return isinstance(node.iter.func, ast.Attribute) and node.iter.func.attr == method


def sizes_of_folders() -> Iterator[Measure]:
    """Python files at the top of each package, and in each folder."""
    for package in PACKAGES:
        yield Measure(f"{package}/, files at its top", _files_in(package), 8 if package == "shared" else 14)
    folders = sorted({str(Path(name).parent) for package in PROGRAM for name in sources(package)} - set(PACKAGES))
    yield from (Measure(f"{folder}/, files", _files_in(folder), 18) for folder in folders)


def sizes_of_files() -> Iterator[Measure]:
    """Lines of each Python file."""
    yield from (Measure(f"{name}, lines", _lines(name), 320) for package in PROGRAM for name in sources(package))


def sizes_of_functions() -> Iterator[Measure]:
    """Lines of each function, from its first decorator to its last line."""
    for name in (name for package in PROGRAM for name in sources(package)):
        for node in ast.walk(parse(name)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                last = max(getattr(child, "end_lineno", None) or 0 for child in ast.walk(node))
                yield Measure(f"{name} {node.name}(), lines", last - first + 1, 60)


def _lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


def _files_in(folder: str) -> int:
    return len(list((ROOT / folder).glob("*.py")))


def picture() -> str:
    """The rooms and their imports as a Mermaid flowchart in a Markdown code block.

    An arrow points from a room to one that it imports. One that follows from others is left out, and so are those to
    EVERYWHERE; between a half and `shared` there is one arrow.
    """
    graph = {name: targets - set(EVERYWHERE) for name, targets in room_graph().items() if name not in EVERYWHERE}
    lines = ["```mermaid", "flowchart TD"]
    for package in PACKAGES:
        rooms = sorted(name for name in graph if name.split("/")[0] == package)
        lines.append(f"    subgraph {package}")
        lines += [f'        {_identifier(name)}["{_title(name)}"]' for name in rooms]
        inside = _reduced({name: graph[name] & set(rooms) for name in rooms})
        lines += [f"        {_identifier(a)} --> {_identifier(b)}" for a in rooms for b in sorted(inside[a])]
        lines.append("    end")
    lines += [f"    {half} --> shared" for half in HALVES]
    return "\n".join([*lines, "```"]) + "\n"


def _identifier(name: str) -> str:
    """An identifier that Mermaid takes for no keyword and no subgraph."""
    return name.replace("/", "__")


def _title(name: str) -> str:
    return "metrics, schedules, rng, roofline" if name == "shared/pure" else name.split("/")[1]


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
        for target in graph[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def with_picture(text: str) -> str:
    """The Markdown text with the picture of today between its marks."""
    return PICTURE.sub(lambda match: match.group(1) + picture() + match.group(2), text)


def main(argv: List[str]) -> int:
    """The exit status."""
    if argv[:1] == ["--picture"]:
        path = Path(argv[1])
        path.write_text(with_picture(path.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    worst = sorted(measures(), key=lambda measure: measure.value / measure.limit, reverse=True)
    beyond = sum(measure.value > measure.limit for measure in worst)
    for what, value, limit in worst[: max(beyond, 20)]:
        sys.stdout.write(f"{value:5d} of {limit:3d}  {what}\n")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
