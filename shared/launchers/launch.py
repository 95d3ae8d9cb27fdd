"""Runs a launcher's plan: moves earlier files aside, runs the command and writes the result files."""

from __future__ import annotations

import platform
import signal
import sys
import time
from pathlib import Path
from typing import List

from shared.errors import UsageError
from shared.launchers.placement import check_adapter
from shared.launchers.plan import Plan
from shared.launchers.process import Tee, run
from shared.launchers.result_file import case_name, console_lines, fields, logged_losses, text
from shared.results.record import read_record
from shared.run.folder import move_to_previous
from shared.system.atomic_files import write_atomic
from shared.system.signals import Interrupts

RESULTS = ("*_bs*.log", "train_*_loss.txt")  # in test/output/<device-id>, besides the log


def launch(plan: Plan, interrupts: Interrupts) -> None:
    """Run the plan's command; write the result files if it exits with status 0. Signals are forwarded to it.

    Raises SystemExit with the status otherwise, and UsageError if the NPU's package is missing, the output folder
    cannot be written or the command was killed.
    """
    begin = time.time()
    check_adapter(plan.adapters)
    _make_folder(plan.output)
    aside = move_to_previous(plan.output, [plan.log.name, *(RESULTS if plan.first else ())])
    with Tee(plan.log, sys.stdout, sys.stderr) as tee:
        if aside:
            tee.lines([f"note: what an earlier launcher left in {plan.output} is now in {aside}"])
        interrupts.raise_if_requested()
        status = run(plan.command, plan.exported, tee, interrupts)
        if status == 128 + signal.SIGKILL:
            raise UsageError(f"main.py was killed (out of memory?); continue with --resume={plan.run}, or start again")
        if status:
            raise SystemExit(status)
        tee.lines(
            _write_results(plan, time.time() - begin)
            if plan.first
            else ["note: the results are where --node_rank is 0"]
        )


def _write_results(plan: Plan, seconds: float) -> List[str]:
    """Write <CaseName>.log and train_<CaseName>_loss.txt; return the lines for the console."""
    record = read_record(plan.run / "result.json")
    suffix = plan.launcher.suffixes.get(record["network"], plan.launcher.suffix)
    losses = [] if record["mode"] == "evaluate" else logged_losses(plan.run / "events.jsonl")
    case = case_name(record, suffix)
    values = fields(record, losses, suffix, platform.machine(), seconds)
    if losses:
        write_atomic(plan.output / f"train_{case}_loss.txt", "".join(f"{loss:.6f}\n" for loss in losses))
    write_atomic(plan.output / f"{case}.log", text(values))
    return console_lines(values)


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {output} ({error.strerror or error}); check its permissions") from error
