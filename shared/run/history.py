"""When a mode began, how long it takes, and by what: of a training that is resumed, in all of its sittings."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from shared.run.log import now
from shared.run.provenance import commit
from shared.run.resumption import changes_of_speed

_HARDWARE = ("device", "threads", "instructions", "machine")  # in `arithmetic` and `speed` of a state


@dataclass(frozen=True)
class History:
    """Made where a mode begins. What a sitting did after its last checkpoint is done again and counts once."""

    started: str = field(default_factory=now)  # the first sitting
    earlier: float = 0.0  # seconds of the sittings before this one, up to the checkpoint
    begun_on: Tuple[str, ...] = ()  # the hardware of earlier sittings, where it was another
    earlier_commits: Tuple[str, ...] = ()  # of earlier sittings, where they were others
    timed_anew: bool = False  # so that throughput is of what computes now
    commit: Optional[str] = field(default_factory=commit)  # of what runs; the checkout may be another before it ends
    begin: float = field(default_factory=time.monotonic)  # this sitting

    def continued(self, state: Optional[Dict[str, Any]], constant: Mapping[str, Any]) -> History:
        """That of a run which goes on here from a state, or begins; `constant` is what a checkpoint says in any case.

        A checkpoint of an older version has the seconds of its timed steps alone, and not when the run began.
        """
        if state is None:
            return self
        before = {**(state.get("arithmetic") or {}), **state.get("speed", {})}
        changed = changes_of_speed(state, constant)
        so_far = {"started": self.started, "seconds": state["clock"]["seconds"], **state.get("history", {})}
        begun_on, commits = list(so_far.get("begun_on", ())), list(so_far.get("earlier_commits", ()))
        if not changed.keys().isdisjoint(_HARDWARE):
            begun_on.append(", ".join(f"{name} {before[name]}" for name in _HARDWARE if before.get(name)))
        if so_far.get("commit") not in (None, self.commit):
            commits.append(so_far["commit"])
        return dataclasses.replace(
            self,
            started=so_far["started"],
            earlier=so_far["seconds"],
            begun_on=tuple(filter(None, begun_on)),
            earlier_commits=tuple(commits),
            timed_anew=bool(changed),
        )

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
