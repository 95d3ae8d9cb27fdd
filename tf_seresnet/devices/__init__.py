"""CPU, NVIDIA GPU and Ascend NPU: objects with one interface; no file outside this folder names a device.

    device = open_device("auto", precision="O1")
    with tf.Graph().as_default(), device.connected() as replicas:
        optimizer = device.wrap_optimizer(optimizer)      # outside any tf.control_dependencies
        with tf.compat.v1.Session(config=device.session_config()) as session: ...

TensorFlow ignores, without a word, a graph rewrite that its build or the machine cannot do and a custom
optimizer that it does not know. Hence nothing here is assumed to work: a rewrite is tried on a small graph
whose outcome is read back, and the NPU is opened only when the adapter is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

from shared.cli.signals import Interrupts
from shared.errors import UsageError
from shared.text import nearest
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import PRECISIONS, Device, Request, parse_loss_scale, refuse_index
from tf_seresnet.devices.npu import environment, launch
from tf_seresnet.devices.npu.adapter import adapter_for
from tf_seresnet.devices.npu.device import NpuDevice
from tf_seresnet.devices.startup_output import startup_messages_dropped
from tf_seresnet.devices.stock import XLA_ON_CPU, CpuDevice, GpuDevice, append_flag

__all__ = [
    "PRECISIONS",
    "TENSORFLOW_PACKAGES",
    "Device",
    "add_options",
    "documented_recipe",
    "load_tensorflow",
    "open_device",
    "open_from",
    "parse",
    "starts_ranks",
    "start_ranks",
    "with_rank_named",
]

# What TensorFlow is called by those who package it, for --version, which does not import it.
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-aarch64")


def parse(text: str) -> Tuple[str, Optional[int]]:
    """Kind ("auto", "cpu", "gpu" or "npu") and index, None where none was given, of a `--device` value.

    "cuda" is "gpu". Raises UsageError with the nearest valid spelling.
    """
    match = re.match(r"(auto|cpu)$|(gpu|cuda|npu)(?::(\d{1,4}))?$", text.strip().lower())
    if match is None:
        hint = nearest(text, ("auto", "cpu", "gpu", "gpu:0", "npu", "npu:0"))
        raise UsageError(f"unknown device {text!r}; {hint}")
    kind = (match.group(1) or match.group(2)).replace("cuda", "gpu")
    return kind, int(match.group(3)) if match.group(3) else None


def open_device(
    spec: str,
    precision: str = "O0",
    xla: bool = False,
    deterministic: bool = False,
    npu_options: Sequence[str] = (),
    loss_scale: Optional[str] = None,
    number: Optional[int] = 1,
) -> Device:
    """The device that `spec` names, checked and ready. See `parse` for `spec`.

    "auto" is the GPU that TensorFlow sees, else the NPU whose adapter is installed, else the CPU.
    `precision` is O0 (float32), O1 (float16 where it is safe, with loss scaling) or bf16. `npu_options` are
    "key=value" texts for the adapter. `loss_scale` is "dynamic" or a number from 1 on; None leaves it to
    the precision. `number` of devices of this process, None: all that are there; a process with an NPU has
    one, and is one of several where the environment says so (`npu_ranks`).

    Call it before anything else imports TensorFlow: XLA on the CPU is decided when TensorFlow is loaded.
    Raises UsageError where the machine, TensorFlow or the adapter cannot do what is asked.
    """
    kind, index = parse(spec)
    request = Request(precision, xla, deterministic, tuple(npu_options), parse_loss_scale(loss_scale), number)
    return _OPENERS[kind](index, request)


def add_options(group: Any) -> None:
    """The options that belong to a device of this half."""
    group.add_argument("--xla", action="store_true", help="compile with XLA (CPU, GPU)")
    group.add_argument(
        "--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number (default: by precision)"
    )
    group.add_argument(
        "--npu-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any option of the Ascend adapter's session configuration; may be repeated",
    )


def documented_recipe(spec: str) -> str:
    """The documented row of this kind of device; "auto" never prefers an NPU to a GPU, so it has the GPU's."""
    return "se_resnet110_npu" if parse(spec)[0] == "npu" else "se_resnet110_gpu"


def load_tensorflow(options: Any) -> None:
    """Import TensorFlow with what must be in the environment before it, and without its start-up chatter.

    Raises UsageError where it is not installed or does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only; a setting of the user's own is left alone
    if options.xla and parse(options.device)[0] in ("auto", "cpu"):
        append_flag("TF_XLA_FLAGS", XLA_ON_CPU)
    warnings.filterwarnings("ignore", category=FutureWarning)  # TensorFlow 1.15 and 2.6 on the numpy of their day
    try:
        with startup_messages_dropped():
            import tensorflow as tf

            tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
            with tf.Graph().as_default(), tf.compat.v1.Session(
                config=tf.compat.v1.ConfigProto(device_count={"GPU": 0})
            ) as session:
                session.run(tf.constant(0))  # some libraries speak when they are first used
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        hint = "pip install -r requirements/cpu.txt, or start with bash run_gpu.sh"
        if parse(options.device)[0] == "npu":
            hint = "set PYTHON to the Python that has TensorFlow 1.15 with npu_bridge, or 2.6 with npu_device"
        raise UsageError(f"TensorFlow does not load in {sys.executable} ({reason}); {hint}") from error


def open_from(options: Any, precision: str, loss_scale: Optional[str]) -> Device:
    """`open_device` with the command line's options and the recipe's precision and loss scale."""
    return open_device(
        options.device, precision, options.xla, options.deterministic, options.npu_option, loss_scale, _number(options)
    )


def _number(options: Any) -> Optional[int]:
    """How many devices of this machine the command line asks for; None: all."""
    return options.num_devices or (None if options.distributed else 1)


def starts_ranks(options: Any) -> bool:
    """Whether this command is to start processes, one a device, instead of training itself.

    So it is with several NPUs; the adapter wants a process for each. A process that is one of several trains. Needs
    `load_tensorflow` where the device is "auto".
    """
    if _number(options) == 1 or environment.is_rank():
        return False
    kind, _ = parse(options.device)
    return (_best() if kind == "auto" else _OPENERS[kind]) is NpuDevice


def start_ranks(options: Any, interrupts: Interrupts) -> None:
    """Start this program once for every NPU asked for, and wait. Raises UsageError, Stopped, or SystemExit with the
    status of the first that failed otherwise.
    """
    _, index = parse(options.device)
    refuse_index(NpuDevice.kind, index)
    launch.run_ranks([sys.executable, *sys.argv], launch.rank_environments(_number(options)), interrupts)


@contextlib.contextmanager
def with_rank_named() -> Iterator[None]:
    """Errors of the user's inside begin with the rank of this process, where it is one of several."""
    try:
        yield
    except UsageError as error:
        rank = os.environ.get("RANK_ID") or os.environ.get("ASCEND_DEVICE_ID")
        raise UsageError(f"rank {rank}: {error}" if environment.is_rank() else str(error)) from error


def _best() -> Opener:
    """The best device that is there."""
    if probe.visible_gpus():
        return GpuDevice
    if adapter_for(probe.tensorflow_version()) is not None:
        return NpuDevice
    return CpuDevice


def _open_automatic(index: Optional[int], request: Request) -> Device:
    device = _best()(None, request)
    device.notes += probe.unused_accelerators() if device.kind == CpuDevice.kind else []
    return device


Opener = Callable[[Optional[int], Request], Device]
_OPENERS: Dict[str, Opener] = {"auto": _open_automatic, "cpu": CpuDevice, "gpu": GpuDevice, "npu": NpuDevice}
