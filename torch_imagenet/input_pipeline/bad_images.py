"""Images that could not be read: each is named once and counted once, whoever meets it however often."""

from __future__ import annotations

from typing import Iterable, List, Sequence

from shared.run.log import RunLog
from torch_imagenet.distributed.process_group import ALONE, Ranks


class BadImages:
    """The bad images of a run, by what the input pipeline says of them ("name (reason)")."""

    def __init__(self, log: RunLog, known: Iterable[str] = (), ranks: Ranks = ALONE) -> None:
        self._log = log
        self._known = set(known)
        self._ranks = ranks

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._known)

    def note(self, bad: Sequence[str]) -> None:
        """Name those that have not been named before; a process that does not write tells the first one."""
        for text in bad:
            if text not in self._known:
                self._known.add(text)
                if not self._ranks.is_first:
                    self._ranks.send_to_first(text)
                self._log.line(f"bad image left out: {text}")

    def to_state(self) -> List[str]:
        """For a checkpoint."""
        return sorted(self._known)
