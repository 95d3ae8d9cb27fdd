"""The cost of a network (parameters, multiply-adds, activations) and the roofline of its training step.

The roofline is the shortest time that a step can take, bounded by arithmetic or by memory traffic (Williams et al.,
"Roofline: An Insightful Visual Performance Model", 2009). Costs are those of convolutions and fully connected layers in
a forward pass of one image, as fvcore and the published tables count. A training step computes each product three times
(forward, gradient of the input, gradient of the weights), with two operations per multiply-add. Memory traffic is that
of these layers' outputs alone, which is most of it; gates, additions, weights and the input are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional

OPERATIONS = 6  # of a training step, per multiply-add of a forward pass
# How often a training step moves each output of a convolution, its batch normalisation and its ReLU through memory.
FUSED = 7  # fully fused: forward one write and one read; backward one write and four reads
SEPARATE = 14  # usual kernels, statistics in a separate pass: two writes, three reads; two writes, seven reads


@dataclass(frozen=True)
class NetworkCost:
    """For one image; `activations` are the elements of the outputs of convolutions and fully connected layers."""

    parameters: int
    multiply_adds: int
    activations: int


@dataclass(frozen=True)
class Accelerator:
    """Peak performance of a device: floating-point operations and bytes of memory traffic per second."""

    operations: float
    bandwidth: float

    def arithmetic_seconds(self, cost: NetworkCost, images: int) -> float:
        """The time of a training step on `images` images if only arithmetic took time."""
        return OPERATIONS * cost.multiply_adds * images / self.operations

    def memory_seconds(self, cost: NetworkCost, images: int, element_bytes: int, passes: int = FUSED) -> float:
        """The same if only moving activations through memory took time."""
        return passes * element_bytes * cost.activations * images / self.bandwidth

    def roofline_seconds(self, cost: NetworkCost, images: int, element_bytes: int) -> float:
        """The shortest possible training step: the larger of the two, fully fused."""
        return max(self.arithmetic_seconds(cost, images), self.memory_seconds(cost, images, element_bytes))


def reached(roofline: float, throughput: Mapping[str, Any]) -> str:
    """The line of the log that compares the roofline, in seconds, with the median step of `Clock.lap`."""
    step, median = 1000 * roofline, throughput["step_ms_p50"]
    return f"roofline of a step: {step:.3f} ms, {100 * step / median:.1f} % of the median step's {median:.3f} ms"


def element_bytes(precision: str) -> int:
    """Bytes of an activation at a precision level."""
    return 4 if precision == "O0" else 2


def describe(cost: NetworkCost, precision: str, batch_size: int, accelerator: Optional[Accelerator]) -> List[str]:
    """The lines of the mode `summary`."""
    size = element_bytes(precision)
    lines = [
        f"parameters: {cost.parameters:,}",
        f"multiply-adds: {_scaled(cost.multiply_adds)} per image, of convolutions and fully connected layers",
        f"activations: {_scaled(cost.activations)} per image, their outputs; {_scaled(cost.activations * size)}B in"
        f" {precision}, {_scaled(cost.activations * size * batch_size)}B in a batch of {batch_size}",
        f"training: {_scaled(OPERATIONS * cost.multiply_adds)}FLOP per image",
    ]
    if accelerator is None:
        advice = "give --peak-flops and --memory-bandwidth, as in 790e12 and 4.3e12"
        return [*lines, f"roofline of a training step: {advice}"]
    peaks = f"{_scaled(accelerator.operations)}FLOP/s and {_scaled(accelerator.bandwidth)}B/s"
    lines.append(f"roofline of a training step of {batch_size} images at {peaks}:")
    for what, seconds in (
        ("arithmetic alone", accelerator.arithmetic_seconds(cost, batch_size)),
        ("memory, fully fused", accelerator.memory_seconds(cost, batch_size, size)),
        ("memory, usual kernels", accelerator.memory_seconds(cost, batch_size, size, SEPARATE)),
    ):
        lines.append(f"  {what:<22} {1000 * seconds:10.3f} ms {batch_size / seconds:12,.0f} images/s")
    return lines


def _scaled(value: float) -> str:
    """Four digits and the SI prefix: 20.77 G."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}"
    return f"{value:.4g} "
