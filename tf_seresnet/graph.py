"""The training step and the inference of one network, as graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Type

import numpy as np
import tensorflow as tf

from shared.errors import UsageError
from shared.nearest import nearest
from shared.recipes.base import Recipe
from tf_seresnet.initial_values import initial_value
from tf_seresnet.input_pipeline import Normalisation, TrainingInput
from tf_seresnet.layers.core import CoreLayers, l2_loss
from tf_seresnet.layers.slim import SlimLayers
from tf_seresnet.network import blocks_per_stage, se_resnet

tf1 = tf.compat.v1

LAYER_SETS: Dict[str, Type[CoreLayers]] = {"core": CoreLayers, "slim": SlimLayers}


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: what a checkpoint must say so that evaluation builds the same one."""

    depth: int
    variant: str
    layers: str
    num_classes: int

    def checked(self) -> NetworkSpec:
        """Itself; raises UsageError for a depth, variant or layer set that does not exist or does not run here."""
        blocks_per_stage(self.depth, self.variant)
        self._layer_set(reuse=False)
        return self

    def build(self, images: Any, training: bool, reuse: bool = False) -> Any:
        """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], in the default graph."""
        return se_resnet(images, self._layer_set(reuse), self.depth, self.variant, self.num_classes, training)

    def _layer_set(self, reuse: bool) -> CoreLayers:
        if self.layers not in LAYER_SETS:
            keras = "tf_seresnet.keras builds a Keras model"
            hint = keras if self.layers == "keras" else nearest(self.layers, LAYER_SETS)
            raise UsageError(f"no layer set {self.layers!r} for a graph; {hint}")
        return LAYER_SETS[self.layers](reuse=reuse)


class StepResult(NamedTuple):
    """What one step computed, with the weights before its update."""

    loss: float  # mean cross-entropy, nats; the L2 term is not in it
    correct: int
    images: int
    data_wait: Optional[float] = None  # seconds


class TrainingStep:
    """One optimisation step in the default graph: everything that a step computes is fetched in one session call.

    The session call waits for the step anyway, so fetching two scalars with it costs no further synchronisation.
    """

    def __init__(self, network: NetworkSpec, batch: TrainingInput, recipe: Recipe, device: Any) -> None:
        logits = network.build(batch.images, training=True)
        per_image = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch.labels, logits=logits)
        loss = tf.reduce_mean(per_image)
        variables = tf1.trainable_variables()
        total = loss + recipe.weight_decay * l2_loss(variables)
        hits = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), batch.labels)
        correct = tf.reduce_sum(tf.cast(hits, tf.int32))
        self.learning_rate = tf1.placeholder(tf.float32, (), "learning_rate")
        optimizer = device.wrap_optimizer(
            tf1.train.MomentumOptimizer(self.learning_rate, recipe.momentum, use_nesterov=recipe.nesterov)
        )
        gradients = optimizer.compute_gradients(total, variables)
        # Everything that reads the weights comes before the update: what is fetched belongs to the weights before it.
        reads = [total, correct, *tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)]
        with tf.control_dependencies(reads):
            update = optimizer.apply_gradients(gradients)
        self._fetches = {"update": update, "loss": loss, "correct": correct, "images": tf.size(batch.labels)}
        if batch.data_wait is not None:
            self._fetches["data_wait"] = batch.data_wait

    def run(self, session: Any, learning_rate: float) -> StepResult:
        """Train on the next batch."""
        values = session.run(self._fetches, {self.learning_rate: learning_rate})
        values.pop("update")
        return StepResult(**{name: value.item() for name, value in values.items()})


class Inference:
    """Logits of uint8 images with the moving averages, in batches of one fixed size."""

    def __init__(self, network: NetworkSpec, normalise: Normalisation, batch_size: int, reuse: bool) -> None:
        self.batch_size = batch_size
        self._images = tf1.placeholder(tf.uint8, (batch_size, 32, 32, 3), "inference_images")
        self._logits = network.build(normalise(self._images), training=False, reuse=reuse)

    def run(self, session: Any, images: np.ndarray) -> np.ndarray:
        """Logits float32 [images, classes] of at most `batch_size` images uint8 [images, 32, 32, 3].

        A short batch is padded with black images, so that no device has to prepare for a second shape; their
        logits are cut off again.
        """
        missing = self.batch_size - len(images)
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)], "constant") if missing else images
        return session.run(self._logits, {self._images: padded})[: len(images)]


def model_variables() -> List[Any]:
    """The network's own variables in the default graph: weights and moving statistics, no optimizer state."""
    trainable = {variable.op.name for variable in tf1.trainable_variables()}
    statistics = ("moving_mean", "moving_variance", "biased", "local_step")
    return [
        variable
        for variable in tf1.global_variables()
        if variable.op.name in trainable or variable.op.name.rsplit("/", 1)[-1] in statistics
    ]


def initialise(session: Any, seed: int) -> None:
    """Give every variable its first value; the network's come from `initial_values`, the same on every TensorFlow."""
    session.run(tf1.global_variables_initializer())
    load_values(session, {v.op.name: initial_value(v.op.name, v.shape.as_list(), seed) for v in model_variables()})


def load_values(session: Any, values: Dict[str, np.ndarray]) -> None:
    """Assign by name, through the operators that the variables already have: nothing is added to the graph."""
    variables = [variable for variable in tf1.global_variables() if variable.op.name in values]
    feed = {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables}
    session.run([variable.initializer for variable in variables], feed)


def parameters() -> int:
    """Trainable parameters in the default graph."""
    return sum(int(np.prod(variable.shape.as_list())) for variable in tf1.trainable_variables())
