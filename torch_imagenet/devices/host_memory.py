"""Memory of a training on a CPU: what one step frees is kept for the next one.

glibc takes an allocation of 32 MiB or more from the operating system and returns it when it is freed (mallopt(3)), so
the activations of every step would be new pages, each of which the kernel fills with zeros first.
"""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = -1  # as a size, the largest


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep what is freed, for this process; whether it does.

    Not with another C library, nor where the environment has settings of glibc's malloc, which are the user's.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    return bool(_mallopt(_M_MMAP_MAX, 0)) and bool(_mallopt(_M_TRIM_THRESHOLD, _NEVER))


def _mallopt(parameter: int, value: int) -> int:
    return int(ctypes.CDLL(None).mallopt(parameter, value))
