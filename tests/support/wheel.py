"""The wheel, built by scripts/build_backend.py with this Python's setuptools and unpacked: nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = "raise RuntimeError('another shared')\n"  # the content of somebody else's package of that name


def needs_setuptools() -> None:
    """Skips where setuptools is missing, or too old for pyproject.toml: in the environments of the old TensorFlows."""
    setuptools = pytest.importorskip("setuptools")
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (77, 0):
        pytest.skip(f"setuptools {setuptools.__version__} is too old to build")


def build(kind: str, folder: Path, root: Path = ROOT) -> Path:
    """The file that `build_wheel` or `build_sdist` of the backend in `root` writes into the folder."""
    needs_setuptools()
    code = f"import sys, build_backend; build_backend.build_{kind}(sys.argv[1])"
    environment = dict(os.environ, PYTHONPATH=str(root / "scripts"))
    command = [sys.executable, "-c", code, str(folder)]
    folder.mkdir(parents=True)
    done = subprocess.run(command, cwd=str(root), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()[-4000:]
    (built,) = folder.iterdir()
    return built


def installed(folder: Path, root: Path = ROOT) -> Path:
    """A folder for PYTHONPATH that holds the files of the wheel of `root`."""
    with zipfile.ZipFile(str(build("wheel", folder / "dist", root))) as wheel:
        wheel.extractall(str(folder / "site"))
    return folder / "site"


def beside_a_foreign_shared(site: Path, folder: Path, *command: str) -> Tuple[int, str, str]:
    """Exit status and streams of `python COMMAND` in a project with packages that are called as the checkout's are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("shared", "tf_seresnet", "torch_imagenet"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text(FOREIGN)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(folder), str(site)]), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    return done.returncode, done.stdout, done.stderr
