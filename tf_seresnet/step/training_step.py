"""The training step of one network as a graph."""

from __future__ import annotations

import functools
from typing import Any, List, NamedTuple, Optional, Tuple

import tensorflow as tf

from shared.metrics import TOP_K
from shared.recipes.base import Recipe
from shared.run.divergence import SkippedSteps
from shared.run.loop import Step, StepResult
from tf_seresnet import input_pipeline
from tf_seresnet.devices.out_of_memory import limited
from tf_seresnet.layers.core import l2_loss
from tf_seresnet.network_spec import NetworkSpec
from tf_seresnet.step import variables
from tf_seresnet.step.not_finite import in_variables
from tf_seresnet.step.replicas import ALONE, Replicas

tf1 = tf.compat.v1

_WINDOW = 200  # steps; the NPU's scale of 2**32, halved after every two skipped steps, reaches 1 after 64


class StepOutput(NamedTuple):
    """What one step computed over all devices, with the weights before its update."""

    loss: float  # mean cross-entropy, nats; the L2 term is not in it
    correct: int
    correct5: int  # the class is among the five most probable
    images: int
    stopping: int  # processes that had been asked to stop when the step began
    data_wait: Optional[float] = None  # seconds


class TrainingStep(Step):
    """One optimisation step in the default graph. One session call runs it and fetches everything that it computes.

    The session call waits for the step anyway, so fetching some scalars costs no further synchronisation.

    The gradient is that of the mean loss over the images of all devices, as if one device had computed it. Batch
    normalisation is local: each device normalises by the statistics of its own images. The moving averages are updated
    by the mean of the devices' statistics, weighted by images, so that they are the same on every device.
    """

    def __init__(
        self,
        network: NetworkSpec,
        batch: input_pipeline.TrainingInput,
        recipe: Recipe,
        device: Any,
        replicas: Replicas = ALONE,
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
        self._session: Any = None  # that of `begin`
        self._steps = self._updates_before = 0
        built = replicas.run(lambda number: self._build(number, network, recipe.weight_decay, optimizer))
        self._fetches = {"updates": [update for update, _ in built], "outputs": built[0][1]}
        if batch.data_wait is not None:
            self._fetches["data_wait"] = batch.data_wait

    def _build(self, number: int, network: NetworkSpec, weight_decay: float, optimizer: Any) -> Tuple[Any, List[Any]]:
        """The update of one device; and over all devices loss, correct in one and in five, images, stopping."""
        images, labels = self._batch.parts[number]
        share, replicas = self._batch.shares[number], self._replicas
        layers = network.layer_set()
        logits = network.build(images, layers, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        own = [_times(loss, share), *_floats(*_hits(logits, labels), tf.size(labels)), self._stopping]

        # The optimizer adds up the gradients of the devices, or averages them.
        combined = replicas.count if replicas.averages else 1
        trainable = tf1.trainable_variables()
        total = _times(loss, share * combined) + weight_decay * combined / replicas.count * l2_loss(trainable)
        gradients = optimizer.compute_gradients(total, trainable)
        # After the gradients: all devices must run their all-reduces in the same order.
        with tf.control_dependencies([gradient for gradient, _ in gradients]):
            own = [tf.identity(value) for value in own]
        statistics = [_times(value, share) for value in layers.batch_statistics()]
        sums = replicas.summed(own + statistics)
        averages = layers.update_averages(sums[len(own) :], functools.partial(replicas.assign, number))
        # Everything that reads the weights runs before the update, so that all outputs belong to the same weights.
        with tf.control_dependencies([total, *sums, *averages]):
            return optimizer.apply_gradients(gradients, self._updates), sums[: len(own)]

    def run(self, session: Any, learning_rate: float, stopping: bool = False) -> StepOutput:
        """Train on the next batch. `stopping` lets the other processes know that this one has been asked to stop.

        Raises RunEnded where memory runs out.
        """
        feeds = {self.learning_rate: learning_rate, self._stopping: float(stopping)}
        with limited(self._batch_size, "--batch-size", " (fewer images a step are another training)"):
            values = session.run(self._fetches, feeds)
        loss, correct, correct5, images, stopped = (value.item() for value in values["outputs"])
        waited = values["data_wait"].item() if "data_wait" in values else None
        self._steps += 1
        return StepOutput(loss, round(correct), round(correct5), round(images), round(stopped), waited)

    def begin(self, session: Any) -> None:
        """Watch the loss scale in this session, whose variables have the values that the first step begins with."""
        self._session = session
        self._updates_before = self._updates_done()

    def read(self, pending: List[StepOutput]) -> List[StepResult]:
        return [StepResult(output.loss, output.correct, output.correct5, output.images) for output in pending]

    def check_numbers(self, step: int, is_last: bool) -> None:
        if self._updates is not None:
            skipped = self._steps - (self._updates_done() - self._updates_before)
            self._watch.check(step, self._steps, skipped, is_last)

    def where_not_finite(self) -> str:
        return in_variables(self._session, variables.model_variables())

    def _updates_done(self) -> int:
        return 0 if self._updates is None else int(self._session.run(self._updates))


def _times(tensor: Any, factor: Any) -> Any:
    """The product. A factor of 1.0, the share of a single device, adds nothing to the graph."""
    return tensor if isinstance(factor, float) and factor == 1.0 else tensor * factor


def _hits(logits: Any, labels: Any) -> List[Any]:
    """How many labels are the most probable class, and among the five most probable; ties go to the lower class."""
    top = tf.nn.top_k(logits, min(TOP_K, int(logits.shape[1]))).indices
    hits = tf.cast(tf.equal(top, tf.expand_dims(labels, 1)), tf.int32)
    return [tf.reduce_sum(hits[:, 0]), tf.reduce_sum(hits)]


def _floats(*tensors: Any) -> List[Any]:
    """The counts as float32, exact up to 2**24, to be summed in one vector with the other values."""
    return [tf.cast(tensor, tf.float32) for tensor in tensors]
