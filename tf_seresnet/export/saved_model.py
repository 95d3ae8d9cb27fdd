"""A SavedModel: a folder that TensorFlow, TF Serving and the TFLite converter read, with the weights in its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from shared.export.check import Forward
from tf_seresnet import devices
from tf_seresnet.export import frozen
from tf_seresnet.export.classifier import IMAGES, LOGITS, METADATA_FILE, Classifier
from tf_seresnet.run.checkpoints import native

tf1 = tf.compat.v1

CONTENT = ("saved_model.pb", "assets.extra")
_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY  # "serving_default"


def write(classifier: Classifier, folder: Path) -> None:
    """Write the folder, with the metadata in `assets.extra`, where the format has such files. Raises OSError.

    TensorFlow's own builder would answer a full disk with an error of its own.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph_def(classifier, with_metadata=False), name="")
        images, logits = (graph.get_tensor_by_name(f"{name}:0") for name in (IMAGES, LOGITS))
        saved = SavedModel(saved_model_schema_version=tf.saved_model.SAVED_MODEL_SCHEMA_VERSION)
        made = saved.meta_graphs.add()
        made.CopyFrom(tf1.train.export_meta_graph(clear_devices=True))
        signature = tf1.saved_model.predict_signature_def({IMAGES: images}, {LOGITS: logits})
    made.meta_info_def.tags.append(tf.saved_model.SERVING)
    made.signature_def[_SIGNATURE].CopyFrom(signature)
    extra = folder / CONTENT[1]
    extra.mkdir(parents=True)
    (extra / METADATA_FILE).write_text(classifier.metadata_text, encoding="ascii")
    (folder / CONTENT[0]).write_bytes(saved.SerializeToString())


def load(folder: Path) -> Forward:
    """The forward pass of the folder's signature."""

    def run(images: np.ndarray) -> np.ndarray:
        with tf.Graph().as_default(), tf1.Session(config=devices.open_device("cpu").session_config()) as session:
            found = tf1.saved_model.load(session, [tf.saved_model.SERVING], native(folder)).signature_def[_SIGNATURE]
            logits: np.ndarray = session.run(found.outputs[LOGITS].name, {found.inputs[IMAGES].name: images})
        return logits

    return run
