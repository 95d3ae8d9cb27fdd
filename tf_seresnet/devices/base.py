"""The interface of a device of this half, and the options of the command line that configure one."""

from __future__ import annotations

import abc
import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

from shared.cli.arguments import CommonConfig
from shared.cli.modes import STEPS, Add
from shared.errors import UsageError
from shared.text import nearest

# Distributions that contain TensorFlow, for --version, which does not import it.
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-aarch64")
PRECISIONS = ("O0", "O1", "bf16")


@dataclass(frozen=True)
class DeviceConfig(CommonConfig):
    """The common options and those of this half's devices, by the parser's names. None: not given."""

    loss_scale: Optional[str]  # "dynamic" or a number
    xla: Optional[bool]
    npu_option: Tuple[str, ...]  # "key=value" for the Ascend adapter

    @property
    def requested_devices(self) -> Optional[int]:
        """Number of devices of this machine that train together; None: all."""
        return self.num_devices or (None if self.distributed else 1)


def add_options(add: Add) -> None:
    """Add the device options of this half by the function `add` of a group."""
    compiled = {"dest": "xla", "action": "store_const"}
    add("--xla", const=True, help="compile with XLA (default: a training on a GPU)", **compiled)
    add("--no-xla", const=False, help="do not", **compiled)
    add(
        "--loss-scale", "--loss_scale", modes=STEPS, metavar="SCALE", help="dynamic or a number (default: by precision)"
    )
    add(
        "--npu-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of the Ascend adapter's session configuration; may be repeated",
    )


@dataclass(frozen=True)
class Request:
    """What is asked of a device."""

    precision: str = "O0"  # float32; O1: float16 where it is safe, with loss scaling; bf16
    xla: Optional[bool] = False  # None: as is usual on the device
    deterministic: bool = False
    npu_options: Tuple[str, ...] = ()  # "key=value" for the Ascend adapter
    loss_scale: Union[None, str, float] = None  # "dynamic" or a number; None: by precision
    number: Optional[int] = 1  # of this process's devices; None: all available


class Device(abc.ABC):
    """The device, or the devices, that a graph runs on.

    `count`: devices that train together, including those of other processes. `rank`: the number of this process; rank 0
    writes the files. `static_shapes`: every batch must have the same shape. `times_data_wait`: the graph may contain a
    tf.timestamp. `products`: a step is faster with 1x1 convolutions as matrix products. `revision`: a number that grows
    where this program's step comes to round otherwise here. `usual_steps_per_call`: what is fast here.
    `holds_training_set`: a training keeps its images in the device's memory. `xla`: graphs are compiled.
    `no_inference`: why this precision can only be trained in, if so. `notes`: lines for the user.
    """

    kind: str = ""
    count: int = 1
    rank: int = 0
    static_shapes: bool = False
    times_data_wait: bool = True
    products: bool = False
    revision: int = 1
    usual_steps_per_call: int = 1
    holds_training_set: bool = False
    xla: bool = False
    no_inference: str = ""
    name: str
    index: int
    loss_scale: Union[None, str, float]

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

    def steps_per_call(self, requested: Optional[int]) -> int:
        """How many training steps one session call runs at most. Raises UsageError where so many cannot be."""
        if self.count > 1 and (requested or 1) > 1:
            raise UsageError("--steps-per-call is for one device; leave it out, or train on one")
        return requested or (self.usual_steps_per_call if self.count == 1 else 1)

    def connected(self) -> Any:
        """The `Replicas` of this device, a context: build the default graph and its sessions inside."""
        from tf_seresnet.devices.replicas import ALONE

        return ALONE if self.count == 1 else self._several()

    @abc.abstractmethod
    def _several(self) -> Any:
        """The `Replicas` where several devices train together."""

    @property
    def bf16_speedup(self) -> Optional[float]:
        """How many times as fast `--precision bf16` trains here as float32; None where it is not known to be faster."""
        return None

    @property
    def float32_products(self) -> Dict[str, str]:
        """What the factors of a float32 "convolution" or "linear" layer are rounded to here, where they are.

        "tf32" is NVIDIA's, from Ampere on, and "hf32" Ascend's.
        """
        return {}

    def rounding(self) -> Dict[str, Any]:
        """What decides how sums are rounded here besides the device, by the names of `shared.run.resumption`."""
        return {}

    def describe(self) -> Dict[str, Any]:
        """The device in result.json: {"kind", "name", "count"}."""
        return {"kind": self.kind, "name": self.name, "count": self.count}

    def versions(self) -> Dict[str, str]:
        """The versions of what computes, for the record."""
        import tensorflow as tf

        return {"tensorflow": str(tf.__version__)}

    def settings(self) -> Dict[str, Any]:
        """The whole configuration of the device, for config.json."""
        names = ("kind", "index", "count", "precision", "loss_scale")
        options = {"xla": self.xla, "deterministic": self.request.deterministic}
        return {**{name: getattr(self, name) for name in names}, **options, "notes": list(self.notes)}


def parse_loss_scale(text: Optional[str]) -> Union[None, str, float]:
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
    import tensorflow as tf

    enable = getattr(tf.config.experimental, "enable_op_determinism", None)  # since 2.8
    if enable is not None:
        enable()
    else:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"  # 2.1 to 2.7
        os.environ["TF_CUDNN_DETERMINISTIC"] = "1"  # 1.14 on
