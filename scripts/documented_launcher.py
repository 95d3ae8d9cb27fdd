"""The program behind every documented launcher: HALF LAUNCHER [options]. `scripts/documented_launcher.sh` starts it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder

from shared.cli.entry_point import run  # noqa: E402
from shared.launchers.launch import launch  # noqa: E402
from shared.launchers.plan import Plan, make_plan  # noqa: E402


def plan(half: str, name: str, argv: List[str]) -> Plan:
    """What the launcher would do. Raises as `shared.launchers.plan.make_plan`. Imports no framework."""
    options = importlib.import_module(f"{half}.options")
    return make_plan(ROOT / half, options.parser(), name, argv)


if __name__ == "__main__":
    half, name, *argv = sys.argv[1:]
    sys.exit(run(lambda: plan(half, name, argv), {"launch": launch}))
