"""Stateless data loading: batches of uint8 images, decoded from files by worker processes.

The order of the images depends on (seed, epoch) alone, their augmentation on (seed, epoch, image). A run resumed in the
middle of an epoch therefore gets the remaining batches bit for bit, whatever the number of workers.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import weakref
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from shared.errors import DataError, UsageError, one_line
from shared.imagenet.decode import BadImage, read_rgb
from shared.imagenet.download_cache import Remote
from shared.imagenet.extent_reader import ExtentReader
from shared.imagenet.split import Split
from shared.run.log import RunLog
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.input_pipeline.jpeg_crop import JpegCropper, NotDecoded
from torch_imagenet.input_pipeline.transforms import EvalTransform, TrainTransform, torchvision_transforms
from torch_imagenet.input_pipeline.worker_watch import PATIENCE, WorkerWatch, prepare_worker, without_torchs_handler
from torch_imagenet.networks.registry import NETWORKS
from torch_imagenet.options import workers

if TYPE_CHECKING:
    from torch_imagenet.run.setup import RunSetup, TrainingSetup


# Of a batch: zero-based epoch, indices into the split int64 [B], files to download ahead.
_Key = Tuple[int, np.ndarray, Tuple[Remote, ...]]


class Loading(NamedTuple):
    """How a process reads its share of the images, which is that of `rank` among `ranks`."""

    workers: int = 0  # processes that decode images; 0: this one does
    skip_bad: bool = False  # an unreadable image is left out and named in `Batch.bad`; else it raises DataError
    pin_memory: bool = False
    rank: int = 0
    ranks: int = 1
    patience: float = PATIENCE  # seconds; a worker that gives no batch for so long raises RunEnded
    cropper: Optional[JpegCropper] = None  # decodes what it can; None: Pillow decodes all images

    @classmethod
    def from_setup(cls, setup: RunSetup) -> Loading:
        """As the options and the device of a run want it."""
        config, ranks, pin = setup.config, setup.ranks, setup.device.asynchronous
        patience = config.timeout * (0.9 if ranks.size > 1 else 1.0)  # told of before the other ranks give this one up
        cropper = setup.data.cropper if setup.data is not None else None
        return cls(workers(config), config.on_bad_image == "skip", pin, ranks.rank, ranks.size, patience, cropper)


class Batch(NamedTuple):
    """A batch of B images."""

    images: torch.Tensor  # uint8 [B, H, W, 3]
    labels: torch.Tensor  # int64 [B]
    bad: Tuple[str, ...]  # a text for each image that could not be read
    notes: Tuple[str, ...] = ()  # lines for the log about downloads
    indices: np.ndarray = np.empty(0, np.int64)  # int64 [B], of the images in their split; empty if they are synthetic


class _Batches(Dataset[Union[Batch, UsageError]]):
    """A map-style dataset whose items are whole batches. It can be pickled."""

    def __init__(
        self,
        split: Split,
        transform: Union[TrainTransform, EvalTransform],
        seed: int,
        cropper: Optional[JpegCropper] = None,
    ) -> None:
        self.split, self._transform, self._seed, self._cropper = split, transform, seed, cropper
        self.reader = ExtentReader(split.open_shards)

    def __getitem__(self, key: _Key) -> Union[Batch, UsageError]:
        """The batch, or the error as a value: DataLoader would add the traceback of the worker to the message."""
        epoch, numbers, ahead = key
        split, reader, size = self.split, self.reader, self._transform.image_size
        if get_worker_info() is not None:  # downloads in a thread, which in the main process would delay its exit
            reader.expect(ahead)
        random, bad = np.random.RandomState(0), []
        indices: List[int] = []
        try:
            images = _allocate((len(numbers), size, size, 3))
            for index in numbers.tolist():
                try:
                    row = images.numpy()[len(indices)]
                    row[:] = self._image(reader.source(split.extent(index)), epoch, index, random, row)
                except BadImage as error:
                    bad.append(one_line(f"{split.name(index)} ({error})"))
                    continue
                indices.append(index)
        except UsageError as error:
            return error
        readable = np.array(indices, np.int64)
        labels = torch.from_numpy(split.labels[readable].astype(np.int64))
        return Batch(images[: len(indices)], labels, tuple(bad), reader.take_notes(), readable)

    def _image(
        self, source: Union[str, BinaryIO], epoch: int, index: int, random: np.random.RandomState, row: np.ndarray
    ) -> np.ndarray:
        """uint8 [S, S, 3], which may be in the `row` of the batch. Raises BadImage."""
        jpeg = self._cropper.open(_content(source), row) if self._cropper is not None else None
        if jpeg is not None:
            with contextlib.suppress(NotDecoded):
                return self._transform(jpeg, self._seed, epoch, index, random)
        return self._transform(read_rgb(source), self._seed, epoch, index, random)


def _content(source: Union[str, BinaryIO]) -> bytes:
    """The bytes of a path or of a file in memory; none where it cannot be read, as Pillow will say."""
    try:
        if isinstance(source, str):
            with open(source, "rb") as file:
                return file.read()
        content = source.read()
        source.seek(0)
        return content
    except OSError:
        return b""


def _allocate(shape: Tuple[int, ...]) -> torch.Tensor:
    """An uninitialised uint8 tensor, in a worker in shared memory, so that it is not copied there later."""
    what = f"for a batch of {math.prod(shape) / 2**20:.0f} MiB"
    try:
        images = torch.empty(shape, dtype=torch.uint8)
    except RuntimeError as error:
        raise UsageError(f"there is no memory {what}; use a smaller --batch-size") from error
    try:
        return images if get_worker_info() is None else images.share_memory_()
    except RuntimeError as error:
        raise UsageError(
            f"there is no shared memory left {what}; raise its limit (docker run --shm-size), or use a smaller"
            " --batch-size or fewer --workers"
        ) from error


class _Input:
    """Runs requests through a DataLoader, in order. The workers live until `close` or until it is collected."""

    def __init__(self, batches: _Batches, batch_size: int, loading: Loading, steps: int) -> None:
        self.split, self._batches, self._batch_size, self._loading = batches.split, batches, batch_size, loading
        self._watch = WorkerWatch(loading.patience)
        self._requests: List[_Key] = []
        self._end: Optional[weakref.finalize[Any, _Input]] = None
        used = min(loading.workers, steps)  # a worker makes whole batches; more of them would be idle
        self._loader: DataLoader[Any] = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,  # replaced in place for every epoch
            num_workers=used,
            collate_fn=_identity,  # type: ignore[arg-type]
            pin_memory=loading.pin_memory,
            worker_init_fn=prepare_worker if used else None,
            persistent_workers=used > 0,
            generator=torch.Generator(),  # DataLoader would draw from torch's default one, which training uses
        )

    def _run(self, epoch: int, order: np.ndarray, starts: Iterable[int]) -> Iterator[Batch]:
        """The batches at these `starts`, begun at once. Raises DataError at a bad image, RunEnded if a worker fails."""
        indices = [order[start : start + self._batch_size] for start in starts]
        self._requests[:] = [(epoch, *each) for each in zip(indices, self.split.ahead(indices))]
        with self._watch.waiting(), without_torchs_handler():
            batches = iter(self._loader)
        if self._loader.num_workers and self._end is None:
            self._watch.iterator = batches
            self._end = weakref.finalize(self, _end_workers, batches, os.getpid())
            # At exit torch would wait five seconds for each worker in turn; this runs before.
            atexit.register(self._end)
        return self._checked(batches)

    def _checked(self, batches: Iterator[Any]) -> Iterator[Batch]:
        while True:
            with self._watch.waiting():
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, UsageError):
                raise batch
            if batch.bad and not self._loading.skip_bad:
                raise DataError(
                    f"an image in {self.split.folder} cannot be read: {batch.bad[0]}; replace it, or leave such images"
                    " out with --on-bad-image skip"
                )
            yield batch

    def close(self) -> None:
        """Stop the workers; each finishes at most its current batch."""
        self._batches.reader.close()
        if self._end is not None:
            self._loader._iterator = None  # a further epoch starts new workers
            self._watch.iterator = None
            self._end()
            atexit.unregister(self._end)
            self._end = None

    def __enter__(self: Any) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _end_workers(iterator: Any, owner: int) -> None:
    if os.getpid() != owner:  # a forked process inherits the finalizer
        return
    with contextlib.suppress(Exception):  # a worker may be dead
        iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():  # it ignores the SIGTERM of torch
            worker.kill()
            worker.join()


def _identity(batch: Batch) -> Batch:
    return batch


class TrainingInput(_Input):
    """Full batches of a split, shuffled anew every epoch; a last partial batch is dropped.

    Each is a rank's part of a global batch: the images of a step do not depend on how many devices share them.
    """

    def __init__(self, split: Split, transform: TrainTransform, batch_size: int, seed: int, loading: Loading) -> None:
        if transform.augmented_by:
            torchvision_transforms(transform.augmented_by)  # raises here, not in a worker, where torchvision is missing
        self._seed = seed
        self._begun: Dict[Tuple[int, int], Iterator[Batch]] = {}  # by epoch and first step, at most one
        self.steps_per_epoch = len(split) // (batch_size * loading.ranks)
        batches = _Batches(split, transform, seed, loading.cropper)
        super().__init__(batches, batch_size, loading, self.steps_per_epoch)

    @classmethod
    def from_setup(cls, setup: TrainingSetup) -> TrainingInput:
        """The training images of a run."""
        recipe, loading = setup.recipe, Loading.from_setup(setup)
        return cls(setup.data.train, TrainTransform.from_recipe(recipe), recipe.batch_size, recipe.seed, loading)

    def begin(self, epoch: int, first_step: int) -> None:
        """Let the workers start, and decode what `epoch` will be asked for."""
        self._begun = {(epoch, first_step): self.epoch(epoch, first_step)}

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of this zero-based epoch, from the zero-based `first_step` on."""
        begun, self._begun = self._begun.get((epoch, first_step)), {}
        if begun is not None:
            return begun
        rank, ranks = self._loading.rank, self._loading.ranks
        parts = [step * ranks + rank for step in range(first_step, self.steps_per_epoch)]
        return self._run(epoch, self.split.epoch_order(self._seed, epoch), [part * self._batch_size for part in parts])


class EvaluationInput(_Input):
    """Every image once, in order, as often as it is iterated; ranks have contiguous shares, equal up to one image."""

    def __init__(self, split: Split, transform: EvalTransform, batch_size: int, loading: Loading) -> None:
        images, rank, ranks = len(split), loading.rank, loading.ranks
        self._indices = np.arange(images * rank // ranks, images * (rank + 1) // ranks)
        batches = _Batches(split, transform, 0, loading.cropper)
        self.batch_size = min(batch_size, -(-images // ranks))  # of the largest batch of any rank
        super().__init__(batches, batch_size, loading, -(-len(self._indices) // batch_size))

    @classmethod
    def from_setup(cls, setup: RunSetup, split: Split) -> EvaluationInput:
        """These images as the run evaluates them: resized, and cropped by the network's documented fraction."""
        return cls(split, eval_transform(setup), setup.eval_batch_size, Loading.from_setup(setup))

    def __iter__(self) -> Iterator[Batch]:
        return self._run(0, self._indices, range(0, len(self._indices), self._batch_size))

    def image(self, index: int) -> np.ndarray:
        """The image at this index, cropped as for the network: uint8 [S, S, 3]. Raises OSError if it is gone."""
        batch = self._batches[0, np.array([index]), ()]
        if isinstance(batch, UsageError) or batch.bad:
            raise OSError("an image cannot be read again")
        return np.asarray(batch.images[0])


def eval_transform(setup: RunSetup) -> EvalTransform:
    """How the run evaluates images: at its image size, cropped by the network's documented fraction."""
    crop_fraction, keep_aspect = NETWORKS[setup.spec.name].crop_fraction, setup.config.keep_aspect
    return EvalTransform(setup.recipe.image_size, crop_fraction, keep_aspect)


class BadImages:
    """The images of a run that could not be read: `known` has each once, as the text "name (reason)"."""

    def __init__(self, log: RunLog, known: Iterable[str] = (), ranks: Ranks = ALONE) -> None:
        self.known = set(known)
        self._log, self._ranks = log, ranks

    def note(self, bad: Iterable[str]) -> None:
        """Log the images that are new. Other ranks also send them to rank 0, which keeps the log."""
        for text in bad:
            if text not in self.known:
                self.known.add(text)
                if not self._ranks.is_first:
                    self._ranks.send_to_rank0(text)
                self._log.line(f"bad image left out: {text}")

    def receive(self) -> None:
        """On rank 0: log what the other ranks have sent."""
        self.note(self._ranks.receive())
