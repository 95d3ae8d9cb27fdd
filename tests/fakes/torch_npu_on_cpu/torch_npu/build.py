"""Builds the extension once a machine: a shared library in the cache, by torch's version, Python's and the sources.

The compiler is called as `torch.utils.cpp_extension.load` does, without Ninja: the tests need not install that.
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
# -O1 halves the time of the build, and no loop of ours is long; C++20 is what torch's headers need from 2.13 on.
FLAGS = ["-shared", "-fPIC", "-std=c++20", "-O1", "-w", f"-DTORCH_EXTENSION_NAME={NAME}"]
LIBRARIES = ["-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10"]


def compiler() -> Optional[str]:
    """The C++ compiler, None where there is none: CXX in the environment, else the usual names."""
    return next((path for path in map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++")) if path), None)


def library() -> Path:
    """The built library; builds it where it is not there. Raises RuntimeError with the compiler's words."""
    name = f"{NAME}-{_key()}.so"
    folder = _folder()
    path = folder / name
    if not path.is_file():
        with _alone(folder / "lock"):
            if not path.is_file():  # another process may have made it while this one waited
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
    for place in places("simulated-npu"):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=str(place)):
                return place
    raise RuntimeError("no cache folder can be written; set KIT_CACHE")


def _build(path: Path) -> None:
    program = compiler()
    if program is None:
        raise RuntimeError("no C++ compiler")
    includes = [*cpp_extension.include_paths("cpu"), sysconfig.get_paths()["include"]]
    folders = cpp_extension.library_paths("cpu")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=str(path.parent)) as temporary:
        made = Path(temporary) / path.name
        command: List[str] = [
            program,
            *FLAGS,
            str(HERE / "npu.cpp"),
            "-o",
            str(made),
            *(f"-I{folder}" for folder in includes),
            *(f"-L{folder}" for folder in folders),
            *LIBRARIES,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the simulated NPU does not build:\n{done.stderr[-4000:]}")
        os.replace(made, path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of this name among the processes of the machine; it goes with its holder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
