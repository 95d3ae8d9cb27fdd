"""What /proc/cpuinfo says of this machine's processor; on another system than Linux its architecture alone is known."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
from typing import FrozenSet, Optional

# Instructions by which libraries choose their kernels, so that sums are rounded otherwise; the first that are there.
_VECTORS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx", "sve", "asimd")
_IDENTITY = ("flags", "Features", "model name", "cpu family", "model", "CPU part")
_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "svebf16")


def name() -> str:
    """The model's name, as in "AMD EPYC 9654 96-Core Processor", else the architecture's."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo(), re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine() or "processor not known"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instructions() -> FrozenSet[str]:
    """The processor's instruction sets, by Linux' names; empty where they are not known."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo(), re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def vectors() -> Optional[str]:
    """The widest vector instructions, as in "avx2"; None where they are not known.

    Virtual machines whose processors differ in them may give both one name, as in "AMD EPYC".
    """
    there = instructions()
    return next((which for which in _VECTORS if which in there), None)


def multiplies_bf16() -> bool:
    """Whether there are instructions for products of bfloat16."""
    return not instructions().isdisjoint(_BF16)


def identity() -> str:
    """What tells apart the processors for which a compiler makes different code."""
    lines = {line for line in cpuinfo().splitlines() if line.split(":")[0].strip() in _IDENTITY}
    return "\n".join(sorted(lines)) or name()


@functools.lru_cache(maxsize=None)  # it has a part for every core, which takes milliseconds on a large machine
def cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty where there is none."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
