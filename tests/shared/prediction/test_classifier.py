"""What both halves' classifiers share, with a network of one matrix: probabilities, ranks, batches, mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from shared.cli.parser import Parser
from shared.errors import UsageError
from shared.prediction.classifier import ImageClassifier, command_words

Image = pytest.importorskip("PIL.Image")


class Brightness(ImageClassifier):
    """Logits 0, m and 2m for an image of 2 x 2 pixels with mean m; those of a white image are not finite."""

    labels, names, top_k, batch_size = ("n0", "n1", "n2"), ("none", "some", "much"), 2, 3

    def __init__(self):
        self.batches = []

    def cropped(self, image):
        return np.asarray(image.resize((2, 2)))

    def logits(self, images):
        self.batches.append(len(images))
        means = images.mean(axis=(1, 2, 3))
        means[means == 255] = np.nan
        return (means[:, None] * np.arange(3)).astype(np.float32)

    def maps(self, images, outputs):
        raise NotImplementedError

    def first_not_finite(self, images):
        return "conv"


def grey(value):
    return Image.new("L", (5, 4), value)


def test_an_image_has_names_with_probabilities_and_a_list_has_lists():
    classify = Brightness()
    total = 1 + np.exp(-1) + np.exp(-2)
    wanted = [("much", pytest.approx(1 / total)), ("some", pytest.approx(np.exp(-1) / total))]
    assert classify(grey(1)) == wanted
    assert classify((grey(1),)) == [wanted]
    assert classify([]) == []


def test_equal_classes_are_in_the_networks_order():
    (best,) = Brightness().predict(np.zeros((1, 2, 2, 3), np.uint8), ["black"])
    assert [(one.label, one.output) for one in best] == [("n0", 0), ("n1", 1)]
    assert [one.probability for one in best] == pytest.approx([1 / 3] * 2)


def test_large_logits_are_no_overflow():
    assert Brightness()(grey(254)) == [("much", 1.0), ("some", pytest.approx(0.0))]


def test_a_list_goes_in_batches():
    classify = Brightness()
    assert [best[0][0] for best in classify([grey(value) for value in (0, 9, 0, 9, 9, 0, 9)])] == (
        ["none", "much", "none", "much", "much", "none", "much"]
    )
    assert classify.batches == [3, 3, 1]


def test_no_number_is_no_answer():
    with pytest.raises(UsageError, match="outputs for the image are not all finite, first in conv; check the weights"):
        Brightness()([grey(3), grey(255)])


def test_options_by_name_are_those_of_the_command_line():
    parser = Parser()
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--no-zero-pad", dest="zero_pad", action="store_const", const=False)
    start = ["predict", "--checkpoint=a b"]
    words = command_words(parser, "a b", {"top_k": 3, "device": "cuda:0", "xla": True})
    assert words == [*start, "--top-k", "3", "--device", "cuda:0", "--xla"]
    assert command_words(parser, "a b", {"xla": False}) == start  # a flag that is not given
    assert command_words(parser, "a b", {"zero_pad": False}) == [*start, "--no-zero-pad"]
    assert command_words(parser, "a b", {"unknown": False}) == [*start, "--no-unknown"]  # which is then refused
