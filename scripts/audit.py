"""Checks the pinned requirements for known vulnerabilities with pip-audit, in whose Python it runs.

    python scripts/audit.py

A finding is a failure unless requirements/accepted.txt lists it with a reason. The environments of old TensorFlow
releases, which are for tests alone, are skipped.

Exit status: 0 no findings; 1 findings, or pip-audit failed; 3 the vulnerability service could not be reached. The last
line says which.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
ACCEPTED = REQUIREMENTS / "accepted.txt"
LEFT_OUT = ("accepted", "tf115", "tf26")
CLEAN, FOUND, UNKNOWN = 0, 1, 3
_UNREACHABLE = ("could not connect", "connection", "timed out", "name resolution", "max retries")


class Accepted(NamedTuple):
    """A finding that is not a failure."""

    package: str
    date: datetime.date
    reason: str


def accepted_in(text: str) -> Dict[str, Accepted]:
    """The accepted findings by their identifiers. Raises ValueError for a line without package, date or reason."""
    found = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(None, 3)
        if len(parts) < 4:
            raise ValueError(f"{ACCEPTED.name}: {line!r} is not: identifier, package, date, reason")
        date = datetime.datetime.strptime(parts[2], "%Y-%m-%d").date()
        found[parts[0]] = Accepted(parts[1], date, parts[3])
    return found


def judged(dependencies: Iterable[Dict[str, Any]], accepted: Dict[str, Accepted]) -> Tuple[List[str], int]:
    """The report on pip-audit's `dependencies` of all files, and the exit status."""
    unaudited, audited, bad, fine = [], set(), [], []
    for one in dependencies:
        if "skip_reason" in one:
            unaudited.append(one["name"])
            continue
        audited.add(one["name"])
        for finding in one["vulns"]:
            names = [finding["id"], *finding.get("aliases", ())]
            known = next((accepted[name] for name in names if name in accepted), None)
            where = f"{one['name']} {one['version']}: {', '.join(names)}"
            if known is not None and known.package == one["name"]:
                fine.append(f"accepted since {known.date}: {where}: {known.reason}")
            else:
                bad.append(f"{where}; fixed in {', '.join(finding['fix_versions']) or 'no version'}")
    if not audited:
        return [f"the service knows none of the {len(set(unaudited))} packages, so nothing is known"], UNKNOWN
    lines = sorted(set(fine)) + sorted(set(bad))
    lines += [f"{name} could not be looked up" for name in sorted(set(unaudited) - audited)]
    failed = bool(bad or set(unaudited) - audited)
    lines.append(f"{len(audited)} packages looked up, {len(set(bad))} findings, {len(set(fine))} accepted")
    return lines, FOUND if failed else CLEAN


def ask(path: Path) -> Tuple[List[Dict[str, Any]], str]:
    """pip-audit's dependencies of a requirement file, or its error message."""
    options = "--no-deps --disable-pip --format json --timeout 20 --progress-spinner off --requirement".split()
    command = [sys.executable, "-m", "pip_audit", *options, str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], " ".join(done.stderr.split()) or f"pip-audit ended with status {done.returncode}"


def audit(paths: Sequence[Path]) -> Tuple[List[str], int]:
    """The report on these files, and the exit status."""
    dependencies: List[Dict[str, Any]] = []
    for path in paths:
        found, error = ask(path)
        if error:
            unreachable = any(text in error.lower() for text in _UNREACHABLE)
            return [f"{path.name}: {error[-300:]}"], UNKNOWN if unreachable else FOUND
        dependencies += found
        if all("skip_reason" in one for one in dependencies):  # the service knows none of them
            break
    return judged(dependencies, accepted_in(ACCEPTED.read_text(encoding="utf-8")))


def main() -> int:
    """Audit all files and print the report."""
    lines, status = audit([path for path in sorted(REQUIREMENTS.glob("*.txt")) if path.stem not in LEFT_OUT])
    sys.stdout.write("\n".join(lines) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
