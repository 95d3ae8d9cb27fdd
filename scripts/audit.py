"""Looks the pins up among the known vulnerabilities with pip-audit, whose Python this runs in.

    python scripts/audit.py

Findings are failures, but for those that requirements/accepted.txt names with a reason. The environments of old
TensorFlow releases are left out: what is known of those is no news, and nobody is to train with them.

Exit status: 0 nothing was found; 1 something was, or pip-audit failed; 3 the service could not be asked, so nothing is
known. The last line says which.
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
    """A finding that is no failure."""

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
    """What to say about pip-audit's `dependencies` of all files together, and the exit status."""
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
                bad.append(f"{where}; mended in {', '.join(finding['fix_versions']) or 'no version'}")
    if not audited:
        return [f"the service knows none of the {len(set(unaudited))} packages, so nothing is known"], UNKNOWN
    lines = sorted(set(fine)) + sorted(set(bad))
    lines += [f"{name} could not be looked up" for name in sorted(set(unaudited) - audited)]
    failed = bool(bad or set(unaudited) - audited)
    lines.append(f"{len(audited)} packages looked up, {len(set(bad))} findings, {len(set(fine))} accepted")
    return lines, FOUND if failed else CLEAN


def ask(path: Path) -> Tuple[List[Dict[str, Any]], str]:
    """pip-audit's dependencies of a requirement file, and what it has said where it gives none."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--timeout",
        "20",
        "--progress-spinner",
        "off",
        "--requirement",
        str(path),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], " ".join(done.stderr.split()) or f"pip-audit ended with status {done.returncode}"


def audit(paths: Sequence[Path]) -> Tuple[List[str], int]:
    """What to say about these files, and the exit status."""
    dependencies: List[Dict[str, Any]] = []
    for path in paths:
        found, error = ask(path)
        if error:
            unreachable = any(words in error.lower() for words in _UNREACHABLE)
            return [f"{path.name}: {error[-300:]}"], UNKNOWN if unreachable else FOUND
        dependencies += found
        if all("skip_reason" in one for one in dependencies):  # one file is enough to know that nobody answers
            break
    return judged(dependencies, accepted_in(ACCEPTED.read_text(encoding="utf-8")))


def main() -> int:
    """Ask, and say what came of it."""
    lines, status = audit([path for path in sorted(REQUIREMENTS.glob("*.txt")) if path.stem not in LEFT_OUT])
    sys.stdout.write("\n".join(lines) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
