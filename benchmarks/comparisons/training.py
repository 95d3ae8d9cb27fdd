"""One training of a side: a process of the real program that goes on where an earlier one was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from benchmarks.comparisons.plan import Comparison, Side
from benchmarks.environments import ROOT
from shared.checkpoint.folder import newest
from shared.errors import UsageError
from shared.results.record import read_record
from shared.system.processes import followed
from shared.system.signals import Interrupts, Stopped
from shared.system.strict_json import json_object

POLL = 1.0  # seconds between two looks at the clock
_ASKED = (143, -15)  # exit statuses of a training that was asked to end: with a checkpoint; while it still started


@dataclass(frozen=True)
class Training:
    """A side's training with one seed, and where its files are."""

    comparison: Comparison
    side: Side
    seed: int
    folder: Path
    extra: Tuple[str, ...]  # options that are no part of the recipe, as the data set
    settings: Mapping[str, str]  # those whose value a finished training must have had: device, layers

    @property
    def options(self) -> Tuple[str, ...]:
        """What decides what is trained, as the program is told it."""
        return (*self.side.options, f"--seed={self.seed}")

    def command(self, python: str) -> List[str]:
        """The command that begins it, or goes on with it."""
        begun = newest(self.folder) is not None
        where = f"--resume={self.folder}" if begun else f"--output-dir={self.folder}"
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        return [python, str(ROOT / self.side.program), "train", *self.options, *settings, *self.extra, where]

    def result(self) -> Optional[Dict[str, Any]]:
        """The run's record; None while it is not finished. Raises UsageError where it is one of other settings."""
        if not (self.folder / "result.json").is_file():
            return None
        found = read_record(self.folder / "result.json")
        planned = self.side.recipe.override(seed=self.seed).to_json()
        ran = json_object(self.folder / "config.json")
        if ran.get("recipe") != json.loads(json.dumps(planned)):
            raise UsageError(f"{self.folder} holds a training by another recipe; move it away, or choose other --runs")
        for name, value in self.settings.items():
            if value != (ran.get("options", {}).get(name) or value):
                what = f"{self.folder} holds a training with {ran['options'][name]} for --{name} {value}"
                raise UsageError(f"{what}; move it away, or choose other --runs")
        return found


def train(training: Training, python: str, deadline: float, interrupts: Interrupts) -> Optional[Dict[str, Any]]:
    """Run the training to its end and return its record; None where it was stopped at the deadline.

    `deadline` is in seconds of the monotonic clock. Its output is this process's. Raises UsageError where it fails,
    Stopped after a signal, which it is sent too: it finishes its step and writes a checkpoint first.
    """
    found = training.result()
    if found is not None:
        return found
    received: List[int] = []
    process = subprocess.Popen(
        training.command(python),
        stdin=subprocess.DEVNULL,
        env={**os.environ, **followed()},
        start_new_session=True,  # Ctrl-C is for this process, which hands it on
    )

    def hand_on(number: int) -> None:
        received.append(number)
        process.send_signal(number)

    try:
        with interrupts.forwarded(hand_on):
            in_time = _wait(process, deadline)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if received:
        raise Stopped(received[0])
    if process.returncode == 0:
        return training.result()
    if not in_time and process.returncode in _ASKED:
        return None
    what = f"the training {training.folder.name} ended with status {process.returncode}"
    raise UsageError(f"{what}, for the reason above; mend that and give the same command again")


def _wait(process: Any, deadline: float) -> bool:
    """Wait for its end, and ask it to end at the deadline; whether it ended by itself."""
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
            return True
    process.terminate()
    process.wait()
    return False
