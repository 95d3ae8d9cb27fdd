"""What every device is to the rest of the program, and what the command line asks of it."""

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
LossScale = Union[None, str, float]  # nothing, "dynamic" or a number


@dataclass(frozen=True)
class Request:
    """What the command line asks of a device, whichever it is."""

    precision: str = "O0"
    xla: bool = False
    deterministic: bool = False
    npu_options: Tuple[str, ...] = ()
    loss_scale: LossScale = None
    number: Optional[int] = 1  # of devices; None: all that are there


class Device(abc.ABC):
    """What the rest of the program knows of the machine it runs on.

    `count`: devices that train together, those of other processes included, of which this process is the one of
    number `rank`; the first one writes. `static_shapes`: every batch must have the same shape. `times_data_wait`: the
    graph may have a tf.timestamp. `notes`: lines for the user, for example that a rewrite is slow here. `loss_scale`:
    None, "dynamic", a number.
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
            self.times_data_wait = False  # a clock is one of the operators that TensorFlow then refuses
            _make_deterministic()

    @abc.abstractmethod
    def session_config(self) -> Any:
        """A fresh tf.compat.v1.ConfigProto for every session of the run."""

    @abc.abstractmethod
    def wrap_optimizer(self, optimizer: Any) -> Any:
        """The tf.compat.v1.train.Optimizer with loss scaling, or as it is where the precision needs none.

        A scaled optimizer adds its scale and step counts to the global variables of the default graph. A step
        that overflows changes no weight and does not advance the `global_step` given to `apply_gradients`.
        """

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """The `Replicas` of this device; the default graph and its sessions are made inside."""
        from tf_seresnet.step.replicas import ALONE

        yield ALONE

    def threads(self) -> Optional[int]:
        """On how many threads a sum is split up, where that decides how it is rounded."""
        return None

    def describe(self) -> Dict[str, Any]:
        """The device of the record: {"kind", "name", "count"}."""
        return {"kind": self.kind, "name": self.name, "count": self.count}

    def settings(self) -> Dict[str, Any]:
        """Everything that was configured, for config.json."""
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


def loss_scale(text: Optional[str]) -> LossScale:
    """Raises UsageError for anything but None, "dynamic" and a finite number from 1 on."""
    if text is None or text == "dynamic":
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number < math.inf:
        raise UsageError(f"loss scale {text!r} is no number from 1 on; write --loss-scale dynamic, or 1024")
    return number


def refuse_index(kind: str, index: Optional[int]) -> None:
    """Raise UsageError where one device is named and several are asked for."""
    if index is not None:
        raise UsageError(f"--device {kind}:{index} is one device, and several are asked for; write --device {kind}")


def refuse_more(kind: str, asked: Optional[int], present: int) -> None:
    """Raise UsageError where more devices are asked for than there are."""
    if asked is not None and asked > present:
        raise UsageError(f"--num-devices {asked}, but this machine has {present} {kind}; lower it")


def _make_deterministic() -> None:
    """For the whole process: TensorFlow has no narrower switch."""
    enable = determinism_switch()
    if enable is not None:
        enable()
    else:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"  # 2.1 to 2.7
        os.environ["TF_CUDNN_DETERMINISTIC"] = "1"  # 1.14 on


def determinism_switch() -> Optional[Callable[[], None]]:
    """TensorFlow's own, since 2.8; None before."""
    import tensorflow as tf

    return getattr(tf.config.experimental, "enable_op_determinism", None)
