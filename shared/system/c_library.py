"""A program in C of this project as a library: compiled once, by the system's C compiler, and kept in the cache."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Iterator, List, Sequence

from shared.system.atomic_files import complete
from shared.system.cache_dir import places

_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 120  # for the compiler; it needs one


class Unavailable(Exception):
    """There is no such library here; the message is the reason."""


def compiled(source: Path, flags: Sequence[str], key: Sequence[str] = ()) -> str:
    """The path of the library of this source file, made with these flags of the compiler. Raises Unavailable.

    `key` is whatever else it depends on. Processes that make it at the same time write the same file, each completely.
    """
    here = (*flags, *key, platform.machine(), *platform.libc_ver())
    digest = hashlib.sha256(source.read_bytes() + repr(here).encode()).hexdigest()[:16]
    reasons: List[str] = []
    for folder in places("compiled"):
        path = folder / f"{source.stem}-{digest}.so"
        with _reason(reasons):
            if not _is_usable(path):
                with complete(path) as fresh:
                    _compile(source, flags, fresh)
                ctypes.CDLL(str(path))  # fails in a folder that forbids to run programs
            return str(path)
    raise Unavailable(reasons[0] if reasons else "there is no folder for what is compiled")


@contextlib.contextmanager
def _reason(reasons: List[str]) -> Iterator[None]:
    """Collects why something failed."""
    try:
        yield
    except (OSError, ValueError, Unavailable) as error:  # ValueError: a quote in CC that does not end
        reasons.append(" ".join(str(error).split())[:200])


def _is_usable(path: Path) -> bool:
    """Whether the file is there and loads, and no other user can have written it: it is code that will run."""
    with contextlib.suppress(OSError):
        found = path.stat()
        if found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            ctypes.CDLL(str(path))
            return True
    return False


def _compile(source: Path, flags: Sequence[str], target: Path) -> None:
    """Compiled and linked apart, so that the flags name no library: what is not found comes from this process."""
    named = os.environ.get("CC", "")
    command = shlex.split(named) if named.strip() else [name for name in _COMPILERS if shutil.which(name)][:1]
    if not command:
        raise Unavailable(f"there is no C compiler ({', '.join(_COMPILERS)})")
    part = target.with_name(f"{target.name}.o")  # the folder is a temporary one
    _run([*command, *flags, "-c", "-o", str(part), str(source)], part)
    _run([*command, "-shared", "-o", str(target), str(part), "-ldl", "-lm"], target)
    target.chmod(0o755)  # whatever the umask


def _run(command: List[str], target: Path) -> None:
    """Raises Unavailable where the compiler does not make the target."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} has not finished in {_SECONDS} seconds") from error
    if done.returncode or not target.exists():
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = [line for line in lines if "error" in line] or lines or [f"exit status {done.returncode}"]
        raise Unavailable(f"{command[0]} failed: {said[0]}")
