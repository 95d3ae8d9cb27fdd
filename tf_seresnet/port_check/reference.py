"""The reference: the recorded step computed again in float64, every layer fed what it was fed on the side.

The network is walked once. A layer's result is compared with the recorded one, and the recorded one goes to the next
layer, so that each layer is right or wrong by itself. The same holds for gradients on the way back, of which each is
the sum of what the layers behind it hand back.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from shared.errors import UsageError
from shared.port_check import tolerance
from shared.port_check.findings import Check, compare
from shared.port_check.trace import LayerCall, Trace
from tf_seresnet.port_check import bounds
from tf_seresnet.port_check.bounds import Judged
from tf_seresnet.port_check.numpy_layers import Call, Handed, NumpyLayers, Value

IMAGES = "images"  # the first call of a trace: the batch as the network gets it


class Divergence(Exception):
    """The network calls layers in another order than the side did, so that nothing after it can be compared."""

    def __init__(self, call: Call, recorded: Optional[LayerCall]) -> None:
        super().__init__(f"the network has {call.layer} where the side had {recorded.name if recorded else 'its loss'}")
        self.call = call


class ReferenceLayers(NumpyLayers):
    """Checks each layer as the network calls it. `checks` are in order of computation; `norms` the normalisations."""

    def __init__(self, trace: Trace, weight_decay: float) -> None:
        super().__init__()
        self.checks: List[Check] = []
        self.norms: List[Call] = []
        self._trace, self._weight_decay = trace, weight_decay
        self._low = str(trace.description["compute_dtype"])  # in what the side may compute and keep gradients
        self._products = trace.float32_products
        self._recorded = iter(trace.calls)
        self._tape: List[Tuple[Call, LayerCall, Value]] = []

    def images(self) -> Value:
        """The batch as the side's network got it, float32 [batch, height, width, channels]."""
        return Value(IMAGES, self._trace.tensors[next(self._recorded).key("output")])

    def apply(self, call: Call) -> Value:
        """Compare the recorded result with what its operands give. Raises Divergence."""
        recorded = next(self._recorded, None)
        if recorded is None or recorded.name != call.layer:
            raise Divergence(call, recorded)
        dtype = recorded.dtype
        expected, bound = bounds.forward(call, self._operands(call), dtype, self._products)
        observed = self._trace.tensors.get(recorded.key("output"), np.zeros(()))
        self.checks.append(compare("forward", call.layer, "output", call.text, expected, observed, bound, dtype))
        value = Value(call.layer, observed if observed.shape == expected.shape else expected)
        self._tape.append((call, recorded, value))
        if call.kind == "batch_norm":
            self.norms.append(call)
        return value

    def finish(self, logits: Value, labels: np.ndarray) -> None:
        """Compare the loss of the recorded logits, and the whole backward pass. Raises Divergence."""
        left = next(self._recorded, None)
        if left is not None:
            raise Divergence(self._tape[-1][0], left)
        array, scale = logits.array.astype(np.float64), float(self._trace.description["loss_scale"])
        expected, bound = bounds.cross_entropy(array, labels)
        observed = np.asarray(self._trace.tensors["losses"][0])
        self.checks.append(compare("loss", "", "loss", "the loss of the recorded logits", expected, observed, bound))
        first = bounds.cross_entropy_gradient(array, labels, scale, self._low)
        logits.handed.append(Handed("loss", "logits", *first))
        for call, recorded, value in reversed(self._tape):
            gradient = self._gradient(call, recorded, value)
            found = bounds.backward(call, self._operands(call), gradient, self._low, self._products)
            for operand, x in call.inputs.items():
                x.handed.append(Handed(call.layer, operand, *found[operand]))
            for operand, name in call.weights.items():
                self._check_weight(call, operand, name, found[operand])

    def _operands(self, call: Call) -> Dict[str, np.ndarray]:
        arrays = {operand: value.array for operand, value in call.inputs.items()}
        for operand, name in call.weights.items():
            if f"before/{name}" not in self._trace.tensors:
                raise UsageError(f"the trace has no weights {name}; it is of another network")
            arrays[operand] = self._trace.tensors[f"before/{name}"]
        return {operand: array.astype(np.float64) for operand, array in arrays.items()}

    def _gradient(self, call: Call, recorded: LayerCall, value: Value) -> np.ndarray:
        """The recorded gradient of a layer's result, compared with the sum of what has been handed back to it."""
        parts = value.handed
        expected = sum(part.gradient for part in parts)
        bound: Any = sum(part.bound for part in parts)
        layer, quantity, text = (
            parts[0].layer,
            f"{_role(parts[0].operand)} gradient",
            f"what it hands back to {value.layer}",
        )
        if len(parts) > 1:
            unit = tolerance.UNIT_ROUNDOFF[self._low]
            bound = bound + (len(parts) - 1) * unit * sum(np.abs(part.gradient) for part in parts)
            # Of several layers one that has been found wrong is the likely cause, otherwise none can be told.
            wrong = {check.layer for check in self.checks if not check.agrees}
            layer = next((part.layer for part in parts if part.layer in wrong), value.layer)
            quantity = "output gradient" if layer == value.layer else "input gradient"
            text = f"the sum of what {' and '.join(part.layer for part in parts)} hand back to {value.layer}"
        observed = self._trace.tensors.get(recorded.key("output gradient"))
        if observed is None:
            return np.asarray(expected)
        check = compare("backward", layer, quantity, text, np.asarray(expected), observed, bound, self._low)
        self.checks.append(check)
        return observed.astype(np.float64) if observed.shape == value.array.shape else np.asarray(expected)

    def _check_weight(self, call: Call, operand: str, name: str, judged: Judged) -> None:
        """The gradient of a variable: that of the loss and that of the L2 term, which is half the sum of squares."""
        observed = self._trace.tensors.get(f"gradient/{name}")
        if observed is None:
            return
        factor = 1 / float(self._trace.description["loss_scale"])  # the optimizer has taken it out again
        decay = self._weight_decay * self._trace.tensors[f"before/{name}"].astype(np.float64)
        expected = factor * judged.expected + decay
        unit = tolerance.UNIT_ROUNDOFF["float32"]
        bound = factor * judged.bound + 4 * unit * (np.abs(factor * judged.expected) + np.abs(decay))
        bound = bound + tolerance.HALF_SMALLEST["float32"]
        text = f"the gradient of {name}"
        self.checks.append(compare("backward", call.layer, f"{operand} gradient", text, expected, observed, bound))


def _role(operand: str) -> str:
    return "input" if operand == "x" else operand


def divergence_check(error: Divergence) -> Check:
    """The check that another order of layers fails."""
    inf = float("inf")
    return Check("forward", error.call.layer, "order", error.call.text, inf, inf, str(error), "another network")
