"""When a mode began and how long it takes: of a training that is resumed, in all of its sittings."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping

from shared.run.log import now


@dataclass(frozen=True)
class Duration:
    """Made where a mode begins. What a sitting did after its last checkpoint is done again and counts once."""

    started: str = field(default_factory=now)  # the first sitting
    earlier: float = 0.0  # seconds of the sittings before this one, up to the checkpoint
    begin: float = field(default_factory=time.monotonic)  # this sitting

    def resumed(self, state: Mapping[str, Any]) -> Duration:
        """That of the run whose checkpoint has this state; one of an older version has its timed steps alone."""
        before = state.get("duration", {"seconds": state["clock"]["seconds"]})
        return dataclasses.replace(self, started=before.get("started", self.started), earlier=before["seconds"])

    def record(self) -> Dict[str, Any]:
        """The parts `started` and `seconds` of a record, and of a checkpoint's state, of now."""
        return {"started": self.started, "seconds": self.earlier + time.monotonic() - self.begin}
