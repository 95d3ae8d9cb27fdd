"""Memory that a step frees is there for the next one: counted in pages that the kernel hands out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.devices import host_memory  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
GLIBC = platform.libc_ver()[0] == "glibc"

# Blocks of 33 MiB and 40 MiB, above glibc's largest threshold, freed in each round as the activations of a step are.
LOOP = """
import resource, sys
from ctypes import CDLL, c_size_t, c_void_p, memset
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "kept":
    from torch_imagenet.devices.device import open_device
    open_device("cpu")

libc, counts = CDLL(None), []
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t], [c_void_p]
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(size << 20) for size in (33, 40)]
    for block, size in zip(blocks, (33, 40)):
        memset(block, 1, size << 20)
    for block in blocks:
        libc.free(block)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(counts[-1])
"""


def _faults(way, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", LOOP, str(ROOT), way]
    return int(subprocess.run(command, env={**environment, **variables}, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_a_loop_on_an_open_cpu_takes_its_memory_once():
    assert _faults("kept") < 100
    assert _faults("as glibc does") > 100  # that the count can fail


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_the_users_own_settings_and_other_libraries_are_left_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(host_memory, "_mallopt", lambda parameter, value: calls.append((parameter, value)) or 1)
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    with monkeypatch.context() as patch:
        patch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
        assert not host_memory.keep_freed_memory()
        assert not calls
    with monkeypatch.context() as patch:
        patch.setattr(platform, "libc_ver", lambda: ("", ""))  # musl, macOS, Windows
        assert not host_memory.keep_freed_memory()
        assert not calls
    assert host_memory.keep_freed_memory()
    assert len(calls) == 2
