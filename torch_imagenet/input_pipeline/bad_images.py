"""Images that could not be read: each is reported and counted once per run."""

from __future__ import annotations

from typing import Iterable, List, Sequence

from shared.run.log import RunLog
from torch_imagenet.distributed.process_group import ALONE, Ranks


class BadImages:
    """The bad images of a run, each as the text "name (reason)" of the input pipeline."""

    def __init__(self, log: RunLog, known: Iterable[str] = (), ranks: Ranks = ALONE) -> None:
        self._log = log
        self._known = set(known)
        self._ranks = ranks

    @property
    def count(self) -> int:
        """The number of bad images."""
        return len(self._known)

    def note(self, bad: Sequence[str]) -> None:
        """Log the images that are new. Other ranks also send them to rank 0, which keeps the log."""
        for text in bad:
            if text not in self._known:
                self._known.add(text)
                if not self._ranks.is_first:
                    self._ranks.send_to_rank0(text)
                self._log.line(f"bad image left out: {text}")

    def receive(self) -> None:
        """Name what the other processes have sent since the last call."""
        self.note(self._ranks.receive())

    def to_state(self) -> List[str]:
        """The texts, sorted, for a checkpoint."""
        return sorted(self._known)
