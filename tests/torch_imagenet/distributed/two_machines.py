"""Two machines on this one: two network namespaces with an address each and a cable between them. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Iterator, List, NamedTuple, Optional


class Machine(NamedTuple):
    """Its address, and the name of its network namespace."""

    address: str
    namespace: str


def why_not() -> Optional[str]:
    """Why two machines cannot be made here; None where they can."""
    if shutil.which("ip") is None:
        return "no ip command (iproute2), so there are no two machines to train on"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces ({made.stderr.strip()}), so there are no two machines to train on"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@contextlib.contextmanager
def two_machines() -> Iterator[List[Machine]]:
    """They exist inside the context."""
    names = [f"kit{os.getpid()}-{number}" for number in range(2)]
    ends = [f"kv{os.getpid() % 10**6}x{number}" for number in range(2)]  # an interface's name has 15 letters at most
    machines = [Machine(f"10.77.0.{n + 1}", name) for n, name in enumerate(names)]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for name, end, machine in zip(names, ends, machines):
            _ip("-n", name, "addr", "add", f"{machine.address}/24", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
        yield machines
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
