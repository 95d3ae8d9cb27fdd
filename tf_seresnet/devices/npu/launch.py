"""One machine's ranks, started: this program once for every NPU, each with its part of the environment."""

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

from shared.cli.signals import Interrupts, Stopped
from shared.errors import UsageError
from shared.run.log import RunLog
from shared.system import orphans
from tf_seresnet.devices import probe as found
from tf_seresnet.devices.base import refuse_more
from tf_seresnet.devices.npu import environment as npu_ranks

_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 5.0  # for ranks whose neighbour has failed: most wait for it and hear nothing else
_ERROR = "error: "

Environment = Dict[str, Optional[str]]  # None: not to be set


def environments(number: Optional[int]) -> List[Environment]:
    """What is to be added to the environment of each of `number` ranks; None: as many as there are NPUs.

    With RANK_TABLE_FILE the table's ranks and devices, which must be as many. Without it the CM_ variables of a single
    machine, of which the user's own are kept. Raises UsageError.
    """
    table = os.environ.get(npu_ranks.TABLE)
    chief = [name for name in npu_ranks.CHIEF if os.environ.get(name)]
    if table and chief:
        raise UsageError(f"{npu_ranks.TABLE} and {chief[0]} are both set, and they exclude each other; unset one")
    job = {"JOB_ID": os.environ.get("JOB_ID") or npu_ranks.JOB_ID}
    if table:
        devices = npu_ranks.read_table(table)
        if number not in (None, len(devices)):
            raise UsageError(f"--num-devices {number}, and {table} lists {len(devices)} devices; make them agree")
        return [
            {"RANK_ID": str(rank), "RANK_SIZE": str(len(devices)), "ASCEND_DEVICE_ID": str(device), **job}
            for rank, device in sorted(devices.items())
        ]
    present = found.npu_nodes()
    if number is None and not present:
        raise UsageError("the driver lists no NPU (/dev/davinci0 and so on); say how many with --num-devices N")
    if present:
        refuse_more("npu", number, present)
    size = number or present
    own = _own_address()
    common = {
        "CM_CHIEF_IP": own,
        "CM_CHIEF_PORT": str(_free_port()),
        "CM_CHIEF_DEVICE": "0",
        "CM_WORKER_SIZE": str(size),
        "CM_WORKER_IP": own,
    }
    common.update({name: os.environ[name] for name in chief})
    if common["CM_WORKER_SIZE"] != str(size):
        raise UsageError(
            f"--num-devices {size}, and CM_WORKER_SIZE is {common['CM_WORKER_SIZE']}; this starts the ranks of one"
            " machine, so make them agree, or start each rank yourself"
        )
    alone = {"RANK_ID": None, "RANK_SIZE": None}  # the originals' launchers set them for a single device
    return [{**common, **alone, "ASCEND_DEVICE_ID": str(device), **job} for device in range(size)]


def start(command: Sequence[str], ranks: Sequence[Environment], interrupts: Interrupts) -> None:
    """Run `command` once with each of these added to the environment, until all have ended.

    The first rank has this process's output. Of the others only the standard error is shown, a line at a time with the
    rank before it. SIGINT and SIGTERM are passed on, and Stopped is raised when all have ended. Where one fails the
    others are ended, and the first failure is this process's: UsageError with its line, or SystemExit with its status.
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
            time.sleep(_LOOK_SECONDS if waiting else 0)
        if passed_on and interrupts.requested is not None:
            raise Stopped(interrupts.requested)


@dataclass
class _Process:
    rank: int
    popen: Any
    reader: Optional[threading.Thread] = None
    error: List[str] = field(default_factory=list)  # its line for the user, without "error: "

    def status(self) -> Optional[int]:
        return self.popen.poll()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def read(self, log: RunLog) -> None:
        for line in self.popen.stderr:
            text = line.rstrip("\n")
            if text.startswith(_ERROR):
                self.error.append(text[len(_ERROR) :])
            elif text:
                log.line(f"rank {self.rank}: {text}")

    def fail(self, log: RunLog) -> None:
        """Raise what its failure is for this process."""
        if self.reader is not None:
            self.reader.join()
        status = self.popen.wait()
        if self.error:
            raise UsageError(self.error[-1])
        if status < 0:
            log.line(f"rank {self.rank}: ended by {signal.Signals(-status).name}")
            status = 128 - status
        raise SystemExit(status)


@contextlib.contextmanager
def _running(command: Sequence[str], ranks: Sequence[Environment], log: RunLog) -> Iterator[List[_Process]]:
    """The ranks, each in a session of its own so that Ctrl-C reaches them once, through this process."""
    processes: List[_Process] = []
    try:
        for rank, environment in enumerate(ranks):
            others: Dict[str, Any] = {} if rank == 0 else {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            added = {name: value for name, value in environment.items() if value is not None}
            kept = {name: value for name, value in os.environ.items() if name not in environment}
            popen = subprocess.Popen(
                list(command),
                env={**kept, **added, **orphans.followed()},
                start_new_session=True,
                universal_newlines=True,
                errors="backslashreplace",
                **others,
            )
            process = _Process(rank, popen)
            processes.append(process)
            if rank:
                process.reader = threading.Thread(target=process.read, args=(log,), daemon=True)
                process.reader.start()
        yield processes
    finally:
        _end(processes, grace=0)
        for process in processes:
            if process.reader is not None:
                process.reader.join()
                process.popen.stderr.close()


def _end(processes: Sequence[_Process], grace: float = _GRACE_SECONDS) -> None:
    """Ask them to end, wait a little, make them."""
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
    """The address from which this machine would reach another; the loopback where it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documents (RFC 5737)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
