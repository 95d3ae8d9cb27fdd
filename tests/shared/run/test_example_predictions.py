"""Which images are chosen to be looked at, against choosing from all at once; and the file of them."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics import Metrics
from shared.run.example_predictions import FILE, MOST, MostConfident, write_examples
from shared.run.log import RunLog


def look(most_confident, indices, logits, labels):
    """Add a batch as an evaluation does."""
    most_confident.update(indices, labels, Metrics(np.shape(logits)[1]).update(logits, labels))


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def chosen(logits, labels, correct):
    """(index, label, prediction) of the most confident, picked one by one from the whole list.

    The confidence is that of `Metrics`, in percent: in a softmax of our own, or in another unit, two rows could
    differ in their last bit that are equal there, and the other way round.
    """
    answers, confidence = logits.argmax(axis=1), 100 * Metrics(logits.shape[1]).update(logits, labels).confidence
    found, seen = [], set()
    for index in sorted(range(len(labels)), key=lambda index: (-confidence[index], index)):
        if (answers[index] == labels[index]) == correct and labels[index] not in seen:
            seen.add(labels[index])
            found.append((index, labels[index], answers[index]))
    return found[:MOST]


def triples(predictions):
    return [(one.index, one.label, one.predicted) for one in predictions]


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(0, 60), st.lists(st.integers(0, 60), max_size=4))
def test_any_split_into_batches_finds_the_same(seed, classes, images, cuts):
    random = np.random.RandomState(seed)
    logits = np.round(random.randn(images, classes) * 2)  # whole numbers: equally confident ones are frequent
    labels = random.randint(0, classes, images)
    most_confident = MostConfident()
    bounds = sorted({0, images, *(min(cut, images) for cut in cuts)})
    for begin, end in zip(bounds, bounds[1:]):
        look(most_confident, np.arange(begin, end), logits[begin:end], labels[begin:end])
    assert most_confident.images == images
    assert triples(most_confident.chosen(True)) == chosen(logits, labels, True)
    assert triples(most_confident.chosen(False)) == chosen(logits, labels, False)


def test_confidence_is_the_softmax_in_percent():
    most_confident = MostConfident()
    look(most_confident, [7], np.array([[1.0, 3.0, 2.0]], np.float32), [2])
    assert not most_confident.chosen(True)
    (one,) = most_confident.chosen(False)
    assert (one.index, one.label, one.predicted) == (7, 2, 1)
    assert one.confidence == pytest.approx(100 * softmax(np.array([[1.0, 3.0, 2.0]]))[0, 1], rel=1e-12)


def test_a_row_without_a_prediction_is_skipped():
    most_confident = MostConfident()
    look(most_confident, [0, 1, 2], [[np.nan, 1.0], [np.inf, 0.0], [1e30, -1e30]], [0, 0, 0])
    assert triples(most_confident.chosen(True)) == [(2, 0, 0)]
    assert not most_confident.chosen(False)
    assert most_confident.images == 3


def test_the_file(tmp_path):
    most_confident = MostConfident()
    look(most_confident, [4, 9], [[3.0, 0.0], [0.0, 1.0]], [0, 0])
    names = ("Katze", "größer")
    write_examples(tmp_path, RunLog(None), most_confident, names, lambda index: ("image/png", b"picture %d" % index))
    content = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert content["images"] == 2
    (right,), (wrong,) = content["right"], content["wrong"]
    assert (right["index"], right["label_name"], right["answer_name"]) == (4, "Katze", "Katze")
    assert (wrong["index"], wrong["label"], wrong["answer"], wrong["answer_name"]) == (9, 0, 1, "größer")
    kind, _, content = wrong["picture"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == b"picture 9"


def test_a_picture_that_cannot_be_read_leaves_no_file(tmp_path, capsys):
    most_confident = MostConfident()
    look(most_confident, [0], [[1.0, 0.0]], [0])

    def gone(index):
        raise OSError("an image cannot be read again")

    write_examples(tmp_path, RunLog(None), most_confident, ("a", "b"), gone)
    assert "an image cannot be read again" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
