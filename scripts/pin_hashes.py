"""Adds to every pin of a requirement file the hashes of all files of that version in the package index.

    python -m pip install uv==0.13.9
    python scripts/pin_hashes.py [FILE ...]

With hashes pip installs exactly those files, wherever it gets them. Pins, markers and comments are kept; to update a
pin, change its version and run this again. The indexes are uv's default and the file's own `--extra-index-url`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Set, Tuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
OLDEST_PYTHON = "3.10"  # of the files with hashes
PINNED = ("cpu", "gpu", "beside-torch", "torch", "torch-cpu", "audit")
INDEX = "--extra-index-url "  # how a file names one beside the default

Pin = Tuple[str, str]  # name, version
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})\b")


def pin_of(line: str) -> Pin:
    """The pin in a line, with a normalized name; ("", "") if there is none."""
    match = _PIN.match(line)
    return (re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2)) if match else ("", "")


def without_hashes(text: str) -> str:
    """The file without hashes, one line per pin."""
    return re.sub(r"\s*\\\n\s*--hash=\S+", "", text)


def hashes_in(text: str) -> Dict[Pin, List[str]]:
    """The sorted hashes of each pin of a file."""
    found: Dict[Pin, Set[str]] = {}
    for line in text.replace("\\\n", "").splitlines():
        if _PIN.match(line):
            found.setdefault(pin_of(line), set()).update(_HASH.findall(line))
    return {pin: sorted(hashes) for pin, hashes in found.items()}


def with_hashes(text: str, hashes: Dict[Pin, List[str]]) -> str:
    """A file with these hashes added to its pins. Raises KeyError for a pin without hashes."""
    lines = []
    for line in text.splitlines():
        added = hashes[pin_of(line)] if _PIN.match(line) else []
        lines.append(" \\\n".join([line, *(f"    --hash={one}" for one in added)]) + "\n")
    return "".join(lines)


def look_up(text: str) -> Dict[Pin, List[str]]:
    """The hashes in the package index. Raises CalledProcessError, after uv's message, if uv fails."""
    lines = without_hashes(text).splitlines()
    pins = "".join(line + "\n" for line in lines if _PIN.match(line) or line.startswith(INDEX))
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    options = "--no-config --universal --no-deps --generate-hashes --no-header --no-annotate --quiet".split()
    options += ["--index-strategy", "unsafe-best-match", "--python-version", OLDEST_PYTHON]
    command = [uv, "pip", "compile", *options, "-"]
    done = subprocess.run(command, input=pins, stdout=subprocess.PIPE, check=True, universal_newlines=True)
    return hashes_in(done.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: " + ", ".join(PINNED))
    for path in parser.parse_args().files or [REQUIREMENTS / f"{name}.txt" for name in PINNED]:
        text = path.read_text(encoding="utf-8")
        path.write_text(with_hashes(without_hashes(text), look_up(text)), encoding="utf-8")
