"""CPU, NVIDIA GPU and Ascend NPU behind one interface; only this folder names a kind of device.

device = open_device("auto", precision="O1")
with tf.Graph().as_default(), device.connected() as replicas:
    optimizer = device.wrap_optimizer(optimizer)      # outside any tf.control_dependencies
    with tf.compat.v1.Session(config=device.session_config()) as session: ...
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from typing import Any, Dict, Iterator, Optional, Tuple

from shared.cli.interpreter import INSTALL_TENSORFLOW
from shared.errors import UsageError
from shared.system.garbage import collection_paused
from shared.system.signals import Interrupts
from shared.text import nearest
from tf_seresnet.devices import onednn, probe
from tf_seresnet.devices.base import Device, DeviceConfig, Request, parse_loss_scale, refuse_index
from tf_seresnet.devices.keras_backend import KerasDevice, backend_name, load, prepare_keras
from tf_seresnet.devices.npu import environment, launch
from tf_seresnet.devices.npu.device import NpuDevice, adapter_for
from tf_seresnet.devices.startup_output import startup_messages_dropped
from tf_seresnet.devices.stock_tensorflow import XLA_ON_CPU, CpuDevice, GpuDevice


def parse(text: str) -> Tuple[str, Optional[int]]:
    """Kind ("auto", "cpu", "gpu" or "npu") and index, or None, of a `--device` value. Raises UsageError."""
    match = re.match(r"(auto|cpu)$|(gpu|cuda|npu)(?::(\d{1,4}))?$", text.strip().lower())
    if match is None:
        hint = nearest(text, ("auto", "cpu", "gpu", "gpu:0", "npu", "npu:0"))
        raise UsageError(f"unknown device {text!r}; {hint}")
    kind = (match.group(1) or match.group(2)).replace("cuda", "gpu")
    return kind, int(match.group(3)) if match.group(3) else None


def open_device(spec: str, precision: str = "O0", loss_scale: Optional[str] = None, **settings: Any) -> Device:
    """The device that `spec` names (see `parse`), checked and ready.

    "auto" is a GPU if TensorFlow sees one, else an NPU if its adapter is installed, else the CPU. `settings` are the
    other fields of `Request`. A process with an NPU has one, and may be one of several ranks (`npu.environment`).
    Raises UsageError if the machine, TensorFlow or the adapter does not support a requested option.
    """
    kind, index = parse(spec)
    device = _class_of(kind)(index, Request(precision, loss_scale=parse_loss_scale(loss_scale), **settings))
    if kind == "auto" and device.kind == CpuDevice.kind:
        device.notes += probe.unused_accelerators()
    return device


def open_from(
    config: DeviceConfig, precision: str, loss_scale: Optional[str] = None, began: Optional[Dict[str, Any]] = None
) -> Device:
    """`open_device` with the options of the command line and the precision and loss scale of the recipe.

    `began` is the state of a run that is resumed. Where the device compiles trainings unless told otherwise, it goes on
    compiled if it began so.
    """
    xla = config.xla
    if xla is None and config.mode != "train":
        xla = False
    elif xla is None and began is not None and _class_of(parse(config.device)[0]) is GpuDevice:
        xla = bool(began.get("arithmetic", {}).get("xla"))
    return open_device(
        config.device,
        precision,
        loss_scale,
        xla=xla,
        deterministic=config.deterministic,
        npu_options=config.npu_option,
        number=config.requested_devices,
    )


def open_keras(config: DeviceConfig, precision: str, loss_scale: Optional[str] = None) -> KerasDevice:
    """The device on which Keras' backend computes, with the options of the command line; see `load_keras`."""
    kind, index = parse(config.device)
    return KerasDevice(kind, index, config, precision, loss_scale)


def load_keras(config: DeviceConfig) -> None:
    """Make ready for Keras' import: its backend must not take a device that --device does not name.

    Raises UsageError where Keras 3 or its backend is missing.
    """
    kind, index = parse(config.device)
    prepare_keras(kind, index, config.deterministic)
    if backend_name() == "tensorflow":
        load_tensorflow(config.device, config.xla)
    with collection_paused():
        load()


def documented_recipe(spec: str) -> str:
    """The documented recipe for a `--device` value; "auto" prefers a GPU to an NPU, so it has the GPU's."""
    return "se_resnet110_npu" if parse(spec)[0] == "npu" else "se_resnet110_gpu"


def load_tensorflow(device: str, xla: Optional[bool]) -> None:
    """Import TensorFlow for a `--device` value, without start-up messages. Raises UsageError if it does not load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, unless the user has set it
    if parse(device)[0] in ("auto", "cpu"):
        onednn.enable()
    if xla and parse(device)[0] in ("auto", "cpu"):
        flags = os.environ.get("TF_XLA_FLAGS", "").split()
        os.environ["TF_XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, XLA_ON_CPU]))
    warnings.filterwarnings("ignore", category=FutureWarning)  # TensorFlow 1.15 and 2.6 with their numpy
    try:
        with startup_messages_dropped():
            with _without_keras(), collection_paused():
                import tensorflow as tf

            tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
            config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
            with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
                session.run(tf.constant(0))  # some libraries print messages at first use
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        hint = INSTALL_TENSORFLOW
        if parse(device)[0] == "npu":
            hint = "set PYTHON to the Python that has TensorFlow 1.15 with npu_bridge, or 2.6 with npu_device"
        raise UsageError(f"TensorFlow does not load in {sys.executable} ({reason}); {hint}") from error


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """TensorFlow 2.16 and newer import Keras at once, a third of the time, but not where TF_USE_LEGACY_KERAS asks for
    another one that is not there. `tf.keras` reads the variable when it is first used, and then is Keras as ever.
    """
    given = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS")
        if given is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = given


def starts_ranks(config: DeviceConfig) -> bool:
    """Whether this command only starts one process per NPU. For the device "auto", call `load_tensorflow` first."""
    if config.requested_devices == 1 or environment.is_rank():
        return False
    return _class_of(parse(config.device)[0]) is NpuDevice


def start_ranks(config: DeviceConfig, interrupts: Interrupts) -> None:
    """Run this program once per requested NPU; see `launch.run_ranks`."""
    refuse_index(NpuDevice.kind, parse(config.device)[1])
    launch.run_ranks([sys.executable, *sys.argv], launch.rank_environments(config.requested_devices), interrupts)


@contextlib.contextmanager
def with_rank_named() -> Iterator[None]:
    """Prefix every UsageError raised inside with the rank of this process, if it is one of several."""
    try:
        yield
    except UsageError as error:
        rank = os.environ.get("RANK_ID") or os.environ.get("ASCEND_DEVICE_ID")
        raise UsageError(f"rank {rank}: {error}" if environment.is_rank() else str(error)) from error


def _class_of(kind: str) -> Any:
    """The class of devices of a kind; for "auto" that of the best available one."""
    classes = {found.kind: found for found in (CpuDevice, GpuDevice, NpuDevice)}
    if kind != "auto":
        return classes[kind]
    if probe.visible_gpus():
        return GpuDevice
    return NpuDevice if adapter_for(probe.tensorflow_version()) is not None else CpuDevice
