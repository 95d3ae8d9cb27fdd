"""When a mode began and how long it takes: of a training that is resumed, in all of its sittings."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from shared.run.log import now


@dataclass(frozen=True)
class Duration:
    """Made where a mode begins. What a sitting did after its last checkpoint is done again and counts once."""

    started: str = field(default_factory=now)  # the first sitting
    earlier: float = 0.0  # seconds of the sittings before this one, up to the checkpoint
    begun_on: Tuple[str, ...] = ()  # the hardware of earlier sittings, where it was another
    begin: float = field(default_factory=time.monotonic)  # this sitting

    def resumed(self, state: Mapping[str, Any], moved_from: Optional[str] = None) -> Duration:
        """That of the run whose checkpoint has this state, which an older version wrote with its timed steps alone.

        `moved_from` is its hardware if that is another.
        """
        before = state.get("duration", {"seconds": state["clock"]["seconds"]})
        begun_on = (*before.get("begun_on", ()), *([moved_from] if moved_from else []))
        started = before.get("started", self.started)
        return dataclasses.replace(self, started=started, earlier=before["seconds"], begun_on=begun_on)

    def record(self) -> Dict[str, Any]:
        """The parts `started`, `seconds` and `begun_on` of a record, and of a checkpoint's state, of now."""
        seconds = self.earlier + time.monotonic() - self.begin
        begun_on = {"begun_on": list(self.begun_on)} if self.begun_on else {}
        return {"started": self.started, "seconds": seconds, **begun_on}
