"""The confusion matrix as an image without text, for TensorBoard; the results page draws its own."""

from __future__ import annotations

import numpy as np

_SIDE = 320  # pixels at least; a thousand classes have one pixel a cell
_RIGHT, _WRONG = np.array([37, 99, 235]), np.array([226, 87, 43])  # the page's accent and its counterpart


def picture(confusion: np.ndarray) -> np.ndarray:
    """Pixels uint8 [S, S, 3] of counts int64 [K, K], row = label, column = answer, from the top left.

    The darker a cell, the larger its share of the label's images; blue on the diagonal, orange elsewhere.
    """
    classes = len(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    colour = np.where(np.eye(classes, dtype=bool)[:, :, None], _RIGHT, _WRONG)
    cells = np.rint(255 - share[:, :, None] * (255 - colour)).astype(np.uint8)
    size = -(-_SIDE // classes)
    return cells.repeat(size, axis=0).repeat(size, axis=1)
