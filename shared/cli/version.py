"""Which version of the kit this is, and of what it runs on: what `--version` prints."""

from __future__ import annotations

import platform
from typing import Optional, Sequence

from shared.results.record import commit

VERSION = "0.1.0"  # pyproject.toml's


def version_line(frameworks: Sequence[str] = ()) -> str:
    """The kit's version, the checkout's commit where it is one, Python's, and that of the first framework installed.

    `frameworks` are names of packages. None is imported, which would take seconds.
    """
    parts = [f"se-pnas-kit {VERSION}"]
    made_of = commit()
    parts += [f"commit {made_of}"] if made_of else []
    parts.append(f"Python {platform.python_version()}")
    found = [(name, version) for name, version in ((name, _installed(name)) for name in frameworks) if version]
    parts += ["{} {}".format(*found[0])] if found else []
    return ", ".join(parts)


def _installed(package: str) -> Optional[str]:
    try:
        from importlib import metadata  # Python 3.8 and newer
    except ImportError:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
