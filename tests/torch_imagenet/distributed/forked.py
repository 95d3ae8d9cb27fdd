"""Processes of driver.py that need no start: one process has imported torch and forks the others.

    python -m tests.torch_imagenet.distributed.forked    one request per line of input, one answer per line of output

A start costs six seconds of a processor, most of them for what torch's first optimizer imports. The ranks that our
launcher starts are forked too. What is started for real: see `Job` in several.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import multiprocessing.util
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

MODULE = "tests.torch_imagenet.distributed.forked"
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)
_NETWORK = 0x40000000  # CLONE_NEWNET
_FILES = 4096  # more descriptors than a process here has


class Forked:
    """A process that was forked, with what the tests and torch's launcher use of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: Optional[int] = None

    def _status(self) -> Optional[int]:
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def poll(self) -> Optional[int]:
        """The exit status, negative for a signal; None where it runs."""
        if self.returncode is None:
            self.returncode = self._status()
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Until it has ended. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(MODULE, timeout or 0.0)
            time.sleep(0.02)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """See `send_signal`."""
        self.send_signal(signal.SIGKILL)


class Started(Forked):
    """One that the forking process has started for this one, and tells the end of."""

    def __init__(self, words: Sequence[str], log: Path, environment: Dict[str, str], namespace: str = "") -> None:
        request = {"words": list(words), "log": str(log), "environment": environment, "namespace": namespace}
        super().__init__(int(_server().request(request)))

    def _status(self) -> Optional[int]:
        status = _server().request({"poll": self.pid})
        return None if status is None else int(status)


@functools.lru_cache(maxsize=None)
def _server() -> Any:
    """One for this process."""
    from tests.faults.worker_process import Worker

    return Worker(MODULE, "torch_imagenet")


# -- the process that forks ------------------------------------------------------------------------------------


def serve() -> None:
    """Answer with a new process's number, or with how one has ended (null: it has not)."""
    _import_all()
    answers = os.fdopen(os.dup(1), "w")
    children: Dict[int, Forked] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            answer = children[request["poll"]].poll()
        else:
            out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            folder = str(Path(request["log"]).parent)
            child = fork(request["words"], request["environment"], out, out, folder, request["namespace"])
            os.close(out)
            answer = child.pid
            children[child.pid] = child
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _import_all() -> None:
    """What a training imports late; no thread is started, for those do not live in a fork."""
    for name in tuple(
        (
            "torch._dynamo torch.distributed.elastic.multiprocessing.subprocess_handler PIL.Image "
            "torch_imagenet.distributed.launch torch_imagenet.training torch_imagenet.evaluation "
            "torch_imagenet.distributed.run_on_devices tensorboard.summary.writer.event_file_writer "
            "tests.torch_imagenet.distributed.driver"
        ).split()
    ):
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()


def fork(
    words: Sequence[str], environment: Dict[str, str], out: int, err: int, folder: str, namespace: str = ""
) -> Forked:
    """A process that is `python driver.py WORDS` in this folder, writing to these descriptors.

    `namespace` names the network namespace that it is in, as `ip netns` knows it; "" is this process's.
    """
    pid = os.fork()
    if pid:
        return Forked(pid)
    status = 70
    try:
        if namespace:
            _enter(namespace)
        _become(list(words), environment, out, err, folder)
        status = _exit_status()
    except BaseException:  # a defect of this file
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _enter(namespace: str) -> None:
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NETWORK):
            raise OSError(ctypes.get_errno(), "setns")


def _become(words: List[str], environment: Dict[str, str], out: int, err: int, folder: str) -> None:
    from tests.torch_imagenet.distributed.jobs import DRIVER

    given = (os.open(os.devnull, os.O_RDONLY), os.dup(out), os.dup(err))  # none of them is 0, 1 or 2
    for number, descriptor in enumerate(given):
        os.dup2(descriptor, number)
    os.closerange(3, _FILES)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [DRIVER, *words]


def _exit_status() -> int:
    """Run the driver; what Python would end with."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

    from tests.torch_imagenet.distributed import driver

    SubprocessHandler._popen = _fork_rank
    try:
        return driver.run()
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else 0 if asked.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        multiprocessing.util._exit_function()  # ends the data workers


def _fork_rank(self: Any, args: Sequence[str], env: Dict[str, str]) -> Forked:
    """In the place of SubprocessHandler._popen: ARGS are python, the driver and its words."""
    out, err = (1 if file is None else file.fileno() for file in (self._stdout, self._stderr))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # the child must not write it again
    child = fork(args[2:], env, out, 2 if self._stderr is None else err, os.getcwd())
    with contextlib.suppress(OSError):
        os.setpgid(child.pid, child.pid)  # torch's launcher ends the whole group
    return child


if __name__ == "__main__":
    importlib.import_module(MODULE).serve()
