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
from typing import Any, Dict, List, Optional, Sequence

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
    available = probe.npu_count()
    if number is None and not available:
        raise UsageError("the driver lists no NPU (/dev/davinci0 and so on); add their number with --num-devices N")
    if available:
        check_count("npu", number, available)
    size = number or available
    with socket.socket() as listener:
        listener.bind(("", 0))  # a port on which nobody listens
        own = (_own_address(), str(listener.getsockname()[1]), "0", str(size))
    common = dict(zip(npu_environment.CHIEF, (*own, own[0])), **{name: os.environ[name] for name in chief})
    if common["CM_WORKER_SIZE"] != str(size):
        raise UsageError(
            f"--num-devices {size}, but CM_WORKER_SIZE is {common['CM_WORKER_SIZE']}; this starts the ranks of one"
            " machine, so make them agree, or start each rank yourself"
        )
    alone = {"RANK_ID": None, "RANK_SIZE": None}  # the originals' launchers set them for a single device
    return [{**common, **alone, "ASCEND_DEVICE_ID": str(device), **job} for device in range(size)]


def run_ranks(command: Sequence[str], environments: Sequence[Environment], interrupts: Interrupts) -> None:
    """Run `command` once per environment, added to this process's, and wait until all have ended.

    Rank 0 shares the output of this process. Of the other ranks only standard error is shown, each line with its rank.
    SIGINT and SIGTERM are passed on; Stopped is raised when all ranks have ended. If one rank fails, the others are
    ended, and its failure is raised: UsageError with its error line, or SystemExit with its status.
    """
    with RunLog(None, console=sys.stderr) as log, contextlib.ExitStack() as stack:
        ranks: List[_Rank] = []
        stack.callback(_end, ranks, grace=0)
        for number, environment in enumerate(environments):
            ranks.append(_Rank(number, command, environment, log))
        running, failed = ranks, ranks[:0]
        passed_on: Optional[int] = None  # the signal
        while running and not failed:
            if interrupts.requested is not None and passed_on is None:
                passed_on = interrupts.requested
                for rank in running:
                    rank.send(passed_on)
            time.sleep(_POLL_SECONDS)
            running = [rank for rank in ranks if rank.process.poll() is None]
            failed = [rank for rank in ranks if rank.process.returncode and passed_on is None]
        if passed_on is not None:
            raise Stopped(passed_on)
        if failed:
            _end(ranks)
            failed[0].fail()


class _Rank:
    """One process, in a session of its own so that Ctrl-C reaches it once, through this process."""

    def __init__(self, number: int, command: Sequence[str], environment: Environment, log: RunLog) -> None:
        self._number, self._log = number, log
        self._errors: List[str] = []  # error lines without "error: "
        added = {name: value for name, value in environment.items() if value is not None}
        kept = {name: value for name, value in os.environ.items() if name not in environment}
        streams: Dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} if number else {}
        self.process: Any = subprocess.Popen(
            list(command),
            env={**kept, **added, **followed()},
            start_new_session=True,
            universal_newlines=True,
            errors="backslashreplace",
            **streams,
        )
        self._reader = threading.Thread(target=self._forward_errors, daemon=True)
        self._reader.start()

    def _forward_errors(self) -> None:
        if self.process.stderr is None:
            return
        with self.process.stderr as lines:
            for line in lines:
                text = line.rstrip("\n")
                if text.startswith(_ERROR):
                    self._errors.append(text[len(_ERROR) :])
                elif text:
                    self._log.line(f"rank {self._number}: {text}")

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def wait(self, timeout: float) -> None:
        """Wait for the end of the process and of its output; kill it after `timeout` seconds."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def fail(self) -> None:
        """Raise UsageError with the error line of the rank, which has ended, or SystemExit with its status."""
        if self._errors:
            raise UsageError(self._errors[-1])
        status = self.process.returncode
        if status < 0:
            self._log.line(f"rank {self._number}: ended by {signal.Signals(-status).name}")
            status = 128 - status
        raise SystemExit(status)


def _end(ranks: Sequence[_Rank], grace: float = _GRACE_SECONDS) -> None:
    """Send SIGTERM, wait up to `grace` seconds, then send SIGKILL."""
    for rank in ranks:
        rank.send(signal.SIGTERM if grace else signal.SIGKILL)
    deadline = time.monotonic() + grace
    for rank in ranks:
        rank.wait(max(0.0, deadline - time.monotonic()))


def _own_address() -> str:
    """The address of this machine's default route, else the loopback address. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        try:
            datagram.connect(("192.0.2.1", 9))  # an address reserved for documentation (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(datagram.getsockname()[0])
