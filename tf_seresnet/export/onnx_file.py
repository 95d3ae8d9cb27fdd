"""ONNX, .onnx: a layer set that writes the network's nodes itself, so that no converter is needed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from shared.export.check import Forward
from tf_seresnet.export.classifier import IMAGES, LOGITS, SIDE, Classifier
from tf_seresnet.network import BATCH_NORM_EPSILON, Layers, se_resnet

OPSET = 15  # the newest that CANN documents for atc; the network needs nothing newer
_IR_VERSION = 8  # of the release with this opset: older runtimes read the file


class Feature(NamedTuple):
    """A value of the graph: [B, channels, side, side], or [B, channels] of side 0."""

    name: str
    channels: int
    side: int = 0


class OnnxLayers(Layers):
    """Collects nodes and weights. `values` are the graph's variables by name, `dtype` the type in which it computes."""

    def __init__(self, values: Dict[str, np.ndarray], dtype: Any) -> None:
        super().__init__()
        self._onnx, self._values, self._dtype = importlib.import_module("onnx"), values, dtype
        self.nodes: List[Any] = []
        self.weights: Dict[str, Any] = {}  # initialisers by name

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator with one output. Returns the output's name, which is the node's."""
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initialiser. Returns its name."""
        self.weights[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _weight(self, name: str, axes: Sequence[int] = ()) -> str:
        value = self._values[name].astype(self._dtype)
        return self.constant(name, value.transpose(axes) if axes else value)

    def conv(self, x: Feature, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Feature:
        name, side = self.next_name("conv2d"), -(-x.side // strides)
        padding = max((side - 1) * strides + kernel - x.side, 0)  # TensorFlow's 'SAME': the odd one at the end
        ends = [padding // 2] * 2 + [padding - padding // 2] * 2
        inputs = [x.name, self._weight(f"{name}/kernel", (3, 2, 0, 1))]
        inputs += [self._weight(f"{name}/bias")] if bias else []
        shape = {"kernel_shape": [kernel] * 2, "strides": [strides] * 2, "pads": ends}
        return Feature(self.node("Conv", name, inputs, **shape), filters, side)

    def batch_norm(self, x: Feature, training: Optional[bool]) -> Feature:
        name = self.next_name("BatchNorm")
        weights = [self._weight(f"{name}/{kind}") for kind in ("gamma", "beta", "moving_mean", "moving_variance")]
        node = self.node("BatchNormalization", name, [x.name, *weights], epsilon=BATCH_NORM_EPSILON)
        return x._replace(name=node)

    def dense(self, x: Feature, units: int) -> Feature:
        name = self.next_name("dense")
        return Feature(self.node("MatMul", name, [x.name, self._weight(f"{name}/kernel")]), units)

    def global_average_pool(self, x: Feature) -> Feature:
        name = self.next_name("global_average_pool")
        return Feature(
            self.node("Flatten", f"{name}/flat", [self.node("GlobalAveragePool", name, [x.name])]), x.channels
        )

    def relu(self, x: Feature) -> Feature:
        return x._replace(name=self.node("Relu", self.next_name("relu"), [x.name]))

    def gate(self, x: Feature, excitation: Feature) -> Feature:
        name = self.next_name("gate")
        factors = self.node("Sigmoid", f"{name}/sigmoid", [excitation.name])
        shape = self.constant(f"{name}/shape", np.array([-1, x.channels, 1, 1], np.int64))
        return x._replace(
            name=self.node("Mul", name, [x.name, self.node("Reshape", f"{name}/reshape", [factors, shape])])
        )

    def add(self, x: Feature, y: Feature) -> Feature:
        return x._replace(name=self.node("Add", self.next_name("add"), [x.name, y.name]))

    def shortcut(self, x: Feature, filters: int, strides: int) -> Feature:
        name, new = self.next_name("shortcut"), filters - x.channels
        slices = {"starts": [0, 0], "ends": [x.side, x.side], "axes": [2, 3], "steps": [strides, strides]}
        inputs = [self.constant(f"{name}/{kind}", np.array(value, np.int64)) for kind, value in slices.items()]
        picked = self.node("Slice", f"{name}/slice", [x.name, *inputs])
        pads = np.array([0, new // 2, 0, 0, 0, new - new // 2, 0, 0], np.int64)
        padded = self.node("Pad", name, [picked, self.constant(f"{name}/pads", pads)])
        return Feature(padded, filters, -(-x.side // strides))


def write(classifier: Classifier, path: Path) -> None:
    """Write the file, with the metadata as its properties, each value in JSON. Raises OSError."""
    onnx = importlib.import_module("onnx")
    helper, types, network = onnx.helper, onnx.TensorProto, classifier.network
    layers = OnnxLayers(classifier.values, np.float16 if classifier.half else np.float32)
    images = Feature(_prepared(layers, classifier, types), 3, SIDE)
    found = se_resnet(images, layers, network.depth, network.variant, network.num_classes, training=False)
    layers.node("Cast", LOGITS, [found.name], to=types.FLOAT)
    batch = classifier.batch_size or "batch"
    kind = types.UINT8 if classifier.normalise else types.FLOAT
    taken = helper.make_tensor_value_info(IMAGES, kind, [batch, SIDE, SIDE, 3])
    given = helper.make_tensor_value_info(LOGITS, types.FLOAT, [batch, network.num_classes])
    name = f"se_resnet{network.depth}"
    graph = helper.make_graph(layers.nodes, name, [taken], [given], list(layers.weights.values()))
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="tf_seresnet")
    helper.set_model_props(model, {key: json.dumps(value) for key, value in classifier.metadata.items()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _prepared(layers: OnnxLayers, classifier: Classifier, types: Any) -> str:
    """From the input to what the first layer takes: [B, 3, 32, 32], in the type in which the network computes."""
    x = IMAGES
    if classifier.normalise:
        mean, std = (np.array(values, np.float32) for values in (classifier.normalise.mean, classifier.normalise.std))
        x = layers.node("Cast", "pixels", [x], to=types.FLOAT)
        x = layers.node("Sub", "centred", [x, layers.constant("mean", mean)])
        x = layers.node("Div", "normalised", [x, layers.constant("std", std)])
    x = layers.node("Transpose", "channels_first", [x], perm=[0, 3, 1, 2])
    return layers.node("Cast", "typed", [x], to=types.FLOAT16 if classifier.half else types.FLOAT)


def load(path: Path) -> Forward:
    """The forward pass of the file, in onnxruntime on the CPU."""
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run([LOGITS], {IMAGES: images})[0]
        return logits

    return run
