"""CPU, NVIDIA GPU and Ascend NPU behind one interface; only this folder names a kind of device.

    device = open_device("auto", precision="O1")
    with tf.Graph().as_default(), device.connected() as replicas:
        optimizer = device.wrap_optimizer(optimizer)      # outside any tf.control_dependencies
        with tf.compat.v1.Session(config=device.session_config()) as session: ...

TensorFlow silently ignores a graph rewrite that its build or the machine does not support, and a custom optimizer that
it does not know. So a rewrite is tried on a small graph and the result inspected, and an NPU is opened only if its
adapter is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from typing import Callable, Dict, Iterator, Optional, Sequence, Tuple

from shared.errors import UsageError
from shared.system.signals import Interrupts
from shared.text import nearest
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import PRECISIONS, Device, Request, parse_loss_scale, refuse_index
from tf_seresnet.devices.npu import environment, launch
from tf_seresnet.devices.npu.adapter import adapter_for
from tf_seresnet.devices.npu.device import NpuDevice
from tf_seresnet.devices.options import DeviceConfig, add_options
from tf_seresnet.devices.startup_output import startup_messages_dropped
from tf_seresnet.devices.stock_tensorflow import XLA_ON_CPU, CpuDevice, GpuDevice, append_flag

__all__ = [
    "PRECISIONS",
    "Device",
    "DeviceConfig",
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


def parse(text: str) -> Tuple[str, Optional[int]]:
    """Kind ("auto", "cpu", "gpu" or "npu") and index, or None, of a `--device` value.

    "cuda" means "gpu". Raises UsageError with the nearest valid spelling.
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
    """The device that `spec` names (see `parse`), checked and ready.

    "auto" is a GPU if TensorFlow sees one, else an NPU if its adapter is installed, else the CPU. `precision` is O0
    (float32), O1 (float16 where it is safe, with loss scaling) or bf16. `npu_options` are "key=value" texts for the
    adapter. `loss_scale` is "dynamic" or a number of at least 1; None: by precision. `number` is that of the process's
    devices; None: all available. A process with an NPU has one, and may be one of several ranks (`npu.environment`).

    Call it before anything else imports TensorFlow, which reads its XLA flags at import. Raises UsageError if the
    machine, TensorFlow or the adapter does not support a requested option.
    """
    kind, index = parse(spec)
    request = Request(precision, xla, deterministic, tuple(npu_options), parse_loss_scale(loss_scale), number)
    return _OPENERS[kind](index, request)


def documented_recipe(spec: str) -> str:
    """The documented recipe for a `--device` value; "auto" prefers a GPU to an NPU, so it has the GPU's."""
    return "se_resnet110_npu" if parse(spec)[0] == "npu" else "se_resnet110_gpu"


def load_tensorflow(device: str, xla: bool) -> None:
    """Set TensorFlow's environment variables for a `--device` value and import it without start-up messages.

    Raises UsageError if it is not installed or does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, unless the user has set it
    if xla and parse(device)[0] in ("auto", "cpu"):
        append_flag("TF_XLA_FLAGS", XLA_ON_CPU)
    warnings.filterwarnings("ignore", category=FutureWarning)  # TensorFlow 1.15 and 2.6 with their numpy
    try:
        with startup_messages_dropped():
            import tensorflow as tf

            tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
            with tf.Graph().as_default(), tf.compat.v1.Session(
                config=tf.compat.v1.ConfigProto(device_count={"GPU": 0})
            ) as session:
                session.run(tf.constant(0))  # some libraries print messages at first use
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        hint = "pip install -r requirements/cpu.txt, or start with bash run_gpu.sh"
        if parse(device)[0] == "npu":
            hint = "set PYTHON to the Python that has TensorFlow 1.15 with npu_bridge, or 2.6 with npu_device"
        raise UsageError(f"TensorFlow does not load in {sys.executable} ({reason}); {hint}") from error


def open_from(config: DeviceConfig, precision: str, loss_scale: Optional[str]) -> Device:
    """`open_device` with the options of the command line and the precision and loss scale of the recipe."""
    return open_device(
        config.device,
        precision,
        config.xla,
        config.deterministic,
        config.npu_option,
        loss_scale,
        config.requested_devices,
    )


def starts_ranks(config: DeviceConfig) -> bool:
    """Whether this command starts one process per device instead of training itself.

    It does so for several NPUs, whose adapter needs one process per NPU, unless it is a rank already. For the device
    "auto", call `load_tensorflow` first.
    """
    if config.requested_devices == 1 or environment.is_rank():
        return False
    kind, _ = parse(config.device)
    return (_best() if kind == "auto" else _OPENERS[kind]) is NpuDevice


def start_ranks(config: DeviceConfig, interrupts: Interrupts) -> None:
    """Run this program once per requested NPU and wait for all ranks.

    Raises UsageError, Stopped, or SystemExit with the status of the first rank that failed.
    """
    _, index = parse(config.device)
    refuse_index(NpuDevice.kind, index)
    launch.run_ranks([sys.executable, *sys.argv], launch.rank_environments(config.requested_devices), interrupts)


@contextlib.contextmanager
def with_rank_named() -> Iterator[None]:
    """Prefix every UsageError raised inside with the rank of this process, if it is one of several."""
    try:
        yield
    except UsageError as error:
        rank = os.environ.get("RANK_ID") or os.environ.get("ASCEND_DEVICE_ID")
        raise UsageError(f"rank {rank}: {error}" if environment.is_rank() else str(error)) from error


def _best() -> Opener:
    """The best available kind of device."""
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
