"""Grad-CAM against its formula in NumPy, and on networks whose answer is known to depend on one region.

With a mean over positions and a linear layer as head, the averaged gradient of a logit is the class' weights divided by
the number of positions, so the formula needs no gradient (Selvaraju et al., section 3.1; Zhou et al., 1512.04150).
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from torch_imagenet.networks.classifier import ImageClassifier  # noqa: E402
from torch_imagenet.networks.grad_cam import grad_cam  # noqa: E402


class Pooled(ImageClassifier):
    """Its last feature map is the image, averaged over squares of 8 pixels, and its classes are the colours."""

    def __init__(self):
        super().__init__()
        self.dropout, self.last_linear = nn.Dropout(0.5), nn.Linear(3, 3, bias=False)
        self.last_linear.weight.data = torch.eye(3)

    def maps(self, images, last, kept):
        return nn.functional.avg_pool2d(images, 8), []


def enlarged(one, side):
    """One map [h, w] as [side, side], bilinear between the centres of its cells."""
    for _ in range(2):
        cells = len(one)
        places = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
        below = np.minimum(places.astype(int), cells - 1)
        above, share = np.minimum(below + 1, cells - 1), (places - below)[:, None]
        one = (one[below] * (1 - share) + one[above] * share).T
    return one


def by_formula(maps, weights, side):
    """The map of features [C, h, w] and of a class' weights [C]."""
    raw = np.maximum(np.einsum("c,chw->hw", weights.astype(np.float64), maps.astype(np.float64)), 0)
    found = enlarged(raw, side)
    return found / found.max()


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_the_maximum_is_where_the_answer_comes_from(colour):
    images = torch.zeros(2, 3, 64, 64)
    images[0, colour, 16:24, 40:48] = 1  # one square of the colour, and a larger one of another
    images[0, colour - 1, 32:64, 0:32] = 1
    images[1, colour, 48:56, 8:16] = 1
    first, second = grad_cam(Pooled().eval(), images, torch.tensor([colour, colour]))
    for found, (top, left) in ((first, (16, 40)), (second, (48, 8))):
        row, column = np.unravel_index(int(found.argmax()), (64, 64))
        assert top <= row < top + 8
        assert left <= column < left + 8
        assert (float(found.max()), float(found.min())) == (1, 0)
    assert first[32:, :32].max() == 0  # the other colour's


def test_a_map_is_that_of_its_class():
    images = torch.zeros(1, 3, 32, 32)
    images[:, 0, :16] = images[:, 1, 16:] = 1
    red, green, blue = (grad_cam(Pooled().eval(), images, torch.tensor([index]))[0] for index in range(3))
    assert torch.equal(red, green.flip(0))
    assert red[0].min() == 1
    assert not blue.any()  # nothing is blue
    images = -images
    assert not grad_cam(Pooled().eval(), images, torch.tensor([0])).any()  # what speaks against a class is not shown


class Convolved(ImageClassifier):
    """Six feature maps of a strided convolution, and a head with a bias."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 7, stride=19)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(6, 5)

    head = "fc"

    def maps(self, images, last, kept):
        return self.convolution(images).relu(), []


def test_a_map_is_the_formulas():
    torch.manual_seed(0)
    network, images = Convolved().eval(), torch.randn(4, 3, 83, 83)
    outputs = torch.tensor([4, 1, 0, 4])
    with torch.inference_mode():  # which a caller may be in
        found = grad_cam(network, images, outputs).numpy()
        maps, weights = network.forward_features(images).numpy(), network.fc.weight.numpy()
    assert maps.shape == (4, 6, 5, 5)
    for one, features, output in zip(found, maps, outputs):
        np.testing.assert_allclose(one, by_formula(features, weights[output], 83), atol=1e-5)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
