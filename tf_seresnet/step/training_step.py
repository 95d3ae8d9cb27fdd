"""The training step and the inference of one network, as graphs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type

import numpy as np
import tensorflow as tf

from shared.errors import UsageError
from shared.metrics import TOP_K
from shared.recipes.base import Recipe
from shared.run.loss_scale_watch import SkippedSteps
from shared.text import nearest
from tf_seresnet.devices.out_of_memory import limited
from tf_seresnet.input_pipeline import Normalisation, TrainingInput
from tf_seresnet.layers.core import CoreLayers, l2_loss
from tf_seresnet.layers.initial_values import initial_value
from tf_seresnet.layers.slim import SlimLayers
from tf_seresnet.network import blocks_per_stage, se_resnet
from tf_seresnet.step.not_finite import layer_of
from tf_seresnet.step.replicas import ALONE, Replicas

tf1 = tf.compat.v1

_WINDOW = 200  # steps; from 2**32 an NPU's scale, halved after two that were left out, is at 1 after 64

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
        self.layer_set()
        return self

    def build(self, images: Any, layers: CoreLayers, training: bool) -> Any:
        """Logits [batch, num_classes] of normalised images [batch, 32, 32, 3], in the default graph."""
        return se_resnet(images, layers, self.depth, self.variant, self.num_classes, training)

    def layer_set(self, reuse: bool = False) -> CoreLayers:
        """The layers of one network to be built; `reuse` shares the variables of one that has been."""
        if self.layers not in LAYER_SETS:
            keras = "tf_seresnet.keras.model builds a Keras model"
            hint = keras if self.layers == "keras" else nearest(self.layers, LAYER_SETS)
            raise UsageError(f"no layer set {self.layers!r} for a graph; {hint}")
        return LAYER_SETS[self.layers](reuse=reuse)


class StepResult(NamedTuple):
    """What one step computed on all devices together, with the weights before its update."""

    loss: float  # mean cross-entropy, nats; the L2 term is not in it
    correct: int
    correct5: int  # the class is among the five likeliest
    images: int
    stopping: int  # processes that were asked to stop when the step began
    data_wait: Optional[float] = None  # seconds


class TrainingStep:
    """One optimisation step in the default graph: everything that a step computes is fetched in one session call.

    The session call waits for the step anyway, so fetching some scalars with it costs no further synchronisation.

    The gradient is that of the mean loss over the images of all devices, as if one device had had them all, but for
    batch normalisation: each device normalises by the statistics of its own images, and the moving averages take in
    the mean of the devices' statistics, by images. So every device has the same averages at every step.
    """

    def __init__(
        self, network: NetworkSpec, batch: TrainingInput, recipe: Recipe, device: Any, replicas: Replicas = ALONE
    ) -> None:
        self.learning_rate = tf1.placeholder(tf.float32, (), "learning_rate")
        self._stopping = tf1.placeholder(tf.float32, (), "stopping")
        self._batch, self._replicas, self._batch_size = batch, replicas, recipe.batch_size
        optimizer = device.wrap_optimizer(
            tf1.train.MomentumOptimizer(self.learning_rate, recipe.momentum, use_nesterov=recipe.nesterov)
        )
        scaled = device.loss_scale is not None
        self._updates = tf1.train.get_or_create_global_step() if scaled else None  # a step left out is not counted
        self._watch = SkippedSteps(None if device.loss_scale == "dynamic" else device.loss_scale, _WINDOW)
        self._steps = self._updates_before = 0
        built = replicas.run(lambda number: self._build(number, network, recipe.weight_decay, optimizer))
        self._fetches = {"updates": [update for update, _ in built], "told": built[0][1]}
        if batch.data_wait is not None:
            self._fetches["data_wait"] = batch.data_wait

    def _build(self, number: int, network: NetworkSpec, weight_decay: float, optimizer: Any) -> Tuple[Any, List[Any]]:
        """The update of one device, and what all have to tell: loss, correct in one and in five, images, stopping."""
        images, labels = self._batch.parts[number]
        share, replicas = self._batch.shares[number], self._replicas
        layers = network.layer_set()
        logits = network.build(images, layers, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        own = [_times(loss, share), *_floats(*_hits(logits, labels), tf.size(labels)), self._stopping]

        # Over the devices, gradients are added up, or averaged by an optimizer that does so.
        combined = replicas.count if replicas.averages else 1
        variables = tf1.trainable_variables()
        total = _times(loss, share * combined) + weight_decay * combined / replicas.count * l2_loss(variables)
        gradients = optimizer.compute_gradients(total, variables)
        # After the gradients: the devices' exchanges have to come in one order on all of them.
        with tf.control_dependencies([gradient for gradient, _ in gradients]):
            own = [tf.identity(value) for value in own]
        statistics = [_times(value, share) for value in layers.batch_statistics()]
        told = replicas.summed(own + statistics)
        averages = layers.update_averages(told[len(own) :], functools.partial(replicas.assign, number))
        # Everything that reads the weights comes before the update: what is fetched belongs to the weights before it.
        with tf.control_dependencies([total, *told, *averages]):
            return optimizer.apply_gradients(gradients, self._updates), told[: len(own)]

    def run(self, session: Any, learning_rate: float, stopping: bool = False) -> StepResult:
        """Train on the next batch. `stopping` tells the other processes that this one was asked to stop.

        Raises RunEnded where memory runs out.
        """
        feeds = {self.learning_rate: learning_rate, self._stopping: float(stopping)}
        with limited(self._batch_size, "--batch-size", " (fewer images a step are another training)"):
            values = session.run(self._fetches, feeds)
        loss, correct, correct5, images, stopped = (value.item() for value in values["told"])
        waited = values["data_wait"].item() if "data_wait" in values else None
        self._steps += 1
        return StepResult(loss, round(correct), round(correct5), round(images), round(stopped), waited)

    def begin(self, session: Any) -> None:
        """Begin to watch the loss scale; the variables have the values that the first step begins with."""
        self._updates_before = self._updates_done(session)

    def check_scale(self, session: Any, step: int, ended: bool) -> None:
        """Raise UsageError where the loss scale has failed; `step` is the last one, `ended`: that of an epoch."""
        if self._updates is not None:
            skipped = self._steps - (self._updates_done(session) - self._updates_before)
            self._watch.check(step, self._steps, skipped, ended)

    def _updates_done(self, session: Any) -> int:
        return 0 if self._updates is None else int(session.run(self._updates))


def _times(tensor: Any, factor: Any) -> Any:
    """The product; nothing is added to the graph of a single device, whose share is all."""
    return tensor if isinstance(factor, float) and factor == 1.0 else tensor * factor


def _hits(logits: Any, labels: Any) -> List[Any]:
    """How many images' labels are the likeliest class, and among the five likeliest; of equal ones the first counts."""
    likeliest = tf.nn.top_k(logits, min(TOP_K, int(logits.shape[1]))).indices
    hits = tf.cast(tf.equal(likeliest, tf.expand_dims(labels, 1)), tf.int32)
    return [tf.reduce_sum(hits[:, 0]), tf.reduce_sum(hits)]


def _floats(*tensors: Any) -> List[Any]:
    """Counts among values that travel together; float32 is exact up to 2**24."""
    return [tf.cast(tensor, tf.float32) for tensor in tensors]


def _or_nan(logits: Any, excitations: List[Any]) -> Any:
    """The logits [batch, classes], but nan where one of the excitations [batch, units] of an image is not finite.

    On CPUs TensorFlow's ReLU turns nan into 0, so that the logits are numbers behind a layer that has overflowed. Every
    block's gate averages over its map, which costs next to nothing to look at.
    """
    finite = [tf.reduce_all(tf.math.is_finite(excitation), axis=1) for excitation in excitations]
    return tf1.where(tf.reduce_all(tf.stack(finite), axis=0), logits, tf.fill(tf.shape(logits), np.float32("nan")))


class Inference:
    """Logits of uint8 images with the moving averages, in batches of one fixed size on each device."""

    def __init__(
        self, network: NetworkSpec, normalise: Normalisation, batch_size: int, reuse: bool, replicas: Replicas = ALONE
    ) -> None:
        self.batch_size = batch_size
        self.images_a_run = batch_size * replicas.towers
        self._images = tf1.placeholder(tf.uint8, (self.images_a_run, 32, 32, 3), "inference_images")
        parts = tf.split(self._images, replicas.towers) if replicas.towers > 1 else [self._images]

        self._outputs: List[Tuple[str, Any]] = []  # of the layers, on the first device and then on the others

        def build(number: int) -> Any:
            layers = network.layer_set(reuse)
            logits = network.build(normalise(parts[number]), layers, training=False)
            self._outputs += layers.outputs
            return _or_nan(logits, [output for _, output in layers.outputs if output.shape.ndims == 2])

        logits = replicas.run(build)
        self._logits = tf.concat(logits, 0) if replicas.towers > 1 else logits[0]

    def run(self, session: Any, images: np.ndarray) -> np.ndarray:
        """Logits float32 [images, classes] of at most `images_a_run` images uint8 [images, 32, 32, 3].

        Those of an image on which the network overflows are nan.

        A short batch is padded with black images, so that no device has to prepare for a second shape; their
        logits are cut off again.
        """
        with limited(self.batch_size, "--eval-batch-size", ", which changes no result"):
            return session.run(self._logits, self._fed(images))[: len(images)]

    def first_not_finite(self, session: Any, images: np.ndarray) -> Optional[str]:
        """The first layer whose output for these images is not finite, for a message."""
        return layer_of(session, self._outputs, self._fed(images))

    def _fed(self, images: np.ndarray) -> Dict[Any, np.ndarray]:
        missing = self.images_a_run - len(images)
        padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)], "constant") if missing else images
        return {self._images: padded}


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
    copies = [
        (copy, values[variable.op.name])
        for variable in tf1.global_variables()
        if variable.op.name in values
        for copy in tf.distribute.get_strategy().experimental_local_results(variable)  # one on each device
    ]
    session.run([copy.initializer for copy, _ in copies], {copy.initializer.inputs[1]: value for copy, value in copies})


def parameters() -> int:
    """Trainable parameters in the default graph."""
    return sum(int(np.prod(variable.shape.as_list())) for variable in tf1.trainable_variables())
