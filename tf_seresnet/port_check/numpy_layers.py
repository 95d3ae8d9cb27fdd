"""A layer set of `tf_seresnet.network` over NumPy arrays; what is done with each layer is a subclass's business."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from tf_seresnet.network import BATCH_NORM_EPSILON, Layers
from tf_seresnet.port_check import operations
from tf_seresnet.port_check.operations import Operation


class Handed(NamedTuple):
    """The part of a value's gradient that one layer hands back to it."""

    layer: str
    operand: str
    gradient: np.ndarray
    bound: np.ndarray


@dataclass
class Value:
    """A layer's result, and what the layers that it goes to hand back to it."""

    layer: str
    array: np.ndarray
    handed: List[Handed] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """One call of a layer: `function` of the inputs, and of the variables `layer/NAME` for each name of `weights`."""

    layer: str  # "conv2d_3"
    text: str  # what it computes, for a report
    function: Callable[..., Operation]
    inputs: Dict[str, Value]
    weights: Dict[str, str] = field(default_factory=dict)  # the variable of each operand

    @property
    def kind(self) -> str:
        """The name of the operation."""
        return str(getattr(self.function, "func", self.function).__name__)


class NumpyLayers(Layers):
    """Feature maps are `Value`s. The names and the order of the layers are those of the other layer sets."""

    @abc.abstractmethod
    def apply(self, call: Call) -> Value:
        """The result of a call."""

    def conv(self, x: Any, filters: int, kernel: int, strides: int = 1, bias: bool = True) -> Any:
        text = f"{kernel}x{kernel} convolution, {x.array.shape[-1]} to {filters} channels"
        text += f", stride {strides}" if strides > 1 else ""
        function = functools.partial(operations.conv, strides=strides)
        return self._layer("conv2d", text, function, {"x": x}, ["kernel", "bias"] if bias else ["kernel"])

    def batch_norm(self, x: Any, training: Optional[bool]) -> Any:
        text = f"batch normalisation of {x.array.shape[-1]} channels, epsilon {BATCH_NORM_EPSILON:g}"
        function = functools.partial(operations.batch_norm, epsilon=BATCH_NORM_EPSILON)
        return self._layer("BatchNorm", text, function, {"x": x}, ["gamma", "beta"])

    def dense(self, x: Any, units: int) -> Any:
        text = f"dense, {x.array.shape[-1]} to {units}"
        return self._layer("dense", text, operations.dense, {"x": x}, ["kernel"])

    def global_average_pool(self, x: Any) -> Any:
        return self._layer("global_average_pool", "global average pooling", operations.global_average_pool, {"x": x})

    def relu(self, x: Any) -> Any:
        return self._layer("relu", "ReLU", operations.relu, {"x": x})

    def gate(self, x: Any, excitation: Any) -> Any:
        return self._layer("gate", "gate", operations.gate, {"x": x, "excitation": excitation})

    def add(self, x: Any, y: Any) -> Any:
        return self._layer("add", "addition", operations.add, {"x": x, "y": y})

    def shortcut(self, x: Any, filters: int, strides: int) -> Any:
        function = functools.partial(operations.shortcut, filters=filters, strides=strides)
        return self._layer("shortcut", f"shortcut to {filters} channels, stride {strides}", function, {"x": x})

    def _layer(
        self, kind: str, text: str, function: Callable[..., Operation], inputs: Dict[str, Value], weights: Any = ()
    ) -> Value:
        name = self.next_name(kind)
        return self.apply(Call(name, text, function, inputs, {weight: f"{name}/{weight}" for weight in weights}))
