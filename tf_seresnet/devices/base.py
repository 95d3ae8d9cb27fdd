"""The interface of a device of this half, and the options that every device takes."""

from __future__ import annotations

import abc
import contextlib
import math
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from shared.errors import UsageError
from shared.text import nearest

PRECISIONS = ("O0", "O1", "bf16")
LossScale = Union[None, str, float]  # None, "dynamic" or a number


@dataclass(frozen=True)
class Request:
    """The options of the command line that configure a device."""

    precision: str = "O0"
    xla: bool = False
    deterministic: bool = False
    npu_options: Tuple[str, ...] = ()
    loss_scale: LossScale = None
    number: Optional[int] = 1  # of devices; None: all available


class Device(abc.ABC):
    """The device, or the devices, that a graph runs on.

    `count`: devices that train together, including those of other processes. `rank`: the number of this process; rank 0
    writes the files. `static_shapes`: every batch must have the same shape. `times_data_wait`: the graph may contain a
    tf.timestamp. `notes`: lines for the user, for example that a rewrite is slow here.
    """

    kind: str = ""
    count: int = 1
    rank: int = 0
    static_shapes: bool = False
    times_data_wait: bool = True
    name: str
    index: int
    loss_scale: LossScale

    def __init__(self, request: Request) -> None:
        if request.precision == "O2":
            raise UsageError("precision O2 is not in the CIFAR-10 half; use --precision O1, bf16 or O0")
        if request.precision not in PRECISIONS:
            raise UsageError(f"unknown precision {request.precision!r}; {nearest(request.precision, PRECISIONS)}")
        self.precision = request.precision
        self.request = request
        self.notes: List[str] = []
        if request.deterministic:
            self.times_data_wait = False  # TensorFlow then refuses tf.timestamp
            _make_deterministic()

    @abc.abstractmethod
    def session_config(self) -> Any:
        """A new tf.compat.v1.ConfigProto for a session of the run."""

    @abc.abstractmethod
    def wrap_optimizer(self, optimizer: Any) -> Any:
        """The tf.compat.v1.train.Optimizer with loss scaling, or unchanged if the precision needs none.

        A loss-scaling optimizer adds its scale and step counts to the global variables of the default graph. A step
        that overflows changes no weight and does not advance the `global_step` of `apply_gradients`.
        """

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Yields the `Replicas` of this device; build the default graph and its sessions inside."""
        from tf_seresnet.step.replicas import ALONE

        yield ALONE

    def threads(self) -> Optional[int]:
        """Number of threads that share one sum, if floating-point rounding depends on it."""
        return None

    def describe(self) -> Dict[str, Any]:
        """The device in result.json: {"kind", "name", "count"}."""
        return {"kind": self.kind, "name": self.name, "count": self.count}

    def settings(self) -> Dict[str, Any]:
        """The whole configuration of the device, for config.json."""
        return {
            "kind": self.kind,
            "index": self.index,
            "count": self.count,
            "precision": self.precision,
            "loss_scale": self.loss_scale,
            "xla": self.request.xla,
            "deterministic": self.request.deterministic,
            "notes": list(self.notes),
        }


def parse_loss_scale(text: Optional[str]) -> LossScale:
    """The value of --loss-scale. Raises UsageError unless it is None, "dynamic" or a finite number of at least 1."""
    if text is None or text == "dynamic":
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number < math.inf:
        raise UsageError(f"loss scale {text!r} is not a number of at least 1; write --loss-scale dynamic, or 1024")
    return number


def refuse_index(kind: str, index: Optional[int]) -> None:
    """Raise UsageError if --device names one device and several are requested."""
    if index is not None:
        raise UsageError(f"--device {kind}:{index} is one device, and several are asked for; write --device {kind}")


def check_count(kind: str, requested: Optional[int], available: int) -> None:
    """Raise UsageError if more devices are requested than are available."""
    if requested is not None and requested > available:
        raise UsageError(f"--num-devices {requested}, but this machine has {available} {kind}; lower it")


def _make_deterministic() -> None:
    """Make TensorFlow deterministic in the whole process: it has no narrower switch."""
    enable = determinism_switch()
    if enable is not None:
        enable()
    else:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"  # 2.1 to 2.7
        os.environ["TF_CUDNN_DETERMINISTIC"] = "1"  # 1.14 on


def determinism_switch() -> Optional[Callable[[], None]]:
    """TensorFlow's function that enables determinism, since 2.8; None before."""
    import tensorflow as tf

    return getattr(tf.config.experimental, "enable_op_determinism", None)
