"""The mode `export`: a network with its weights as one file for another runtime, in the form of torch.export or ONNX.

    python torch_imagenet/main.py export --checkpoint runs/NAME --output model.onnx

The file gets its name only after it has been loaded in its own runtime and has given the network's logits.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from shared import class_names
from shared.errors import UsageError
from shared.export import output as output_file
from shared.export.check import atc_lines, batches, check_finite, compared, precision_of
from shared.run.log import RunLog
from shared.system.signals import Interrupts, stop_at_once
from torch_imagenet.devices.device import open_device
from torch_imagenet.devices.precision import Precision, precision
from torch_imagenet.networks.grouped_conv import set_form
from torch_imagenet.networks.registry import NETWORKS, mean_and_std
from torch_imagenet.networks.spec import NetworkSpec
from torch_imagenet.options import RunConfig
from torch_imagenet.run.recipe import evaluated_recipe, network_spec
from torch_imagenet.step.to_device import Normalisation
from torch_imagenet.weights.exported import FORMATS, INPUT, Format, Forward
from torch_imagenet.weights.form import Form
from torch_imagenet.weights.source import FoundWeights, found_weights


class Classifier(nn.Module):
    """The network as a file has it: the batch in, float32 logits [B, K] out.

    `images` are float32 [B, 3, S, S] and normalised; with `normalise` uint8 [B, S, S, 3].
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, normalise: Optional[Normalisation]) -> None:
        super().__init__()
        self.network, self._dtype, self._normalise = network, dtype, normalise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        prepared = images if self._normalise is None else self._normalise(images)
        logits: torch.Tensor = self.network(prepared.to(self._dtype)).float()
        return logits


def export(config: RunConfig, interrupts: Interrupts) -> None:
    """Write --output from the weights of --checkpoint, by default the newest run's, and print the file's check.

    Raises UsageError where the options, the weights or the packages of the format do not allow it, and where the file
    does not give the network's logits; there is no file then, and one of before stays.
    """
    output, name = output_file.named(config.output, config.format, {key: one.suffix for key, one in FORMATS.items()})
    form, level = FORMATS[name], precision(precision_of(config.precision))
    if config.with_preprocessing and form is FORMATS["safetensors"]:
        raise UsageError("a file of weights alone has no preprocessing; leave --with-preprocessing out")
    output_file.check_installed(form.title, form.packages)
    with RunLog(None) as log, interrupts.forwarded(stop_at_once):
        weights = found_weights(config)
        config, spec, size, normalisation = _origin(weights.settle(config), weights)
        network = set_form(spec.make(), config.grouped_conv)
        lines = [*config.command_notes, *weights.notes, weights.line, *weights.load(network)]
        classes, notes = _classes(weights, spec.num_classes)
        for line in [*lines, *notes, f"network: {spec.text()}, {size} x {size} pixels, {level.name}"]:
            log.line(line)
        mean, std = mean_and_std(spec.name, normalisation)
        cpu = open_device("cpu").torch_device
        metadata = _metadata(config, spec, size, level, classes)
        metadata.update(mean=mean, std=std, normalisation="inside" if config.with_preprocessing else "outside")
        metadata.update(form=Form(spec.options.get("zero_pad", True), normalisation).stored())
        with output_file.complete(output) as file:
            check = _Check(network.eval(), config, size, Normalisation(mean, std, cpu, torch.float32, False))
            network.to(level.weights)
            inside = Normalisation(mean, std, cpu, level.weights, False) if config.with_preprocessing else None
            program = _program(Classifier(network, level.weights, inside).eval(), check.images, config.batch_size)
            form.write(program, file, metadata)
            found = check.difference(form.load(file), level.name)
        log.line(found)
        batch = f"batches of {config.batch_size}" if config.batch_size else "batches of any size"
        log.line(f"exported: {output} ({output.stat().st_size / 1e6:.1f} MB, {form.title}, {batch})")
        for line in _atc(config, output, form, size):
            log.line(line)


def _origin(config: RunConfig, weights: FoundWeights) -> Tuple[RunConfig, NetworkSpec, int, str]:
    """The network of these weights, without what only training uses; the side of its images and their normalisation."""
    if weights.classes is None:
        raise UsageError(f"{weights.path} has no classifier of these networks; name other weights with --checkpoint")
    recipe = evaluated_recipe(config, weights.state)
    spec = network_spec(config, recipe, weights.state, len(weights.classes.names), "classifier")
    if spec.options.get("auxiliary_head"):
        spec = replace(spec, options={**spec.options, "auxiliary_head": False})
    return config, replace(spec, drop_path=0.0), recipe.image_size, recipe.normalisation


def _classes(weights: FoundWeights, outputs: int) -> Tuple[Optional[List[str]], List[str]]:
    """The names of the outputs, None where they are unknown, and notes. 1,000 without names are ImageNet's."""
    assert weights.classes is not None
    if weights.classes.named:
        return list(weights.classes.names), []
    if outputs == len(class_names.imagenet()):
        what = "their 1,000 outputs are taken for ImageNet's classes in its order"
        return list(class_names.imagenet()), [f"note: the weights have no class names; {what}"]
    return None, ["note: the weights have no class names, so the file has none"]


def _metadata(
    config: RunConfig, spec: NetworkSpec, size: int, level: Precision, classes: Optional[List[str]]
) -> Dict[str, Any]:
    """What a user of the file must know, besides the normalisation."""
    shape = f"[B, {size}, {size}, 3], uint8" if config.with_preprocessing else f"[B, 3, {size}, {size}], float32"
    return {
        "network": spec.name,
        "input": f"{INPUT} {shape}, RGB",
        "output": f"logits [B, {spec.num_classes}], float32",
        "precision": level.name,
        "image_size": size,
        "shorter_side": int(
            size / NETWORKS[spec.name].crop_fraction
        ),  # an image is scaled to it, bilinearly, then cropped
        "classes": classes,
    }


class _Check:
    """The network's own logits in float32 of fixed random images, and whether a file gives the same."""

    def __init__(self, network: nn.Module, config: RunConfig, size: int, normalise: Normalisation) -> None:
        pixels = [torch.from_numpy(images) for images in batches(config.batch_size, size)]
        self._inputs = pixels if config.with_preprocessing else [normalise(images) for images in pixels]
        with torch.inference_mode():
            self._logits = [network(normalise(images)).numpy() for images in pixels]
        check_finite(self._logits)

    @property
    def images(self) -> torch.Tensor:
        """The largest batch."""
        return self._inputs[-1]

    def difference(self, forward: Forward, level: str) -> str:
        """A line with the largest difference; see `compared`."""

        def run(images: np.ndarray) -> np.ndarray:
            logits: np.ndarray = forward(torch.from_numpy(images)).numpy()
            return logits

        return compared(run, [images.numpy() for images in self._inputs], self._logits, level)


def _program(classifier: Classifier, images: torch.Tensor, batch_size: Optional[int]) -> torch.export.ExportedProgram:
    """The classifier as a graph, for this batch size or for any. Without stack traces, which name folders here."""
    dynamic = None if batch_size else ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(classifier, (images,), dynamic_shapes=dynamic, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _atc(config: RunConfig, output: Path, form: Format, size: int) -> Tuple[str, ...]:
    """The line that converts the file for an Ascend NPU, which has fixed batches, and what it leaves open."""
    if form is not FORMATS["onnx"]:
        return ()
    if config.with_preprocessing:
        return ("note: atc takes uint8 images by AIPP alone; for Ascend export without --with-preprocessing",)
    return atc_lines(output, 5, (config.batch_size or 1, 3, size, size))
