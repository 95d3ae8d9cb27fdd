"""Starts one rank per NPU of this machine: this program, with the environment variables of the rank."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence

from shared.errors import UsageError
from shared.run.log import RunLog
from shared.system.processes import followed
from shared.system.signals import Interrupts, Stopped
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import check_count
from tf_seresnet.devices.npu import environment as npu_environment

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 5.0  # for the other ranks after one has failed: most of them wait for it
_ERROR = "error: "

Environment = Dict[str, Optional[str]]  # None unsets a variable


def rank_environments(number: Optional[int]) -> List[Environment]:
    """Environment variables to add for each of `number` ranks; None: as many as there are NPUs.

    With RANK_TABLE_FILE these are the table's ranks and devices, whose number must be `number`; otherwise the CM_
    variables of a single machine, of which those that are set already are kept. Raises UsageError.
    """
    table, chief = npu_environment.rendezvous()
    job = {"JOB_ID": os.environ.get("JOB_ID") or npu_environment.JOB_ID}
    if table:
        devices = npu_environment.read_rank_table(table)
        if number not in (None, len(devices)):
            raise UsageError(f"--num-devices {number}, but {table} lists {len(devices)} devices; make them agree")
        return [
            {"RANK_ID": str(rank), "RANK_SIZE": str(len(devices)), "ASCEND_DEVICE_ID": str(device), **job}
            for rank, device in sorted(devices.items())
        ]
    size = _number_of_npus(number)
    common = {**_chief_variables(size), **{name: os.environ[name] for name in chief}}
    if common["CM_WORKER_SIZE"] != str(size):
        raise UsageError(
            f"--num-devices {size}, but CM_WORKER_SIZE is {common['CM_WORKER_SIZE']}; this starts the ranks of one"
            " machine, so make them agree, or start each rank yourself"
        )
    alone = {"RANK_ID": None, "RANK_SIZE": None}  # the originals' launchers set them for a single device
    return [{**common, **alone, "ASCEND_DEVICE_ID": str(device), **job} for device in range(size)]


def _number_of_npus(requested: Optional[int]) -> int:
    """The requested number, or that of all NPUs. Raises UsageError if there are fewer, or if nobody knows."""
    available = probe.npu_count()
    if requested is None and not available:
        raise UsageError("the driver lists no NPU (/dev/davinci0 and so on); add their number with --num-devices N")
    if available:
        check_count("npu", requested, available)
    return requested or available


def _chief_variables(size: int) -> Dict[str, str]:
    own = _own_address()
    return {
        "CM_CHIEF_IP": own,
        "CM_CHIEF_PORT": str(_free_port()),
        "CM_CHIEF_DEVICE": "0",
        "CM_WORKER_SIZE": str(size),
        "CM_WORKER_IP": own,
    }


def run_ranks(command: Sequence[str], ranks: Sequence[Environment], interrupts: Interrupts) -> None:
    """Run `command` once per environment in `ranks`, added to this process's, and wait until all have ended.

    Rank 0 shares the output of this process. Of the other ranks only standard error is shown, each line with its rank.
    SIGINT and SIGTERM are passed on; Stopped is raised when all ranks have ended. If one rank fails, the others are
    ended, and its failure is raised: UsageError with its error line, or SystemExit with its status.
    """
    with RunLog(None, console=sys.stderr) as log, _running(command, ranks, log) as processes:
        passed_on = False
        waiting = list(processes)
        while waiting:
            if interrupts.requested is not None and not passed_on:
                passed_on = True
                for process in waiting:
                    process.send(interrupts.requested)
            ended = [process for process in waiting if process.status() is not None]
            waiting = [process for process in waiting if process not in ended]
            failed = [process for process in ended if process.status()]
            if failed and not passed_on:
                _end(waiting)
                failed[0].fail(log)
            time.sleep(_POLL_SECONDS if waiting else 0)
        if passed_on and interrupts.requested is not None:
            raise Stopped(interrupts.requested)


@dataclass
class _Process:
    rank: int
    popen: Any
    reader: Optional[threading.Thread] = None
    errors: List[str] = field(default_factory=list)  # error lines without "error: "

    def status(self) -> Optional[int]:
        return self.popen.poll()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def forward_stderr(self, log: RunLog) -> None:
        for line in self.popen.stderr:
            text = line.rstrip("\n")
            if text.startswith(_ERROR):
                self.errors.append(text[len(_ERROR) :])
            elif text:
                log.line(f"rank {self.rank}: {text}")

    def fail(self, log: RunLog) -> None:
        """Raise UsageError with the rank's error line, or SystemExit with its status."""
        if self.reader is not None:
            self.reader.join()
        status = self.popen.wait()
        if self.errors:
            raise UsageError(self.errors[-1])
        if status < 0:
            log.line(f"rank {self.rank}: ended by {signal.Signals(-status).name}")
            status = 128 - status
        raise SystemExit(status)


@contextlib.contextmanager
def _running(command: Sequence[str], ranks: Sequence[Environment], log: RunLog) -> Iterator[List[_Process]]:
    """Start the ranks, each in its own session so that Ctrl-C reaches it once, through this process."""
    processes: List[_Process] = []
    try:
        for rank, environment in enumerate(ranks):
            streams: Dict[str, Any] = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            added = {name: value for name, value in environment.items() if value is not None}
            kept = {name: value for name, value in os.environ.items() if name not in environment}
            popen = subprocess.Popen(
                list(command),
                env={**kept, **added, **followed()},
                start_new_session=True,
                universal_newlines=True,
                errors="backslashreplace",
                **streams,
            )
            process = _Process(rank, popen)
            processes.append(process)
            if rank:
                process.reader = threading.Thread(target=process.forward_stderr, args=(log,), daemon=True)
                process.reader.start()
        yield processes
    finally:
        _end(processes, grace=0)
        for process in processes:
            if process.reader is not None:
                process.reader.join()
                process.popen.stderr.close()


def _end(processes: Sequence[_Process], grace: float = _GRACE_SECONDS) -> None:
    """Send SIGTERM, wait up to `grace` seconds, then send SIGKILL."""
    for process in processes:
        process.send(signal.SIGTERM if grace else signal.SIGKILL)
    deadline = time.monotonic() + grace
    for process in processes:
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()) if grace else None)
        except subprocess.TimeoutExpired:
            process.send(signal.SIGKILL)
            process.popen.wait()


def _own_address() -> str:
    """The address of this machine's default route, else the loopback address. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        try:
            datagram.connect(("192.0.2.1", 9))  # an address reserved for documentation (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(datagram.getsockname()[0])


def _free_port() -> int:
    """A TCP port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
