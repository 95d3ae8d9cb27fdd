"""What a network costs: parameters, multiply-adds, activations, and the least time that a training step can take.

Counted are convolutions and fully connected layers, as fvcore and the published tables count; a forward pass of one
image. A training step computes each of their products three times (forward, gradient of the input, gradient of the
weights), two operations a multiply-add. Of the memory traffic only that of these layers' outputs is counted, which is
most of it: the gates, additions, weights and the input come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional

OPERATIONS = 6  # of a training step, for each multiply-add of a forward pass
# How often a training step moves each output of a convolution, its batch normalisation and its ReLU through memory.
FUSED = 7  # everything that can be is fused: written and read once forward; backward one write and four reads
SEPARATE = 14  # usual kernels, statistics in a pass of their own: two writes, three reads; two writes, seven reads
BYTES = {"O0": 4}  # of an activation by precision; half precision otherwise


@dataclass(frozen=True)
class NetworkCost:
    """For one image; `activations` are the elements of the outputs of convolutions and fully connected layers."""

    parameters: int
    multiply_adds: int
    activations: int


@dataclass(frozen=True)
class Accelerator:
    """What a device can do at most, in floating-point operations and bytes of memory traffic a second."""

    operations: float
    bandwidth: float

    @classmethod
    def from_limits(cls, operations: Optional[float], bandwidth: Optional[float]) -> Optional[Accelerator]:
        """None where one of the two is not known."""
        return cls(operations, bandwidth) if operations and bandwidth else None

    def arithmetic_seconds(self, cost: NetworkCost, images: int) -> float:
        """A training step of so many images, if nothing but arithmetic took time."""
        return OPERATIONS * cost.multiply_adds * images / self.operations

    def memory_seconds(self, cost: NetworkCost, images: int, element_bytes: int, passes: int = FUSED) -> float:
        """The same, if nothing but moving activations took time."""
        return passes * element_bytes * cost.activations * images / self.bandwidth

    def roofline_seconds(self, cost: NetworkCost, images: int, element_bytes: int) -> float:
        """Seconds below which no training step can be: the larger of the two, everything fused."""
        return max(self.arithmetic_seconds(cost, images), self.memory_seconds(cost, images, element_bytes))


def reached(floor: float, throughput: Mapping[str, Any]) -> str:
    """For the log: which share of this floor, in seconds, the median step of `Clock.lap` has reached."""
    median = throughput["step_ms_p50"]
    return (
        f"floor of a step: {1000 * floor:.3f} ms, {100000 * floor / median:.1f} % of the median step's {median:.3f} ms"
    )


def element_bytes(precision: str) -> int:
    """Of an activation, at a precision level."""
    return BYTES.get(precision, 2)


def describe(cost: NetworkCost, precision: str, batch_size: int, accelerator: Optional[Accelerator]) -> List[str]:
    """The lines of the mode `summary`."""
    size = element_bytes(precision)
    lines = [
        f"parameters: {cost.parameters:,}",
        f"multiply-adds: {_scaled(cost.multiply_adds)} an image, of convolutions and fully connected layers",
        f"activations: {_scaled(cost.activations)} an image, their outputs; {_scaled(cost.activations * size)}B in"
        f" {precision}, {_scaled(cost.activations * size * batch_size)}B in a batch of {batch_size}",
        f"training: {_scaled(OPERATIONS * cost.multiply_adds)}FLOP an image",
    ]
    if accelerator is None:
        return [*lines, "floor of a training step: give --peak-flops and --memory-bandwidth, as in 790e12 and 4.3e12"]
    lines.append(
        f"the floor of a training step of {batch_size} images at {_scaled(accelerator.operations)}FLOP/s and"
        f" {_scaled(accelerator.bandwidth)}B/s:"
    )
    for what, seconds in (
        ("arithmetic alone", accelerator.arithmetic_seconds(cost, batch_size)),
        ("memory, all fused", accelerator.memory_seconds(cost, batch_size, size)),
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
