"""Puts behind every pin of a requirement file the hashes of all files that the package index has of that version.

    python -m pip install uv==0.13.9
    python scripts/pin_hashes.py [FILE ...]

With hashes in a file pip installs nothing else than those very files, from wherever it gets them. Pins, markers and
comments stay as they are; to move a pin, change its version and run this again. The index is uv's default one: a wheel
that this machine's pip would find elsewhere is not among them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
OLDEST_PYTHON = "3.10"  # of the files with hashes
PINNED = ("cpu", "gpu", "beside-torch", "torch", "audit")

Pin = Tuple[str, str]  # name, version
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})\b")


def pin_of(line: str) -> Pin:
    """What a line pins, its name as the index spells it; ("", "") where it is no pin."""
    match = _PIN.match(line)
    return (re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2)) if match else ("", "")


def without_hashes(text: str) -> str:
    """The file without hashes: one line a pin."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("--hash=")]
    return "".join(re.sub(r"\s*\\$", "", line) + "\n" for line in lines)


def hashes_in(text: str) -> Dict[Pin, List[str]]:
    """The hashes behind each pin of a file, sorted."""
    found: Dict[Pin, List[str]] = {}
    pin = ("", "")
    for line in text.splitlines():
        pin = pin_of(line) if _PIN.match(line) else pin
        found.setdefault(pin, []).extend(_HASH.findall(line))
    found.pop(("", ""), None)
    return {pin: sorted(set(hashes)) for pin, hashes in found.items()}


def with_hashes(text: str, hashes: Dict[Pin, List[str]]) -> str:
    """A file without hashes, and these behind its pins. Raises KeyError for a pin that has none."""
    lines = []
    for line in text.splitlines():
        behind = hashes[pin_of(line)] if _PIN.match(line) else []
        lines.append(" \\\n".join([line, *(f"    --hash={one}" for one in behind)]) + "\n")
    return "".join(lines)


def look_up(text: str) -> Dict[Pin, List[str]]:
    """What the index says. Raises CalledProcessError where uv cannot tell, which then has said why."""
    pins = "".join(line + "\n" for line in without_hashes(text).splitlines() if _PIN.match(line))
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    command = [
        uv,
        "pip",
        "compile",
        "--no-config",
        "--universal",
        "--no-deps",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--quiet",
        "--python-version",
        OLDEST_PYTHON,
        "-",
    ]
    done = subprocess.run(command, input=pins, stdout=subprocess.PIPE, check=True, universal_newlines=True)
    return hashes_in(done.stdout)


def main(words: Sequence[str]) -> int:
    """Rewrite the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: " + ", ".join(PINNED))
    for path in parser.parse_args(words).files or [REQUIREMENTS / f"{name}.txt" for name in PINNED]:
        text = path.read_text(encoding="utf-8")
        path.write_text(with_hashes(without_hashes(text), look_up(text)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
