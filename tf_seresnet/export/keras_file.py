"""A Keras model, .keras, of Keras' own layers: it is loaded without this project, on every backend of Keras 3."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Optional

import numpy as np

from shared.export.check import Forward
from tf_seresnet.devices.startup_output import startup_messages_dropped
from tf_seresnet.export.classifier import IMAGES, LOGITS, METADATA_FILE, SIDE, Classifier
from tf_seresnet.keras.layers import KerasLayers, keras
from tf_seresnet.network import BATCH_NORM_DECAY, BATCH_NORM_EPSILON, se_resnet


class StockLayers(KerasLayers):
    """`KerasLayers` without classes of this project. Fine-tuning updates the moving averages as Keras does."""

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        name = self.next_name("BatchNorm")
        return keras.layers.BatchNormalization(-1, BATCH_NORM_DECAY, BATCH_NORM_EPSILON, name=name)(x)

    def gate(self, x: Any, excitation: Any) -> Any:
        factors = keras.layers.Activation("sigmoid", name=self.next_name("sigmoid"))(excitation)
        by_channel = keras.layers.Reshape((1, 1, x.shape[-1]), name=self.next_name("reshape"))(factors)
        return keras.layers.Multiply(name=self.next_name("gate"))([x, by_channel])

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        new = filters - x.shape[-1]
        # An average over one pixel picks every `strides`-th; taken for channels first, width and channels are padded.
        x = keras.layers.AveragePooling2D(1, strides, data_format="channels_last", name=self.next_name("subsample"))(x)
        channels = ((0, 0), (new // 2, new - new // 2))
        return keras.layers.ZeroPadding2D(channels, "channels_first", name=self.next_name("shortcut"))(x)


def write(classifier: Classifier, path: Path) -> None:
    """Write the file, with the metadata as a further file in its zip archive. Raises OSError."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16" if classifier.half else "float32")
    try:
        model = _model(classifier)
    finally:
        keras.config.set_dtype_policy(before)
    model.save(str(path))
    with zipfile.ZipFile(str(path), "a") as archive:
        archive.writestr(METADATA_FILE, classifier.metadata_text)


def load(path: Path) -> Forward:
    """The forward pass of the file."""
    with keras.device("cpu"):
        model = keras.saving.load_model(str(path), compile=False)

    def run(images: np.ndarray) -> np.ndarray:
        with startup_messages_dropped(), keras.device("cpu"):
            logits: np.ndarray = keras.ops.convert_to_numpy(model(images, training=False))
        return logits

    return run


def _model(classifier: Classifier) -> Any:
    network, normalise = classifier.network, classifier.normalise
    kind = "uint8" if normalise else "float32"
    images = keras.Input((SIDE, SIDE, 3), classifier.batch_size, dtype=kind, name=IMAGES)
    x = images
    if normalise:
        variance = np.square(np.array(normalise.std, np.float64)).tolist()
        x = keras.layers.Normalization(mean=list(normalise.mean), variance=variance, dtype="float32", name="normalise")(
            x
        )
    x = se_resnet(x, StockLayers(), network.depth, network.variant, network.num_classes)
    logits = keras.layers.Activation("linear", dtype="float32", name=LOGITS)(x)
    model = keras.Model(images, logits, name=f"se_resnet{network.depth}")
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(classifier.values[f"{layer.name}/{weight.name}"])
    return model
