"""Small trainings on disks that stop taking what is written, and what they leave.

    python -m tests.faults.small_filesystems HALF    one request per line of input, one answer per line of output

The process imports the framework once and forks a child for each training. A child has a disk of its own where the
system allows (a tmpfs in a mount namespace, whose size is lowered while the training runs); elsewhere a limit on the
size of its files takes the place of the full disk.
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
from tests.faults.worker_process import Asked

_NEW_NAMESPACE, _REMOUNT, _RECURSIVE, _PRIVATE, _READ_ONLY = 0x20000, 32, 0x4000, 1 << 18, 1
_PAGE = 4096


# -- disks -----------------------------------------------------------------------------------------------------


class Disk:
    """A folder that, between `begin` and `end`, takes no more than some of what is written to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, part: float) -> None:
        """`part`, from 0 to 1, says how much is still taken."""

    def end(self) -> None:
        """Take everything again."""


class FullDisk(Disk):
    """Room for up to 40 pages more, about a checkpoint and a half, and mostly for less than one."""

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
    """Room for up to 5 files more, as where a quota of files is used up."""

    def begin(self, part: float) -> None:
        state = os.statvfs(str(self.folder))
        _mount(self.folder, f"nr_inodes={state.f_files - state.f_ffree + int(part * 6)}", _REMOUNT)

    def end(self) -> None:
        _mount(self.folder, "nr_inodes=100000", _REMOUNT)


class SmallFiles(Disk):
    """No file beyond a size of up to 60,000 bytes: the system's own quota, which every user may set."""

    def begin(self, part: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(60000 * part**2), resource.RLIM_INFINITY))

    def end(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class ReadOnlyFolder(Disk):
    """One or both of the run's folders cannot be written; files that are open already can."""

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
    """The disk of this name in this new folder."""
    folder.mkdir()
    if issubclass(DISKS[name], FullDisk) and not own_mounts():
        name = "small files"
    return DISKS[name](folder)


@functools.lru_cache(maxsize=None)
def own_mounts() -> bool:
    """See to it that mounts are this process's own; whether the system lets it mount at all."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_NEW_NAMESPACE) == 0 and libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None) == 0


def read_only(folder: Path) -> None:
    """The file system mounted at `folder` takes nothing at all from now on."""
    _mount(folder, "", _REMOUNT | _READ_ONLY)


def _mount(folder: Path, options: str, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(str(folder)), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {options}: {os.strerror(ctypes.get_errno())}")


def _obey_modes() -> None:
    """As everybody else, root may no longer write where the modes say that nobody does."""
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
    """The client's side of one."""

    def __init__(self, half: str) -> None:
        self._asked = Asked("tests.faults.small_filesystems", half)

    def run(self, case: str, disk_name: str, seed: int, folder: Path) -> str:
        """What the case has lost."""
        request = {"case": case, "disk": disk_name, "seed": seed, "folder": str(folder)}
        return str(self._asked.answer(request))


@functools.lru_cache(maxsize=None)
def server(half: str) -> Server:
    """One for this process."""
    return Server(half)


def serve(half: str) -> None:
    from tests.faults import disk_rounds

    main = trainings._imported(half)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what frameworks write there by themselves
    words = trainings.fresh_words(half)
    reference = Path(tempfile.mkdtemp(prefix="faults-reference-"))
    atexit.register(shutil.rmtree, str(reference), ignore_errors=True)
    lost = in_child(lambda: disk_rounds.undisturbed(half, main, words, reference), reference)
    for line in sys.stdin:
        request: Dict[str, Any] = json.loads(line)
        folder = Path(request["folder"])
        run = getattr(disk_rounds, request["case"])
        what = lost or in_child(
            functools.partial(
                run, half, main, words, reference, request["disk"], folder, random.Random(request["seed"])
            ),
            folder,
        )
        answers.write(json.dumps(what) + "\n")
        answers.flush()


def in_child(work: Callable[[], str], folder: Path) -> str:
    """What `work` gives in a child process."""
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
