"""The mode `export`: a network with its weights as one file for another runtime.

    python tf_seresnet/main.py export --checkpoint runs/NAME --output model.keras

The file gets its name only after it has been loaded in its own runtime and has given the network's logits.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from shared.class_names import Classes, match
from shared.errors import UsageError
from shared.export import output as output_file
from shared.export.check import atc_lines, batches, check_finite, compared, precision_of
from shared.recipes.cifar10 import CifarRecipe
from shared.run.log import RunLog
from shared.system.signals import Interrupts, stop_at_once
from tf_seresnet import devices
from tf_seresnet.export.classifier import IMAGES, SIDE, Classifier
from tf_seresnet.export.formats import FORMATS, Format
from tf_seresnet.options import RunConfig
from tf_seresnet.run import checkpoints
from tf_seresnet.run.setup import load_data, network_of
from tf_seresnet.step import variables
from tf_seresnet.step.graph import Inference
from tf_seresnet.step.spec import NetworkSpec, Normalisation

tf1 = tf.compat.v1


def export(config: RunConfig, interrupts: Interrupts) -> None:
    """Write --output from the weights of --checkpoint, by default the newest run's, and print the file's check.

    Raises UsageError where the options, the weights or the packages of the format do not allow it, and where the file
    does not give the network's logits; there is no file then, and one of before stays.
    """
    output, name = output_file.named(config.output, config.format, {name: one.suffix for name, one in FORMATS.items()})
    form, level = FORMATS[name], precision_of(config.precision)
    output_file.check_installed(form.title, form.packages)
    with RunLog(None) as log, interrupts.forwarded(stop_at_once):
        config, found = checkpoints.named(config)
        assert found is not None
        origin = _Origin.of(config, found)
        spec = origin.network
        lines = [*config.command_notes, *found.notes, f"checkpoint: {found.prefix}", *origin.notes]
        text = f"se_resnet{spec.depth}, variant {spec.variant}, {spec.num_classes} classes, {SIDE} x {SIDE} pixels"
        for line in [*lines, f"network: {text}, {level}"]:
            log.line(line)
        images = batches(config.batch_size, SIDE)
        values, own = _values_and_logits(found, origin, images)
        inside = origin.normalisation if config.with_preprocessing else None
        metadata = _metadata(config, origin, level)
        classifier = Classifier(spec, values, inside, config.batch_size, level == "O2", metadata)
        inputs = images if inside else [origin.normalised(batch) for batch in images]
        with output_file.complete(output, form.folder_of) as place:
            form.write(classifier, place)
            checked = compared(form.load(place), inputs, own, level)
        log.line(checked)
        for line in _last_lines(config, output, form):
            log.line(line)


@dataclasses.dataclass(frozen=True)
class _Origin:
    """What is known of the weights. `notes` are lines for the user."""

    network: NetworkSpec
    classes: Classes
    normalisation: Optional[Normalisation]  # None: unknown
    notes: List[str]

    @classmethod
    def of(cls, config: RunConfig, found: checkpoints.Found) -> _Origin:
        """Raises UsageError where an option contradicts the weights, or --with-preprocessing needs data that is not."""
        classes, state, notes = checkpoints.classes(found), found.state, []
        if classes is None:
            raise UsageError(f"{found.prefix} has no classifier; name other weights with --checkpoint")
        if state and config.data_path is not None:
            raise UsageError("a run's checkpoint has its normalisation and its classes; leave --data-path out")
        recipe = CifarRecipe.from_json(state["recipe"]) if state else config.named_recipe()
        recipe = recipe if state else recipe.override(**config.given(("depth", "variant")))
        network = network_of(config, recipe, state, len(classes.names))
        normalisation = Normalisation(**state["normalisation"]) if state else None
        if normalisation is None and (config.with_preprocessing or config.data_path):
            data, remark = load_data(config)
            normalisation = Normalisation.from_images(data.train_images)
            matched = match(classes, Classes(data.label_names), "check --data-path and label_names in batches.meta")
            classes = Classes(matched.names)
            notes += [remark, *(f"note: {note}" for note in matched.notes)]
        if normalisation is None:
            what = "the weights come without their run, so the file does not say how images are normalised"
            notes.append(f"note: {what}; --data-path DIR, the data they were trained on, adds it")
        if not classes.named:
            notes.append("note: the weights have no class names, so the file has none")
        return cls(network, classes, normalisation, notes)

    def normalised(self, images: np.ndarray) -> np.ndarray:
        """Float32 images as the network takes them, from uint8; of unknown normalisation any numbers near zero."""
        mean, std = self.statistics
        return ((images.astype(np.float32) - mean) / std).astype(np.float32)

    @property
    def statistics(self) -> Tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation to compare with, float32 [3], of pixels 0 to 255."""
        known = self.normalisation or Normalisation((127.5,) * 3, (63.75,) * 3)
        return np.array(known.mean, np.float32), np.array(known.std, np.float32)


def _values_and_logits(
    found: checkpoints.Found, origin: _Origin, images: List[np.ndarray]
) -> Tuple[Dict[str, np.ndarray], List[np.ndarray]]:
    """The network's variables by name, and its logits of these batches as `evaluate` computes them."""
    mean, std = (tuple(values.tolist()) for values in origin.statistics)
    with tf.Graph().as_default():
        inference = Inference(origin.network, Normalisation(mean, std), len(images[-1]), reuse=False)
        network = variables.model_variables()
        with tf1.Session(config=devices.open_device("cpu").session_config()) as session:
            checkpoints.restore(session, found, network)
            values = session.run({variable.op.name: variable for variable in network})
            own = [inference.run(session, batch) for batch in images]
    check_finite(own)
    return values, own


def _metadata(config: RunConfig, origin: _Origin, level: str) -> Dict[str, Any]:
    """What a user of the file must know. Mean and standard deviation are those of RGB in 0 to 1."""
    spec, known = origin.network, origin.normalisation
    kind = "uint8, RGB, 0 to 255" if config.with_preprocessing else "float32, RGB"
    return {
        "network": f"se_resnet{spec.depth}",
        "variant": spec.variant,
        "input": f"{IMAGES} [B, {SIDE}, {SIDE}, 3], {kind}",
        "output": f"logits [B, {spec.num_classes}], float32",
        "precision": level,
        "image_size": SIDE,
        "classes": origin.classes.stored(),
        "mean": known and [value / 255 for value in known.mean],
        "std": known and [value / 255 for value in known.std],
        "normalisation": "inside" if config.with_preprocessing else "outside",
    }


def _last_lines(config: RunConfig, output: Path, form: Format) -> List[str]:
    lines = [output_file.exported_line(output, form.title, config.batch_size)]
    if form.atc is None:
        return lines
    if config.with_preprocessing and not form.atc.takes_uint8:
        what = "atc takes uint8 images of such a file by AIPP alone"
        return [*lines, f"note: {what}; for atc use --format frozen, or leave --with-preprocessing out"]
    shape = (config.batch_size or 1, SIDE, SIDE, 3)
    return [*lines, *atc_lines(output, form.atc.framework, shape, form.atc.options)]
