"""Images that a classifier gets right and wrong, to be looked at: examples.json in a run's folder."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from shared.metrics import Answers
from shared.system.atomic_files import write_atomic

FILE = "examples.json"
MOST = 8  # of each of the two kinds


@dataclass(frozen=True)
class Answer:
    """What was answered to one image of the data set; confidence, the answer's softmax, in percent."""

    confidence: float
    index: int
    label: int
    answer: int


class MostConfident:
    """The most confident predictions, right and wrong, of each label at most one.

    Of equally sure ones the image with the lower index stands, so that the choice does not depend on the batches.
    """

    def __init__(self) -> None:
        self.images = 0  # among which was chosen
        self._of_label: Tuple[Dict[int, Answer], Dict[int, Answer]] = ({}, {})  # wrong, right

    def update(self, indices: Any, labels: Any, answered: Answers) -> None:
        """Look at a batch: integer indices [B] into the data set, integer labels [B], what `Metrics.update` gave.

        A row with a logit that is not finite gave no answer and is passed over.
        """
        self.images += len(labels)
        indices, labels = np.asarray(indices)[answered.rows], np.asarray(labels)[answered.rows]
        answers, confidence = answered.classes, 100 * answered.confidence
        for right, kept in enumerate(self._of_label):
            rows = np.flatnonzero((answers == labels) == bool(right))
            rows = rows[np.lexsort((indices[rows], -confidence[rows]))]
            for row in rows[np.unique(labels[rows], return_index=True)[1]]:  # the first of each label
                found = Answer(float(confidence[row]), int(indices[row]), int(labels[row]), int(answers[row]))
                kept[found.label] = min(kept.get(found.label, found), found, key=_surest_first)

    @property
    def right(self) -> List[Answer]:
        """At most `MOST`, the most_confident first."""
        return sorted(self._of_label[True].values(), key=_surest_first)[:MOST]

    @property
    def wrong(self) -> List[Answer]:
        """At most `MOST`, the most_confident first."""
        return sorted(self._of_label[False].values(), key=_surest_first)[:MOST]


def _surest_first(answer: Answer) -> Tuple[float, int]:
    return -answer.confidence, answer.index


def write_examples(
    folder: Path, most_confident: MostConfident, classes: Sequence[str], picture: Callable[[int], Tuple[str, bytes]]
) -> None:
    """Write examples.json, whole or not at all.

    `picture(index)` gives an image's media type and file, which is as small as it is to be shown. Raises OSError.
    """

    def described(found: Answer) -> Dict[str, Any]:
        kind, content = picture(found.index)
        return {
            "index": found.index,
            "label": found.label,
            "label_name": classes[found.label],
            "answer": found.answer,
            "answer_name": classes[found.answer],
            "confidence": found.confidence,
            "picture": f"data:{kind};base64,{base64.b64encode(content).decode()}",
        }

    content = {
        "images": most_confident.images,
        "right": [described(found) for found in most_confident.right],
        "wrong": [described(found) for found in most_confident.wrong],
    }
    write_atomic(folder / FILE, json.dumps(content, ensure_ascii=False) + "\n")
