"""The findings of a check of a data set: faults and remarks, printed up to a limit per kind, and counted."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

from shared.errors import DataError, one_line
from shared.imagenet.decode import Finding
from shared.imagenet.layout import counted

_SHOWN = 20  # lines of one kind


class Report:
    """Passes each finding to `say`, up to 20 of a kind, and counts all."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.faults = 0
        self.first = ""
        self._kinds: Dict[Tuple[bool, str], int] = {}

    def layout(self, line: str) -> None:
        """A fault of folders or shards, "what is wrong; what to do"."""
        self.say(one_line(f"fault: {line}"))
        self._count(line.split("; ")[0])

    def image(self, name: str, finding: Finding) -> None:
        """A fault or a remark about one image."""
        key = (finding.is_fault, finding.kind)
        self._kinds[key] = self._kinds.get(key, 0) + 1
        detail = f"{finding.kind} ({finding.detail})" if finding.detail else finding.kind
        if self._kinds[key] <= _SHOWN:
            self.say(one_line(f"{'fault' if finding.is_fault else 'remark'}: {name}: {detail}"))
        if finding.is_fault:
            self._count(f"{name}: {detail}")

    def close(self, name: str) -> None:
        """Say how many findings were not printed. Raises DataError about the set `name` if there was a fault."""
        for (is_fault, kind), number in sorted(self._kinds.items()):
            if number > _SHOWN:
                self.say(f"{'fault' if is_fault else 'remark'}: ... and {number - _SHOWN:,} more: {kind}")
        if self.faults:
            raise DataError(
                f"{name}: {counted(self.faults, 'fault')}, the first: {self.first}; mend what is named above"
            )

    def _count(self, what: str) -> None:
        self.faults += 1
        self.first = self.first or what
