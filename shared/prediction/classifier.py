"""What classifies images in a program or a notebook, and from the command line, without a framework."""

from __future__ import annotations

import abc
import os
import threading
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union, overload

import numpy as np

from shared.cli.parser import Parser
from shared.errors import DataError, UsageError
from shared.imagenet.decode import BadImage, check_pillow, read_rgb, to_rgb
from shared.prediction.output import Prediction
from shared.prediction.overlays import overlay
from shared.recipes.base import as_typed
from shared.system.paths import on_disk
from shared.text import closest

if TYPE_CHECKING:
    from PIL import Image

    Picture = Union[str, "os.PathLike[str]", Image.Image]

TOP_K = 5
Answer = List[Tuple[str, float]]


def command_words(parser: Parser, checkpoint: Union[str, os.PathLike], options: Mapping[str, Any]) -> List[str]:
    """The command line of a classifier with these options by name, as in {"top_k": 3, "xla": False}."""
    words = ["predict", f"--checkpoint={os.fspath(checkpoint)}"]
    for name, value in options.items():
        if value is not False or parser.get_default(name) is not False:  # a flag that is not given
            words += as_typed(name, value).split(" ", 1)
    return words


class ActivationMap(NamedTuple):
    """Where in an image the network sees a class. The image is as the network gets it, cropped to S x S pixels."""

    name: str  # of the class
    shares: np.ndarray  # float32 [S, S], 0 to 1: how much a pixel's surroundings speak for the class
    overlay: Image.Image  # `shares` in colours over the image


class ImageClassifier(abc.ABC):
    """A network with its weights on a device, ready to classify. Threads may share one; `lines` says what it is.

    A half sets the fields and defines how an image is cropped, and the network's logits for a batch.
    """

    # Reading images and weights changes warnings' filters and what torch unpickles, which are those of the process.
    reading = threading.Lock()
    lines: List[str]
    labels: Tuple[str, ...]  # the classes as the weights name them, in the order of the outputs
    names: Tuple[str, ...]  # the same for a reader
    top_k: int  # at most the number of classes
    batch_size: int  # images

    @abc.abstractmethod
    def cropped(self, image: Any) -> np.ndarray:
        """A PIL.Image of mode RGB as uint8 [S, S, 3] for the network."""

    @abc.abstractmethod
    def logits(self, images: np.ndarray) -> np.ndarray:
        """The outputs [B, classes] for uint8 [B, S, S, 3], B at most `batch_size`."""

    @abc.abstractmethod
    def first_not_finite(self, images: np.ndarray) -> Optional[str]:
        """The first layer whose output for these images is not finite, for a message."""

    @abc.abstractmethod
    def maps(self, images: np.ndarray, outputs: Sequence[int]) -> np.ndarray:
        """The class activation maps float32 [B, S, S], 0 to 1, of uint8 [B, S, S, 3] for one output each."""

    @overload
    def __call__(self, images: Picture) -> Answer: ...

    @overload
    def __call__(self, images: Union[List[Any], Tuple[Any, ...]]) -> List[Answer]: ...

    def __call__(self, images: Any) -> Any:
        """The most probable classes of an image: [(name, probability), ...]; of a list of images, a list of these.

        An image is a path or a PIL.Image of any size and mode. Raises UsageError for what is none, or cannot be read.
        """
        check_pillow()
        several = isinstance(images, (list, tuple))
        asked: Sequence[Any] = images if several else [images]
        answers: List[Answer] = []
        for start in range(0, len(asked), self.batch_size):
            found = self.predict(*self.batch(asked[start : start + self.batch_size]))
            answers += [[(one.name, one.probability) for one in best] for best in found]
        return answers if several else answers[0]

    def grad_cam(self, image: Any, name: Optional[str] = None) -> ActivationMap:
        """Where the network sees the class of this name, by default the most probable one, in a path or a PIL.Image.

        By Grad-CAM (Selvaraju et al., arXiv 1610.02391). Raises UsageError as a call does, and for an unknown name.
        """
        from PIL import Image

        check_pillow()
        if name is not None and name not in self.names:
            near = closest(name, self.names)
            hint = f"did you mean {near!r}?" if near else "give a name as in the answer for an image"
            raise UsageError(f"the network has no class {name!r}; {hint}")
        images, called = self.batch([image])
        output = self.predict(images, called)[0][0].output if name is None else self.names.index(name)
        shares = self.maps(images, [output])[0]
        return ActivationMap(self.names[output], shares, Image.fromarray(overlay(images[0], shares)))

    def batch(self, images: Sequence[Any]) -> Tuple[np.ndarray, List[str]]:
        """Images as uint8 [B, S, S, 3], and what to call them. Raises UsageError."""
        names = [str(image) if isinstance(image, (str, os.PathLike)) else "the image" for image in images]
        return np.stack([self.cropped(self._rgb(image)) for image in images]), names

    def predict(self, images: np.ndarray, names: Sequence[str]) -> List[List[Prediction]]:
        """The `top_k` most probable classes of each of uint8 [B, S, S, 3], equal ones in the network's order.

        Raises UsageError, with one of the `names` of the images, where the network gives no number.
        """
        logits = self.logits(images).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if bad.size:
            layer = self.first_not_finite(images)
            where = f", first in {layer}" if layer else ""
            raise UsageError(
                f"the network's outputs for {names[bad[0]]} are not all finite{where}; check the weights, or use"
                " --precision O0"
            )
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        order = np.argsort(-logits, axis=1, kind="stable")[:, : self.top_k]
        return [
            [Prediction(self.labels[index], self.names[index], int(index), float(row[index])) for index in best]
            for row, best in zip(probabilities, order)
        ]

    def _rgb(self, image: Any) -> Any:
        from PIL import Image

        try:
            with self.reading:
                if isinstance(image, (str, os.PathLike)):
                    return read_rgb(on_disk(os.fspath(image)))
                if isinstance(image, Image.Image):
                    return to_rgb(image)
        except BadImage as error:
            raise DataError(f"{image} cannot be read ({error}); give another image") from error
        except (OSError, ValueError, SyntaxError) as error:  # of Pillow, for a file that it has opened
            raise DataError(f"the image cannot be read ({error}); give another one") from error
        raise UsageError(f"{type(image).__name__} is no image; give a path, a PIL.Image, or a list of these")
