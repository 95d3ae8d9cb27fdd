"""The most confident correct and incorrect predictions, with their images: examples.json in a run's folder."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from shared.metrics import Predictions
from shared.run import disk_errors
from shared.run.log import RunLog
from shared.system.atomic_files import write_atomic

FILE = "examples.json"
MOST = 8  # of each of the two kinds


@dataclass(frozen=True)
class Prediction:
    """The prediction for image `index` of the data set; confidence, its softmax, in percent."""

    confidence: float
    index: int
    label: int
    predicted: int


class MostConfident:
    """The most confident predictions, correct and incorrect, of each label at most one; of equals the lower index."""

    def __init__(self) -> None:
        self.images = 0  # seen so far
        self._by_label: Tuple[Dict[int, Prediction], Dict[int, Prediction]] = ({}, {})  # incorrect, correct

    def update(self, indices: Any, labels: Any, predictions: Predictions) -> None:
        """Add a batch: integer indices [B] into the data set, labels [B], and what `Metrics.update` returned."""
        self.images += len(labels)
        indices, labels = np.asarray(indices)[predictions.rows], np.asarray(labels)[predictions.rows]
        classes, confidence = predictions.classes, 100 * predictions.confidence
        for correct, kept in enumerate(self._by_label):
            rows = np.flatnonzero((classes == labels) == bool(correct))
            rows = rows[np.lexsort((indices[rows], -confidence[rows]))]
            for row in rows[np.unique(labels[rows], return_index=True)[1]]:  # the first of each label
                new = Prediction(float(confidence[row]), int(indices[row]), int(labels[row]), int(classes[row]))
                kept[new.label] = min(kept.get(new.label, new), new, key=_most_confident_first)

    def chosen(self, correct: bool) -> List[Prediction]:
        """At most `MOST` correct, or incorrect, predictions, the most confident first."""
        return sorted(self._by_label[correct].values(), key=_most_confident_first)[:MOST]


def _most_confident_first(prediction: Prediction) -> Tuple[float, int]:
    return -prediction.confidence, prediction.index


def write_examples(
    folder: Path,
    log: RunLog,
    most_confident: MostConfident,
    classes: Sequence[str],
    picture: Callable[[int], Tuple[str, bytes]],
) -> None:
    """Write examples.json, or a line in the log; `picture(index)` is the media type and bytes of a thumbnail."""

    def described(found: Prediction) -> Dict[str, Any]:
        kind, content = picture(found.index)
        return {
            "index": found.index,
            "label": found.label,
            "label_name": classes[found.label],
            "answer": found.predicted,
            "answer_name": classes[found.predicted],
            "confidence": found.confidence,
            "picture": f"data:{kind};base64,{base64.b64encode(content).decode()}",
        }

    def write() -> None:
        right, wrong = ([described(one) for one in most_confident.chosen(correct)] for correct in (True, False))
        content = {"images": most_confident.images, "right": right, "wrong": wrong}
        write_atomic(folder / FILE, json.dumps(content, ensure_ascii=False) + "\n")

    disk_errors.optional(write, folder / FILE, log)
