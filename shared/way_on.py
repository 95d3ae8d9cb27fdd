"""Faults from outside that end a run in the middle: the error of one says how the run goes on."""

from __future__ import annotations

from pathlib import Path

from shared.errors import UsageError


class RunEnded(UsageError):
    """Something that a run needs is gone; the run can go on from its last checkpoint."""

    def in_run(self, folder: Path) -> RunEnded:
        """The same error of a run in this folder."""
        if (folder / "checkpoints" / "last").exists():
            return type(self)(f"{self}; continue exactly with --resume {folder}")
        return type(self)(f"{self}; then start again: the run has no checkpoint yet")
