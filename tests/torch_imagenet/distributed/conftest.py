"""A copy of the checkout in which the documented launchers of this half are run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
HALF = "torch_imagenet"
SMALL = ["--device=cpu", "--image-size=32", "--batch_size=2", "--learning-rate=0.000001", "--workers=1"]
FIELDS = (
    "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime TrainAccuracy ActualLoss E2ETrainingTime"
).split()


class Checkout:
    """A copy of the checkout, in a folder with a space: launchers write into theirs."""

    def __init__(self, folder: Path) -> None:
        self.root, self.elsewhere = folder / "a checkout", folder / "else where"
        self.elsewhere.mkdir()
        for name in ("shared", HALF, "scripts"):
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("output", "__pycache__"))
        self.output = self.root / HALF / "test" / "output" / "0"

    def environment(self) -> Dict[str, str]:
        """That of a user who has named nothing but the Python."""
        environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "KIT_CACHE": str(self.elsewhere / "cache"),
        }
        for variable in ("ASCEND_DEVICE_ID", "etp_running_flag", "PYTHONPATH"):
            environment.pop(variable, None)
        return environment

    def start(self, name: str, *options: str, **settings: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.root / HALF / "test" / f"{name}.sh"), *options],
            cwd=self.elsewhere,
            text=True,
            env={**self.environment(), **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, name: str, *options: str, **settings: Any) -> Tuple[int, str, str]:
        process = self.start(name, *options, **settings)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def fields(self, case: str) -> Dict[str, str]:
        """The result file, read as the originals' readers do; its fields are all there and in order."""
        lines = (self.output / f"{case}.log").read_text().splitlines()
        values = dict(line.split(" = ") for line in lines)
        assert list(values) == FIELDS
        assert values["CaseName"] == case
        assert values["DeviceType"] == platform.machine()
        return values

    def result_files(self) -> List[str]:
        return sorted(path.name for path in self.output.glob("*_bs*")) if self.output.exists() else []

    def record(self, name: str) -> Dict[str, Any]:
        return json.loads((self.output / name / "result.json").read_text())


@pytest.fixture(scope="module")
def _copy(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("launchers").resolve())


@pytest.fixture
def checkout(_copy: Checkout) -> Iterator[Checkout]:
    """Without an output. What a test has left there is removed: checkpoints of real networks are large."""
    yield _copy
    shutil.rmtree(_copy.output.parent, ignore_errors=True)
