"""The mode `predict`: the classes of images of one's own, and the same for a program or a notebook.

    from torch_imagenet import classifier
    classify = classifier("runs/NAME")
    classify("cat.jpg")                               # [("tabby", 0.71), ("tiger cat", 0.18), ...]
    classify.grad_cam("cat.jpg").overlay              # where it sees the tabby, as a PIL.Image

Images are decoded, resized, cropped and normalised as in an evaluation.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union, cast, overload

import numpy as np
import torch
from PIL import Image

from shared.class_names import Classes
from shared.errors import DataError, UsageError
from shared.imagenet.decode import BadImage, is_turned, read_rgb, to_rgb
from shared.imagenet.layout import counted, some
from shared.prediction.images import ImageList, find_images
from shared.prediction.output import Prediction, heading, rendered, write
from shared.prediction.overlays import OverlayFiles, overlay
from shared.recipes.base import as_typed
from shared.run.log import RunLog
from shared.system.paths import on_disk
from shared.system.signals import Interrupts, stop_at_once
from shared.text import closest
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device, open_device
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.evaluation import evaluated_setup, load_network
from torch_imagenet.input_pipeline.loader import BadImages, EvaluationInput, eval_transform
from torch_imagenet.networks.classifier import ImageClassifier
from torch_imagenet.networks.grad_cam import grad_cam
from torch_imagenet.options import RunConfig
from torch_imagenet.run import description
from torch_imagenet.step import not_finite
from torch_imagenet.step.compiled import compiled
from torch_imagenet.weights.readable_names import named
from torch_imagenet.weights.source import found_weights

TOP_K = 5
_LOOKED_AT = 1000  # images, for EXIF data, a millisecond each
Picture = Union[str, "os.PathLike[str]", Image.Image]
Answer = List[Tuple[str, float]]


class ActivationMap(NamedTuple):
    """Where in an image the network sees a class. The image is as the network gets it, cropped to S x S pixels."""

    name: str  # of the class
    shares: np.ndarray  # float32 [S, S], 0 to 1: how much a pixel's surroundings speak for the class
    overlay: Image.Image  # `shares` in colours over the image


class Classifier:
    """A network with its weights on a device, ready to classify. Threads may share one; `lines` says what it is."""

    # Reading images and weights changes warnings' filters and what torch unpickles, which are those of the process.
    _reading = threading.Lock()

    def __init__(self, config: RunConfig, device: Device) -> None:
        """With the weights and options of `config`. Raises UsageError where there are none, or they do not fit."""
        with self._reading, torch.random.fork_rng(devices=[]):  # `load_network` draws initial weights
            weights = found_weights(config)
            outputs = weights.classes or Classes.numbered(1000)  # without a head, which `load_network` says
            count = len(outputs.names)
            self.setup = evaluated_setup(weights.settle(config), device, ALONE, weights.state, count)
            self.network, matched = load_network(self.setup, weights)
        self._forward = compiled(self.network) if config.compile else self.network
        self._normalise = self.setup.normalisation()
        self._classes, self.top_k = named(outputs), min(config.top_k or TOP_K, count)
        self.lines = [*weights.notes, f"weights: {weights.path}", *matched]
        self.lines += [*(f"note: {note}" for note in self._classes.notes), *description.device_lines(self.setup)]
        size = self.setup.recipe.image_size
        self.lines.append(f"{description.network_line(self.setup, self.network)}, images of {size} x {size} pixels")

    @classmethod
    def from_options(cls, checkpoint: Union[str, "os.PathLike[str]"], **options: Any) -> Classifier:
        """With options of the command line by name, as in network="senet154". Raises UsageError, as that does."""
        words = [f"--checkpoint={os.fspath(checkpoint)}"]
        for name, value in options.items():
            words += as_typed(name, value).split(" ", 1)
        config = RunConfig.from_argv(["predict", *words])
        return cls(config, open_device(config.device, config.deterministic, npu=config.npu))

    @overload
    def __call__(self, images: Picture) -> Answer: ...

    @overload
    def __call__(self, images: Union[List[Any], Tuple[Any, ...]]) -> List[Answer]: ...

    def __call__(self, images: Any) -> Any:
        """The most probable classes of an image: [(name, probability), ...]; of a list of images, a list of these.

        An image is a path or a PIL.Image of any size and mode. Raises UsageError for what is none, or cannot be read.
        """
        several = isinstance(images, (list, tuple))
        asked: Sequence[Any] = images if several else [images]
        size = self.setup.eval_batch_size
        answers: List[Answer] = []
        for start in range(0, len(asked), size):
            found = self.predict(*self._batch(asked[start : start + size]))
            answers += [[(one.name, one.probability) for one in best] for best in found]
        return answers if several else answers[0]

    def grad_cam(self, image: Picture, name: Optional[str] = None) -> ActivationMap:
        """Where the network sees the class of this name, by default the most probable one, in an image.

        By Grad-CAM, see `torch_imagenet.networks.grad_cam`. Raises UsageError as a call does, and for an unknown name.
        """
        names = self._classes.names
        if name is not None and name not in names:
            near = closest(name, names)
            hint = f"did you mean {near!r}?" if near else "give a name as in the answer for an image"
            raise UsageError(f"the network has no class {name!r}; {hint}")
        batch, named = self._batch([image])
        best = self.predict(batch, named)[0][0].output if name is None else names.index(name)
        shares = self.maps(batch, [best])[0]
        return ActivationMap(names[best], shares, Image.fromarray(overlay(batch[0].numpy(), shares)))

    def predict(self, images: torch.Tensor, names: Sequence[str]) -> List[List[Prediction]]:
        """The `top_k` most probable classes of each of uint8 [B, S, S, 3], equal ones in the network's order.

        Raises UsageError, with one of the `names` of the images, where the network gives no number.
        """
        setup = self.setup

        def logits(batch: torch.Tensor, by: Any) -> torch.Tensor:
            with torch.inference_mode(), setup.device.autocast(setup.precision):
                return by(self._normalise(batch)).float().cpu()

        found = out_of_memory.limited(partial(logits, by=self._forward), images, setup.device).double()
        bad = np.flatnonzero(~np.isfinite(found.numpy()).all(axis=1))
        if bad.size:
            layer = not_finite.layer_of(self.network, partial(logits, images, self.network))
            where = f", first in {layer}" if layer else ""
            raise UsageError(
                f"the network's outputs for {names[bad[0]]} are not all finite{where}; check the weights, or use"
                " --precision O0"
            )
        probabilities = torch.softmax(found, dim=1).numpy()
        order = np.argsort(-found.numpy(), axis=1, kind="stable")[:, : self.top_k]
        labels, shown, _ = self._classes
        return [
            [Prediction(labels[index], shown[index], int(index), float(row[index])) for index in best]
            for row, best in zip(probabilities, order)
        ]

    def maps(self, images: torch.Tensor, outputs: Sequence[int]) -> np.ndarray:
        """The class activation maps float32 [B, S, S], 0 to 1, of uint8 [B, S, S, 3] for one output each."""
        setup, chosen = self.setup, torch.tensor(outputs)

        def computed(batch: torch.Tensor) -> torch.Tensor:
            with setup.device.autocast(setup.precision):
                normalised = self._normalise(batch)
                network = cast(ImageClassifier, self.network)
                return grad_cam(network, normalised, chosen[: len(batch)].to(normalised.device)).cpu()

        maps: np.ndarray = out_of_memory.limited(computed, images, setup.device).numpy()
        return maps

    def _batch(self, images: Sequence[Any]) -> Tuple[torch.Tensor, List[str]]:
        """The images as uint8 [B, S, S, 3], and what to call them."""
        transform = eval_transform(self.setup)
        names = [str(image) if isinstance(image, (str, os.PathLike)) else "the image" for image in images]
        return torch.from_numpy(np.stack([transform(self._rgb(image)) for image in images])), names

    def _rgb(self, image: Any) -> Any:
        try:
            with self._reading:
                if isinstance(image, (str, os.PathLike)):
                    return read_rgb(on_disk(os.fspath(image)))
                if isinstance(image, Image.Image):
                    return to_rgb(image)
        except BadImage as error:
            raise DataError(f"{image} cannot be read ({error}); give another image") from error
        except (OSError, ValueError, SyntaxError) as error:  # of Pillow, for a file that it has opened
            raise DataError(f"the image cannot be read ({error}); give another one") from error
        raise UsageError(f"{type(image).__name__} is no image; give a path, a PIL.Image, or a list of these")


def predict(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """The mode `predict`: standard output has the predictions and nothing else, standard error what the log says."""
    for name in ("data_path", "output_dir", "log_file", "restrict_classes"):
        if getattr(config, name):
            typed = as_typed(name, getattr(config, name))
            raise UsageError(
                f"{typed} is not for predict, which takes images as words and writes to standard output; leave it out"
            )
    if not config.images:
        raise UsageError("predict needs images; name files or folders, or - for a list of them on standard input")
    skip, form = config.on_bad_image == "skip", config.format or "text"
    with interrupts.forwarded(stop_at_once):  # a list on standard input may never end
        paths, notes = find_images(config.images, sys.stdin.buffer, skip)
    overlays = OverlayFiles(config.grad_cam, paths) if config.grad_cam else None
    with RunLog(None, console=sys.stderr) as log:
        log.lines([*config.command_notes, *(f"note: {note}" for note in notes)])
        classifier, bad = Classifier(config, device), BadImages(log)
        log.lines(classifier.lines)
        if overlays:
            overlays.make_folder()
        write(sys.stdout, heading(form, overlays is not None))
        done: List[str] = []
        flat: List[str] = []  # images whose maps are the same everywhere
        with EvaluationInput.from_setup(classifier.setup, ImageList.of(paths)) as images:
            for batch in images:
                interrupts.raise_if_requested()
                bad.note(batch.bad)
                if len(batch.images):
                    names = [paths[index] for index in batch.indices]
                    answers = classifier.predict(batch.images, names)
                    files: List[Optional[str]] = [None] * len(names)
                    if overlays:
                        maps = classifier.maps(batch.images, [best[0].output for best in answers])
                        files = list(map(overlays.write, batch.indices, batch.images.numpy(), maps))
                        flat += [name for name, one in zip(names, maps) if np.ptp(one) < 1e-6]
                    write(sys.stdout, "".join(rendered(form, *each) for each in zip(names, answers, files)))
                    done += names
        log.lines(_remarks(paths, done, flat))
        if not done:
            raise DataError(f"none of the images can be read ({min(bad.known)}); look at the lines above")


def _remarks(paths: Sequence[str], done: Sequence[str], flat: Sequence[str]) -> Iterator[str]:
    if len(done) < len(paths):
        yield f"bad images left out: {len(paths) - len(done):,} of {len(paths):,}"
    if flat:
        why = "no part of them speaks more for its class than others, or they are too small for more than one part"
        yield f"note: the overlays of {counted(len(flat), 'image')} show nothing ({some(flat)}): {why}"
    looked = done[:_LOOKED_AT]
    turned = [path for path in looked if is_turned(path)]
    if turned:
        which = f"{len(turned)} of {counted(len(looked), 'image')} looked at ({some(turned)})"
        yield f"note: {which} to be turned by EXIF data, which is not done, as in an evaluation; turn them first"
