"""All comparisons of a recorded step with the reference, in order of computation; NumPy alone."""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence

import numpy as np

from shared.port_check import tolerance
from shared.port_check.findings import Check, compare
from shared.port_check.trace import Trace
from shared.recipes.cifar10 import CifarRecipe
from tf_seresnet.network import BATCH_NORM_DECAY, se_resnet
from tf_seresnet.port_check import bounds
from tf_seresnet.port_check.numpy_layers import Call
from tf_seresnet.port_check.reference import IMAGES, Divergence, ReferenceLayers, divergence_check

UNIT, SMALLEST = tolerance.UNIT_ROUNDOFF["float32"], tolerance.HALF_SMALLEST["float32"]


def step_checks(recipe: CifarRecipe, trace: Trace) -> List[Check]:
    """The images, every layer forward and backward, the loss, the moving averages and the update."""
    network, layers = trace.description["network"], ReferenceLayers(trace, recipe.weight_decay)
    first = image_checks(recipe, trace)
    try:
        images = layers.images()
        logits = se_resnet(images, layers, network["depth"], network["variant"], network["num_classes"], training=True)
        layers.finish(logits, trace.tensors["labels"])
    except Divergence as error:
        return [*first, *layers.checks, divergence_check(error)]
    return [*first, *layers.checks, *statistics_checks(layers.norms, trace), *update_checks(recipe, trace)]


def weight_checks(expected: Mapping[str, np.ndarray], trace: Trace) -> List[Check]:
    """The variables before the step: the same numbers as those that they were given."""
    recorded, checks = trace.named("before"), []
    for name, value in expected.items():
        exact = np.full(value.shape, SMALLEST)
        layer, kind = name.split("/")[0], name.rsplit("/", 1)[1]
        observed = recorded.get(name, np.zeros(()) if value.shape else np.full((), np.nan))
        checks.append(compare("weights", layer, kind, f"{name} before the step", value, observed, exact))
    return checks


def images_of(trace: Trace, padding: int) -> np.ndarray:
    """The batch normalised, padded with zeros, cropped and mirrored, float64 [batch, height, width, 3]."""
    normalisation, raw = trace.description["normalisation"], trace.tensors["images"]
    images = (raw.astype(np.float64) - normalisation["mean"]) / normalisation["std"]
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)], "constant")
    crops = zip(padded, *(trace.tensors[f"crop/{name}"] for name in ("top", "left", "flip")))
    return np.stack(
        [image[top : top + height, left : left + width][:, :: -1 if flip else 1] for image, top, left, flip in crops]
    )


def image_checks(recipe: CifarRecipe, trace: Trace) -> List[Check]:
    """The input of the network: a difference and a quotient, in float32, of a pixel of at most 255."""
    expected = images_of(trace, recipe.crop_padding)
    bound = 4 * UNIT * (np.abs(expected) + 510 / np.array(trace.description["normalisation"]["std"]))
    observed = trace.tensors[f"output/{IMAGES}/0"]
    text = "the batch, normalised, cropped and mirrored"
    return [compare("forward", IMAGES, "output", text, expected, observed, bound)]


def statistics_checks(norms: Sequence[Call], trace: Trace) -> List[Check]:
    """The moving averages after the step: the mean zero-debiased, the variance with Bessel's correction."""
    before, after, checks = trace.named("before"), trace.named("after"), []
    rate = float(np.float32(1 - BATCH_NORM_DECAY))
    for call in norms:
        x = call.inputs["x"].array.astype(np.float64)
        length = x.size // x.shape[-1]
        operands = {"x": x, "gamma": np.ones(x.shape[-1]), "beta": np.zeros(x.shape[-1])}
        norm = bounds.norm_bounds(operands, np.zeros_like(x), "float32")
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2)) * length / max(length - 1, 1)
        steps = float(before[f"{call.layer}/{call.layer}/moving_mean/local_step"]) + 1
        kept = float(1 - np.float32(rate)) ** steps
        expected: Dict[str, np.ndarray] = {"local_step": np.asarray(steps)}
        allowed: Dict[str, np.ndarray] = {"local_step": np.asarray(SMALLEST)}
        for kind, new, error in (("biased", mean, norm.mean), ("moving_variance", variance, norm.variance)):
            name = f"{call.layer}/{call.layer}/moving_mean/{kind}" if kind == "biased" else f"{call.layer}/{kind}"
            old = before[name].astype(np.float64)
            expected[kind] = old - (old - new) * rate
            allowed[kind] = 2 * rate * error + 4 * UNIT * (np.abs(old) + np.abs(new)) + SMALLEST
        expected["moving_mean"] = expected["biased"] / (1 - kept)
        part = 4 * UNIT * (1 + kept / (1 - kept))  # of the power, and of its difference from 1
        allowed["moving_mean"] = allowed["biased"] / (1 - kept) + part * np.abs(expected["moving_mean"])
        for kind in ("biased", "local_step", "moving_mean", "moving_variance"):
            scope = f"{call.layer}/moving_mean/" if kind in ("biased", "local_step") else ""
            text = f"{kind.replace('_', ' ')} of {call.text}"
            observed = after.get(f"{call.layer}/{scope}{kind}")
            if observed is not None:
                checks.append(compare("statistics", call.layer, kind, text, expected[kind], observed, allowed[kind]))
    return checks


def update_checks(recipe: CifarRecipe, trace: Trace) -> List[Check]:
    """The weights after the first step, in which the momentum begins at zero, from the side's own gradients."""
    before, after, checks = trace.named("before"), trace.named("after"), []
    rate = float(trace.description["learning_rate"])
    gradients = {name: gradient.astype(np.float64) for name, gradient in trace.named("gradient").items()}
    overflow = not all(np.isfinite(gradient).all() for gradient in gradients.values())
    if (
        overflow and float(trace.description["loss_scale"]) == 1.0
    ):  # none is left out: all are spoilt by what comes before
        return []
    for name, gradient in gradients.items():
        old = before[name].astype(np.float64)
        moved = rate * gradient * (1 + recipe.momentum if recipe.nesterov else 1)
        expected = old if overflow else old - moved
        bound = tolerance.update_bound(expected, moved)
        text = f"the update of {name}" + (", which an overflow leaves out" if overflow else "")
        layer, kind = name.rsplit("/", 1)
        checks.append(compare("update", layer, kind, text, expected, after[name], bound))
    return checks
