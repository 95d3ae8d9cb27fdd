"""A frozen graph, .pb: TensorFlow's GraphDef with the weights as constants, which Ascend's atc takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from shared.export.check import Forward
from shared.text import encoded
from tf_seresnet import devices
from tf_seresnet.export.classifier import CLASS_NAMES, IMAGES, LOGITS, METADATA, SIDE, Classifier
from tf_seresnet.step import variables

tf1 = tf.compat.v1


def graph_def(classifier: Classifier, with_metadata: bool) -> Any:
    """A tf.compat.v1.GraphDef from the placeholder `images` to `logits`, without variables.

    The metadata are constants of strings: `metadata`, JSON, and where there are names `class_names` [classes].
    """
    kind = tf.uint8 if classifier.normalise else tf.float32
    outputs = [LOGITS]
    with tf.Graph().as_default() as graph:
        images = tf1.placeholder(kind, (classifier.batch_size, SIDE, SIDE, 3), IMAGES)
        normalised = classifier.normalise(images) if classifier.normalise else images
        tf.identity(classifier.network.build(normalised, training=False)[0], LOGITS)
        if with_metadata:
            outputs += [tf.constant(classifier.metadata_text, name=METADATA).op.name]
            if classifier.metadata["classes"]:
                names = [encoded(name) for name in classifier.metadata["classes"]]
                outputs += [tf.constant(names, name=CLASS_NAMES).op.name]
        with tf1.Session(config=_on_the_cpu()) as session:
            variables.load_values(session, classifier.values)
            made = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)
    return _in_float16(made, classifier.values) if classifier.half else made


def write(classifier: Classifier, path: Path) -> None:
    """Write the graph. Raises OSError."""
    path.write_bytes(graph_def(classifier, with_metadata=True).SerializeToString())


def load(path: Path) -> Forward:
    """The forward pass of the file."""
    made = tf1.GraphDef()
    made.ParseFromString(path.read_bytes())

    def run(images: np.ndarray) -> np.ndarray:
        with tf.Graph().as_default(), tf1.Session(config=_on_the_cpu()) as session:
            tf.import_graph_def(made, name="")
            logits: np.ndarray = session.run(f"{LOGITS}:0", {f"{IMAGES}:0": images})
        return logits

    return run


def _on_the_cpu() -> Any:
    return devices.open_device("cpu").session_config()


def _in_float16(made: Any, weights: Dict[str, np.ndarray]) -> Any:
    """The same graph with its weights stored in float16, and cast to float32 when it is run."""
    result = tf1.GraphDef(versions=made.versions)
    for node in made.node:
        if node.op == "Const" and node.name in weights:
            stored = result.node.add(name=f"{node.name}/float16", op="Const")
            stored.attr["dtype"].type = tf.float16.as_datatype_enum
            stored.attr["value"].tensor.CopyFrom(_tensor(weights[node.name].astype(np.float16)))
            node = tf1.NodeDef(name=node.name, op="Cast", input=[stored.name])
            node.attr["SrcT"].type, node.attr["DstT"].type = tf.float16.as_datatype_enum, tf.float32.as_datatype_enum
        result.node.append(node)
    return result


def _tensor(values: np.ndarray) -> Any:
    """The values as they lie in memory; TensorFlow 1.15's own function takes three bytes for a float16."""
    made = tf1.AttrValue().tensor
    made.dtype, made.tensor_content = tf.as_dtype(values.dtype).as_datatype_enum, values.tobytes()
    made.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
    return made
