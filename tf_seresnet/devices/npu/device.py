"""Ascend NPUs through their TensorFlow adapter: one per process, alone or as one of several ranks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from typing import Any, Dict, Optional, Tuple

from shared.errors import UsageError
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import Device, Request, refuse_index
from tf_seresnet.devices.npu import environment
from tf_seresnet.devices.npu import session_options as npu

# The TensorFlow version of each adapter: its package and the module that a session script imports.
ADAPTERS = {(1, 15): ("npu_bridge", "npu_bridge.npu_init"), (2, 6): ("npu_device", "npu_device.compat.v1.npu_init")}
_USED_NAMES = ("npu_tf_optimizer NPULossScaleOptimizer ExponentialUpdateLossScaleManager FixedLossScaleManager").split()

# The loss scale of the documented run starts at 2**32, doubles after 1000 finite steps and halves after 2 overflows.
# The high start costs some skipped steps; `--loss-scale NUMBER` replaces it.
DYNAMIC_LOSS_SCALE = {
    "init_loss_scale": 2**32,
    "incr_every_n_steps": 1000,
    "decr_every_n_nan_or_inf": 2,
    "decr_ratio": 0.5,
}


class NpuDevice(Device):
    """One Ascend NPU: npu_bridge on TensorFlow 1.15, npu_device on 2.6."""

    kind = "npu"
    name = "Ascend NPU"
    static_shapes = True
    times_data_wait = False
    float32_products = {"convolution": "hf32"}  # CANN's default, where the card has it

    def __init__(self, index: Optional[int], request: Request) -> None:
        rank = environment.current_rank()
        self.adapter = load_adapter(probe.tensorflow_version())
        super().__init__(request)
        if request.xla:
            raise UsageError("--xla has no effect on an NPU, whose adapter compiles graphs itself; leave it out")
        if rank is not None:
            refuse_index(self.kind, index)
            self._join(rank)
        elif request.number not in (None, 1):
            raise UsageError(
                f"--num-devices {request.number}, but RANK_SIZE makes this process the only one; unset it and RANK_ID"
            )
        own = os.environ.get("ASCEND_DEVICE_ID", "0")  # the adapter's default device
        if index is None and not own.isdigit():
            raise UsageError(f"ASCEND_DEVICE_ID is {own!r}, not a device index; set it to 0, 1, ..., or unset it")
        self.index = int(own) if index is None else index
        self.session_options, notes = npu.session_options(
            request.npu_options, self.precision, index, request.deterministic, distributed=self.count > 1
        )
        self.notes.extend(notes)
        self.loss_scale = request.loss_scale or ("dynamic" if npu.uses_float16(self.session_options) else None)

    def _join(self, rank: environment.Rank) -> None:
        """Become one of several ranks. Raises UsageError if the adapter would train without the others."""
        import tensorflow as tf

        self.rank, self.count = rank.number, rank.size
        os.environ["ASCEND_DEVICE_ID"] = str(rank.device)  # the adapter reads both when its first session opens
        os.environ.setdefault("JOB_ID", environment.JOB_ID)
        with tf.Graph().as_default() as graph:
            weight = tf.compat.v1.get_variable("weight", initializer=1.0)
            optimizer = self.adapter.npu_tf_optimizer(tf.compat.v1.train.GradientDescentOptimizer(1.0))
            optimizer.compute_gradients(weight * weight, [weight])
        averages = any("HcomAllReduce" in operation.name for operation in graph.get_operations())
        if not averages or not hasattr(self.adapter, "hccl_ops"):
            # Older adapters read RANK_SIZE only, and under CM_* silently train without the others.
            raise UsageError(
                "this Ascend adapter does not average gradients over the devices that the environment names; use"
                f" {environment.TABLE} with RANK_ID and RANK_SIZE, or a newer adapter"
            )

    def steps_per_call(self, requested: Optional[int]) -> int:
        if (requested or 1) > 1:
            raise UsageError("--steps-per-call has not been tried with the adapter of an NPU; leave it out")
        return 1

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        rewrite = config.graph_options.rewrite_options
        custom = rewrite.custom_optimizers.add()
        custom.name = "NpuOptimizer"
        npu.write(self.session_options, custom.parameter_map)
        rewrite.remapping = rewrite.memory_optimization = rewrite.OFF
        return config

    def wrap_optimizer(self, optimizer: Any) -> Any:
        optimizer = self.adapter.npu_tf_optimizer(optimizer)  # averages the gradients over the ranks
        if self.loss_scale is None:
            return optimizer
        if self.loss_scale == "dynamic":
            manager = self.adapter.ExponentialUpdateLossScaleManager(**DYNAMIC_LOSS_SCALE)
        else:
            manager = self.adapter.FixedLossScaleManager(loss_scale=self.loss_scale)
        return self.adapter.NPULossScaleOptimizer(optimizer, manager, is_distributed=self.count > 1)

    def _several(self) -> Any:
        from tf_seresnet.devices.npu.hccl import HcclRanks

        return HcclRanks(self.rank, self.count, self.adapter.hccl_ops)

    def settings(self) -> Dict[str, Any]:
        return {
            **super().settings(),
            "adapter": self.adapter.__name__.partition(".")[0],
            "npu_options": dict(self.session_options),
            "dynamic_loss_scale": dict(DYNAMIC_LOSS_SCALE) if self.loss_scale == "dynamic" else None,
        }


def adapter_for(version: str) -> Optional[Tuple[str, str]]:
    """Package and module of the installed adapter for this version of TensorFlow; imports nothing."""
    major, minor = (re.findall(r"\d+", version) + ["0", "0"])[:2]
    found = ADAPTERS.get((int(major), int(minor)))
    return found if found and importlib.util.find_spec(found[0]) else None


def load_adapter(version: str) -> Any:
    """Import the adapter's module. Raises UsageError if it is missing, broken or for another TensorFlow."""
    found = adapter_for(version)
    if found is None:
        installed = [package for package, _ in ADAPTERS.values() if importlib.util.find_spec(package)]
        what = "(npu_bridge or npu_device) is not importable in " + sys.executable
        if installed:
            what = f"{installed[0]} does not work with TensorFlow {version}"
        raise UsageError(
            f"the Ascend adapter {what}; install npu_bridge with TensorFlow 1.15 or npu_device with TensorFlow 2.6, or"
            " use --device cpu"
        )
    package, module_name = found
    try:
        top = importlib.import_module(package)
        module = importlib.import_module(module_name)
        enable = getattr(getattr(top, "compat", None), "enable_v1", None)
        if enable is not None:
            enable()  # npu_device: graph sessions instead of eager execution
    except Exception as error:  # missing CANN libraries: ImportError, OSError or tf.errors
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(
            f"the Ascend adapter {package} fails at import ({reason}); source CANN's set_env.sh and try again, or"
            " use --device cpu"
        ) from error
    missing = [name for name in _USED_NAMES if not hasattr(module, name)]
    if missing:
        raise UsageError(f"the Ascend adapter {package} lacks {', '.join(missing)}; install a newer one")
    return module
