"""The mode `predict`: the classes of images of one's own, and the same for a program or a notebook.

    from torch_imagenet import classifier
    classify = classifier("runs/NAME")
    classify("cat.jpg")                               # [("tabby", 0.71), ("tiger cat", 0.18), ...]
    classify.grad_cam("cat.jpg").overlay              # where it sees the tabby, as a PIL.Image

Images are decoded, resized, cropped and normalised as in an evaluation.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, List, Optional, Sequence, Union, cast

import numpy as np
import torch

from shared.class_names import Classes
from shared.prediction import mode
from shared.prediction.classifier import TOP_K, ImageClassifier, command_words
from shared.prediction.images import ImageList
from shared.system.signals import Interrupts
from torch_imagenet.devices import out_of_memory
from torch_imagenet.devices.device import Device, open_device
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.evaluation import evaluated_setup, load_network
from torch_imagenet.input_pipeline.loader import EvaluationInput, eval_transform
from torch_imagenet.networks import classifier as networks
from torch_imagenet.networks.grad_cam import grad_cam
from torch_imagenet.options import RunConfig, parser
from torch_imagenet.run import description
from torch_imagenet.step import not_finite
from torch_imagenet.step.compiled import Compiled, padded
from torch_imagenet.weights.readable_names import named
from torch_imagenet.weights.source import found_weights


class Classifier(ImageClassifier):
    """A network with its weights on a device, ready to classify. Threads may share one; `lines` says what it is."""

    def __init__(self, config: RunConfig, device: Device) -> None:
        """With the weights and options of `config`. Raises UsageError where there are none, or they do not fit."""
        with self.reading, torch.random.fork_rng(devices=[]):  # `load_network` draws initial weights
            weights = found_weights(config)
            outputs = weights.classes or Classes.numbered(1000)  # without a head, which `load_network` says
            count = len(outputs.names)
            self.setup = evaluated_setup(weights.settle(config), device, ALONE, weights.state, count)
            self.network, matched = load_network(self.setup, weights)
        self._forward = Compiled(self.network, config.compile, device) if config.compile else self.network
        self._normalise = self.setup.normalisation()
        self.labels, self.names, notes = named(outputs)
        self.top_k, self.batch_size = min(config.top_k or TOP_K, count), self.setup.eval_batch_size
        self.lines = [*weights.notes, weights.line, *matched]
        self.lines += [*(f"note: {note}" for note in notes), *description.device_lines(self.setup)]
        size = self.setup.recipe.image_size
        self.lines.append(f"{description.network_line(self.setup, self.network)}, images of {size} x {size} pixels")

    @classmethod
    def from_options(cls, checkpoint: Union[str, "os.PathLike[str]"], **options: Any) -> Classifier:
        """With options of the command line by name, as in network="senet154". Raises UsageError, as that does."""
        config = RunConfig.from_argv(command_words(parser(), checkpoint, options))
        return cls(config, open_device(config.device, config.deterministic, npu=config.npu, tf32=config.tf32))

    def cropped(self, image: Any) -> np.ndarray:
        """A PIL.Image of mode RGB as uint8 [S, S, 3], as an evaluation has it."""
        return eval_transform(self.setup)(image)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The outputs float32 [B, classes] for uint8 [B, S, S, 3]."""
        forward = partial(self._logits, by=self._forward)
        size = self._forward.size if isinstance(self._forward, Compiled) else None
        batch = padded(torch.from_numpy(images), size)
        return np.asarray(out_of_memory.limited(forward, batch, self.setup.device)[: len(images)])

    def first_not_finite(self, images: np.ndarray) -> Optional[str]:
        """The first layer whose output for these images is not finite, for a message."""
        return not_finite.layer_of(self.network, partial(self._logits, torch.from_numpy(images), self.network))

    def maps(self, images: np.ndarray, outputs: Sequence[int]) -> np.ndarray:
        """The class activation maps float32 [B, S, S], 0 to 1, of uint8 [B, S, S, 3] for one output each."""
        network, chosen = cast(networks.ImageClassifier, self.network), torch.tensor(outputs)

        def computed(batch: torch.Tensor) -> torch.Tensor:
            with self.setup.device.autocast(self.setup.precision):
                x = self._normalise(batch)
                return grad_cam(network, x, chosen[: len(batch)].to(x.device)).cpu()

        return np.asarray(out_of_memory.limited(computed, torch.from_numpy(images), self.setup.device))

    def _logits(self, images: torch.Tensor, by: Any) -> torch.Tensor:
        with torch.inference_mode(), self.setup.device.autocast(self.setup.precision):
            return by(self._normalise(images)).float().cpu()


def predict(config: RunConfig, device: Device, ranks: Ranks, interrupts: Interrupts) -> None:
    """The mode `predict`: standard output has the predictions and nothing else, standard error what the log says."""
    mode.predict(config, interrupts, lambda paths: Classifier(config, device), _batches)


def _batches(classifier: Classifier, paths: List[str]) -> mode.Batches:
    with EvaluationInput.from_setup(classifier.setup, ImageList.of(paths)) as images:
        for batch in images:
            yield mode.Batch([paths[index] for index in batch.indices], batch.images.numpy(), batch.bad)
