"""Builds the extension once per machine: a shared library in the cache, for these sources, torch and Python.

The compiler is called as by `torch.utils.cpp_extension.load`, but without Ninja, which the tests need not install.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Iterator, List, Optional

import torch
from torch.utils import cpp_extension

from shared.system.cache_dir import places

HERE = Path(__file__).resolve().parent
NAME = "_simulated_npu"
# -O1 halves the build time, and no loop here is long; torch's headers need C++20 from 2.13 on.
FLAGS = ["-shared", "-fPIC", "-std=c++20", "-O1", "-w", f"-DTORCH_EXTENSION_NAME={NAME}"]
LIBRARIES = ["-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10"]


def compiler() -> Optional[str]:
    """The C++ compiler: CXX in the environment, else the usual names; None if there is none."""
    return next((path for path in map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++")) if path), None)


def library() -> Path:
    """The library, built if it does not exist yet. Raises RuntimeError with the compiler's output."""
    name = f"{NAME}-{_key()}.so"
    folder = _folder()
    path = folder / name
    if not path.is_file():
        with _locked(folder / "lock"):
            if not path.is_file():  # another process may have built it meanwhile
                _build(path)
    return path


def load() -> ModuleType:
    """The extension as a module."""
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(library()))
    spec = importlib.util.spec_from_loader(NAME, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _key() -> str:
    parts = [torch.__version__, sys.version, " ".join(FLAGS)]
    parts += [path.read_text() for path in sorted(HERE.glob("*.h")) + sorted(HERE.glob("*.cpp"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _folder() -> Path:
    for folder in places("simulated-npu"):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=str(folder)):
                return folder
    raise RuntimeError("no cache folder can be written; set KIT_CACHE")


def _build(path: Path) -> None:
    program = compiler()
    if program is None:
        raise RuntimeError("no C++ compiler")
    includes = [*cpp_extension.include_paths("cpu"), sysconfig.get_paths()["include"]]
    folders = cpp_extension.library_paths("cpu")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=str(path.parent)) as temporary:
        built = Path(temporary) / path.name
        command: List[str] = [
            program,
            *FLAGS,
            str(HERE / "npu.cpp"),
            "-o",
            str(built),
            *(f"-I{folder}" for folder in includes),
            *(f"-L{folder}" for folder in folders),
            *LIBRARIES,
        ]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise RuntimeError(f"the simulated NPU does not build:\n{process.stderr[-4000:]}")
        os.replace(built, path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold this file's lock, which the system releases when its holder ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
