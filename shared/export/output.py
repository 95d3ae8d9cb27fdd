"""The file that an export writes: which format its name asks for, and that it is complete or not there."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence, Tuple

from shared.errors import UsageError
from shared.system import atomic_files
from shared.system.paths import writing


def named(output: Optional[str], form: Optional[str], endings: Mapping[str, str]) -> Tuple[Path, str]:
    """The path of --output and its format: --format, else by the name's ending.

    `endings` are those of the formats by name, as in ".onnx"; "" is that of a format that is a folder. Raises
    UsageError where no file is named, or format and ending do not fit.
    """
    places = " or ".join(f"{_example(ending)} ({name})" for name, ending in endings.items())
    if output is None:
        raise UsageError(f"export needs a file to write; name it with --output {places}")
    path = Path(output)
    found = form or next((name for name, ending in endings.items() if ending == path.suffix), None)
    if found is None:
        raise UsageError(f"the ending of {path} names no format; give --output {places}")
    ending = endings[found]
    # A folder may be called model-1.0, but no model.onnx.
    if path.suffix != ending and (ending or path.suffix in endings.values()):
        wanted = f"--output {_example(ending)}, or leave --format out"
        raise UsageError(f"the ending of {path} is not that of --format {found}; give {wanted}")
    if ending and path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it with --output {path / ('model' + ending)}")
    return path, found


def _example(ending: str) -> str:
    return f"FILE{ending}" if ending else "FOLDER"


@contextlib.contextmanager
def complete(output: Path, replaces: Sequence[str] = ()) -> Iterator[Path]:
    """A path to write at, which gets the name `output` where the block ends without an error.

    A file of that name is replaced, and a folder that holds nothing but the names `replaces`. Raises UsageError where
    the place cannot be written, or has another folder.
    """
    if output.is_dir() and set(os.listdir(str(output))) - set(replaces):
        raise UsageError(f"{output} is a folder with other files; name a new one with --output")
    with writing(output, "choose another place with --output"), atomic_files.complete(output, True) as made:
        yield made


def exported_line(output: Path, title: str, batch_size: Optional[int]) -> str:
    """The line that names a file or folder that is complete, its size, its format and its batches."""
    files = [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else [output]
    size = sum(path.stat().st_size for path in files) / 1e6
    batch = f"batches of {batch_size}" if batch_size else "batches of any size"
    return f"exported: {output} ({size:.1f} MB, {title}, {batch})"


def check_installed(title: str, packages: Sequence[str]) -> None:
    """Raise UsageError where a package that this format needs is missing or cannot be imported."""
    missing = []
    for name in packages:
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError):  # the latter of a release for newer Pythons
            missing.append(name)
    if missing:
        install = f"python -m pip install {' '.join(packages)}"
        raise UsageError(f"{title} needs {' and '.join(missing)}, which cannot be imported; {install}")
