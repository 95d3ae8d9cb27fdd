"""The reference's own parts, beside what they are documented to do."""

from __future__ import annotations

import torch
from torch import nn

from shared import recipes
from torch_imagenet.port_check.reference import documented_optimizer


def test_the_gradients_of_every_step_are_clipped() -> None:
    recipe = recipes.get("se_resnet50_1p").override(clip_norm=0.5, momentum=0.0, weight_decay=0.0)
    weights = {"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.zeros(1))}
    optimizer = documented_optimizer(recipe, weights)  # as for a loss curve, before there are gradients
    for step in range(1, 3):
        for weight in weights.values():
            weight.grad = torch.ones_like(weight)  # together of norm 2
        optimizer.step()
        expected = -recipe.largest_rate * 0.5 / 2 * step
        for weight in weights.values():
            torch.testing.assert_close(weight.detach(), torch.full_like(weight, expected), rtol=1e-5, atol=0)
