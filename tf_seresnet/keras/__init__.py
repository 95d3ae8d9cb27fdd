"""The network as a `keras.Model`, for `model.fit` on Keras 3's TensorFlow, JAX and torch backends.

    from tf_seresnet.keras import load_checkpoint, save_checkpoint, se_resnet110

    model = se_resnet110(weight_decay=1e-4)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(images, labels, batch_size=128)
    save_checkpoint(model, "model.ckpt")  # and evaluate it with eval.sh

`KERAS_BACKEND` selects the backend, as everywhere in Keras. Only the TensorFlow backend and the two checkpoint
functions import TensorFlow.
"""

from __future__ import annotations

from tf_seresnet.keras.checkpoint import graph_variables, load_checkpoint, save_checkpoint
from tf_seresnet.keras.model import se_resnet, se_resnet110

__all__ = ["graph_variables", "load_checkpoint", "save_checkpoint", "se_resnet", "se_resnet110"]
