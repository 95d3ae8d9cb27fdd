"""One training step of the Keras model as a pure function of tensors: the same on every backend.

Step for step it is what `step.training_step` computes in a graph. The whole data set lies on the device as it is in its
files, uint8; each step gathers its images and augments them by the numbers that `shared.rng` has drawn.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from shared.metrics import TOP_K
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet.keras.layers import keras
from tf_seresnet.step.spec import Normalisation

ops = keras.ops
Tensors = Dict[str, Any]
# What training changes: groups of tensors by the graph's names. "weights", "others" (the statistics of normalisations),
# "momentum" and, with an average of the weights, "average" and "averaged" (the number of its steps, float32 []).
State = Dict[str, Tensors]


class DataSet(NamedTuple):
    """The training set on the device."""

    pixels: Any  # uint8 [images * side * side, 3]
    labels: Any  # int32 [images]
    side: int  # pixels


class TrainingModel(NamedTuple):
    """A `keras.Model` with the names of its weights, in the model's order."""

    model: Any
    weights: List[str]  # trainable
    others: List[str]
    decayed: List[str]  # those of the weights that decay

    def logits(self, state: State, inputs: Any) -> Tuple[Any, Tensors]:
        """Those of a training step, float32 [batch, classes], and the statistics that follow."""
        weights, others = ([state[kind][name] for name in getattr(self, kind)] for kind in ("weights", "others"))
        logits, others = self.model.stateless_call(weights, others, inputs, training=True)
        return logits, dict(zip(self.others, others))


def images_of(data: DataSet, numbers: Tensors, normalise: Normalisation, padding: int) -> Any:
    """The images of a step, float32 [batch, side, side, 3], of zero mean and unit variance: cropped and mirrored.

    A crop reads `padding` pixels beyond the image, which are zeros: the training set's mean colour.
    """
    side = data.side
    places = ops.arange(side, dtype="int32")
    rows = numbers["top"][:, None] + places - padding
    # A flip adds side - 1 - 2 * column to a column, which counts them from the other end.
    columns = numbers["left"][:, None] + places + numbers["flip"][:, None] * (side - 1 - 2 * places) - padding
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    rows, columns = ops.clip(rows, 0, side - 1), ops.clip(columns, 0, side - 1)
    index = (numbers["order"][:, None, None] * side + rows[:, :, None]) * side + columns[:, None, :]
    pixels = ops.cast(ops.take(data.pixels, index, axis=0), "float32")
    normal = (pixels - ops.array(normalise.mean, "float32")) / ops.array(normalise.std, "float32")
    return ops.where(inside[..., None], normal, 0.0)


def augmented(images: Any, numbers: Tensors) -> Any:
    """Squares cut out, and each image mixed with the one before it: as `step.augmentation` does it in a graph."""
    if "cutout" in numbers:
        images = images * (1.0 - _inside(numbers["cutout"], images))
    if "share" in numbers:
        own = numbers["pixels"][:, None, None, None] * (1.0 - _inside(numbers["box"], images))
        images = images * own + _before(images) * (1.0 - own)
    return images


def _before(batch: Any) -> Any:
    """The entry before each; of the first it is the last."""
    return ops.concatenate([batch[-1:], batch[:-1]], 0)


def _inside(box: Any, images: Any) -> Any:
    """1 inside the box, else 0: float32 [batch, height, width, 1]."""
    top, left, bottom, right = (box[:, side][:, None, None, None] for side in range(4))
    rows = ops.arange(images.shape[1], dtype="int32")[:, None, None]
    columns = ops.arange(images.shape[2], dtype="int32")[:, None]
    return ops.cast((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right), "float32")


def mean_loss(logits: Any, labels: Any, numbers: Tensors, smoothing: float) -> Tuple[Any, Any]:
    """The mean cross-entropy, float32 [], and the labels that are counted: of a mixed image that with more share."""
    if "share" not in numbers and not smoothing:
        return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)), labels
    classes = int(logits.shape[1])
    targets = ops.one_hot(labels, classes, dtype="float32")
    if "share" in numbers:
        share = numbers["share"][:, None]
        targets = targets * share + _before(targets) * (1.0 - share)
        labels = ops.cast(ops.argmax(targets, axis=1), "int32")
    targets = targets * (1.0 - smoothing) + smoothing / classes
    return ops.mean(ops.categorical_crossentropy(targets, logits, from_logits=True)), labels


def _hits(logits: Any, labels: Any) -> List[Any]:
    """How many labels are the likeliest class, and among the five likeliest; ties go to the lower class."""
    classes = ops.arange(int(logits.shape[1]), dtype="int32")
    own = ops.take_along_axis(logits, labels[:, None], axis=1)
    ahead = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    rank = ops.sum(ops.cast(ahead, "int32"), axis=1)
    return [ops.sum(ops.cast(rank < limit, "float32")) for limit in (1, TOP_K)]


def make_step(
    network: TrainingModel, recipe: CifarRecipe, normalise: Normalisation, gradients: Callable[..., Any]
) -> Callable[[State, DataSet, Tensors], Tuple[State, Any]]:
    """step(state, data, numbers) -> (new state, [loss, correct in one, in five, images] float32 [4]).

    `numbers` are one step's, by name: `order`, `top`, `left`, `flip` int32 [batch], `rate` float32 [], and what
    `step.drawing` draws. The outputs are those of the weights before the update; the loss has no L2 term.
    `gradients` is the backend's, of `backends.Backend`.
    """

    def step(state: State, data: DataSet, numbers: Tensors) -> Tuple[State, Any]:
        labels = ops.take(data.labels, numbers["order"], axis=0)
        inputs: Any = augmented(images_of(data, numbers, normalise, recipe.crop_padding), numbers)
        inputs = [inputs, numbers["branch_factors"]] if "branch_factors" in numbers else inputs

        def loss(weights: Tensors) -> Tuple[Any, Any]:
            logits, others = network.logits({**state, "weights": weights}, inputs)
            value, counted = mean_loss(logits, labels, numbers, recipe.label_smoothing)
            return value, (others, [value, *_hits(logits, counted)])

        _, (others, outputs), found = gradients(loss, state["weights"])
        images = ops.cast(ops.shape(labels)[0], "float32")
        return _updated(state, others, found, numbers["rate"]), ops.stack([*outputs, images])

    def _updated(state: State, others: Tensors, found: Tensors, rate: Any) -> State:
        """Stochastic gradient descent with momentum, the L2 term as its gradient, and the average of the weights."""
        old, weights, momentum = state["weights"], {}, {}
        for name, gradient in found.items():
            if name in network.decayed:
                gradient = gradient + recipe.weight_decay * old[name]
            momentum[name] = recipe.momentum * state["momentum"][name] + gradient
            change = gradient * rate + momentum[name] * (recipe.momentum * rate)
            weights[name] = old[name] - (change if recipe.nesterov else momentum[name] * rate)
        new = {"weights": weights, "others": others, "momentum": momentum}
        if recipe.ema_decay:  # as `step.weight_average`
            steps = state["averaged"]["steps"]
            share = 1.0 - ops.minimum(recipe.ema_decay, steps / (steps + 9.0))
            now = {**weights, **others}
            average = state["average"]
            new["average"] = {name: value + (now[name] - value) * share for name, value in average.items()}
            new["averaged"] = {"steps": steps + 1.0}
        return new

    return step
