"""Which files of the project handle an image on its way from the disk to a row of the table of results.

    python scripts/trace_image.py HALF                   prints them in the order in which they first handle an image
    python scripts/trace_image.py HALF --update FILE.md  writes them as a table between the marks in a Markdown file

Trains two steps on the embedded sample, evaluates, and makes the table of results of that run, under a profiler. A file
counts if one of its functions takes or returns an image or its numbers: a PIL image, an array of images of SIDE x SIDE
pixels, an array whose first dimension is the batch (images, activations, logits, labels), or, in the table, the top-1
of the run. Helpers on the way (paths, clocks, log lines) do not count. Needs the framework of the half.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Iterator, List, Set

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder

from scripts.code_map import PACKAGES, parse, renewed  # noqa: E402
from shared import sample  # noqa: E402
from shared.results.__main__ import main as results  # noqa: E402

BATCH = 37  # no other dimension of the networks, the sample or the run is 37
SIDE = 32
SIZES = f"--batch-size {BATCH} --eval-batch-size {BATCH} --epochs 1 --steps-per-epoch 2 --device cpu".split()
SMALL = {
    "tf_seresnet": ["--depth", "11", "--recipe", "sample", *SIZES],
    "torch_imagenet": ["--image-size", str(SIDE), "--recipe", "imagenet_sample", "--workers", "1", *SIZES],
}
DEPTH = 3  # how many levels of tuples, lists, dicts and objects are searched


@contextlib.contextmanager
def tracing(is_wanted: Callable[[Any], bool], names: Path) -> Iterator[None]:
    """Append to `names` the project files that have a function for whose arguments or result `is_wanted` holds.

    To a file, because the processes that decode images inherit the profiler and not the memory.
    """
    seen: Set[str] = set()
    folders = tuple(str(ROOT / package) + os.sep for package in PACKAGES)

    def profile(frame: FrameType, event: str, result: Any) -> None:
        path = frame.f_code.co_filename
        if not path.startswith(folders) or event not in ("call", "return") or path in seen:
            return
        values = frame.f_locals if event == "call" else [result]
        if _any(values, is_wanted, DEPTH + 1):
            seen.add(path)
            with names.open("a", encoding="utf-8") as file:
                file.write(Path(path).relative_to(ROOT).as_posix() + "\n")

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def _any(value: Any, is_wanted: Callable[[Any], bool], depth: int) -> bool:
    """Whether it holds for the value or a part of it, down to this depth."""
    parts: List[Any] = []
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value[:16])
    elif type(value).__module__.split(".")[0] in PACKAGES:
        parts = list(getattr(value, "__dict__", {}).values())
    return is_wanted(value) or (depth > 0 and any(_any(part, is_wanted, depth - 1) for part in parts))


def _is_image(value: Any) -> bool:
    """A PIL image, an array of images, or an array whose first dimension is the batch."""
    kind = type(value)
    if kind.__module__.startswith("PIL."):
        return True
    if kind.__name__ not in ("ndarray", "Tensor", "EagerTensor", "SymbolicTensor"):
        return False
    try:
        shape = [None if size is None else int(size) for size in value.shape]
    except (TypeError, ValueError):  # a TensorFlow tensor of unknown rank
        return False
    images = shape[-3:] in ([SIDE, SIDE, 3], [3, SIDE, SIDE]) or shape[1:] == [3 * SIDE * SIDE]
    return images or (bool(shape) and shape[0] == BATCH) or (len(shape) == 4 and shape[0] is None)


def trace(half: str) -> List[str]:
    """The files of the half and of `shared` that handle an image, in the order in which they first do."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        run, cache, names = Path(name) / "run", Path(name) / "cache", Path(name) / "files"
        data = sample.cifar10_folder(cache) if half == "tf_seresnet" else sample.imagenet_folder(cache)
        main = importlib.import_module(f"{half}.main").main
        with tracing(_is_image, names):
            status = main(["train", "--data-path", str(data), "--output-dir", str(run), *SMALL[half]])
        assert status == 0, f"the traced training ended with status {status}"
        top1 = json.loads((run / "result.json").read_text(encoding="utf-8"))["evaluation"]["top1"]
        with tracing(lambda value: isinstance(value, float) and value == top1, names):
            assert results([str(run)]) == 0
        return list(dict.fromkeys(names.read_text(encoding="utf-8").split()))


def table(files: List[str]) -> str:
    """A Markdown table: each file, and the first line of its docstring."""
    rows = [f"| `{name}` | {(ast.get_docstring(parse(name)) or '').splitlines()[0]} |" for name in files]
    return "\n".join(["| file | what it is |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    traced = trace(sys.argv[1])
    sys.stdout.write("\n".join([*traced, f"{len(traced)} files"]) + "\n")
    if sys.argv[2:3] == ["--update"]:
        document = Path(sys.argv[3])
        text = renewed(document.read_text(encoding="utf-8"), sys.argv[1], table(traced))
        document.write_text(text, encoding="utf-8")
