"""The reference of a training step: images, loss and optimizer as the recipe documents them, on the CPU.

Written apart from what trains, so that a fault there is seen.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import nn
from torch.nn import functional

from shared.port_check.exchange import exchange_checks
from shared.port_check.findings import Check, verdict
from shared.port_check.losses import ROUNDED_RUNS, loss_checks
from shared.port_check.report import Comparison, error_by_depth
from shared.port_check.trace import Trace
from shared.recipes.imagenet import ImageNetRecipe
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.networks.registry import mean_and_std
from torch_imagenet.port_check.checks import Problem, layer_checks, update_checks, weight_checks
from torch_imagenet.port_check.compiled import GRADIENT
from torch_imagenet.port_check.leaves import tensor
from torch_imagenet.port_check.trajectory import Trajectory
from torch_imagenet.port_check.whole_gradients import deviations, gradient_checks


def compare_trace(recipe: ImageNetRecipe, network: nn.Module, trace: Trace, ranks: Ranks = ALONE) -> Comparison:
    """Compare a trace with the step that `network`, with the weights from before it, takes by the recipe.

    Each of several `ranks` calls it with its own trace of the step that they have taken together. The trace of one of
    them alone is compared as far as the others are not needed: without their exchange, and with one loss, its own.
    """
    reference = copy.deepcopy(network).double().train()
    images, magnitude = normalised(trace, recipe)
    labels = tensor(trace.tensors["labels"], torch.int64)
    scale = float(trace.description["loss_scale"])

    def loss(outputs: Any) -> torch.Tensor:
        return documented_loss(recipe, outputs, labels)

    def make(named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return documented_optimizer(recipe, named)

    problem = Problem(reference, images, magnitude, lambda outputs: loss(outputs) * scale)
    checks: List[Check] = [*weight_checks(reference, trace), *layer_checks(problem, trace)]
    if ranks.size > 1:
        checks += exchange_checks(trace, ranks.gather)
    checks += update_checks(trace, make)
    alone = ranks.size == 1 and "loss" in trace.tensors
    side = [float(value) for value in (trace.tensors["loss"][None] if alone else trace.tensors["losses"])]
    compiled = bool(trace.named(GRADIENT))
    exact = Trajectory(copy.deepcopy(reference), ranks=ranks, keep_gradients=compiled)
    exact.run(images, loss, make, len(side))
    dtypes, products = {call.name: call.dtype for call in trace.calls}, trace.float32_products

    def rounded(number: int) -> Trajectory:
        """A rounded run; in another order of the images, sums over the batch are rounded otherwise."""
        order = torch.arange(len(labels)).roll(number)
        run = Trajectory(copy.deepcopy(reference).float(), dtypes, products, ranks, compiled)
        run.run(images[order], partial(documented_loss, recipe, labels=labels[order]), make, len(side))
        return run

    near, others, errors = rounded(0), [], []
    for run in (near, *map(rounded, range(1, ROUNDED_RUNS))):
        others.append(run.losses)
        errors.append(deviations(run.gradients, exact.gradients))
    checks += gradient_checks(trace, errors)
    checks += loss_checks(side, exact.losses, others)
    losses = {"side": side, "reference": exact.losses, "rounded": near.losses}
    return Comparison(verdict(checks), error_by_depth(trace, exact.values, near.values), losses)


def normalised(trace: Trace, recipe: ImageNetRecipe) -> Tuple[torch.Tensor, torch.Tensor]:
    """The images float64 [B, 3, H, W], less the mean over the deviation, and the magnitudes that this adds up."""
    pixels = tensor(trace.tensors["images"], torch.float64).permute(0, 3, 1, 2).contiguous() / 255
    values = mean_and_std(recipe.network, recipe.normalisation)
    mean, std = (torch.tensor(value, dtype=torch.float64)[:, None, None] for value in values)
    return (pixels - mean) / std, (pixels + mean) / std


def documented_loss(recipe: ImageNetRecipe, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with smoothed labels (Szegedy et al., arXiv 1512.00567, section 7), plus the auxiliary head's.

    Smoothing "uniform" distributes epsilon over all classes, "others" over the wrong ones. The mean over the batch.
    """
    if isinstance(outputs, tuple):
        main, auxiliary = (documented_loss(recipe, part, labels) for part in outputs)
        return main + recipe.auxiliary_weight * auxiliary
    classes, epsilon = outputs.shape[1], recipe.label_smoothing
    right = functional.one_hot(labels, classes).to(outputs.dtype)
    if recipe.smoothing == "others" and classes > 1:
        targets = (1 - epsilon) * right + epsilon / (classes - 1) * (1 - right)
    else:
        targets = (1 - epsilon) * right + epsilon / classes
    return -(targets * functional.log_softmax(outputs, dim=1)).sum(dim=1).mean()


def documented_optimizer(recipe: ImageNetRecipe, named: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum. Where the recipe clips the norm of the gradients, they are clipped at the start of a step."""
    groups: List[Dict[str, Any]] = [
        {"params": [weight], "weight_decay": recipe.weight_decay if recipe.decayed == "all" or weight.ndim > 1 else 0.0}
        for weight in named.values()
    ]
    made = torch.optim.SGD(groups, lr=recipe.largest_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)

    def clip(*step: Any) -> None:
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(named.values()), recipe.clip_norm)

    made.register_step_pre_hook(clip)
    return made
