"""The mode `predict`: the classes of images of one's own, and the same for a program or a notebook.

    from tf_seresnet import classifier
    classify = classifier("runs/NAME")
    classify("cat.jpg")                               # [("cat", 0.71), ("dog", 0.18), ...]

Images are resized to a shorter side of 32 pixels, cropped at their centre and normalised as in the training.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from shared import cifar10
from shared.cifar10.dataset import read_images
from shared.errors import DataError, UsageError, one_line
from shared.imagenet.decode import BadImage, centre_crop, check_pillow, read_rgb
from shared.imagenet.split import is_image
from shared.prediction import mode
from shared.prediction.classifier import TOP_K, ImageClassifier
from shared.recipes.cifar10 import CifarRecipe
from shared.system.signals import Interrupts
from tf_seresnet import devices
from tf_seresnet.layers.activation_map import activation_maps
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints, description
from tf_seresnet.run.setup import RunSetup, inference_device, network_of
from tf_seresnet.step import variables
from tf_seresnet.step.graph import LEAST, Inference
from tf_seresnet.step.spec import NetworkSpec, Normalisation

tf1 = tf.compat.v1

BATCH_SIZE = 128
_SIZE = 32  # pixels a side
_BATCH = re.compile(r"(data_batch_\d+|test_batch)\Z")


class _Trained(NamedTuple):
    """A trained network, as the checkpoint and the options have it."""

    checkpoint: checkpoints.Found
    network: NetworkSpec
    normalisation: Normalisation
    names: Tuple[str, ...]  # of the classes
    device: Any
    lines: List[str]  # for the log


class Classifier(ImageClassifier):
    """A network with its weights on a device, ready to classify. Threads may share one; `lines` says what it is."""

    def __init__(self, config: RunConfig, images: Optional[int] = None) -> None:
        """With the weights and options of `config`, in batches for so many images, or for as many as there are.

        Call `devices.load_tensorflow` first. Raises UsageError where there are no weights, or they do not fit.
        """
        trained = _trained(config)
        self._network, self._normalisation = trained.network, trained.normalisation
        self.labels = self.names = trained.names
        self.top_k = min(config.top_k or TOP_K, len(self.names))
        most = config.batch_size or config.eval_batch_size or BATCH_SIZE
        self.batch_size, self._fixed = min(most, images or most), images is not None
        self._graph, self._building = tf.Graph(), threading.Lock()
        self._inferences: Dict[int, Inference] = {}
        self._inference(1)
        with self._graph.as_default():
            network = description.network_line(self._network)
            self._session = tf1.Session(config=trained.device.session_config())
            checkpoints.restore(self._session, trained.checkpoint, variables.model_variables())
        self.lines = [
            *trained.lines,
            f"weights: {trained.checkpoint.prefix}",
            *description.device_lines(trained.device),
        ]
        self.lines.append(f"{network}, images of {_SIZE} x {_SIZE} pixels")

    def cropped(self, image: Any) -> np.ndarray:
        """A PIL.Image of mode RGB as uint8 [32, 32, 3]; one of 32 x 32 pixels as it is."""
        return centre_crop(image, _SIZE, _SIZE)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The outputs float32 [B, classes] for uint8 [B, 32, 32, 3], with the moving averages."""
        return self._inference(len(images)).run(self._session, images)

    def first_not_finite(self, images: np.ndarray) -> Optional[str]:
        """The first layer whose output for these images is not finite, for a message."""
        inference = self._inference(len(images))
        with self._building, self._graph.as_default():
            return inference.first_not_finite(self._session, images)

    def maps(self, images: np.ndarray, outputs: Sequence[int]) -> np.ndarray:
        """The class activation maps float32 [B, 32, 32], 0 to 1, of uint8 [B, 32, 32, 3] for one output each."""
        inference = self._inference(len(images))
        with self._graph.as_default():
            features, weights = inference.features(self._session, images)
        return activation_maps(features, weights, outputs, _SIZE)

    def _inference(self, images: int) -> Inference:
        """The network for a batch of so many images or a few more, as a power of two: few graphs, and few compiled."""
        size = self.batch_size if self._fixed else min(self.batch_size, max(LEAST, 1 << (images - 1).bit_length()))
        with self._building:
            if size not in self._inferences:
                with self._graph.as_default():
                    reuse = bool(self._inferences)
                    self._inferences[size] = Inference(self._network, self._normalisation, size, reuse)
            return self._inferences[size]


def _trained(config: RunConfig) -> _Trained:
    """Raises UsageError where there is no checkpoint, or an option contradicts it."""
    if devices.environment.is_rank():
        raise UsageError(
            "the mode predict looks at one device; start it once, without the variables of several processes"
        )
    config, found = checkpoints.named(config)
    assert found is not None
    state, notes = found.state, list(found.notes)
    if state is None:
        return _weights_alone(config, found)
    if config.data_path is not None:
        what = f"--data-path {config.data_path} is not for predict with {found.prefix}"
        raise UsageError(f"{what}, which says how images were normalised; leave it out")
    classes = checkpoints.classes(found)
    assert classes is not None
    network = network_of(config, CifarRecipe.from_json(state["recipe"]), state, len(classes.names))
    notes += [] if classes.named else ["note: the weights have no class names; a class is named by its number, from 0"]
    normalisation, device = Normalisation(**state["normalisation"]), inference_device(config, state)
    return _Trained(found, network, normalisation, classes.names, device, notes)


def _weights_alone(config: RunConfig, found: checkpoints.Found) -> _Trained:
    """Of TensorFlow's files alone, which do not say how images were normalised: as `evaluate` has it, from the data."""
    if config.data_path is None and not os.path.lexists(cifar10.FOLDER):
        raise UsageError(
            f"{found.prefix} has weights alone, and not how images were normalised; name the folder of its run, or"
            " the data set that it was trained on with --data-path DIR"
        )
    setup = RunSetup.from_config(config)
    notes = [*setup.classes.notes, "images are normalised as the training images of this data set"]
    lines = [setup.data_remark, *found.notes, *(f"note: {note}" for note in notes)]
    return _Trained(found, setup.network, setup.normalisation, setup.classes.names, setup.device, lines)


def predict(config: RunConfig, interrupts: Interrupts) -> None:
    """The mode `predict`: standard output has the predictions and nothing else, standard error what the log says."""

    def opened(paths: List[str]) -> Classifier:
        batches = sum(map(_is_batch, paths))
        if batches and config.grad_cam:
            what = next(filter(_is_batch, paths))
            raise UsageError(
                f"--grad-cam draws over image files, and {what} is a CIFAR-10 batch; leave one of them out"
            )
        if batches < len(paths):
            check_pillow()
        return Classifier(config, sys.maxsize if batches else len(paths))

    read = functools.partial(_batches, skip=config.on_bad_image == "skip")
    mode.predict(config, interrupts, opened, read, lambda name: is_image(name) or _is_batch(name))


def _batches(classifier: Classifier, paths: Sequence[str], skip: bool) -> mode.Batches:
    names: List[str] = []
    images: List[np.ndarray] = []
    bad: List[str] = []
    for path in paths:
        try:
            found = list(_images(classifier, path))
        except (BadImage, DataError) as error:
            what = str(error).partition("; ")[0] if isinstance(error, DataError) else f"{path} ({error})"
            if not skip:
                raise DataError(
                    f"an image in the list cannot be read: {what}; replace it, or leave such images out with"
                    " --on-bad-image skip"
                ) from error
            bad.append(one_line(what))
            continue
        for name, image in found:
            names.append(name)
            images.append(image)
            if len(names) == classifier.batch_size:
                yield mode.Batch(names, np.stack(images), tuple(bad))
                names, images, bad = [], [], []
    if names or bad:
        yield mode.Batch(names, np.stack(images) if images else np.empty((0, _SIZE, _SIZE, 3), np.uint8), tuple(bad))


def _images(classifier: Classifier, path: str) -> Iterator[Tuple[str, np.ndarray]]:
    """The image of a file, or all images of a CIFAR-10 batch, with their names: uint8 [32, 32, 3]."""
    if _is_batch(path):
        for number, image in enumerate(read_images(Path(path))):
            yield f"{path}[{number}]", image
    else:
        yield path, classifier.cropped(read_rgb(path))


def _is_batch(path: str) -> bool:
    return _BATCH.match(os.path.basename(path)) is not None
