"""What the tests of the ImageNet half share: torchvision, a generated data set, short runs of the command line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, List, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from benchmarks import torchvision_import  # noqa: E402
from tests.torch_imagenet.small_network import create_small  # noqa: E402

importlib.import_module("torch._dynamo")  # the first optimizer loads it, in seconds that some test would pay for
torch.set_num_threads(1)  # pytest-xdist has a process for every core


def import_torchvision() -> ModuleType:
    """torchvision; skips where it is not installed."""
    try:
        return torchvision_import.import_torchvision()
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """See `import_torchvision`."""
    return import_torchvision()


# -- short runs of the command line inside the test process ----------------------------------------------------


class Tiny(NamedTuple):
    """A generated data set in the ImageNet layout."""

    folder: Path
    classes: int = 3
    train_images: int = 21
    val_images: int = 10


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Three classes of small colourful images, 21 to train on and 10 to evaluate on."""
    import numpy as np
    from PIL import Image

    made = Tiny(tmp_path_factory.mktemp("data") / "tiny")
    random = np.random.RandomState(0)
    for split, images in (("train", made.train_images), ("val", made.val_images)):
        for number in range(images):
            label = number % made.classes
            pixels = random.randint(0, 120, (40 + number, 48, 3))
            pixels[..., label] += 120
            folder = made.folder / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"image{number:02d}.png")
    return made


class Run:
    """A finished run: its exit status, its options and its files."""

    def __init__(self, status: int, folder: Path, options: List[str]) -> None:
        self.status, self.folder, self.options = status, folder, options

    def at(self, folder: Path) -> Run:
        """The run of the same options in another folder."""
        return Run(0, folder, self.options)

    @property
    def record(self) -> Dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def recipe(self) -> Dict[str, Any]:
        return json.loads((self.folder / "config.json").read_text())["recipe"]

    def events(self, *kinds: str) -> List[Dict[str, Any]]:
        """The events without what differs from run to run: times and speeds."""
        drop = ("time", "images_per_second", "step_ms_p50", "step_ms_p95", "data_wait_share", "steps_timed")
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        return [
            {key: value for key, value in event.items() if key not in drop}
            for event in events
            if not kinds or event["event"] in kinds
        ]

    def training(self) -> Dict[str, Any]:
        """The tensors of the last checkpoint."""
        path = self.folder / "checkpoints" / "last" / "training.pth"
        return torch.load(path, map_location="cpu", weights_only=True)


SHORT = (
    "--recipe se_resnet50_1p --image-size 32 --batch-size 4 --epochs 2 --device cpu --warm-up-epochs 1 --print-"
    "freq 1 --workers 1"
).split()


@pytest.fixture(scope="session")
def run_in(tiny: Tiny) -> Callable[..., Run]:
    """run_in(folder, *options) trains for ten steps on `tiny`; with plain=True nothing is added to the options.

    The network is a small one under the name se_resnet50, unless real=True.
    """
    from torch_imagenet.main import main
    from torch_imagenet.networks import spec as network_spec

    def start(folder: Path, *options: str, plain: bool = False, mode: str = "train", real: bool = False) -> Run:
        arguments = list(options) if plain else [*SHORT, "--data-path", str(tiny.folder), *options]
        if "--output-dir" not in arguments and mode not in ("check-data", "export"):
            arguments += ["--output-dir", str(folder)]
        with pytest.MonkeyPatch.context() as patch:
            if not real:
                patch.setattr(network_spec, "create", create_small)
            status = main([mode, *arguments])
        return Run(status, folder, [mode, *arguments[:-2]])

    return start


# -- the simulated NPU -----------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
SIMULATED_NPU = ROOT / "tests" / "fakes" / "torch_npu_on_cpu"


@pytest.fixture(scope="session")
def npu_environment() -> Dict[str, str]:
    """The environment of a process in which `import torch_npu` gives the simulated device; it is built where needed.

    Skips where there is no compiler; fails there instead where KIT_TEST_NPU is 1.
    """
    spec = importlib.util.spec_from_file_location("simulated_npu_build", SIMULATED_NPU / "torch_npu" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    if build.compiler() is None:
        reason = "no C++ compiler: the simulated NPU cannot be built, so nothing of --device npu:0 is tested here"
        (pytest.fail if os.environ.get("KIT_TEST_NPU") == "1" else pytest.skip)(reason)
    build.library()
    path = os.pathsep.join([str(SIMULATED_NPU), str(ROOT)])
    return dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", TORCH_DEVICE_BACKEND_AUTOLOAD="0")


@pytest.fixture(scope="session")
def on_npu(
    npu_environment: Dict[str, str], tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Dict[str, Any]]:
    """on_npu(name, ...) -> what these checks of devices/npu/driver.py have found out, in one process."""

    def found_out(*names: str) -> Dict[str, Any]:
        folder = tmp_path_factory.mktemp("npu")
        command = [
            sys.executable,
            str(Path(__file__).parent / "devices" / "npu" / "driver.py"),
            str(tiny.folder),
            str(folder),
        ]
        done = subprocess.run(
            [*command, *names], env=npu_environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads((folder / "facts.json").read_text())

    return found_out
