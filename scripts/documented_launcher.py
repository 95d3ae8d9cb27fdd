"""The program behind every documented launcher: HALF LAUNCHER [options]. `scripts/documented_launcher.sh` starts it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # instead of this folder

from shared.cli.arguments import Parser  # noqa: E402
from shared.cli.entry_point import run  # noqa: E402
from shared.launchers.launch import launch  # noqa: E402
from shared.launchers.plan import Plan, make_plan  # noqa: E402


def main(half: str, name: str, argv: List[str]) -> int:
    """Run the launcher and return the exit status; see `shared.cli.entry_point`."""
    return run(lambda: plan(half, name, argv), {"launch": launch})


def plan(half: str, name: str, argv: List[str]) -> Plan:
    """What the launcher would do. Raises as `shared.launchers.plan.make_plan`."""
    return make_plan(ROOT / half, _parser(half), name, argv)


def _parser(half: str) -> Parser:
    """The parser of the half's main.py. Imports no framework."""
    parser: Parser = importlib.import_module(f"{half}.options").parser()
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
