"""The training step of one network as a graph, and several of them in a loop, for one session call."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from shared.run.divergence import SkippedSteps
from shared.run.loop import Step, StepResult
from tf_seresnet.devices.out_of_memory import limited
from tf_seresnet.step import losses, variables
from tf_seresnet.step.input_pipeline import TrainingInput
from tf_seresnet.step.spec import NetworkSpec
from tf_seresnet.step.weight_average import WeightAverage

tf1 = tf.compat.v1

_WINDOW = 200  # steps; the NPU's scale of 2**32, halved after every two skipped steps, reaches 1 after 64


class TrainingStep(Step):
    """One optimisation step in the default graph. One session call runs it, or up to `steps_per_call` of them one after
    the other (then on one device), and fetches everything that they compute.

    The gradient is that of the mean loss over the images of all devices, as if one device had computed it. Batch
    normalisation is local: each device normalises by the statistics of its own images. The moving averages are updated
    by the mean of the devices' statistics, weighted by images, so that they are the same on every device.
    """

    gradients: List[Any]  # of the trainable variables, by the optimizer
    # Of the last step:
    fetched: Any = None  # what its session call returned: the values of `fetches`, to which entries may be added
    stopping = 0  # processes that had been asked to stop when it began

    def __init__(self, network: NetworkSpec, batch: TrainingInput, steps_per_call: int = 1) -> None:
        recipe, device, self.steps_per_call = batch.recipe, batch.device, steps_per_call
        if steps_per_call > 1:  # a loop reads other variables once, before its first step
            tf1.get_variable_scope().set_use_resource(True)
        self._rates = tf1.placeholder(tf.float32, (None,) if steps_per_call > 1 else (), "learning_rate")
        self._rate = self._rates  # of the step that is built
        self._stopping = tf1.placeholder(tf.float32, (), "stopping")
        self._batch, self.average = batch, WeightAverage(recipe.ema_decay)
        optimizer = device.wrap_optimizer(
            tf1.train.MomentumOptimizer(lambda: self._rate, recipe.momentum, use_nesterov=recipe.nesterov)
        )
        scaled = device.loss_scale is not None
        self._updates = tf1.train.get_or_create_global_step() if scaled else None  # a step left out is not counted
        self._watch = SkippedSteps(None if device.loss_scale == "dynamic" else device.loss_scale, _WINDOW)
        self._session: Any = None  # that of `begin`
        self._steps = self._updates_before = 0
        if steps_per_call == 1:
            built = batch.replicas.run(lambda number: self._build(number, network, optimizer))
            waits = [] if batch.data_wait is None else [batch.data_wait]
            self.fetches: Dict[str, Any] = {
                "updates": [update for update, _ in built],
                "outputs": [*built[0][1], *waits],
            }
            return

        def step(rate: Any) -> Tuple[List[Any], List[Any]]:
            self._rate = rate
            batch.take()
            updates, outputs = self._build(0, network, optimizer)
            return updates, [*outputs, *([] if batch.data_wait is None else [tf.cast(batch.data_wait, tf.float32)])]

        self.fetches = {"outputs": repeated(step, self._rates, 5 if batch.data_wait is None else 6)}

    def _build(self, number: int, network: NetworkSpec, optimizer: Any) -> Tuple[Any, List[Any]]:
        """The update of one device; and over all devices loss, correct in one and in five, images, stopping."""
        recipe, replicas, share = self._batch.recipe, self._batch.replicas, self._batch.shares[number]
        part, products = self._batch.parts[number], self._batch.device.products
        logits, layers = network.build(part.images, True, branch_factors=part.branch_factors, products=products)
        loss = losses.mean_loss(logits, part, recipe.label_smoothing)
        # Counts in float32, exact up to 2**24, to be summed in one vector with the other values.
        counts = [tf.cast(count, tf.float32) for count in (*losses.hits(logits, part), tf.size(part.labels))]
        own = [_times(loss, share), *counts, self._stopping]

        # The optimizer adds up the gradients of the devices, or averages them.
        combined = replicas.count if replicas.averages else 1
        trainable = tf1.trainable_variables()
        decayed = [variable for variable in trainable if recipe.decayed == "all" or variable.shape.ndims > 1]
        squares = tf.add_n([tf.nn.l2_loss(variable) for variable in decayed])
        total = _times(loss, share * combined) + recipe.weight_decay * combined / replicas.count * squares
        gradients = optimizer.compute_gradients(total, trainable)
        self.gradients = [gradient for gradient, _ in gradients]
        # After the gradients: all devices must run their all-reduces in the same order.
        with tf.control_dependencies(self.gradients):
            own = [tf.identity(value) for value in own]
        statistics = [_times(value, share) for value in layers.batch_statistics()]
        sums = replicas.summed(own + statistics)
        averages = layers.update_averages(sums[len(own) :], functools.partial(replicas.assign, number))
        # Everything that reads the weights runs before the update, so that all outputs belong to the same weights. One
        # operator stands for it: each update of a variable waits for all of it.
        with tf.control_dependencies([tf.group(*sums[: len(own)], *averages)]):
            updated = optimizer.apply_gradients(gradients, self._updates)
        with tf.control_dependencies([updated]):
            return [updated, *self.average.update(number, replicas)], sums[: len(own)]

    def run(self, session: Any, learning_rate: float, stopping: bool = False) -> StepResult:
        """Train on the next batch; `stopping` tells the other processes that this one has been asked to stop.

        The loss, without the L2 term, and the counts are those of the weights before the update. Raises RunEnded where
        memory runs out.
        """
        return self._run(session, [learning_rate], stopping)[0]

    def queue(self, learning_rate: float, stopping: bool = False) -> Tuple[float, bool]:
        """What `Run.count` receives of a step that `read` is to run in the session of `begin`."""
        return learning_rate, stopping

    def read(self, pending: List[Tuple[float, bool]]) -> List[StepResult]:
        rates, stopping = zip(*pending)
        return self._run(self._session, rates, any(stopping))

    def _run(self, session: Any, rates: Sequence[float], stopping: bool) -> List[StepResult]:
        feeds = {self._rates: rates if self._rates.shape.ndims else rates[0], self._stopping: float(stopping)}
        with limited(self._batch.recipe.batch_size, "--batch-size", " (fewer images a step are another training)"):
            self.fetched = session.run(self.fetches, feeds)
        self._steps += len(rates)
        results = []
        for loss, *counts in np.array(self.fetched["outputs"], np.float64).reshape(len(rates), -1).tolist():
            correct, correct5, images, self.stopping = map(round, counts[:4])
            results.append(StepResult(loss, correct, correct5, images, counts[4] if counts[4:] else None))
        return results

    def begin(self, session: Any) -> None:
        """Watch the loss scale in this session, whose variables have the values that the first step begins with."""
        self._session = session
        self._updates_before = self._updates_done()

    def check_numbers(self, step: int, is_last: bool) -> None:
        if self._updates is not None:
            skipped = self._steps - (self._updates_done() - self._updates_before)
            self._watch.check(step, self._steps, skipped, is_last)

    def where_not_finite(self) -> str:
        return variables.not_finite(self._session, variables.model_variables())

    def _updates_done(self) -> int:
        return 0 if self._updates is None else int(self._session.run(self._updates))


def _times(tensor: Any, factor: Any) -> Any:
    """The product. A factor of 1.0, the share of a single device, adds nothing to the graph."""
    return tensor if isinstance(factor, float) and factor == 1.0 else tensor * factor


def repeated(step: Callable[[Any], Tuple[List[Any], List[Any]]], rates: Any, values: int) -> Any:
    """`step(rate)` for each of `rates`, float32 [steps]: its values, float32 [steps, values].

    `step` is built once, and its variables must be of the kind with `use_resource`. It returns the operations that must
    have ended before the next step begins, and its values, each float32 [].
    """
    steps = tf.size(rates)

    def body(number: Any, kept: Any) -> List[Any]:
        updates, own = step(rates[number])
        with tf.control_dependencies(updates):
            return [number + 1, kept.write(number, tf.stack(own))]

    kept = tf.TensorArray(tf.float32, steps, element_shape=(values,))
    loop = tf1.while_loop(lambda number, _: number < steps, body, [0, kept], parallel_iterations=1, back_prop=False)
    return loop[1].stack()
