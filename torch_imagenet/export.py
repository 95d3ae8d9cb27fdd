"""The mode `export`: a network with its weights as one file for another runtime, in the form of torch.export or ONNX.

    python torch_imagenet/main.py export --checkpoint runs/NAME --output model.onnx

The file gets its name only after it has been loaded in its own runtime and has given the network's logits.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from shared.errors import UsageError
from shared.run.log import RunLog
from shared.system.atomic_files import complete
from shared.system.paths import writing
from shared.system.signals import Interrupts, Stopped, stop_at_once
from torch_imagenet.devices.device import open_device
from torch_imagenet.devices.precision import precision
from torch_imagenet.input_pipeline.in_graph import resized
from torch_imagenet.input_pipeline.transforms import EvalTransform
from torch_imagenet.networks.grouped_conv import set_form
from torch_imagenet.networks.registry import NETWORKS, mean_and_std
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run.recipe import evaluated_recipe, network_spec
from torch_imagenet.step.to_device import Normalisation
from torch_imagenet.weights.exported import FORMATS, INPUT, Format, Forward
from torch_imagenet.weights.readable_names import labelled
from torch_imagenet.weights.source import FoundWeights, found_weights

_CHECKED = (1, 7)  # images of the batches that are compared


class Form(NamedTuple):
    """How a file stores weights and computes with them."""

    dtype: torch.dtype
    tolerance: float  # the largest difference of a logit from the network's in float32, relative to the largest logit


# By --precision. float16 rounds to 11 bits; bfloat16 to 8, so that its differences are eight times as large.
FORMS = {"O0": Form(torch.float32, 1e-5), "O2": Form(torch.float16, 1e-2), "bf16": Form(torch.bfloat16, 8e-2)}
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
    output, kind = _output(config)
    level = _level(config, kind)
    if config.with_preprocessing == "all" and not config.keep_aspect:
        what = "no file squeezes its images; leave --do-not-preserve-aspect-ratio out"
        raise UsageError(f"{what}, or squeeze them outside and give --with-normalisation")
    kind.check_installed()
    with RunLog(None) as log, interrupts.forwarded(stop_at_once):
        weights = found_weights(config)
        config, spec, size, normalisation = _origin(weights.settle(config), weights)
        network = set_form(spec.make(), config.grouped_conv)
        given = config.device != "auto"
        lines = ["note: export computes on the CPU, whatever --device says"] if given else []
        lines += [*config.command_notes, *weights.notes, weights.line, *weights.load(network)]
        assert weights.classes is not None  # or `_origin` raises
        classes, notes = labelled(weights.classes)
        lines += [f"note: {note}" for note in notes]
        for line in [*lines, f"network: {spec.text()}, {size} x {size} pixels, {level}"]:
            log.line(line)
        mean, std = mean_and_std(spec.name, normalisation)
        transform = EvalTransform(size, NETWORKS[spec.name].crop_fraction, config.keep_aspect)
        metadata = _metadata(config, spec, transform, level, classes.stored())
        metadata.update(mean=mean, std=std)
        dtype, tolerance = FORMS[level]
        cpu, inside = open_device("cpu").torch_device, config.with_preprocessing
        with writing(output, "choose another place with --output"), complete(output) as file, _stopping():
            normalise = Normalisation(mean, std, cpu, torch.float32, False)
            check = _Check(network.eval(), config, transform, normalise)
            classifier = Classifier(
                network.to(dtype),
                dtype,
                Normalisation(mean, std, cpu, dtype, False) if inside else None,
                transform if inside == "all" else None,
            )
            program = _program(classifier.eval(), check.images, config)
            kind.write(program, file, metadata)
            if inside == "all":
                tolerance = max(tolerance, _RESIZED_TOLERANCE)
            found = check.difference(kind.load(file), tolerance)
        log.line(found)
        batch = f"batches of {config.batch_size}" if config.batch_size else "batches of any size"
        log.line(f"exported: {output} ({output.stat().st_size / 1e6:.1f} MB, {kind.title}, {batch})")
        for line in _atc(config, output, kind, size):
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


def _output(config: RunConfig) -> Tuple[Path, Format]:
    """The file to write and its format, by --format or the file's ending. Raises UsageError where they do not fit."""
    endings = " or ".join(f"FILE{form.suffix} ({name})" for name, form in FORMATS.items())
    if config.output is None:
        raise UsageError(f"export needs a file to write; name it with --output {endings}")
    path = Path(config.output)
    by_ending = {form.suffix: form for form in FORMATS.values()}
    form = FORMATS[config.format] if config.format else by_ending.get(path.suffix)
    if form is None or path.suffix != form.suffix:
        what = f"is not that of --format {config.format}" if form else "names no format"
        wanted = f"--output FILE{form.suffix}, or leave --format out" if form else f"--output {endings}"
        raise UsageError(f"the ending of {path} {what}; give {wanted}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it with --output {path / ('model' + form.suffix)}")
    return path, form


def _level(config: RunConfig, kind: Format) -> str:
    """float32 unless --precision says otherwise: what a run was trained in does not matter to another runtime."""
    level = precision(config.precision or "O0").name
    if level not in FORMS:
        forms = ", ".join(f"{name} (weights in {form.dtype})".replace("torch.", "") for name, form in FORMS.items())
        raise UsageError(f"export has no form {level}; give --precision {forms}")
    if level == "bf16" and kind is FORMATS["onnx"]:
        what = "onnxruntime computes no convolution in bfloat16 on a CPU, so the file could not be checked"
        raise UsageError(f"{what}; give --precision O2, or --output FILE{FORMATS['torch'].suffix}")
    return level


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
        "resize": "inside" if inside == "all" else "outside",
        "normalisation": "inside" if inside else "outside",
        "classes": classes,
    }


class _Check:
    """The network's own logits in float32 of fixed random images, and whether a file gives the same."""

    def __init__(
        self, network: nn.Module, config: RunConfig, transform: EvalTransform, normalise: Normalisation
    ) -> None:
        batches, size = (config.batch_size,) if config.batch_size else _CHECKED, transform.image_size
        shapes = ((size, size),) * 2
        if config.with_preprocessing == "all":
            shapes = ((size - 3, size + size // 2), (2 * size - 1, size + 2))  # to be enlarged, to be made smaller
        random = torch.Generator().manual_seed(0)
        images = [
            torch.randint(256, (count, *shape, 3), generator=random, dtype=torch.uint8)
            for count, shape in zip(batches, shapes)
        ]
        crops = images
        if config.with_preprocessing == "all":
            crops = [
                torch.from_numpy(np.stack([transform(Image.fromarray(one.numpy())) for one in batch]))
                for batch in images
            ]
        self._inputs = images if config.with_preprocessing else [normalise(batch) for batch in crops]
        with torch.inference_mode():
            self._logits = [network(normalise(batch)) for batch in crops]
        if not all(bool(logits.isfinite().all()) for logits in self._logits):
            raise UsageError("the network's own logits are not finite; check the weights with the mode evaluate")

    @property
    def images(self) -> torch.Tensor:
        """The largest batch."""
        return self._inputs[-1]

    def difference(self, forward: Forward, tolerance: float) -> str:
        """A line with the largest difference. Raises UsageError beyond the tolerance, relative to the largest logit."""
        largest = 0.0
        for images, own in zip(self._inputs, self._logits):
            found = forward(images)
            if found.shape != own.shape:
                raise UsageError(
                    f"the exported file gives {list(found.shape)} for {list(own.shape)}; nothing is written"
                )
            off = float((found - own).abs().max() / own.abs().max().clamp_min(1e-30))
            largest = max(largest, off if math.isfinite(off) else math.inf)
        batches = " and ".join(str(len(images)) for images in self._inputs)
        text = f"of the largest logit at batch size {batches}"
        if largest > tolerance:
            what = f"the exported file differs from the network by {largest:.1e} {text}, allowed is {tolerance:g}"
            raise UsageError(f"{what}; nothing is written, try another --format, or another release of its packages")
        return f"checked: differs from the network by at most {largest:.1e} {text} (allowed: {tolerance:g})"


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


def _atc(config: RunConfig, output: Path, kind: Format, size: int) -> Tuple[str, ...]:
    """The line that converts the file for an Ascend NPU, which has fixed batches, and what it leaves open."""
    if kind is not FORMATS["onnx"]:
        return ()
    if config.with_preprocessing:
        return ("note: atc takes uint8 images by AIPP alone; for Ascend leave the preprocessing outside",)
    names = json.dumps(str(output)), json.dumps(str(output.with_suffix("")))
    shape = f'--input_shape="{INPUT}:{config.batch_size or 1},3,{size},{size}"'
    return (
        "for Ascend, SOC_VERSION being Ascend and the chip's name that npu-smi info shows, as in Ascend910B3:",
        f"atc --framework=5 --model={names[0]} --output={names[1]} {shape} --soc_version=SOC_VERSION",
    )
