"""A TensorFlow Lite file, .tflite, converted from a SavedModel."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Iterator

import numpy as np
import tensorflow as tf

from shared.errors import UsageError
from shared.export.check import Forward
from tf_seresnet.devices.startup_output import startup_messages_dropped
from tf_seresnet.export import saved_model
from tf_seresnet.export.classifier import METADATA_FILE, Classifier
from tf_seresnet.run.checkpoints import native


def write(classifier: Classifier, path: Path) -> None:
    """Write the file. The metadata are packed behind the model as its associated files are, in a zip archive.

    Raises OSError; UsageError where this TensorFlow's converter does not take the network.
    """
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=str(path.parent)) as scratch:
        folder = Path(scratch) / "saved"
        saved_model.write(classifier, folder)
        path.write_bytes(_converted(native(folder), classifier.half))
    with zipfile.ZipFile(str(path), "a") as archive:
        archive.writestr(METADATA_FILE, classifier.metadata_text)


def _converted(folder: str, half: bool) -> bytes:
    """The file's content. Raises UsageError where the converter of this TensorFlow refuses the network."""
    with startup_messages_dropped(), _own_programs_found():
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content: bytes = converter.convert()
        except Exception as error:
            if type(error).__name__ != "ConverterError":  # a class that TensorFlow does not publish
                raise
            what = f"the converter of TensorFlow {tf.__version__} does not take this network"
            raise UsageError(
                f"{what}; use another --format, or a newer TensorFlow, which reads the same checkpoint"
            ) from error
    return content


@contextlib.contextmanager
def _own_programs_found() -> Iterator[None]:
    """TensorFlow 1.15 starts its converter by name, which lies beside this Python and need not be on the path."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def load(path: Path) -> Forward:
    """The forward pass of the file, in TensorFlow's interpreter."""
    with warnings.catch_warnings(), startup_messages_dropped():
        warnings.simplefilter("ignore")  # that it moves to a package of its own
        interpreter = tf.lite.Interpreter(model_content=path.read_bytes())

    def run(images: np.ndarray) -> np.ndarray:
        (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        with startup_messages_dropped():
            interpreter.resize_tensor_input(source["index"], images.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], images)
            interpreter.invoke()
        logits: np.ndarray = interpreter.get_tensor(result["index"])
        return logits

    return run
