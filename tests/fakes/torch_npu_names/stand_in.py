"""Stub libraries in place of CANN's, so that the real torch_npu can be imported on a machine without CANN.

They contain no CANN code: every function that torch_npu needs and no other library defines returns 0. No device is
found.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Iterable, Set

EMPTY = ("hccl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel")
FULL = "ascendcl"
TOOLS = ("cc", "nm")


def missing_tools() -> Set[str]:
    """The tools that the build needs and that are not installed."""
    return {tool for tool in TOOLS if shutil.which(tool) is None}


def build(folder: Path, torch_npu: Path, torch: Path) -> Dict[str, str]:
    """Build the libraries in `folder`. Returns the environment in which the package at `torch_npu` loads them."""
    own = [*sorted((torch_npu / "lib").glob("*.so")), *sorted(torch_npu.glob("_C*.so"))]
    own = [library for library in own if "atb" not in library.name]  # needs another library, and nothing loads it
    defined = _symbols([*own, *(torch / "lib").glob("*.so")], "--defined-only")
    process = ctypes.CDLL(None)  # Python and the C library
    undefined = sorted(name for name in _symbols(own, "--undefined-only") - defined if not hasattr(process, name))
    for name in EMPTY:
        _compile(folder, name, "")
    _compile(folder, FULL, "".join(f"int {name}(void) {{ return 0; }}\n" for name in undefined))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))
    return dict(os.environ, LD_LIBRARY_PATH=path, TORCH_DEVICE_BACKEND_AUTOLOAD="0")


def _symbols(libraries: Iterable[Path], which: str) -> Set[str]:
    """Symbol names without versioned ones, which belong to the C and C++ libraries."""
    listed = subprocess.run(
        ["nm", "-D", which, *map(str, libraries)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    symbols = [line.split() for line in listed]
    return {symbol[-1] for symbol in symbols if len(symbol) > 1 and symbol[-2] not in "wv" and "@" not in symbol[-1]}


def _compile(folder: Path, name: str, source: str) -> None:
    library = f"lib{name}.so"
    command = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(folder / library), f"-Wl,-soname,{library}"]
    subprocess.run(command, input=source, text=True, check=True)
