"""Checks the pinned requirements for known vulnerabilities with pip-audit, in whose Python it runs.

    python scripts/audit.py

A finding is a failure unless requirements/accepted.txt lists it with a reason. The environments of old TensorFlow
releases, which are for tests alone, are skipped.

Exit status: 0 no findings; 1 findings, or pip-audit failed; 3 the vulnerability service could not be reached. The last
line says which.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
LEFT_OUT = ("accepted", "tf115", "tf26")
CLEAN, FOUND, UNKNOWN = 0, 1, 3
_OPTIONS = "--no-deps --disable-pip --format json --timeout 20 --progress-spinner off --requirement".split()
_UNREACHABLE = ("could not connect", "connection", "timed out", "name resolution", "max retries")

Accepted = Dict[Tuple[str, str], str]  # identifier and package -> date and reason


def accepted_in(text: str) -> Accepted:
    """The accepted findings. Raises ValueError for a line without package, date or reason."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    parts = [line.split(None, 3) for line in lines]
    return {(identifier, package): f"{date}: {reason}" for identifier, package, date, reason in parts}


def judged(dependencies: Iterable[Dict[str, Any]], accepted: Accepted) -> Tuple[List[str], int]:
    """The report on pip-audit's `dependencies` of all files, and the exit status."""
    skipped: Set[str] = set()
    audited: Set[str] = set()
    bad: Set[str] = set()
    fine: Set[str] = set()
    for one in dependencies:
        (skipped if "skip_reason" in one else audited).add(one["name"])
        for finding in one.get("vulns", ()):
            names = [finding["id"], *finding.get("aliases", ())]
            reasons = [accepted[name, one["name"]] for name in names if (name, one["name"]) in accepted]
            where = f"{one['name']} {one['version']}: {', '.join(names)}"
            fine.update(f"{where}; accepted since {reason}" for reason in reasons)
            if not reasons:
                bad.add(f"{where}; fixed in {', '.join(finding['fix_versions']) or 'no version'}")
    if not audited:
        return [f"the service knows none of the {len(skipped)} packages, so nothing is known"], UNKNOWN
    unknown = [f"{name} could not be looked up" for name in sorted(skipped - audited)]
    counts = f"{len(audited)} packages looked up, {len(bad)} findings, {len(fine)} accepted"
    return [*sorted(fine), *sorted(bad), *unknown, counts], FOUND if bad or unknown else CLEAN


def audit(paths: Sequence[Path]) -> Tuple[List[str], int]:
    """The report on these files, and the exit status."""
    dependencies: List[Dict[str, Any]] = []
    for path in paths:
        command = [sys.executable, "-m", "pip_audit", *_OPTIONS, str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        try:
            dependencies += json.loads(done.stdout)["dependencies"]
        except ValueError:
            error = " ".join(done.stderr.split()) or f"pip-audit ended with status {done.returncode}"
            unreachable = any(text in error.lower() for text in _UNREACHABLE)
            return [f"{path.name}: {error[-300:]}"], UNKNOWN if unreachable else FOUND
        if all("skip_reason" in one for one in dependencies):  # the service knows none of them
            break
    return judged(dependencies, accepted_in((REQUIREMENTS / "accepted.txt").read_text(encoding="utf-8")))


if __name__ == "__main__":
    lines, status = audit([path for path in sorted(REQUIREMENTS.glob("*.txt")) if path.stem not in LEFT_OUT])
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(status)
