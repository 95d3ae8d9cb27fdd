"""Small trainings on disks that fail while they write.

    python -m tests.faults.small_filesystems HALF    one request per input line, one reply per output line

The process imports the framework once and forks a child for each training. If the system allows it, a child has its own
disk: a tmpfs in a mount namespace, which is shrunk while the training runs. Otherwise a limit on the size of files
replaces the full disk.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable, Dict

from tests.faults import trainings
from tests.faults.worker_process import Worker

_NEW_NAMESPACE, _REMOUNT, _RECURSIVE, _PRIVATE, _READ_ONLY = 0x20000, 32, 0x4000, 1 << 18, 1
_PAGE = 4096


# -- disks -----------------------------------------------------------------------------------------------------


class Disk:
    """A folder in which, between `begin` and `end`, only a part of all writes succeeds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, part: float) -> None:
        """`part`, from 0 to 1, determines how much can still be written."""

    def end(self) -> None:
        """Let all writes succeed again."""


class FullDisk(Disk):
    """Space for up to 40 more pages, about one and a half checkpoints, mostly for less than one."""

    option, most = "size", 40

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        _mount(folder, "size=64m")

    def begin(self, part: float) -> None:
        state = os.statvfs(str(self.folder))
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        _mount(self.folder, f"size={used + _PAGE * max(int(part**3 * self.most), 0 if used else 1)}", _REMOUNT)

    def end(self) -> None:
        _mount(self.folder, "size=64m", _REMOUNT)


class NoMoreFiles(FullDisk):
    """Space for up to 5 more files, as with a quota of files."""

    def begin(self, part: float) -> None:
        state = os.statvfs(str(self.folder))
        _mount(self.folder, f"nr_inodes={state.f_files - state.f_ffree + int(part * 6)}", _REMOUNT)

    def end(self) -> None:
        _mount(self.folder, "nr_inodes=100000", _REMOUNT)


class SmallFiles(Disk):
    """A limit of up to 60,000 bytes per file (RLIMIT_FSIZE), which needs no privileges."""

    def begin(self, part: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(60000 * part**2), resource.RLIM_INFINITY))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class ReadOnlyFolder(Disk):
    """One or both of the run's folders are read-only; files that are already open stay writable."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        _obey_modes()

    def begin(self, part: float) -> None:
        run = self.folder / "run"
        for path in ([run], [run / "checkpoints"], [run, run / "checkpoints"])[min(2, int(part * 3))]:
            if path.is_dir():
                path.chmod(0o555)

    def end(self) -> None:
        for path in (self.folder / "run", self.folder / "run" / "checkpoints"):
            if path.is_dir():
                path.chmod(0o755)


DISKS = {"full disk": FullDisk, "no more files": NoMoreFiles, "small files": SmallFiles, "read-only": ReadOnlyFolder}


def disk(name: str, folder: Path) -> Disk:
    """Create the folder and its disk of this name."""
    folder.mkdir()
    if issubclass(DISKS[name], FullDisk) and not own_mounts():
        name = "small files"
    return DISKS[name](folder)


@functools.lru_cache(maxsize=None)
def own_mounts() -> bool:
    """Enter a private mount namespace. Returns whether the system allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_NEW_NAMESPACE) == 0 and libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) == 0


def read_only(folder: Path) -> None:
    """Remount the file system at `folder` read-only."""
    _mount(folder, "", _REMOUNT | _READ_ONLY)


def _mount(folder: Path, options: str, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(str(folder)), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {options}: {os.strerror(ctypes.get_errno())}")


def _obey_modes() -> None:
    """Make file permissions apply to root, by dropping capabilities."""
    if os.geteuid():
        return
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capget(header, data)
    data[0] &= ~(1 << 1 | 1 << 2)  # DAC_OVERRIDE, DAC_READ_SEARCH, of the effective set
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


# -- the process that forks ------------------------------------------------------------------------------------


class Server:
    """The client of the process."""

    def __init__(self, half: str) -> None:
        self._worker = Worker("tests.faults.small_filesystems", half)

    def run(self, case: str, disk_name: str, seed: int, folder: Path) -> str:
        """The loss of one round of a case, "" for none."""
        request = {"case": case, "disk": disk_name, "seed": seed, "folder": str(folder)}
        return str(self._worker.request(request))


@functools.lru_cache(maxsize=None)
def server(half: str) -> Server:
    """The server of this process, started on first use."""
    return Server(half)


def serve(half: str) -> None:
    from tests.faults import disk_rounds

    main = trainings.load_main(half)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # drop the frameworks' own messages
    options = trainings.new_run_options(half)
    reference = Path(tempfile.mkdtemp(prefix="faults-reference-"))
    atexit.register(shutil.rmtree, str(reference), ignore_errors=True)
    lost = in_child(lambda: disk_rounds.undisturbed(half, main, options, reference), reference)
    for line in sys.stdin:
        request: Dict[str, Any] = json.loads(line)
        folder = Path(request["folder"])
        run = getattr(disk_rounds, request["case"])
        loss = lost or in_child(
            functools.partial(
                run, half, main, options, reference, request["disk"], folder, random.Random(request["seed"])
            ),
            folder,
        )
        replies.write(json.dumps(loss) + "\n")
        replies.flush()


def in_child(work: Callable[[], str], folder: Path) -> str:
    """The result of `work` in a child process."""
    answer = folder / "answer.txt"
    pid = os.fork()
    if pid == 0:
        try:
            what = work()
        except BaseException:
            what = " | ".join(traceback.format_exc().split("\n")[-8:])
        answer.write_text(what)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return f"the child ended with {status}" if status else answer.read_text()


if __name__ == "__main__":
    serve(sys.argv[1])
