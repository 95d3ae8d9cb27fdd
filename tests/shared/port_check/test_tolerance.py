"""The bounds of batch normalisation's gradients where its output gradient is known only up to a rounding."""

from __future__ import annotations

import numpy as np

from shared.port_check.tolerance import BatchNormBounds, batch_norm_bounds

AXES = (0, 2, 3)
EPSILON = 1e-5


def _gradients(x: np.ndarray, scale: np.ndarray, g: np.ndarray) -> BatchNormBounds:
    """Of input, scale and shift, in float64, from the formulas of Ioffe and Szegedy, arXiv 1502.03167, section 3."""
    centred = x - x.mean(AXES, keepdims=True)
    variance = (centred**2).mean(AXES, keepdims=True)
    gx = g * scale[None, :, None, None]
    g_variance = (gx * centred * -0.5 * (variance + EPSILON) ** -1.5).sum(AXES, keepdims=True)
    g_mean = (-gx / np.sqrt(variance + EPSILON)).sum(AXES, keepdims=True)
    count = x.size // x.shape[1]
    of_x = gx / np.sqrt(variance + EPSILON) + g_variance * 2 * centred / count + g_mean / count
    return BatchNormBounds(x, of_x, (g * centred / np.sqrt(variance + EPSILON)).sum(AXES), g.sum(AXES), x, x)


def test_a_gradient_that_was_recorded_rounded_is_allowed_for() -> None:
    random = np.random.RandomState(0)
    x, g = random.randn(4, 8, 6, 6), random.randn(4, 8, 6, 6)
    scale, shift, given = random.rand(8) + 0.5, random.randn(8), 2.0**-8 * np.abs(g)
    bounds = batch_norm_bounds(x, scale, shift, EPSILON, g, "float32", given)
    without = batch_norm_bounds(x, scale, shift, EPSILON, g, "float32")
    one = _gradients(x, scale, g)
    other = _gradients(x, scale, g + given * random.uniform(-1, 1, g.shape))
    for name in ("input_gradient", "scale_gradient", "shift_gradient"):
        error = np.abs(getattr(other, name) - getattr(one, name))
        assert (error <= getattr(bounds, name)).all(), name
        assert (error > getattr(without, name)).any(), name
        assert (error > 0.02 * getattr(bounds, name)).any(), name  # it is no wider than it needs to be, by far
