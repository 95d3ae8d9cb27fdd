"""Host-side coordination of the ranks: values of rank 0, checks of equal data, a common stop, the first error.

Collectives on device tensors are in `data_parallel`. `Ranks` is the interface and the single process; `ProcessGroup` is
one of several processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from datetime import timedelta
from typing import Any, Callable, Iterator, List, NoReturn, Optional, Sequence, Tuple, TypeVar

import torch
import torch.distributed as dist

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.loop import StopAgreement
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.environment import ProcessEnvironment

T = TypeVar("T")

_NAMING_SECONDS = 10  # how long the other ranks may take to answer after a collective has timed out
_LISTENING_SECONDS = 0.5  # between two checks for errors of other ranks


class Ranks(StopAgreement):
    """A single process: rank 0 of 1."""

    rank, size, local_size = 0, 1, 1  # local: of this machine

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the files and the log."""
        return self.rank == 0

    def broadcast_result(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 alone and broadcast its result, or its UsageError, which every rank raises."""
        return work()

    def require_equal(self, what: str, value: str) -> None:
        """Raise UsageError on a rank whose value differs from that of rank 0."""

    def all_reduce(
        self, metrics: Optional[Metrics], texts: List[List[str]]
    ) -> Tuple[Optional[Metrics], List[List[str]]]:
        """Reduce over all ranks: the sum of the metrics (None where a rank has none), the union of each list."""
        return metrics, texts

    def gather(self, value: T) -> List[T]:
        """The values of all ranks, in their order, on every rank."""
        return [value]

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each of these tensors, of one dtype and on the host, by its mean over all ranks."""

    def send_to_rank0(self, text: str) -> None:
        """Send the text of a bad image to rank 0."""

    def receive(self) -> List[str]:
        """On rank 0: the texts that other ranks have sent since the last call."""
        return []

    @contextlib.contextmanager
    def listening(self, line: Callable[[str], None]) -> Iterator[None]:
        """Rank 0 logs the first error of the other ranks with `line` while the context is open."""
        yield


ALONE = Ranks()


class ProcessGroup(Ranks):
    """One of several processes, connected through torch.distributed.

    Raises UsageError where the processes do not find each other in `timeout` seconds.
    """

    def __init__(self, environment: ProcessEnvironment, device: Device, timeout: float) -> None:
        self.rank, self.size, self.local_size = environment.rank, environment.size, environment.local_size
        self._timeout = timedelta(seconds=timeout)
        os.environ.update(environment.variables)
        address, port = environment.variables["MASTER_ADDR"], environment.variables["MASTER_PORT"]
        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=self._timeout))
            dist.init_process_group(
                device.backend,
                store=dist.PrefixStore("ranks", store),
                rank=self.rank,
                world_size=self.size,
                timeout=self._timeout,
            )
            # A second connection to the store, because a thread that waits on the first would block collectives.
            own = dist.TCPStore(address, int(port), is_master=False, wait_for_workers=False, timeout=self._timeout)
            # For use after a failure: its connections still work then and show which rank is missing.
            self._monitor = dist.new_group(backend="gloo", timeout=self._timeout)
        except RuntimeError as error:  # torch.distributed's exceptions are RuntimeErrors
            reason = " ".join(str(error).split())[:150]
            raise UsageError(
                f"the processes did not find each other at {address}:{port} within {timeout:g} seconds"
                f" ({reason}); check addresses and ports, or raise --timeout"
            ) from error
        self._store = dist.PrefixStore(f"kit-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", own)
        self._received = 0  # texts that `receive` has returned

    def broadcast_result(self, work: Callable[[], T]) -> T:
        outcome: List[Any] = [None]
        if self.is_first:
            try:
                outcome = [work()]
            except UsageError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        if isinstance(outcome[0], UsageError):
            raise outcome[0]
        return outcome[0]

    def require_equal(self, what: str, value: str) -> None:
        if value != self.broadcast_result(lambda: value):
            raise UsageError(f"this machine has another {what} than rank 0's; every machine needs the same one")

    def all_reduce(
        self, metrics: Optional[Metrics], texts: List[List[str]]
    ) -> Tuple[Optional[Metrics], List[List[str]]]:
        states, lists = zip(*self.gather((metrics.to_state() if metrics is not None else None, texts)))
        if None in states:
            return None, texts
        total, *others = map(Metrics.from_state, states)
        for other in others:
            total.merge(other)
        return total, [sorted(set().union(*same)) for same in zip(*lists)]

    def gather(self, value: T) -> List[T]:
        gathered: List[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, mean in zip(tensors, (flat / self.size).split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view_as(tensor))

    def send_to_rank0(self, text: str) -> None:
        self._store.set(f"text-{self._store.add('texts', 1)}", text)

    def receive(self) -> List[str]:
        seen, self._received = self._received, self._store.add("texts", 0)
        return [self._store.get(f"text-{index}").decode() for index in range(seen + 1, self._received + 1)]

    def propose_stop(self, number: int, step: int) -> None:
        self._store.compare_set("stop", "", json.dumps([number, step]))

    def agreed_stop(self, step: int) -> Optional[int]:
        if not self._store.check(["stop"]):
            return None
        number, last = json.loads(self._store.get("stop"))
        return int(number) if step >= last else None

    def barrier(self) -> None:
        try:
            dist.monitored_barrier(self._monitor, timeout=self._timeout, wait_all_ranks=True)
        except RuntimeError as error:
            raise UsageError(self._who(error) or "another rank has ended the run; its error is in the log") from error

    # -- when something has gone wrong -------------------------------------------------------------------------

    @contextlib.contextmanager
    def listening(self, line: Callable[[str], None]) -> Iterator[None]:
        if not self.is_first:
            yield
            return
        end = threading.Event()
        listener = threading.Thread(target=self._listen, args=(line, end), daemon=True)
        listener.start()
        try:
            yield
        except UsageError as error:
            self.report(str(error))  # before the last check: of two simultaneous errors the first is shown
            raise
        finally:
            end.set()
            listener.join()

    def _listen(self, line: Callable[[str], None], end: threading.Event) -> None:
        ended = False
        while not (ended or self._reported()):
            ended = end.wait(_LISTENING_SECONDS)
        error = self._reported()  # checks once more after the end, which an error may have caused
        if error and error[0] != self.rank:
            line(f"rank {error[0]}: error: {error[1]}")

    def _reported(self) -> Any:
        """The first error of any rank, as [rank, message]; None without one, and where the store has ended."""
        with contextlib.suppress(RuntimeError):
            return json.loads(self._store.get("error")) if self._store.check(["error"]) else None
        return None

    def report(self, message: str) -> bool:
        """Report an error of this rank to the others. Returns whether it is the first, the one to show."""
        try:
            return json.loads(self._store.compare_set("error", "", json.dumps([self.rank, message])))[0] == self.rank
        except dist.DistNetworkError:  # rank 0, which keeps the store, has ended: with an error, or by a signal
            return False
        except RuntimeError:
            return True

    def broken(self, error: BaseException) -> Optional[str]:
        """The message for a failed collective, naming the missing ranks; None where another process reports."""
        if self._reported() or "timed out" not in str(error).lower():
            return None  # the launcher reports a process that has ended
        try:
            dist.monitored_barrier(self._monitor, timeout=timedelta(seconds=_NAMING_SECONDS), wait_all_ranks=True)
        except RuntimeError as barrier:
            return self._who(barrier)
        return f"a collective took longer than {self._timeout.total_seconds():g} seconds; raise --timeout"

    def _who(self, error: BaseException) -> Optional[str]:
        """Names the missing ranks. torch's monitored barrier names them on rank 0 alone; the others name rank 0."""
        if not self.is_first:
            for _ in range(_NAMING_SECONDS):
                if self._reported():
                    return None
                time.sleep(1)
        found = re.search(r"[Rr]anks? ([\d, ]*\d) failed to pass", str(error))
        who = f"rank {found.group(1)}" if found else "rank 0" if not self.is_first else "another rank"
        return (
            f"{who} has not answered for {self._timeout.total_seconds():g} seconds; look at its machine, or give it"
            " more time with --timeout SECONDS"
        )

    def leave(self, status: int = 0) -> NoReturn:
        """Wait for all ranks, which end with the same status, and end the process.

        It ends at once, without Python's clean-up: a rank that failed after another had ended could not be restarted,
        because the ended one would not rejoin.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        dist.barrier(self._monitor)
        os._exit(status)


def lost_connection(error: BaseException) -> bool:
    """Whether torch.distributed raises this error when another process has ended or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())
