"""What several processes that train together tell each other on the host; for a single one, next to nothing.

Tensors travel through `data_parallel`. Here are decisions: what the first process has found, that all train on the
same data, when all of them stop, whose error it was.
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
from typing import Any, Callable, Iterator, List, NoReturn, Optional, Tuple, TypeVar

import torch
import torch.distributed as dist

from shared.errors import UsageError
from shared.metrics import Metrics
from shared.run.loop import StopAgreement
from torch_imagenet.devices.device import Device
from torch_imagenet.distributed.environment import ProcessEnvironment, meeting_point

T = TypeVar("T")

_NAMING_SECONDS = 10  # how long the others have for answering once one of them has been waited for in vain
_LISTENING_SECONDS = 0.5


class Ranks(StopAgreement):
    """A process by itself: the first of one."""

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process; its UsageError is everybody's. Other processes do not run it."""
        return work()

    def same(self, what: str, value: str) -> None:
        """Raise UsageError in a process whose value differs from the first one's."""

    def merged(self, metrics: Optional[Metrics], texts: List[List[str]]) -> Tuple[Optional[Metrics], List[List[str]]]:
        """The sums of all processes' metrics, and their lists of texts put together, one by one.

        No metrics where one process has none.
        """
        return metrics, texts

    def send_to_first(self, text: str) -> None:
        """A bad image for the first process to write down, which asks for them with `received`."""

    def received(self) -> List[str]:
        """What the others have told since the last call."""
        return []

    @contextlib.contextmanager
    def listening(self, line: Callable[[str], None]) -> Iterator[None]:
        """Inside, the first process writes the others' errors with `line` when they happen."""
        yield


ALONE = Ranks()


class Group(Ranks):
    """One of several processes, connected to the others."""

    def __init__(self, place: ProcessEnvironment, device: Device, timeout: float) -> None:
        self.rank, self.size = place.rank, place.size
        self._timeout = timedelta(seconds=timeout)
        meeting = meeting_point()
        os.environ.update(meeting)
        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=self._timeout))
            dist.init_process_group(
                device.backend,
                store=dist.PrefixStore("ranks", store),
                rank=self.rank,
                world_size=self.size,
                timeout=self._timeout,
            )
            # A connection of our own: a thread that waits on the other one would hold up the tensors.
            own = dist.TCPStore(
                meeting["MASTER_ADDR"],
                int(meeting["MASTER_PORT"]),
                is_master=False,
                wait_for_workers=False,
                timeout=self._timeout,
            )
            # Not used while all is well: its connections are whole when others have broken, and can say who is gone.
            self._watch = dist.new_group(backend="gloo", timeout=self._timeout)
        except RuntimeError as error:  # torch.distributed's exceptions are RuntimeErrors
            raise UsageError(
                f"the processes did not find each other at {meeting['MASTER_ADDR']}:{meeting['MASTER_PORT']} within"
                f" {timeout:g} seconds ({first_line(error)}); check addresses and ports, or raise --timeout"
            ) from error
        self._store = dist.PrefixStore(f"kit-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", own)
        self._told = 0

    def from_first(self, work: Callable[[], T]) -> T:
        box: List[Any] = [None]
        if self.is_first:
            try:
                box = [(work(), None)]
            except UsageError as error:
                box = [(None, str(error))]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        value, message = box[0]
        if message is not None:
            raise UsageError(message)
        return value

    def same(self, what: str, value: str) -> None:
        first = self.from_first(lambda: value)
        if value != first:
            raise UsageError(f"this machine has another {what} than rank 0's; every machine needs the same one")

    def merged(self, metrics: Optional[Metrics], texts: List[List[str]]) -> Tuple[Optional[Metrics], List[List[str]]]:
        own = (metrics.to_state() if metrics is not None else None, texts)
        parts: List[Any] = [None] * self.size
        dist.all_gather_object(parts, own)
        if any(state is None for state, _ in parts):
            return None, texts
        whole = Metrics.from_state(parts[0][0])
        for state, _ in parts[1:]:
            whole.merge(Metrics.from_state(state))
        return whole, [sorted({text for one in lists for text in one}) for lists in zip(*(own for _, own in parts))]

    def send_to_first(self, text: str) -> None:
        self._store.set(f"told-{self._store.add('told', 1)}", text)

    def received(self) -> List[str]:
        number = self._store.add("told", 0)
        texts = [self._store.get(f"told-{index}").decode() for index in range(self._told + 1, number + 1)]
        self._told = number
        return texts

    def propose_stop(self, number: int, step: int) -> None:
        self._store.compare_set("stop", "", json.dumps([number, step]))

    def agreed_stop(self, step: int) -> Optional[int]:
        if not self._store.check(["stop"]):
            return None
        number, last = json.loads(self._store.get("stop"))
        return int(number) if step >= last else None

    def barrier(self) -> None:
        try:
            dist.monitored_barrier(self._watch, timeout=self._timeout, wait_all_ranks=True)
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
            self.report(str(error))  # before the last look: of two processes that fail at once the first is shown
            raise
        finally:
            end.set()
            listener.join()

    def _listen(self, line: Callable[[str], None], end: threading.Event) -> None:
        ending = False
        while not ending:
            ending = end.wait(_LISTENING_SECONDS)  # once more after the end: an error may be its reason
            with contextlib.suppress(RuntimeError):  # the connection is gone with the run
                if self._store.check(["error"]):
                    rank, message = json.loads(self._store.get("error"))
                    if rank != self.rank:
                        line(f"rank {rank}: error: {message}")
                    return

    def report(self, message: str) -> bool:
        """Tell the others of this process's error; whether it is the first one, which is the one to be shown."""
        with contextlib.suppress(RuntimeError):
            return json.loads(self._store.compare_set("error", "", json.dumps([self.rank, message])))[0] == self.rank
        return True

    def broken(self, error: BaseException) -> Optional[str]:
        """What to say of a connection that broke: who has not answered; None where somebody else says it."""
        if self._told_of_an_error() or "timed out" not in str(error).lower():
            return None  # a process that has ended is known to whoever started it
        try:
            dist.monitored_barrier(self._watch, timeout=timedelta(seconds=_NAMING_SECONDS), wait_all_ranks=True)
        except RuntimeError as barrier:
            return self._who(barrier)
        return f"an exchange took longer than {self._timeout.total_seconds():g} seconds; raise --timeout"

    def _who(self, error: BaseException) -> Optional[str]:
        """torch's monitored barrier names the missing in the first process; the others' says that this one ends."""
        text = str(error)
        if not self.is_first:
            for _ in range(_NAMING_SECONDS):
                if self._told_of_an_error():
                    return None
                time.sleep(1)
        found = re.search(r"[Rr]anks? ([\d, ]*\d) failed to pass", text)
        who = f"rank {found.group(1)}" if found else "rank 0" if not self.is_first else "another rank"
        return (
            f"{who} has not answered for {self._timeout.total_seconds():g} seconds; look at its machine, or give it"
            " more time with --timeout SECONDS"
        )

    def _told_of_an_error(self) -> bool:
        try:
            return bool(self._store.check(["error"]))
        except RuntimeError:  # the first process, which keeps such things, is gone
            return False

    def leave(self) -> NoReturn:
        """End the process, successfully, together with the others.

        At once: a process that failed while another has ended well could not be started again, because that one, and
        with it the connection to its machine, will not come back.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        dist.barrier(self._watch)
        os._exit(0)


def lost_connection(error: BaseException) -> bool:
    """Whether this is what torch.distributed raises when another process is gone or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def first_line(error: BaseException) -> str:
    """The beginning of an error's text."""
    return " ".join(str(error).split())[:150]
