"""Accuracy, loss and calibration as exact sums that add up over batches and ranks in any order.

Floating-point addition depends on its order, so two ways of batching one data set would end in two losses. Here every
image contributes integers: counts, and its loss and confidence as whole multiples of 2**-40 (9.1e-13), rounded once per
image. So any split, any order and any number of ranks give the same bits.

Sources: mean cross-entropy and top-k as in Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge"
(arXiv 1409.0575); expected calibration error as in Guo et al., "On Calibration of Modern Neural Networks" (arXiv
1706.04599).
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from shared.errors import DataError

UNIT = 1 << 40
# In nats, where an image's loss is cut off: its 2**40-fold is inside an int64, and it says "diverged" and nothing else.
LARGEST_LOSS = float(1 << 20)
CALIBRATION_BINS = 15
TOP_K = 5
# What is added up; the state has these names without the underscore.
_SUMS = ["images", "non_finite", "_correct1", "_correct5", "_loss", "_class_images", "_confusion"]
_SUMS += ["_bin_images", "_bin_correct", "_bin_confidence"]


class Predictions(NamedTuple):
    """Of the A rows of a batch whose logits are finite: their indices in the unmasked batch, and the predictions."""

    rows: np.ndarray  # int64 [A]
    classes: np.ndarray  # int64 [A]
    confidence: np.ndarray  # float64 [A], their softmax, 0 to 1


class Metrics:
    """The metrics of a classifier over the images counted so far. Percentages are nan while there are no images."""

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}")
        self.num_classes = num_classes
        self.images = 0
        self.non_finite = 0  # images with a nan or infinite logit: counted as incorrect, without a loss
        self._correct1 = 0
        self._correct5 = 0
        self._loss = 0  # in units of 2**-40 nats; a Python int, so it cannot overflow
        self._class_images = np.zeros(num_classes, np.int64)
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._bin_images = np.zeros(CALIBRATION_BINS, object)  # of Python ints
        self._bin_correct = np.zeros(CALIBRATION_BINS, object)
        self._bin_confidence = np.zeros(CALIBRATION_BINS, object)  # in units of 2**-40

    def __str__(self) -> str:
        """One line: images, accuracies and calibration error in percent, loss in nats."""
        if not self.images:
            return "no images"
        parts = [f"top-1 {self.top1:.3f} %", f"top-5 {self.top5:.3f} %", f"loss {self.loss:.4f}"]
        parts.append(f"calibration error {self.expected_calibration_error:.2f} %")
        parts += [f"{self.non_finite:,} with logits that are not finite"] if self.non_finite else []
        return f"{self.images:,} image{'s' * (self.images > 1)}: {', '.join(parts)}"

    def __repr__(self) -> str:
        return f"<Metrics of {self.num_classes} classes: {self}>"

    def update(self, logits: Any, labels: Any, mask: Optional[Any] = None) -> Predictions:
        """Count a batch and return its predictions: logits [B, K], integer labels [B], optional bool mask [B].

        These are arrays or tensors, of torch, TensorFlow or any library whose tensors NumPy can read, on any device, of
        any floating-point type, also where gradients are recorded. Rows where the mask is False (padding) are ignored.
        A row with a non-finite logit counts as an image, never as correct, and makes `loss` nan. Raises DataError for a
        label outside 0..K-1, ValueError for wrong shapes or types; nothing is counted then.
        """
        logits, labels = self._checked(logits, labels, mask)
        finite = np.isfinite(logits).all(axis=1)
        self.images += len(labels)
        self.non_finite += len(labels) - int(finite.sum())
        self._class_images += np.bincount(labels, minlength=self.num_classes)
        # Rows are copied to C-contiguous memory, so that the sum over classes has the same order in every batch.
        logits, labels = np.ascontiguousarray(logits[finite]), labels[finite]
        return Predictions(np.flatnonzero(finite), *self._count_predictions(logits, labels))

    def _checked(self, logits: Any, labels: Any, mask: Optional[Any]) -> Tuple[np.ndarray, np.ndarray]:
        logits, labels = _array(logits), _array(labels)
        mask = np.ones(labels.shape, bool) if mask is None else _array(mask)
        if labels.ndim != 1 or logits.shape != (len(labels), self.num_classes) or mask.shape != labels.shape:
            shapes = f"logits {logits.shape}, labels {labels.shape} and mask {mask.shape}"
            raise ValueError(f"{shapes} are not [B, {self.num_classes}], [B] and [B]")
        if not np.issubdtype(labels.dtype, np.integer) or mask.dtype != np.bool_:
            raise ValueError(f"labels must be integers and mask bool, not {labels.dtype} and {mask.dtype}")
        logits, labels = logits[mask], labels[mask]
        outside = (labels < 0) | (labels >= self.num_classes)
        if outside.any():
            what = f"label {labels[outside][0]} is outside 0..{self.num_classes - 1}"
            raise DataError(f"{what}; check the labels of the data set against the network's number of classes")
        return logits.astype(np.float64), labels.astype(np.int64)

    def _count_predictions(self, logits: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(labels))
        of_label = logits[rows, labels][:, None]
        # Among equal logits the lowest index comes first, as in argmax.
        earlier = np.arange(self.num_classes) < labels[:, None]
        rank = ((logits > of_label) | ((logits == of_label) & earlier)).sum(axis=1)
        correct = rank == 0
        self._correct1 += int(correct.sum())
        self._correct5 += int((rank < TOP_K).sum())
        classes = logits.argmax(axis=1)
        np.add.at(self._confusion, (labels, classes), 1)

        with np.errstate(over="ignore"):  # two huge finite logits may differ by infinity, which is cut off
            shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1)
        losses = np.minimum(np.log(total) - shifted[rows, labels], LARGEST_LOSS)
        self._loss += sum(_fixed_point(losses))

        confidence = 1.0 / total  # the softmax of the largest logit, whose shifted value is 0
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        for index in np.unique(bins):
            inside = bins == index
            self._bin_images[index] += int(inside.sum())
            self._bin_correct[index] += int(correct[inside].sum())
            self._bin_confidence[index] += sum(_fixed_point(confidence[inside]))
        return classes, confidence

    def merge(self, other: Metrics) -> None:
        """Add the sums of `other`, of another rank or shard. Raises ValueError if its number of classes differs."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge metrics of {other.num_classes} classes into {self.num_classes}")
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats; nan without images, or as soon as one image had a non-finite logit."""
        if not self.images or self.non_finite:
            return float("nan")
        return self._loss / (self.images * UNIT)  # Python divides integers of any size with one correct rounding

    @property
    def top1(self) -> float:
        """Percent of the images whose label has the largest logit; of equal logits the lowest class wins."""
        return _percent(self._correct1, self.images)

    @property
    def top5(self) -> float:
        """Percent of the images whose label is among the five largest logits; 100 with five classes or fewer."""
        return _percent(self._correct5, self.images)

    @property
    def confusion(self) -> np.ndarray:
        """int64 [K, K], a copy: row = label, column = prediction. Images with non-finite logits are left out."""
        return self._confusion.copy()

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """float64 [K]: percent of each class's images predicted correctly, nan where a class has no images."""
        correct = np.diagonal(self._confusion)
        return np.array([_percent(int(c), int(n)) for c, n in zip(correct, self._class_images)], np.float64)

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy over 15 equal bins of confidence, in percent; nan if `loss` is."""
        gap = sum(abs(self._bin_correct * UNIT - self._bin_confidence))
        return _percent(gap, self.images * UNIT) if not self.non_finite else float("nan")

    @property
    def reliability(self) -> Dict[str, Any]:
        """Images, mean confidence and accuracy in percent (None without images) of the 15 bins, least confident first.

        Images with non-finite logits are left out.
        """

        def shares(parts: np.ndarray, unit: int = 1) -> List[Optional[float]]:
            return [_percent(part, n * unit) if n else None for part, n in zip(parts, self._bin_images)]

        confidence, accuracy = shares(self._bin_confidence, UNIT), shares(self._bin_correct)
        return {"images": self._bin_images.tolist(), "confidence": confidence, "accuracy": accuracy}

    def to_state(self) -> Dict[str, Any]:
        """The sums as Python integers for JSON; `confusion` as [label, prediction, count] of the nonzero cells."""
        state = {"num_classes": self.num_classes}
        for name in _SUMS:
            value = getattr(self, name)
            state[name.lstrip("_")] = value.tolist() if isinstance(value, np.ndarray) else value
        cells = np.argwhere(self._confusion)
        return dict(state, confusion=[[*cell.tolist(), int(self._confusion[tuple(cell)])] for cell in cells])

    @classmethod
    def from_state(cls, state: Dict[str, Any]) -> Metrics:
        """The metrics with the sums of `to_state`. Raises KeyError or ValueError if the state is not one."""
        metrics = cls(state["num_classes"])
        for name in _SUMS:
            zero, value = getattr(metrics, name), state[name.lstrip("_")]
            if name != "_confusion":
                setattr(metrics, name, np.array(value, zero.dtype) if isinstance(zero, np.ndarray) else value)
        for row, column, count in state["confusion"]:
            metrics._confusion[row, column] = count
        predicted = int(metrics._confusion.sum())
        bins = (metrics._bin_images, metrics._bin_correct, metrics._bin_confidence)
        if (
            metrics._class_images.shape != (metrics.num_classes,)
            or any(each.shape != (CALIBRATION_BINS,) for each in bins)
            or metrics._class_images.sum() != metrics.images
            or predicted + metrics.non_finite != metrics.images
            or sum(metrics._bin_images) != predicted
        ):
            raise ValueError("the counts of this metrics state contradict each other")
        return metrics


def _array(values: Any) -> np.ndarray:
    """An array of these values. A torch tensor is asked for them, whose bfloat16 NumPy does not know."""
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float("nan")


def _fixed_point(values: np.ndarray) -> List[int]:
    """Non-negative float64 values up to 2**20 as multiples of 2**-40. Scaling by a power of two is exact."""
    return np.rint(values * float(UNIT)).astype(np.int64).tolist()
