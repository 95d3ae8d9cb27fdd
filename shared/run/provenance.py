"""Where the numbers of a run come from: the commit, the command, the machine, the versions; and config.json."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from shared.recipes.base import Recipe
from shared.system import processor
from shared.system.atomic_files import write_atomic
from shared.text import in_utf8

_RECORDS = ("results", "benchmarks/records")  # in a checkout: what measurements write, which is no part of the program
VERSION = "0.1.0"  # read from here by pyproject.toml


def commit() -> Optional[str]:
    """The commit of the checkout that holds this package, with "-dirty" if tracked files differ; None outside one.

    Of an installed package the one that it was built from, which scripts/build_backend.py writes beside it.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "COMMIT").is_file():
        return (root / "COMMIT").read_text(encoding="utf-8") or None
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:  # installed somewhere inside another project's checkout
        return None
    head = _git(root, "rev-parse", "--verify", "HEAD")
    if not head:
        return None
    # A record that has been renewed does not make the program that measures the next one another.
    files = [".", *(f":(exclude){folder}" for folder in _RECORDS)]
    return head + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", *files) else "")


def _git(root: Path, *arguments: str) -> Optional[str]:
    # Inside a git hook GIT_DIR and its siblings name another repository than the one at root.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    git, nothing = ["git", "-C", str(root), *arguments], subprocess.DEVNULL
    try:
        output = subprocess.check_output(git, env=environment, timeout=20, stdin=nothing, stderr=nothing)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.decode("utf-8", "replace").strip()


def command() -> str:
    """The command line of this process, quoted for a shell."""
    return in_utf8(" ".join(shlex.quote(word) for word in [Path(sys.executable).name, *sys.argv]))


def machine() -> str:
    """The processor and how many of its cores this process may use, as in "AMD EPYC with avx2, 2 cores"."""
    cores, vectors = processor.cores(), processor.vectors()
    model = processor.name() + (f" with {vectors}" if vectors else "")
    return f"{model}, {cores} core{'' if cores == 1 else 's'}"


def versions(**packages: str) -> Dict[str, str]:
    """The versions that a run's numbers depend on: Python's and those of these packages, by name."""
    return {"python": platform.python_version(), **packages}


def write_config(
    folder: Path, recipe: Recipe, identity: Dict[str, Any], versions: Dict[str, str], **parts: Any
) -> None:
    """Write config.json, everything that decided what a run does as it was resolved, into its folder. Raises OSError.

    `identity` follows the command; `parts` are network, options, device, global_batch_size and data.
    """
    content = {
        "command": command(),
        **identity,
        "commit": commit(),
        "recipe": recipe.to_json(),
        "learning_rate": recipe.schedule.describe(),
        **parts,
        "machine": machine(),
        "versions": versions,
    }
    write_atomic(folder / "config.json", json.dumps(content, indent=2) + "\n")


def version_line(frameworks: Sequence[str] = ()) -> str:
    """What `--version` prints; of `frameworks` the first one installed, without importing it, which takes seconds."""
    head = commit()
    parts = [f"se-pnas-kit {VERSION}", *([f"commit {head}"] if head else []), f"Python {platform.python_version()}"]
    found = [f"{name} {version}" for name, version in zip(frameworks, map(installed, frameworks)) if version]
    return ", ".join([*parts, *found[:1]])


def installed(package: str) -> Optional[str]:
    """The version of a package that is installed, which is not imported; None where that cannot be told."""
    with contextlib.suppress(ImportError):  # of Python 3.7, which has no such module, or PackageNotFoundError
        from importlib import metadata

        return metadata.version(package)
    return None
