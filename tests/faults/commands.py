"""The command lines of both halves inside this process, on tiny data, and what they said."""

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

TF_SHORT = (
    "--recipe sample --variant paper --depth 8 --batch-size 16 --steps-per-epoch 3 --epochs 2 --print-freq 1 "
    "--device cpu"
).split()
TORCH_SHORT = (
    "--recipe se_resnet50_1p --image-size 32 --batch-size 4 --epochs 2 --device cpu --warm-up-epochs 1 --print-"
    "freq 1 --workers 1"
).split()


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    "NPU out of memory. Tried to allocate 20.00 MiB (NPU 0)",
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
)


def load_framework() -> None:
    """Import what the commands below would, of the half that this Python runs."""
    for half in halves_here():
        if half != SHARED:
            importlib.import_module(f"{half}.training")


class Said(NamedTuple):
    """How a command ended: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    def refused(self, words: str) -> str:
        """ "" where it ended with 2 and one line with these words on standard error; otherwise what it did instead."""
        lines = self.err.splitlines()
        if self.status == 2 and len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]:
            return ""
        return f"no refusal with {words!r}: status {self.status}, {self.err or self.out[-300:]!r}"


def train(half: str, folder: Optional[Path], *options: str, short: bool = True) -> Said:
    """Train six (CIFAR half) or ten steps (ImageNet half, a network of 3,000 weights) into this folder.

    Where none is named the program chooses.
    """
    into = ["--output-dir", str(folder)] if folder else []
    if half == TF:
        from tf_seresnet.main import main

        return _said(main, [*(TF_SHORT if short else ["--device", "cpu"]), *options, *into])
    from tests.torch_imagenet.small_network import create_small
    from torch_imagenet.main import main as torch_main
    from torch_imagenet.networks import spec

    given = [*TORCH_SHORT, "--data-path", str(tiny_images())] if short else []
    if "--data-path" in options and short:
        given = TORCH_SHORT
    with mock.patch.object(spec, "create", create_small):
        return _said(torch_main, ["train", *given, *options, *into])


def _said(main: object, arguments: List[str]) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)  # type: ignore[operator]
    return Said(status, out.getvalue(), err.getvalue())


@functools.lru_cache(maxsize=None)
def tiny_images() -> Path:
    """Class folders with 21 images to train on and 10 to evaluate on, of three classes; made once per process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-data-"))
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    write_images(folder, 0)
    return folder


def write_images(folder: Path, seed: int, to_train_on: int = 21) -> None:
    """Write such a data set."""
    import numpy as np
    from PIL import Image

    random = np.random.RandomState(seed)
    for split, images in (("train", to_train_on), ("val", 10)):
        for number in range(images):
            pixels = random.randint(0, 120, (40, 48, 3))
            pixels[..., number % 3] += 120
            target = folder / split / f"class{number % 3}"
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(str(target / f"image{number:02d}.png"))


@contextlib.contextmanager
def before_step(half: str, number: int, do: object) -> Iterator[None]:
    """Inside, `do(step, *arguments of run)` is called before the `number`-th training step, counted from 1."""
    if half == TF:
        from tf_seresnet.step.training_step import TrainingStep as Step
    else:
        from torch_imagenet.step.training_step import TrainingStep as Step
    original, calls = Step.run, []

    def run(self: object, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == number:
            do(self, *arguments)  # type: ignore[operator]
        return original(self, *arguments)

    with mock.patch.object(Step, "run", run):
        yield


@contextlib.contextmanager
def memory_for(images: int, words: str = OUT_OF_MEMORY[0]) -> Iterator[None]:
    """Inside, the small network's forward pass of more images than this finds no memory, which it says so."""
    import torch

    from tests.torch_imagenet.small_network import SmallNetwork

    original = SmallNetwork.forward
    kind = torch.OutOfMemoryError if words.startswith("CUDA") else RuntimeError

    def forward(self: SmallNetwork, batch: torch.Tensor) -> object:
        if len(batch) > images:
            raise kind(words)
        return original(self, batch)

    with mock.patch.object(SmallNetwork, "forward", forward):
        yield


def advised(line: str) -> List[str]:
    """The options and numbers of the error that names a batch which fits."""
    words = line.partition("; ")[2].replace(",", "").split()
    return [word for word in words[: words.index("fits")] if word.startswith("--") or word.isdigit()][:4]


def remove_at_exit(folder: Path) -> None:
    """Of a process that may have forked: only itself removes it."""
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
