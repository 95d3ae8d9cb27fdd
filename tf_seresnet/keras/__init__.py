"""The network as a `keras.Model`, for `model.fit` on Keras 3's TensorFlow, JAX and torch backends.

`KERAS_BACKEND` selects it. Only the TensorFlow backend and the two checkpoint functions import TensorFlow.
docs/cifar10.md has an example.
"""

from __future__ import annotations

from tf_seresnet.keras.checkpoint import graph_variables, load_checkpoint, save_checkpoint
from tf_seresnet.keras.model import se_resnet, se_resnet110

__all__ = ["graph_variables", "load_checkpoint", "save_checkpoint", "se_resnet", "se_resnet110"]
