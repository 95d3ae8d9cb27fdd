"""Runs the command lines of both halves in this process on tiny data."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional
from unittest import mock

from tests.faults.case import SHARED, TF, halves_here

TF_OPTIONS = (
    "--recipe sample --variant paper --depth 8 --batch-size 16 --steps-per-epoch 3 --epochs 2 --print-freq 1 "
    "--device cpu"
).split()
TORCH_OPTIONS = (
    "--recipe se_resnet50_1p --image-size 32 --batch-size 4 --epochs 2 --device cpu --warm-up-epochs 1 --print-"
    "freq 1 --workers 1"
).split()


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    "NPU out of memory. Tried to allocate 20.00 MiB (NPU 0)",
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
)


def load_framework() -> None:
    """Import the framework of the half that this Python runs, as the commands below would."""
    for half in halves_here():
        if half != SHARED:
            importlib.import_module(f"{half}.training")


class Result(NamedTuple):
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    def missing_refusal(self, text: str) -> str:
        """ "" if it ended with status 2 and one error line that contains `text`, else what it did instead."""
        lines = self.err.splitlines()
        if self.status == 2 and len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0]:
            return ""
        return f"no refusal with {text!r}: status {self.status}, {self.err or self.out[-300:]!r}"


def train(half: str, folder: Optional[Path], *options: str, defaults: bool = True) -> Result:
    """Train six steps (CIFAR half) or ten (ImageNet half, a network of 3,000 weights), by default.

    Without a folder the program chooses its own. `defaults=False` leaves out the options of a short training.
    """
    into = ["--output-dir", str(folder)] if folder else []
    if half == TF:
        from tf_seresnet.main import main

        return run_command(main, [*(TF_OPTIONS if defaults else ["--device", "cpu"]), *options, *into])
    from tests.torch_imagenet.small_network import create_small
    from torch_imagenet.main import main as torch_main
    from torch_imagenet.networks import spec

    base = [*TORCH_OPTIONS, "--data-path", str(tiny_images())] if defaults else []
    if "--data-path" in options and defaults:
        base = TORCH_OPTIONS
    with mock.patch.object(spec, "create", create_small):
        return run_command(torch_main, ["train", *base, *options, *into])


def run_command(main: object, arguments: List[str]) -> Result:
    """Call a command line's `main` with captured output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)  # type: ignore[operator]
    return Result(status, out.getvalue(), err.getvalue())


@functools.lru_cache(maxsize=None)
def tiny_images() -> Path:
    """Class folders with 21 training and 10 validation images of three classes, created once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-data-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    write_images(folder, 0)
    return folder


def write_images(folder: Path, seed: int, training_images: int = 21) -> None:
    """Write a data set of class folders with 10 validation images."""
    import numpy as np
    from PIL import Image

    rng = np.random.RandomState(seed)
    for split, images in (("train", training_images), ("val", 10)):
        for number in range(images):
            pixels = rng.randint(0, 120, (40, 48, 3))
            pixels[..., number % 3] += 120
            target = folder / split / f"class{number % 3}"
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(str(target / f"image{number:02d}.png"))


@contextlib.contextmanager
def before_step(half: str, number: int, action: object) -> Iterator[None]:
    """Inside, call `action(step, *arguments)` before training step `number`, counted from 1.

    The arguments are those of what computes the step; the first one of TensorFlow's is the session.
    """
    if half == TF:
        from tf_seresnet.step.training_step import TrainingStep as Step
    else:
        from torch_imagenet.step.training_step import TrainingStep as Step
    name, calls = "_run" if half == TF else "run", []
    original = getattr(Step, name)

    def run(self: object, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == number:
            action(self, *arguments)  # type: ignore[operator]
        return original(self, *arguments)

    with mock.patch.object(Step, name, run):
        yield
    assert len(calls) >= number, f"step {number} did not come"


@contextlib.contextmanager
def memory_for(images: int, message: str = OUT_OF_MEMORY[0]) -> Iterator[None]:
    """Inside, the small network's forward pass raises an out-of-memory error for more images than this."""
    import torch

    from tests.torch_imagenet.small_network import SmallNetwork

    original = SmallNetwork.forward
    kind = torch.OutOfMemoryError if message.startswith("CUDA") else RuntimeError

    def forward(self: SmallNetwork, batch: torch.Tensor) -> object:
        if len(batch) > images:
            raise kind(message)
        return original(self, batch)

    with mock.patch.object(SmallNetwork, "forward", forward):
        yield


def advised_options(line: str) -> List[str]:
    """The options and values in an error that names a batch size that fits."""
    words = line.partition("; ")[2].replace(",", "").split()
    return [word for word in words[: words.index("fits")] if word.startswith("--") or word.isdigit()][:4]


def remove_at_exit(folder: Path) -> None:
    """Remove the folder when this process exits."""
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
