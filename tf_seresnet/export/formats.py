"""The formats of an export: what each is called, needs, writes and is loaded by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from shared.export.check import Forward
from tf_seresnet.export import frozen, onnx_file, saved_model, tflite
from tf_seresnet.export.classifier import Classifier


@dataclass(frozen=True)
class Atc:
    """How Ascend's atc takes a format: its number of the framework, and options besides the usual ones."""

    framework: int
    options: str
    takes_uint8: bool


@dataclass(frozen=True)
class Format:
    """A kind of file. `write` takes a classifier and the path; `load` gives the file's forward pass.

    `packages` are what it needs besides TensorFlow, `folder_of` what is in a folder of it.
    """

    title: str
    suffix: str
    write: Callable[[Classifier, Path], None]
    load: Callable[[Path], Forward]
    packages: Tuple[str, ...] = ()
    folder_of: Tuple[str, ...] = ()
    atc: Optional[Atc] = None


def _keras(name: str) -> Callable[..., Any]:
    """A function of keras_file, which is imported when it is called: it needs Keras 3."""

    def call(*arguments: Any) -> Any:
        from tf_seresnet.export import keras_file

        return getattr(keras_file, name)(*arguments)

    return call


# CANN's documentation of atc: --framework 3 is TensorFlow's frozen graph, which may take uint8, and 5 is ONNX.
FORMATS: Dict[str, Format] = {
    "savedmodel": Format("SavedModel", "", saved_model.write, saved_model.load, folder_of=saved_model.CONTENT),
    "keras": Format("Keras 3", ".keras", _keras("write"), _keras("load")),
    "frozen": Format(
        "frozen graph", ".pb", frozen.write, frozen.load, atc=Atc(3, '--out_nodes="logits:0" ', takes_uint8=True)
    ),
    "tflite": Format("TensorFlow Lite", ".tflite", tflite.write, tflite.load),
    "onnx": Format(
        f"ONNX opset {onnx_file.OPSET}",
        ".onnx",
        onnx_file.write,
        onnx_file.load,
        packages=("onnx", "onnxruntime"),
        atc=Atc(5, "--input_format=ND ", takes_uint8=False),
    ),
}
