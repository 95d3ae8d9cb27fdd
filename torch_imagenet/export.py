"""The mode `export`: a network with its weights as one file for another runtime, in the form of torch.export or ONNX.

    python torch_imagenet/main.py export --checkpoint runs/NAME --output model.onnx

The file gets its name only after it has been loaded in its own runtime and has given the network's logits.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from shared.errors import UsageError
from shared.export import output as output_file
from shared.export.check import atc_lines, batches, check_finite, compared, precision_of
from shared.run.log import RunLog
from shared.system.signals import Interrupts, Stopped, stop_at_once
from torch_imagenet.devices.device import open_device
from torch_imagenet.input_pipeline.in_graph import resized
from torch_imagenet.input_pipeline.transforms import EvalTransform
from torch_imagenet.networks.grouped_conv import set_form
from torch_imagenet.networks.registry import NETWORKS, mean_and_std
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run.recipe import evaluated_recipe, network_spec
from torch_imagenet.step.to_device import Normalisation
from torch_imagenet.weights.exported import FORMATS, INPUT, Format, Forward
from torch_imagenet.weights.form import Form
from torch_imagenet.weights.readable_names import labelled
from torch_imagenet.weights.source import FoundWeights, found_weights

_DTYPES = {"O0": torch.float32, "O2": torch.float16, "bf16": torch.bfloat16}  # of the weights, by --precision
# With resizing inside: some pixels in a thousand are one level off Pillow's, see `in_graph.resized`. That is 5e-4 at
# most where it was measured; a crop that is one pixel off is 1e-2 and more.
_RESIZED_TOLERANCE = 3e-3


class Classifier(nn.Module):
    """The network as a file has it: the batch in, float32 logits [B, K] out.

    `images` are float32 [B, 3, S, S] and normalised; with `normalise` uint8 [B, S, S, 3]; with `transform` too uint8
    [B, H, W, 3] of any H and W.
    """

    def __init__(
        self,
        network: nn.Module,
        dtype: torch.dtype,
        normalise: Optional[Normalisation] = None,
        transform: Optional[EvalTransform] = None,
    ) -> None:
        super().__init__()
        self.network, self._dtype, self._normalise, self._transform = network, dtype, normalise, transform

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images if self._transform is None else resized(images, self._transform)
        x = x if self._normalise is None else self._normalise(x)
        logits: torch.Tensor = self.network(x.to(self._dtype)).float()
        return logits


def export(config: RunConfig, interrupts: Interrupts) -> None:
    """Write --output from the weights of --checkpoint, by default the newest run's, and print the file's check.

    Raises UsageError where the options, the weights or the packages of the format do not allow it, and where the file
    does not give the network's logits; there is no file then, and one of before stays.
    """
    output, name = output_file.named(config.output, config.format, {key: one.suffix for key, one in FORMATS.items()})
    form, level = FORMATS[name], precision_of(config.precision, tuple(_DTYPES))
    _check_options(config, form, level)
    output_file.check_installed(form.title, form.packages)
    with RunLog(None) as log, interrupts.forwarded(stop_at_once):
        weights = found_weights(config)
        config, spec, size, normalisation = _origin(weights.settle(config), weights)
        network = set_form(spec.make(), config.grouped_conv)
        lines = [*config.command_notes, *weights.notes, weights.line, *weights.load(network)]
        assert weights.classes is not None  # or `_origin` raises
        classes, notes = labelled(weights.classes)
        lines += [f"note: {note}" for note in notes]
        for line in [*lines, f"network: {spec.text()}, {size} x {size} pixels, {level}"]:
            log.line(line)
        mean, std = mean_and_std(spec.name, normalisation)
        transform = EvalTransform(size, NETWORKS[spec.name].crop_fraction, config.keep_aspect)
        if config.with_preprocessing == "all" and not config.keep_aspect:
            what = "the run evaluates squeezed images, which a file resizes in another order of its passes than Pillow"
            raise UsageError(f"{what}; give --with-normalisation, and resize outside")
        metadata = _metadata(config, spec, transform, level, classes.stored())
        metadata.update(mean=mean, std=std, form=Form(spec.options.get("zero_pad", True), normalisation).stored())
        cpu, dtype, inside = open_device("cpu").torch_device, _DTYPES[level], config.with_preprocessing
        with output_file.complete(output) as file, _stopping():
            normalise = Normalisation(mean, std, cpu, torch.float32, False)
            check = _Check(network.eval(), config, transform, normalise)
            classifier = Classifier(
                network.to(dtype),
                dtype,
                Normalisation(mean, std, cpu, dtype, False) if inside else None,
                transform if inside == "all" else None,
            )
            program = _program(classifier.eval(), check.images, config)
            form.write(program, file, metadata)
            found = check.difference(form.load(file), level, _RESIZED_TOLERANCE if inside == "all" else 0.0)
        log.line(found)
        log.line(output_file.exported_line(output, form.title, config.batch_size))
        for line in _atc(config, output, form, size):
            log.line(line)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Raise Stopped, of a signal, where an error ends the block that wraps it, as onnxscript's passes do."""
    try:
        yield
    except Exception as error:
        cause: Optional[BaseException] = error
        while cause is not None:
            if isinstance(cause, Stopped):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


def _check_options(config: RunConfig, form: Format, level: str) -> None:
    """Raises UsageError where they have no such file."""
    if config.with_preprocessing and form is FORMATS["safetensors"]:
        raise UsageError("a file of weights alone has no preprocessing; leave --with-preprocessing out")
    for option, given in (("--batch-size", config.batch_size), ("--grouped-conv", config.grouped_conv != "native")):
        if given and form is FORMATS["safetensors"]:
            raise UsageError(f"a file of weights alone has no program, which {option} is of; leave it out")
    if level == "bf16" and form is not FORMATS["torch"]:
        what = "bfloat16 is a form of .pt2 alone: onnxruntime computes no convolution in it on a CPU"
        raise UsageError(f"{what}; give --precision O2, or --output FILE.pt2")


def _origin(config: RunConfig, weights: FoundWeights) -> Tuple[RunConfig, NetworkSpec, int, str]:
    """The network of these weights, without what only training uses; the side of its images and their normalisation."""
    if weights.classes is None:
        raise UsageError(f"{weights.path} has no classifier of these networks; name other weights with --checkpoint")
    recipe = evaluated_recipe(config, weights.state)
    spec = network_spec(config, recipe, weights.state, len(weights.classes.names), "classifier")
    if spec.options.get("auxiliary_head"):
        spec = replace(spec, options={**spec.options, "auxiliary_head": False})
    return config, replace(spec, drop_path=0.0), recipe.image_size, recipe.normalisation


def _metadata(
    config: RunConfig, spec: NetworkSpec, transform: EvalTransform, level: str, classes: Optional[List[str]]
) -> Dict[str, Any]:
    """What a user of the file must know, besides mean and deviation."""
    size, inside = transform.image_size, config.with_preprocessing
    pixels = "[B, H, W, 3], uint8" if inside == "all" else f"[B, {size}, {size}, 3], uint8"
    return {
        "network": spec.name,
        "input": f"{INPUT} {pixels if inside else f'[B, 3, {size}, {size}], float32'}, RGB",
        "output": f"logits [B, {spec.num_classes}], float32",
        "precision": level,
        "image_size": size,
        "shorter_side": transform.shorter_side,  # an image is scaled to it, bilinearly, then cropped
        "keep_aspect": transform.keep_aspect,  # else both sides are scaled to it
        "resize": "inside" if inside == "all" else "outside",
        "normalisation": "inside" if inside else "outside",
        "classes": classes,
    }


class _Check:
    """The network's own logits in float32 of fixed random images, and whether a file gives the same."""

    def __init__(
        self, network: nn.Module, config: RunConfig, transform: EvalTransform, normalise: Normalisation
    ) -> None:
        size = transform.image_size
        crops = images = [torch.from_numpy(batch) for batch in batches(config.batch_size, size)]
        if config.with_preprocessing == "all":
            shapes = ((size - 3, size + size // 2), (2 * size - 1, size + 2))  # to be enlarged, to be made smaller
            random = torch.Generator().manual_seed(0)
            images = [
                torch.randint(256, (len(batch), *shape, 3), generator=random, dtype=torch.uint8)
                for batch, shape in zip(images, shapes)
            ]
            crops = [
                torch.from_numpy(np.stack([transform(Image.fromarray(one.numpy())) for one in batch]))
                for batch in images
            ]
        self._inputs = images if config.with_preprocessing else [normalise(batch) for batch in crops]
        with torch.inference_mode():
            self._logits = [network(normalise(batch)).numpy() for batch in crops]
        check_finite(self._logits)

    @property
    def images(self) -> torch.Tensor:
        """The largest batch."""
        return self._inputs[-1]

    def difference(self, forward: Forward, level: str, least: float) -> str:
        """A line with the largest difference; see `compared`."""

        def run(images: np.ndarray) -> np.ndarray:
            logits: np.ndarray = forward(torch.from_numpy(images)).numpy()
            return logits

        return compared(run, [images.numpy() for images in self._inputs], self._logits, level, least)


def _program(classifier: Classifier, images: torch.Tensor, config: RunConfig) -> torch.export.ExportedProgram:
    """The classifier as a graph, for this batch size or for any. Without stack traces, which name folders here."""
    free = {} if config.batch_size else {0: torch.export.Dim("batch")}
    if config.with_preprocessing == "all":
        free.update({1: torch.export.Dim("height", min=2), 2: torch.export.Dim("width", min=2)})
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(classifier, (images,), dynamic_shapes=(free,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _atc(config: RunConfig, output: Path, form: Format, size: int) -> Tuple[str, ...]:
    """The line that converts the file for an Ascend NPU, which has fixed batches, and what it leaves open."""
    if form is not FORMATS["onnx"]:
        return ()
    if config.with_preprocessing:
        return ("note: atc takes uint8 images by AIPP alone; for Ascend leave the preprocessing outside",)
    return atc_lines(output, 5, (config.batch_size or 1, 3, size, size))
