"""The network in training on one device: its state, the steps that wait to be computed, and its evaluation."""

from __future__ import annotations

import itertools
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np

from shared import rng
from shared.metrics import Metrics
from shared.run.divergence import first_not_finite
from shared.run.loop import Step, StepResult, StopAgreement
from shared.system.signals import Interrupts
from tf_seresnet.devices.out_of_memory import limited
from tf_seresnet.keras.backends import BACKENDS, Backend
from tf_seresnet.keras.checkpoint import graph_variables
from tf_seresnet.keras.layers import Gate, keras
from tf_seresnet.keras.model import se_resnet
from tf_seresnet.keras.step import DataSet, State, Tensors, TrainingModel, make_step
from tf_seresnet.network import ends_of_branches
from tf_seresnet.run.setup import RunSetup
from tf_seresnet.step.drawing import drawn

ops = keras.ops
_DEBIASING = ("biased", "local_step")  # which inference does not use, and no average has
_MOMENTUM = "/Momentum"  # in a checkpoint, behind the name of its variable
_AVERAGE = "weight_average/"  # before that of the weights in training, beside the averages


def build(setup: RunSetup) -> Tuple[TrainingModel, Backend]:
    """The model with its initial weights, in the precision of the device, and the backend that computes it."""
    network, recipe, device = setup.network, setup.recipe, setup.device
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(device.policy)
    try:
        stochastic = bool(recipe.drop_path) and setup.config.mode == "train"
        model = se_resnet(network.depth, network.variant, network.num_classes, recipe.seed, stochastic_depth=stochastic)
    finally:
        keras.config.set_dtype_policy(before)
    names = {id(variable): name for name, variable in graph_variables(model).items()}
    weights, others = (
        [names[id(one)] for one in found] for found in (model.trainable_variables, model.non_trainable_variables)
    )
    wide = {names[id(one)] for one in model.trainable_variables if len(one.shape) > 1}
    decayed = [name for name in weights if recipe.decayed == "all" or name in wide]
    backend = BACKENDS[device.backend](setup.steps_per_call, device.xla)
    return TrainingModel(model, weights, others, decayed), backend


def values_of(network: TrainingModel) -> Tensors:
    """The model's own weights by name, as the backend's tensors."""
    return {name: ops.copy(variable.value) for name, variable in graph_variables(network.model).items()}


class Alone(StopAgreement):
    """What an evaluation asks of the processes that share it; see `devices.replicas.Replicas`."""

    rank = 0

    def merged(self, session: Any, metrics: Metrics, stopping: bool) -> Metrics:
        """The metrics of all processes."""
        return metrics

    def raise_if_stopping(self, interrupts: Interrupts) -> None:
        """Raise Stopped if this process has been asked to stop."""
        interrupts.raise_if_requested()


class KerasInference:
    """Logits of uint8 images with the moving averages, in batches of one size. See `step.graph.Inference`."""

    def __init__(self, network: TrainingModel, setup: RunSetup, backend: Backend, batch_size: int) -> None:
        self.batch_size = self.images_per_run = batch_size
        self.replicas = Alone()
        model, normalise = network.model, setup.normalisation
        # TensorFlow's ReLU turns nan into 0 on CPUs: a layer that has overflowed is seen by the gates' averages.
        excitations = [layer.input[1] for layer in model.layers if isinstance(layer, Gate)]
        whole = keras.Model(model.inputs, [model.outputs[0], *excitations])
        blocks = [int(given.shape[1]) for given in model.inputs[1:]]  # of stochastic depth, whose factors are 1 here

        def logits(values: Tensors, images: Any) -> Any:
            normal = (ops.cast(images, "float32") - ops.array(normalise.mean, "float32")) / ops.array(
                normalise.std, "float32"
            )
            inputs = [normal, *(ops.ones((batch_size, count), "float32") for count in blocks)]
            weights, others = ([values[name] for name in names] for names in (network.weights, network.others))
            found, _ = whole.stateless_call(weights, others, inputs if blocks else normal, training=False)
            finite = [ops.all(ops.isfinite(ops.cast(one, "float32")), axis=1) for one in found[1:]]
            return ops.where(ops.all(ops.stack(finite), axis=0)[:, None], found[0], float("nan"))

        self._logits = backend.function(logits)

    def run(self, values: Tensors, images: np.ndarray) -> np.ndarray:
        """Logits float32 [images, classes], with these weights, of images uint8 [images, 32, 32, 3].

        Of an image on which the network overflows they are nan. A batch that is short is filled with black images.
        """
        missing = self.batch_size - len(images)
        filled = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else images
        with limited(self.batch_size, "--eval-batch-size", ", which changes no result"):
            found: np.ndarray = self._logits(values, ops.convert_to_tensor(filled))
        return found[: len(images)]

    def first_not_finite(self, values: Tensors, images: np.ndarray) -> Optional[str]:
        """Which layer it was is not looked for."""
        return None


class KerasStep(Step):
    """Training steps that wait until their results are read, and are computed then, several in one call."""

    asynchronous = True
    steps_per_call: int

    def __init__(self, setup: RunSetup, network: TrainingModel, backend: Backend) -> None:
        self.network, self._recipe, self.steps_per_call = network, setup.recipe, setup.steps_per_call
        images, labels = setup.data.train_images, setup.data.train_labels
        self._count, side = len(images), images.shape[1]
        pixels = ops.convert_to_tensor(np.ascontiguousarray(images).reshape(-1, images.shape[3]))
        self._data = DataSet(pixels, ops.convert_to_tensor(np.asarray(labels, np.int32)), side)
        self._steps = backend.steps(make_step(network, setup.recipe, setup.normalisation, backend.gradients))
        values = values_of(network)
        zeros = ends_of_branches(setup.recipe.depth, setup.recipe.variant) if setup.recipe.zero_init else []
        values.update({name: ops.zeros_like(values[name]) for name in zeros})
        self.state = self._new_state(values)
        self._numbers: Dict[str, np.ndarray] = {}  # of the epoch
        self._compiled: Set[int] = set()  # for batches of so many images

    def _new_state(self, values: Tensors) -> State:
        """That of a training which begins with these values."""
        state = {kind: {name: values[name] for name in getattr(self.network, kind)} for kind in ("weights", "others")}
        state["momentum"] = {name: ops.zeros_like(weight) for name, weight in state["weights"].items()}
        if self._recipe.ema_decay:
            averaged = [name for name in values if name.rsplit("/", 1)[-1] not in _DEBIASING]
            state["average"] = {name: ops.zeros_like(values[name]) for name in averaged}
            state["averaged"] = {"steps": ops.zeros((), "float32")}
        return state

    # -- steps -----------------------------------------------------------------------------------------------------

    def start_epoch(self, epoch: int, first_step: int) -> Iterator[int]:
        """Draw the numbers of the zero-based epoch. Returns those of its steps from `first_step` on."""
        recipe, count = self._recipe, self._count
        numbers = {"order": rng.epoch_order(recipe.seed, epoch, count), **drawn(recipe, epoch, count, self._data.side)}
        for name in ("order", *rng.Crops._fields):
            numbers[name] = numbers[name].astype(np.int32)
        self._numbers = numbers
        return itertools.count(first_step)

    def read(self, pending: List[Tuple[int, float]]) -> List[StepResult]:
        """Compute the waiting steps, (number in the epoch, learning rate) each. Raises RunEnded without memory."""
        results = []
        for block in self._blocks(pending):
            with limited(self._recipe.batch_size, "--batch-size", " (fewer images a step are another training)"):
                self.state, outputs = self._steps(self.state, self._data, block)
            size = block["order"].shape[1]
            for loss, *counts in outputs.tolist():
                correct, correct5, images = map(round, counts)
                results.append(StepResult(loss, correct, correct5, images, compiled=size not in self._compiled))
            self._compiled.add(size)
        return results

    def _blocks(self, pending: List[Tuple[int, float]]) -> Iterator[Dict[str, np.ndarray]]:
        """The numbers of the steps of each call, [steps, batch, ...]: a short batch has one by itself."""
        size, count = self._recipe.batch_size, self._count
        for _, group in itertools.groupby(pending, lambda one: (one[0] + 1) * size > count):
            steps = list(group)
            places = np.array([np.arange(number * size, min((number + 1) * size, count)) for number, _ in steps])
            for start in range(0, len(steps), self.steps_per_call):
                own = slice(start, start + self.steps_per_call)
                block = {name: one[places[own]] for name, one in self._numbers.items()}
                yield {**block, "rate": np.array([rate for _, rate in steps[own]], np.float32)}

    def where_not_finite(self) -> str:
        arrays = {name: ops.convert_to_numpy(one) for name, one in self._current().items()}
        statistics = [(name, arrays[name]) for name in self.network.others]
        return first_not_finite([*statistics, *((name, arrays[name]) for name in self.network.weights)])

    # -- weights ---------------------------------------------------------------------------------------------------

    def _current(self) -> Tensors:
        """The weights in training."""
        return {**self.state["weights"], **self.state["others"]}

    def evaluated(self) -> Tensors:
        """The weights that are evaluated: their averages, where the recipe has them and a step was taken."""
        averages = self.state.get("average", {}) if float(self.state.get("averaged", {}).get("steps", 0)) else {}
        return {**self._current(), **averages}

    def arrays(self) -> Dict[str, np.ndarray]:
        """The state as arrays by the names that a checkpoint has; the network's own are those that are evaluated."""
        found = {**self.evaluated(), **{name + _MOMENTUM: one for name, one in self.state["momentum"].items()}}
        if "average" in self.state:
            found[f"{_AVERAGE}steps"] = self.state["averaged"]["steps"]
            found.update({_AVERAGE + name: self._current()[name] for name in self.state["average"]})
        return {name: np.array(ops.convert_to_numpy(one)) for name, one in found.items()}

    def restore(self, arrays: Dict[str, np.ndarray]) -> None:
        """The state that `arrays` gave, bit for bit; of the network's variables alone a new training's."""
        tensors = {name: ops.copy(ops.convert_to_tensor(one)) for name, one in arrays.items()}
        self.state = self._new_state({name: tensors[name] for name in (*self.network.weights, *self.network.others)})
        if next(iter(self.state["momentum"])) + _MOMENTUM in tensors:
            self.state["momentum"] = {name: tensors[name + _MOMENTUM] for name in self.state["momentum"]}
        if f"{_AVERAGE}steps" in tensors and float(arrays[f"{_AVERAGE}steps"]):
            self.state["averaged"] = {"steps": tensors[f"{_AVERAGE}steps"]}
            self.state["average"] = {name: tensors[name] for name in self.state["average"]}
            for kind in ("weights", "others"):
                now = {name: tensors.get(_AVERAGE + name, one) for name, one in self.state[kind].items()}
                self.state[kind] = now
