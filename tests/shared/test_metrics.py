"""`shared.metrics` against scikit-learn, a brute-force definition, and itself in any order."""

from __future__ import annotations

import json
import math
from typing import List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataError
from shared.metrics import LARGEST_LOSS, Metrics


def _batch(seed: int, images: int, classes: int, scale: float = 3.0):
    random = np.random.RandomState(seed)
    return random.randn(images, classes).astype(np.float32) * scale, random.randint(0, classes, images)


def _counted(logits, labels, classes, **more) -> Metrics:
    metrics = Metrics(classes)
    metrics.update(logits, labels, **more)
    return metrics


def test_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    logits, labels = _batch(0, 500, 10)
    metrics = _counted(logits, labels, 10)
    wide = logits.astype(np.float64)
    softmax = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)

    assert metrics.images == 500
    assert metrics.loss == pytest.approx(sklearn.log_loss(labels, softmax, labels=range(10)), abs=1e-11)
    assert metrics.top1 == pytest.approx(100 * sklearn.accuracy_score(labels, wide.argmax(axis=1)), abs=1e-12)
    expected = sklearn.confusion_matrix(labels, wide.argmax(axis=1), labels=range(10))
    np.testing.assert_array_equal(metrics.confusion, expected)
    assert metrics.confusion.dtype == np.int64
    np.testing.assert_allclose(metrics.per_class_accuracy, 100 * expected.diagonal() / expected.sum(axis=1))
    if hasattr(sklearn, "top_k_accuracy_score"):
        top5 = 100 * sklearn.top_k_accuracy_score(labels, wide, k=5, labels=range(10))
        assert metrics.top5 == pytest.approx(top5, abs=1e-12)


def test_top5_is_the_five_first_of_a_stable_descending_sort():
    random = np.random.RandomState(1)
    logits = random.randint(0, 4, (400, 12)).astype(np.float32)  # many ties
    labels = random.randint(0, 12, 400)
    order = np.argsort(-logits, axis=1, kind="mergesort")
    metrics = _counted(logits, labels, 12)
    assert metrics.top1 == 100 * int((order[:, 0] == labels).sum()) / 400
    assert metrics.top5 == 100 * int((order[:, :5] == labels[:, None]).sum()) / 400


@pytest.mark.parametrize(("classes", "scale"), [(4, 3.0), (40, 0.7)])
def test_calibration_error_by_its_definition(classes, scale):
    logits, labels = _batch(2, 700, classes, scale)
    labels[:200] = logits[:200].argmax(axis=1)  # right more often than sure, so that gaps have both signs
    wide = logits.astype(np.float64)
    softmax = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    confidence, correct = softmax.max(axis=1), softmax.argmax(axis=1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    error = _counted(logits, labels, classes).expected_calibration_error
    assert error == pytest.approx(100 * expected, abs=1e-9)


def test_a_sure_and_right_classifier_is_calibrated_and_a_sure_and_wrong_one_is_not():
    logits = np.eye(3) * 100
    assert _counted(logits, np.arange(3), 3).expected_calibration_error == pytest.approx(0, abs=1e-9)
    assert _counted(logits, np.array([1, 2, 0]), 3).expected_calibration_error == pytest.approx(100, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_split_in_any_order_over_any_ranks_gives_the_same_bits(data):
    classes = data.draw(st.sampled_from([1, 2, 7, 10, 33]))
    images = data.draw(st.integers(1, 60))
    logits, labels = _batch(
        data.draw(st.integers(0, 10**6)), images, classes, data.draw(st.sampled_from([0.1, 5, 1e4]))
    )
    order = np.array(data.draw(st.permutations(range(images))))
    cuts = sorted(data.draw(st.lists(st.integers(0, images), max_size=6)))
    ranks: List[Metrics] = [Metrics(classes) for _ in range(data.draw(st.integers(1, 4)))]
    for number, part in enumerate(np.split(order, cuts)):
        ranks[number % len(ranks)].update(logits[part], labels[part])
    merged = ranks.pop(data.draw(st.integers(0, len(ranks) - 1)))
    for rank in ranks:
        merged.merge(Metrics.from_state(json.loads(json.dumps(rank.to_state()))))

    whole = _counted(logits, labels, classes)
    assert merged.to_state() == whole.to_state()
    assert (merged.loss, merged.top1, merged.top5) == (whole.loss, whole.top1, whole.top5)
    assert merged.expected_calibration_error == whole.expected_calibration_error


@pytest.mark.parametrize("layout", ["fortran", "strided", "float16", "list"])
def test_the_layout_in_memory_does_not_matter(layout):
    logits, labels = _batch(3, 64, 10)
    logits = logits.astype(np.float16).astype(np.float32)
    other = {
        "fortran": np.asfortranarray(logits),
        "strided": np.repeat(logits, 2, axis=1)[:, ::2],
        "float16": logits.astype(np.float16),
        "list": logits.tolist(),
    }[layout]
    assert _counted(other, labels, 10).to_state() == _counted(logits, labels, 10).to_state()


def test_padded_rows_count_as_nothing_whatever_they_hold():
    logits, labels = _batch(4, 20, 10)
    padded = np.concatenate([logits, np.full((5, 10), np.nan, np.float32)])
    mask = np.arange(25) < 20
    metrics = _counted(padded, np.concatenate([labels, np.full(5, -1)]), 10, mask=mask)
    assert metrics.to_state() == _counted(logits, labels, 10).to_state()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_wrong_and_the_loss_is_nan(bad):
    logits = np.array([[9.0, 0, 0], [9.0, 0, 0]])
    logits[1, 0 if bad != -np.inf else 1] = bad
    metrics = _counted(logits, np.array([0, 0]), 3)
    assert (metrics.images, metrics.non_finite) == (2, 1)
    assert (metrics.top1, metrics.top5) == (50, 50)
    assert math.isnan(metrics.loss)
    assert math.isnan(metrics.expected_calibration_error)
    assert metrics.per_class_accuracy[0] == 50
    assert metrics.confusion.sum() == 1
    assert Metrics.from_state(metrics.to_state()).to_state() == metrics.to_state()


def test_absurd_losses_are_cut_off_and_do_not_overflow():
    logits = np.tile([[1e308, -1e308]], (5000, 1))
    metrics = _counted(logits, np.ones(5000, np.int64), 2)
    for _ in range(3):
        metrics.merge(metrics)
    assert metrics.images == 40000
    assert metrics.loss == LARGEST_LOSS


def test_a_tiny_loss_is_kept_to_twelve_digits_after_the_point():
    metrics = _counted(np.array([[20.0, 0.0]]), np.array([0]), 2)
    assert metrics.loss == pytest.approx(math.log1p(math.exp(-20)), abs=2.0**-41)


def test_without_images_everything_is_nan():
    metrics = Metrics(3)
    metrics.update(np.zeros((0, 3), np.float32), np.zeros(0, np.int32))
    values = [metrics.loss, metrics.top1, metrics.top5, metrics.expected_calibration_error]
    assert all(math.isnan(value) for value in [*values, *metrics.per_class_accuracy])
    assert metrics.images == 0


def test_a_class_without_images_has_no_accuracy():
    accuracy = _counted(np.eye(3), np.array([0, 1, 1]), 3).per_class_accuracy
    assert accuracy[:2].tolist() == [100, 50]
    assert math.isnan(accuracy[2])


def test_with_five_classes_or_fewer_top5_is_100():
    assert _counted(*_batch(5, 30, 5), 5).top5 == 100


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_is_a_one_line_data_error_and_counts_nothing(label):
    metrics = Metrics(10)
    with pytest.raises(DataError) as error:
        metrics.update(np.zeros((2, 10)), np.array([3, label]))
    assert f"label {label} is outside 0..9; " in str(error.value)
    assert "\n" not in str(error.value)
    assert metrics.to_state() == Metrics(10).to_state()


@pytest.mark.parametrize(
    ("logits", "labels", "mask"),
    [
        (np.zeros((2, 9)), np.zeros(2, int), None),
        (np.zeros((2, 10)), np.zeros(3, int), None),
        (np.zeros((2, 10)), np.zeros(2), None),
        (np.zeros((2, 10)), np.zeros(2, int), np.ones(2)),
        (np.zeros((2, 10)), np.zeros(2, int), np.ones(3, bool)),
    ],
)
def test_wrong_shapes_and_types_are_refused(logits, labels, mask):
    with pytest.raises(ValueError, match=r"logits|labels|mask"):
        Metrics(10).update(logits, labels, mask)


def test_metrics_of_different_networks_do_not_merge():
    with pytest.raises(ValueError, match="classes"):
        Metrics(10).merge(Metrics(11))


def test_a_state_is_json_and_a_contradictory_one_is_refused():
    state = json.loads(json.dumps(_counted(*_batch(6, 30, 10), 10).to_state()))
    state["images"] += 1
    with pytest.raises(ValueError, match="contradict"):
        Metrics.from_state(state)


def test_the_confusion_matrix_handed_out_is_a_copy():
    metrics = _counted(*_batch(7, 30, 10), 10)
    metrics.confusion[:] = 0
    assert metrics.confusion.sum() == 30


def test_neighbouring_bins_of_low_confidence_do_not_cancel_out():
    logits = np.zeros((2, 40))
    logits[0, 0], logits[1, 0] = (math.log(39 * 0.05 / 0.95), math.log(39 * 0.1 / 0.9))  # confidence 0.05 and 0.1
    metrics = _counted(logits, np.array([0, 1]), 40)  # the first right, the second wrong
    assert metrics.expected_calibration_error == pytest.approx(100 * (0.95 + 0.1) / 2)


# -- as text --------------------------------------------------------------------------------------------------


def test_it_says_what_it_has_counted():
    metrics = Metrics(6)
    assert str(metrics) == "no images"
    logits = np.zeros((4, 6))
    logits[:, 1] = 100.0
    logits[3] = [9, 8, 7, 6, 5, 4]
    metrics.update(logits, [1, 1, 1, 5])
    text = f"4 images: top-1 75.000 %, top-5 75.000 %, loss {metrics.loss:.4f}, calibration error "
    assert str(metrics) == f"{text}{metrics.expected_calibration_error:.2f} %"
    assert repr(metrics) == f"<Metrics of 6 classes: {metrics}>"
    metrics.update(np.full((1000, 6), np.nan), [0] * 1000)
    assert "1,004 images" in str(metrics)
    assert "loss nan" in str(metrics)
    assert str(metrics).endswith(", 1,000 with logits that are not finite")
    one = Metrics(2)
    one.update([[1.0, 0.0]], [0])
    assert str(one).startswith("1 image: ")
