"""Which Python has the packages of a contender. TensorFlow and timm usually live in two environments."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from shared.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
USUAL = (".venv", ".venv-torch")  # as tests/run.sh makes them
INSTALL = {"tensorflow": ".venv", "keras": ".venv", "jax": ".venv"}  # of which of them a package is a part
_PACKAGES = ("torch", "torchvision", "timm", "PIL", "tensorflow", "keras", "jax")
_ASK = (
    "import importlib.util, json, sys; sys.path.pop(0)\n"
    "print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name)]))"
)


class Environments:
    """Pythons, in order of preference, and the packages that each has."""

    def __init__(self, packages: Dict[str, Set[str]]) -> None:
        self._packages = packages

    @classmethod
    def found(cls, named: Optional[Sequence[str]] = None) -> Environments:
        """Those `named`, else the usual ones of the checkout and the running one. Raises UsageError for no Python."""
        usual = [str(ROOT / folder / "bin" / "python") for folder in USUAL]
        pythons = named or [*(path for path in usual if Path(path).is_file()), sys.executable]
        return cls({python: _packages_of(python) for python in pythons})

    def python(self, needs: Sequence[str]) -> Optional[str]:
        """The first one that has these packages."""
        return next((python for python, has in self._packages.items() if has.issuperset(needs)), None)

    def missing(self, needs: Sequence[str]) -> Tuple[str, ...]:
        """Of these packages, those that the Python lacks which lacks the fewest; none where one has all."""
        lacking: List[Tuple[str, ...]] = [
            tuple(name for name in needs if name not in has) for has in self._packages.values()
        ]
        return min(lacking, key=len)


def advice(missing: Sequence[str]) -> str:
    """What to install where packages are missing."""
    where = sorted({INSTALL.get(name, ".venv-torch") for name in missing})
    made = f"bash tests/run.sh makes {' and '.join(where)}"
    return f"no {' and no '.join(missing)}; {made}, or name a Python that has it with --python"


def _packages_of(python: str) -> Set[str]:
    try:
        command = [python, "-c", _ASK, *_PACKAGES]
        return set(json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=120)))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UsageError(f"{python} is no Python that can be started; name others with --python") from error
