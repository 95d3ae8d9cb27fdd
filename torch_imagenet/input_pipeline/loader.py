"""Stateless data loading: batches of uint8 images, decoded from files by worker processes.

The order of the images depends on (seed, epoch) alone, their augmentation on (seed, epoch, image). A run resumed in the
middle of an epoch therefore gets the remaining batches bit for bit, whatever the number of workers.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import weakref
from typing import Any, Callable, ContextManager, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from shared.cli.signals import REQUESTS
from shared.errors import DataError, UsageError, one_line
from shared.imagenet.decode import BadImage, read_rgb
from shared.imagenet.download_cache import Remote
from shared.imagenet.extent_reader import ExtentReader
from shared.imagenet.split import Split
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform, rand_augment
from torch_imagenet.input_pipeline.worker_watch import PATIENCE, WorkerWatch, without_torchs_handler


class Batch(NamedTuple):
    """Images uint8 [B, H, W, 3] and labels int64 [B].

    `bad` has a text for each image that could not be read, `notes` lines for the log about downloads. `indices`
    int64 [B] are the positions of the images in their split; empty for synthetic images.
    """

    images: torch.Tensor
    labels: torch.Tensor
    bad: Tuple[str, ...]
    notes: Tuple[str, ...] = ()
    indices: np.ndarray = np.empty(0, np.int64)


class Request(NamedTuple):
    """A request for one batch: zero-based epoch, indices into the split int64 [B], and files to download ahead."""

    epoch: int
    indices: np.ndarray
    ahead: Tuple[Remote, ...] = ()


class _Batches(Dataset[Union[Batch, UsageError]]):
    """A map-style dataset whose items are whole batches. It pickles to the split and the transform."""

    def __init__(self, split: Split, transform: Union[TrainTransform, EvalTransform], seed: int) -> None:
        self.split, self._transform, self._seed = split, transform, seed
        self.reader = ExtentReader(split.open_shards)

    def __getitem__(self, request: Request) -> Union[Batch, UsageError]:
        """The batch, or the error as a value: DataLoader would add the traceback of the worker to the message."""
        split, reader = self.split, self.reader
        if get_worker_info() is not None:  # downloads in a thread, which in the main process would delay its exit
            reader.expect(request.ahead)
        try:
            images = _allocate((len(request.indices), self._transform.image_size, self._transform.image_size, 3))
        except UsageError as error:
            return error
        pixels = images.numpy()
        random = np.random.RandomState(0)
        indices: List[int] = []
        bad = []
        for index in request.indices.tolist():
            try:
                image = read_rgb(reader.source(split.extent(index)))
            except BadImage as error:
                bad.append(one_line(f"{split.name(index)} ({error})"))
                continue
            except UsageError as error:
                return error
            pixels[len(indices)] = self._transform(image, self._seed, request.epoch, index, random)
            indices.append(index)
        readable = np.array(indices, np.int64)
        labels = torch.from_numpy(split.labels[readable].astype(np.int64))
        return Batch(images[: len(indices)], labels, tuple(bad), reader.take_notes(), readable)


def _allocate(shape: Tuple[int, ...]) -> torch.Tensor:
    """An uninitialised uint8 tensor, in a worker in shared memory, so that it is not copied there later."""
    try:
        images = torch.empty(shape, dtype=torch.uint8)
    except RuntimeError as error:
        raise UsageError(f"there is no memory for {_mebibytes(shape)}; use a smaller --batch-size") from error
    if get_worker_info() is None:
        return images
    try:
        return images.share_memory_()
    except RuntimeError as error:
        raise UsageError(
            f"there is no shared memory left for {_mebibytes(shape)}; raise its limit (docker"
            " run --shm-size), or use a smaller --batch-size or fewer --workers"
        ) from error


def _mebibytes(shape: Tuple[int, ...]) -> str:
    return f"a batch of {math.prod(shape) / 2**20:.0f} MiB"


class _Loader:
    """Runs requests through a DataLoader, in order. The workers live until `close` or until it is collected."""

    def __init__(self, batches: _Batches, workers: int, on_bad_image: str, pin_memory: bool, patience: float) -> None:
        self._patience = patience
        self._waiting: Callable[[], ContextManager[None]] = contextlib.nullcontext
        self._requests: List[Request] = []
        self._batches = batches
        self._skip = on_bad_image == "skip"
        self._end: Optional[weakref.finalize[Any, _Loader]] = None
        self._loader: DataLoader[Any] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,  # replaced in place for every epoch
            num_workers=workers,
            collate_fn=_identity,  # type: ignore[arg-type]
            pin_memory=pin_memory,
            worker_init_fn=_ignore_signals if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # DataLoader would draw from torch's default one, which training uses
        )

    def run(self, requests: List[Request]) -> Iterator[Batch]:
        """The batches of these requests.

        Raises DataError at a bad image unless they are skipped, and RunEnded where a worker dies or hangs.
        """
        ahead = self._batches.split.ahead([request.indices for request in requests])
        self._requests[:] = [request._replace(ahead=files) for request, files in zip(requests, ahead)]
        with self._waiting(), without_torchs_handler():
            batches = iter(self._loader)
        if self._loader.num_workers and self._end is None:
            self._waiting = WorkerWatch(batches, self._patience).waiting
            self._end = weakref.finalize(self, _end_workers, batches, os.getpid())
            # At exit torch would wait five seconds for each worker in turn; this runs before.
            atexit.register(self._end)
        while True:
            with self._waiting():
                batch = next(batches, None)
            if batch is None:
                return
            yield self._checked(batch)

    def _checked(self, batch: Union[Batch, UsageError]) -> Batch:
        if isinstance(batch, UsageError):
            raise batch
        if batch.bad and not self._skip:
            raise DataError(
                f"an image in {self._batches.split.folder} cannot be read: {batch.bad[0]}; replace it, or leave such"
                " images out with --on-bad-image skip"
            )
        return batch

    def close(self) -> None:
        """Stop the workers; each finishes at most its current batch."""
        self._batches.reader.close()
        if self._end is not None:
            self._loader._iterator = None  # a further epoch starts new workers
            self._waiting = contextlib.nullcontext
            self._end()
            atexit.unregister(self._end)
            self._end = None


def _end_workers(iterator: Any, owner: int) -> None:
    if os.getpid() != owner:  # a forked process inherits the finalizer
        return
    with contextlib.suppress(Exception):  # a worker may be dead
        iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():  # it ignores the SIGTERM of torch
            worker.kill()
            worker.join()


class _Input:
    """The context manager of both inputs: it stops the workers at the end."""

    _loader: _Loader

    def close(self) -> None:
        """Stop the workers."""
        self._loader.close()

    def __enter__(self: Any) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


class TrainingInput(_Input):
    """Full batches of a split, shuffled anew every epoch; a last partial batch is dropped.

    Each batch is the part of this `rank` in a global batch of `ranks` times the size, so the images of a step do not
    depend on the number of devices that share it. With `on_bad_image` "fatal" an unreadable image raises DataError;
    with "skip" it is left out and named in `Batch.bad`. A worker that gives no batch for `patience` seconds raises
    RunEnded.
    """

    def __init__(
        self,
        split: Split,
        transform: TrainTransform,
        batch_size: int,
        seed: int,
        workers: int,
        *,
        on_bad_image: str = "fatal",
        pin_memory: bool = False,
        rank: int = 0,
        ranks: int = 1,
        patience: float = PATIENCE,
    ) -> None:
        if transform.randaugment is not None:
            rand_augment(transform.randaugment)  # raises here, not in a worker, where torchvision is missing
        self._split, self._batch_size, self._seed = split, batch_size, seed
        self._rank, self._ranks = rank, ranks
        self.steps_per_epoch = len(split) // (batch_size * ranks)
        used = min(workers, self.steps_per_epoch)  # a worker makes whole batches; more of them would be idle
        self._loader = _Loader(_Batches(split, transform, seed), used, on_bad_image, pin_memory, patience)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of this zero-based epoch, from the zero-based `first_step` on."""
        order = self._split.epoch_order(self._seed, epoch)
        size = self._batch_size
        starts = [(step * self._ranks + self._rank) * size for step in range(first_step, self.steps_per_epoch)]
        return self._loader.run([Request(epoch, order[start : start + size]) for start in starts])


class EvaluationInput(_Input):
    """Every image of a split once, in order; the last batch may be smaller. It can be iterated repeatedly.

    Each `rank` of `ranks` has a contiguous share of the images; the shares differ by one image at most. The other
    arguments are as in `TrainingInput`.
    """

    def __init__(
        self,
        split: Split,
        transform: EvalTransform,
        batch_size: int,
        workers: int,
        *,
        on_bad_image: str = "fatal",
        pin_memory: bool = False,
        rank: int = 0,
        ranks: int = 1,
        patience: float = PATIENCE,
    ) -> None:
        images = len(split)
        self._indices = np.arange(images * rank // ranks, images * (rank + 1) // ranks)
        self._batch_size = batch_size
        self._batches = _Batches(split, transform, 0)
        used = min(workers, -(-len(self._indices) // batch_size))
        self._loader = _Loader(self._batches, used, on_bad_image, pin_memory, patience)

    def __iter__(self) -> Iterator[Batch]:
        size = self._batch_size
        starts = range(0, len(self._indices), size)
        return self._loader.run([Request(0, self._indices[start : start + size]) for start in starts])

    def image(self, index: int) -> np.ndarray:
        """The image at this index of the split, cropped as for the network: uint8 [S, S, 3].

        Raises OSError where it can no longer be read.
        """
        batch = self._batches[Request(0, np.array([index]))]
        if isinstance(batch, UsageError) or batch.bad:
            raise OSError("an image cannot be read again")
        return np.asarray(batch.images[0])


def _identity(batch: Batch) -> Batch:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ignore the signals that a terminal or scheduler sends to all processes: the main process decides when to stop."""
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)
