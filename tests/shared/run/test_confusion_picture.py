"""The confusion matrix as pixels: where a cell is, its colour, its size."""

from __future__ import annotations

import numpy as np
import pytest

from shared.run.tensorboard import confusion_picture


def test_the_shade_is_the_share_of_the_labels_images():
    pixels = confusion_picture(np.array([[3, 1], [0, 5]]))
    assert pixels.shape == (320, 320, 3)
    assert pixels.dtype == np.uint8
    right, wrong, never, always = (pixels[row, column].tolist() for row in (80, 240) for column in (80, 240))
    assert always == [37, 99, 235]
    assert never == [255, 255, 255]
    assert right == [round(255 - 0.75 * (255 - value)) for value in (37, 99, 235)]
    assert wrong == [round(255 - 0.25 * (255 - value)) for value in (226, 87, 43)]


def test_a_cell_has_one_colour():
    pixels = confusion_picture(np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    cells = pixels.reshape(3, 107, 3, 107, 3)
    assert (cells == cells[:, :1, :, :1]).all()


@pytest.mark.parametrize(("classes", "side"), [(1, 320), (7, 322), (320, 320), (1000, 1000)])
def test_its_size(classes, side):
    assert confusion_picture(np.zeros((classes, classes), np.int64)).shape == (side, side, 3)


def test_a_class_without_images_is_white():
    assert (confusion_picture(np.array([[0, 0], [0, 1]]))[:160] == 255).all()
