"""How long a run trains, and how often it logs and saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Plan:
    """Counted in steps, but for `epochs`."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    print_freq: int
    save_steps: Optional[int]
    warm_up_steps: int  # left out of throughput
    print_by_epoch: bool = True  # whether print_freq counts the steps of the epoch, else those of the run
    roofline_seconds: Optional[float] = None  # the shortest possible step, where the device's limits are known
