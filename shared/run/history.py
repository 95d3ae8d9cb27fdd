"""When a mode began, how long it takes, and by what: of a training that is resumed, in all of its sittings."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from shared.run.clock import Clock
from shared.run.log import now
from shared.run.provenance import commit
from shared.run.resumption import changes

_HARDWARE = ("device", "threads", "instructions")  # in the `arithmetic` of a state


@dataclass(frozen=True)
class History:
    """Made where a mode begins. What a sitting did after its last checkpoint is done again and counts once."""

    started: str = field(default_factory=now)  # the first sitting
    earlier: float = 0.0  # seconds of the sittings before this one, up to the checkpoint
    begun_on: Tuple[str, ...] = ()  # the hardware of earlier sittings, where it was another
    earlier_commits: Tuple[str, ...] = ()  # of earlier sittings, where they were others
    commit: Optional[str] = field(default_factory=commit)  # of what runs; the checkout may be another before it ends
    begin: float = field(default_factory=time.monotonic)  # this sitting

    def continued(
        self, state: Optional[Dict[str, Any]], arithmetic: Mapping[str, Any]
    ) -> Tuple[Optional[Dict[str, Any]], History]:
        """The state of a run as it goes on here, None where it begins, and the run's history.

        Where the state's `arithmetic` is another, so may be the speed, and throughput is measured anew. A checkpoint of
        an older version has the seconds of its timed steps alone.
        """
        if state is None:
            return None, self
        before = state.get("arithmetic") or {}
        changed = changes(before, arithmetic)
        so_far = {"started": self.started, "seconds": state["clock"]["seconds"], **state.get("history", {})}
        begun_on = tuple(so_far.get("begun_on", ()))
        if not changed.keys().isdisjoint(_HARDWARE):
            hardware = ", ".join(f"{name} {before[name]}" for name in _HARDWARE if before.get(name))
            begun_on = (*begun_on, hardware)
        commits = tuple(so_far.get("earlier_commits", ()))
        if so_far.get("commit") not in (None, self.commit):
            commits = (*commits, so_far["commit"])
        history = dataclasses.replace(
            self, started=so_far["started"], earlier=so_far["seconds"], begun_on=begun_on, earlier_commits=commits
        )
        return dict(state, clock=Clock().to_state()) if changed else state, history

    def record(self) -> Dict[str, Any]:
        """Its parts of a record, and the entry `history` of a checkpoint's state, of now; without what is empty."""
        parts = {
            "commit": self.commit,
            "started": self.started,
            "seconds": self.earlier + time.monotonic() - self.begin,
            "begun_on": list(self.begun_on),
            "earlier_commits": list(self.earlier_commits),
        }
        return {name: value for name, value in parts.items() if value or name == "seconds"}
