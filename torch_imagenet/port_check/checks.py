"""All comparisons of a recorded step with the reference, in order of computation."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.port_check import tolerance
from shared.port_check.findings import Check, compare
from shared.port_check.tolerance import BatchNormBounds, Rounding, batch_norm_bounds
from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.port_check import replay
from torch_imagenet.port_check.leaves import describe, is_max_pool, leaves, max_pool_gradient, roundings, tensor
from torch_imagenet.port_check.replay import Divergence, Glue, Replay

Values = Dict[Tuple[str, str, int], np.ndarray]  # by quantity, layer and call


class Problem(NamedTuple):
    """What the step computes: the reference network in float64, the normalised images and the scaled loss."""

    network: nn.Module
    images: torch.Tensor  # float64 [B, 3, H, W]
    image_magnitude: torch.Tensor  # what the images' normalisation adds up, float64 [B, 3, H, W]
    loss: Callable[[Any], torch.Tensor]  # of the network's outputs, times the loss scale


def layer_checks(problem: Problem, trace: Trace) -> List[Check]:
    """Every value of every layer, forward and backward, and the gradients of its weights.

    Three passes: magnitudes, the reference's own float32 run, and the reference in float64. Where float32 on the CPU
    already needs more than the bound, the bound grows to what it needs.
    """
    network = problem.network
    glue = Glue()
    magnitude = _values(_abs(network, trace), trace, problem.image_magnitude, problem.loss, torch.abs, glue)
    plain = _values(copy.deepcopy(network).float(), trace, problem.images, problem.loss)
    judge = _Judge(trace, glue, magnitude, plain)
    reference = copy.deepcopy(network)
    replay.rounded_operands(reference, trace)
    try:
        loss = Replay(reference, trace, judge.see).run(problem.images, problem.loss)
    except Divergence as error:
        kind = describe(dict(leaves(network)).get(error.layer, nn.Identity()))
        inf = float("inf")
        return [*judge.checks, Check("forward", error.layer, "order", kind, inf, inf, str(error), "another network")]
    if "losses" in trace.tensors:
        judge.loss(float(loss))
    judge.weights(replay.gradients(reference))
    return [*judge.checks, *_statistics(reference, trace, judge.norms)]


def _abs(network: nn.Module, trace: Trace) -> nn.Module:
    absolute = copy.deepcopy(network).float()
    replay.absolute(absolute)
    return absolute


def _values(
    network: nn.Module,
    trace: Trace,
    images: torch.Tensor,
    loss: Callable[[Any], torch.Tensor],
    transform: Callable[[torch.Tensor], torch.Tensor] = lambda value: value,
    glue: Optional[Glue] = None,
) -> Values:
    """What a float32 network computes of each recorded value; what it gets to before it diverges, where it does."""
    values: Values = {}

    def see(quantity: str, call: LayerCall, layer: nn.Module, computed: torch.Tensor) -> None:
        values[quantity, call.name, call.call] = computed.numpy().copy()

    replay.rounded_operands(network, trace)
    try:
        Replay(network, trace, see, torch.float32, transform, glue or Glue()).run(images.float(), loss)
    except Divergence:
        return values
    for name, gradient in replay.gradients(network).items():
        values["weight", name, 0] = gradient
    return values


class _Judge:
    """Compares each value of the replay as it comes."""

    def __init__(self, trace: Trace, glue: Glue, magnitude: Values, plain: Values) -> None:
        self._trace = trace
        self._magnitude, self._plain = magnitude, plain
        wide = sorted({call.dtype for call in trace.calls} | {"float32"}, key=tolerance.UNIT_ROUNDOFF.__getitem__)
        self._glue = Rounding(wide[-1], "float32", glue.terms, glue.operations + 2)
        self.checks: List[Check] = []
        self.norms: Dict[str, BatchNormBounds] = {}
        self._at: Dict[str, int] = {}  # where the checks of a layer's backward pass end
        self._layers: Dict[str, Tuple[LayerCall, nn.Module]] = {}

    def see(self, quantity: str, call: LayerCall, layer: nn.Module, computed: torch.Tensor) -> None:
        """For `Replay`."""
        recorded = self._trace.tensors.get(call.key(quantity))
        if recorded is None:
            return
        expected = computed.numpy()
        key = quantity, call.name, call.call
        if quantity in ("input", "output gradient"):
            bound = tolerance.bound(expected, self._size(key, expected), self._glue)
            text = "what reaches " + describe(layer)
        else:
            bound, text = self._leaf_bound(quantity, call, layer, expected), describe(layer)
        bound = self._grown(key, expected, bound)
        stage = "backward" if "gradient" in quantity else "forward"
        dtype = call.input_dtype if quantity.startswith("input") else call.dtype
        if call.key(quantity) not in self._trace.derived:
            self.checks.append(compare(stage, call.name, quantity, text, expected, recorded, bound, dtype))
        if stage == "backward":
            self._at[call.name] = len(self.checks)
        self._layers[call.name] = call, layer

    def loss(self, scaled: float) -> None:
        """The loss of the recorded logits, between the checks of the forward and of the backward pass."""
        last = self._trace.tensors[self._trace.calls[-1].key("output")]
        expected = np.array(scaled / float(self._trace.description["loss_scale"]))
        # Exponentials of logits, their sum over the classes, a logarithm, a difference, and a mean over the batch.
        rounding = Rounding("float32", "float32", last.size, 4)
        size = np.abs(expected) + np.abs(last[np.isfinite(last)]).max(initial=1.0)
        bound = tolerance.bound(expected, size, rounding)
        observed = self._trace.tensors.get("loss", self._trace.tensors["losses"][0])
        check = compare("loss", "", "loss", "the loss of the recorded logits", expected, np.array(observed), bound)
        first = next((i for i, known in enumerate(self.checks) if known.stage == "backward"), len(self.checks))
        self.checks.insert(first, check)
        self._at = {name: at + 1 for name, at in self._at.items()}

    def weights(self, gradients: Dict[str, np.ndarray]) -> None:
        """The gradients of the weights, each after its layer's own."""
        found: List[Tuple[int, Check]] = []
        for name, expected in gradients.items():
            recorded = self._trace.tensors.get(f"gradient/{name}")
            layer, _, kind = name.rpartition(".")
            at = self._at.get(layer, len(self.checks))
            if recorded is None or layer not in self._layers:
                continue
            if layer in self.norms:
                norm = self.norms[layer]
                bound = norm.scale_gradient if kind == "weight" else norm.shift_gradient
                bound = bound + 2 * tolerance.UNIT_ROUNDOFF["float32"] * np.abs(expected)
            else:
                rounding = self._rounding(*self._layers[layer], kind)
                bound = tolerance.bound(expected, self._size(("weight", name, 0), expected), rounding)
            bound = self._grown(("weight", name, 0), expected, bound)
            text = f"the gradient of {name}"
            found.append((at, compare("backward", layer, f"{kind} gradient", text, expected, recorded, bound)))
        for at, check in sorted(found, key=lambda pair: -pair[0]):
            self.checks.insert(at, check)

    def _size(self, key: Tuple[str, str, int], expected: np.ndarray) -> np.ndarray:
        return self._magnitude.get(key, np.abs(expected))

    def _grown(self, key: Tuple[str, str, int], expected: np.ndarray, bound: np.ndarray) -> np.ndarray:
        """The bound, grown where the reference's own float32 run needs more."""
        plain = self._plain.get(key)
        if plain is None or plain.shape != expected.shape:
            return bound
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            needed = np.abs(plain - expected) / bound
        largest = float(np.nanmax(np.where(np.isfinite(needed), needed, 0.0), initial=0.0))
        return bound * max(1.0, largest * (1 + 1e-9))  # the division has rounded, too

    def _rounding(self, call: LayerCall, layer: nn.Module, quantity: str) -> Rounding:
        x, y = (self._trace.tensors[call.key(what)].shape for what in ("input", "output"))
        rounding = roundings(layer, x, y, call.dtype, self._trace.float32_products)[quantity]
        # A convolution reads its operands from memory. What is compiled into one kernel has had them unrounded.
        fused = self._trace.description.get("compiled") and not isinstance(layer, nn.Conv2d)
        return rounding._replace(stores=rounding.stores + 1) if fused else rounding

    def _leaf_bound(self, quantity: str, call: LayerCall, layer: nn.Module, expected: np.ndarray) -> np.ndarray:
        if isinstance(layer, _BatchNorm) and layer.training:
            if call.name not in self.norms:
                self.norms[call.name] = self._norm_bounds(call, layer)
            norm = self.norms[call.name]
            return norm.output if quantity == "output" else norm.input_gradient
        rounding = self._rounding(call, layer, quantity)
        if quantity == "input gradient" and is_max_pool(layer):
            x, gradient = (
                tensor(self._trace.tensors[call.key(q)], torch.float64) for q in ("input", "output gradient")
            )
            added, moved = (value.numpy() for value in max_pool_gradient(layer, x, gradient))
            return tolerance.bound(expected, added, rounding) + moved
        return tolerance.bound(expected, self._size((quantity, call.name, call.call), expected), rounding)

    def _norm_bounds(self, call: LayerCall, layer: _BatchNorm) -> BatchNormBounds:
        x = self._trace.tensors[call.key("input")].astype(np.float64)
        gradient = self._trace.tensors.get(call.key("output gradient"))
        g = np.zeros_like(x) if gradient is None else gradient.astype(np.float64)
        scale, shift = (value.detach().double().numpy() for value in (layer.weight, layer.bias))
        given = None
        if self._trace.description.get("compiled"):  # in one kernel with what hands it the gradient, it rounds less
            given = tolerance.bound(g, self._size(("output gradient", call.name, call.call), g), self._glue)
        return batch_norm_bounds(x, scale, shift, layer.eps, g, call.dtype, given)


def _statistics(reference: nn.Module, trace: Trace, norms: Dict[str, BatchNormBounds]) -> List[Check]:
    """The running statistics after the step; the replay has updated the reference's from the recorded inputs."""
    checks, recorded = [], trace.named("own") or trace.named("after")
    for name, layer in leaves(reference):
        if not isinstance(layer, _BatchNorm) or name not in norms or layer.momentum is None:
            continue
        for kind, error in (("running_mean", norms[name].mean), ("running_var", norms[name].variance)):
            expected = getattr(layer, kind).numpy()
            unit = tolerance.UNIT_ROUNDOFF["float32"]
            bound = layer.momentum * 2 * error + 4 * unit * np.abs(expected) + tolerance.HALF_SMALLEST["float32"]
            observed = recorded.get(f"{name}.{kind}")
            if observed is not None:
                text = f"{kind.replace('_', ' ')} of {describe(layer)}"
                checks.append(compare("statistics", name, kind, text, expected, observed, bound))
    return checks


def weight_checks(network: nn.Module, trace: Trace) -> List[Check]:
    """The weights and statistics before the step: the reference's, rounded to the dtype that the side keeps them in.

    A weight that the arithmetic's dtype cannot hold is out of tolerance, too.
    """
    checks, recorded = [], trace.named("before")
    kept = trace.description.get("weight_dtypes", {})
    used = {call.name: call.dtype for call in trace.calls}
    for name, value in network.state_dict().items():
        if not value.is_floating_point() or name not in recorded:
            continue
        expected, dtype = value.float().numpy(), kept.get(name, "float32")
        layer, _, kind = name.rpartition(".")
        unit = tolerance.UNIT_ROUNDOFF[dtype] if dtype != "float32" else 0.0
        bound = unit * np.abs(expected) + tolerance.HALF_SMALLEST[dtype]
        text = f"{name} before the step"
        checks.append(compare("weights", layer, kind, text, expected, recorded[name], bound))
        largest, low = float(np.abs(expected).max(initial=0.0)), used.get(layer, "float32")
        if kind == "weight" and value.ndim > 1 and largest > tolerance.LARGEST[low]:
            hint = f"overflow: {low} ends at {tolerance.LARGEST[low]:.5g}"
            inf = float("inf")
            checks.append(Check("weights", layer, kind, text, inf, inf, f"the largest is {largest:.4g}", hint))
    return checks


def update_checks(trace: Trace, optimizer: Callable[[Dict[str, nn.Parameter]], torch.optim.Optimizer]) -> List[Check]:
    """The weights after the step: the reference's optimizer in float64, from the side's weights and gradients.

    `optimizer` makes it of named float64 weights whose gradients are set.
    """
    scale = float(trace.description["loss_scale"])
    before, after = trace.named("before"), trace.named("after")
    gradients = trace.named("averaged") or trace.named("gradient")
    named: Dict[str, nn.Parameter] = {}
    for name, gradient in gradients.items():
        named[name] = nn.Parameter(tensor(before[name], torch.float64))
        named[name].grad = tensor(gradient, torch.float64) / scale
    overflow = any(not np.isfinite(gradient).all() for gradient in gradients.values())
    if (
        overflow and scale == 1.0
    ):  # without a loss scale no update is left out: all weights are spoilt by what comes before
        return []
    made = optimizer(named)
    if not overflow:
        made.step()
    checks = []
    for name, parameter in named.items():
        assert parameter.grad is not None
        expected, start = parameter.detach().numpy(), before[name].astype(np.float64)
        group = next(g for g in made.param_groups if any(p is parameter for p in g["params"]))
        moved = (
            group["lr"]
            * (np.abs(parameter.grad.numpy()) + group["weight_decay"] * np.abs(start))
            * (1 + group["momentum"])
        )
        bound = tolerance.update_bound(expected, moved)
        layer, _, kind = name.rpartition(".")
        text = f"the update of {name}" + (", which an overflow leaves out" if overflow else "")
        check = compare("update", layer, kind, text, expected, after[name], bound)
        if not check.agrees and np.array_equal(after[name], before[name]):
            check = replace(check, hint="as before the step")
        checks.append(check)
    return checks
