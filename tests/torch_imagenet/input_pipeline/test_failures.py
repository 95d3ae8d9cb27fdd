"""What goes wrong in or with the worker processes: each time one line to the user, and no process that stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from shared import imagenet  # noqa: E402
from shared.errors import DataError, UsageError  # noqa: E402
from shared.imagenet.decode import (  # noqa: E402
    BadImage,
    inspect,  # noqa: E402
    read_rgb,
)
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput  # noqa: E402
from torch_imagenet.input_pipeline.transforms import TrainTransform  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def split(tiny):
    return imagenet.load(tiny.folder).train


def _living(number):
    """Whether there is a process of this number that is more than an entry for its parent to read."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_worker_is_one_line_and_the_next_epoch_has_new_workers(split):
    with TrainingInput(split, TrainTransform(24), 4, 0, Loading(2)) as batches:
        running = batches.epoch(0)
        expected = next(running)
        worker = batches._loader._iterator._workers[0]
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        wanted_words = r"data worker 0 of 2 \(process \d+\) was killed by signal 9.*; use fewer --workers"
        with pytest.raises(UsageError, match=wanted_words) as caught:
            list(running)
        assert "\n" not in str(caught.value)
        batches.close()
        assert torch.equal(next(batches.epoch(0)).images, expected.images)


def test_too_little_shared_memory_is_one_line(split, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # the worker is forked, so it finds this too
    with TrainingInput(split, TrainTransform(600), 4, 0, Loading(1)) as batches, pytest.raises(UsageError) as caught:
        list(batches.epoch(0))
    assert str(caught.value).startswith("there is no shared memory left for a batch of 4 MiB; raise its limit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_little_memory_is_one_line(split, monkeypatch, workers):
    original = torch.empty

    def none(shape, **options):
        if len(shape) == 4:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return original(shape, **options)

    monkeypatch.setattr(torch, "empty", none)  # the worker is forked, so it finds this too
    with TrainingInput(split, TrainTransform(600), 4, 0, Loading(workers)) as batches, pytest.raises(
        UsageError
    ) as caught:
        list(batches.epoch(0))
    assert str(caught.value) == "there is no memory for a batch of 4 MiB; use a smaller --batch-size"


def test_a_defect_in_a_worker_keeps_its_kind_and_its_place(split):
    class Broken(TrainTransform):
        def __call__(self, image, *arguments):
            raise ZeroDivisionError("here")

    with TrainingInput(split, Broken(24), 4, 0, Loading(1)) as batches, pytest.raises(
        ZeroDivisionError, match="__call__"
    ):
        list(batches.epoch(0))


def test_a_name_with_a_line_end_stays_on_one_line(tmp_path):
    for name in ("train", "val"):
        folder = tmp_path / name / "c"
        folder.mkdir(parents=True)
        (folder / "two\nlines\x1b[2J.png").write_bytes(b"")
    with TrainingInput(imagenet.load(tmp_path).train, TrainTransform(24), 1, 0, Loading(0)) as batches:
        with pytest.raises(DataError, match=r"c/two\?lines\?\[2J.png") as caught:
            list(batches.epoch(0))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", ["EPS", "GIF", "ICO", "JPEG", "PNG", "PPM", "TIFF", "WEBP", "BMP"])
def test_what_check_data_accepts_is_read_and_nothing_else(content, tmp_path):
    """EPS among them: to read it, Pillow would start another program on the file."""
    path = tmp_path / "image.JPEG"
    Image.new("RGB", (32, 32), (9, 8, 7)).save(path, format=content)
    accepted = not any(finding.is_fault for finding in inspect(str(path), "cat/image.JPEG"))
    try:
        read_rgb(str(path))
    except BadImage:
        assert not accepted
    else:
        assert accepted
    assert accepted == (content not in ("EPS", "ICO"))


ABANDONED = """
import sys
sys.path.insert(0, {root!r})
import numpy, torch
from shared import imagenet
from torch_imagenet.input_pipeline.loader import Loading, TrainingInput
from torch_imagenet.input_pipeline.transforms import TrainTransform

batches = TrainingInput(imagenet.load({data!r}).train, TrainTransform(24), 2, 0, Loading(2))
running = batches.epoch(0)
next(running)
print(*[worker.pid for worker in batches._loader._iterator._workers], flush=True)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), [("", 0), ("raise ValueError", 1), ("del batches, running", 0)])
def test_an_abandoned_epoch_leaves_no_process_and_does_not_keep_python_from_ending(tiny, end, status):
    program = ABANDONED.format(root=str(ROOT), data=str(tiny.folder), end=end)
    result = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert result.returncode == status, result.stderr
    workers = [int(word) for word in result.stdout.split()]
    assert len(workers) == 2
    for _ in range(100):
        if not any(map(_living, workers)):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {workers}")


def test_a_collected_input_takes_its_workers_along(split):
    batches = TrainingInput(split, TrainTransform(24), 2, 0, Loading(2))
    running = batches.epoch(0)
    next(running)
    workers = [worker.pid for worker in batches._loader._iterator._workers]
    assert all(map(_living, workers))
    del batches, running
    assert not any(map(_living, workers))


def test_pixels_of_many_batches_are_not_each_others(split):
    """A batch's memory is its own: nothing is filled a second time while the main process still looks at it."""
    with TrainingInput(split, TrainTransform(24), 2, 0, Loading(2)) as batches:
        kept = [batch.images for batch in batches.epoch(0)]
        copies = [images.numpy().copy() for images in kept]
        list(batches.epoch(1))
    assert all(np.array_equal(images.numpy(), copy) for images, copy in zip(kept, copies))
