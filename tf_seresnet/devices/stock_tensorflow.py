"""The devices of stock TensorFlow: the CPU and NVIDIA GPUs, one or several per process."""

from __future__ import annotations

import abc
import contextlib
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

from shared.errors import UsageError
from tf_seresnet.devices import probe
from tf_seresnet.devices.base import Device, Request, check_count, refuse_index
from tf_seresnet.devices.graph_probe import first_field, rewritten, switch

XLA_ON_CPU = "--tf_xla_cpu_global_jit"


class _StockDevice(Device):
    """Sets precision by graph rewrite and XLA by session options; uses several devices through tf.distribute."""

    # RewriterConfig fields by precision, the newest name first.
    rewrites: Dict[str, Tuple[str, ...]] = {}
    reduced_type = {"O1": "float16", "bf16": "bfloat16"}
    jit_level = "ON_1"

    def _prepare(self) -> None:
        """Refuse options without effect on this device. Called once name, index and count are known."""
        if self.request.npu_options:
            raise UsageError(f"--npu-option is for --device npu, and this is {self.kind}; leave it out")
        self.loss_scale = self.request.loss_scale or ("dynamic" if self.precision == "O1" else None)
        self.rewrite = first_field(self.rewrites.get(self.precision, ()))
        if self.precision != "O0" and self.rewrite is None:
            raise self._precision_error()
        if self.precision == "O0" and not self.request.xla:
            return
        types, operations = rewritten(self.session_config())
        if self.precision != "O0" and self.reduced_type[self.precision] not in types:
            raise self._precision_error()
        if self.request.xla and "_XlaRun" not in operations:
            raise UsageError(
                f"XLA has no effect on {self.name} under TensorFlow {probe.tensorflow_version()}; leave out "
                f"--xla, or set TF_XLA_FLAGS={XLA_ON_CPU} before Python starts"
            )

    def _precision_error(self) -> UsageError:
        return UsageError(
            f"precision {self.precision} ({self.reduced_type[self.precision]} by graph rewrite) has no "
            f"effect on {self.name} under TensorFlow {probe.tensorflow_version()}; use --precision O0"
        )

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        self._select_devices(config)
        if self.rewrite is not None:
            switch(config.graph_options.rewrite_options, self.rewrite, on=True)
        if self.request.xla:
            level = getattr(tf.compat.v1.OptimizerOptions, self.jit_level)
            config.graph_options.optimizer_options.global_jit_level = level
        return config

    @abc.abstractmethod
    def _select_devices(self, config: Any) -> None:
        """Restrict the sessions of `config` to the devices of this object."""

    def wrap_optimizer(self, optimizer: Any) -> Any:
        if self.loss_scale is None:
            return optimizer
        import tensorflow as tf

        # Not enable_mixed_precision_graph_rewrite: it enables the rewrite for every later session of the process;
        # `session_config` enables it for the sessions of this run only.
        experimental = tf.compat.v1.train.experimental
        return experimental.MixedPrecisionLossScaleOptimizer(optimizer, self.loss_scale)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        if self.count == 1:
            with super().connected() as alone:
                yield alone
            return
        from tf_seresnet.step.replicas import Mirrored

        replicas = Mirrored([f"/{self.kind}:{number}" for number in range(self.count)], self._reduction())
        with replicas.strategy.scope():
            yield replicas

    @abc.abstractmethod
    def _reduction(self) -> Any:
        """tf.distribute's reduction for devices of this kind, so that it does not probe the devices to choose one."""

    def settings(self) -> Dict[str, Any]:
        return {**super().settings(), "rewrite": self.rewrite}


class CpuDevice(_StockDevice):
    """The CPU, with every GPU hidden. Several are TensorFlow's logical CPU devices, for trials of a distributed run."""

    kind = "cpu"
    index = 0
    jit_level = "ON_2"
    rewrites = {
        "O1": ("auto_mixed_precision_cpu",),
        "bf16": ("auto_mixed_precision_onednn_bfloat16", "auto_mixed_precision_mkl"),
    }

    def __init__(self, index: Optional[int], request: Request) -> None:
        if request.xla:
            append_flag("TF_XLA_FLAGS", XLA_ON_CPU)
        super().__init__(request)
        if request.number is None:
            raise UsageError("--distributed on the CPU needs a number of devices; add --num-devices N")
        self.count = request.number
        self.name = probe.cpu_name()
        self._prepare()
        if self.precision != "O0":
            self.notes.append(f"precision {self.precision} is slower than O0 on most CPUs")

    def threads(self) -> Optional[int]:
        return probe.cpu_threads()

    def _select_devices(self, config: Any) -> None:
        config.device_count["GPU"] = 0
        if self.count > 1:
            config.device_count["CPU"] = self.count

    def _reduction(self) -> Any:
        import tensorflow as tf

        return tf.distribute.ReductionToOneDevice()


class GpuDevice(_StockDevice):
    """NVIDIA GPUs of this machine. GPU memory is allocated as needed."""

    kind = "gpu"
    rewrites = {"O1": ("auto_mixed_precision",)}

    def __init__(self, index: Optional[int], request: Request) -> None:
        super().__init__(request)
        visible = probe.visible_gpus()
        if not visible:
            raise UsageError(probe.why_no_gpu())
        if request.number != 1:
            refuse_index(self.kind, index)
            check_count(self.kind, request.number, len(visible))
            self.count = request.number or len(visible)
        self.index = index or 0
        if self.index >= len(visible):
            existing = ", ".join(f"gpu:{number}" for number in range(len(visible)))
            raise UsageError(f"there is no gpu:{self.index}; TensorFlow sees {existing}")
        self.name = probe.gpu_name(visible[self.index], self.index)
        self._prepare()

    @property
    def _indices(self) -> List[int]:
        return [self.index + number for number in range(self.count)]

    def _select_devices(self, config: Any) -> None:
        config.allow_soft_placement = True
        config.gpu_options.allow_growth = True
        config.gpu_options.visible_device_list = ",".join(map(str, self._indices))

    def _reduction(self) -> Any:
        import tensorflow as tf

        return tf.distribute.NcclAllReduce()


def append_flag(variable: str, flag: str) -> None:
    """Append a flag to an environment variable that TensorFlow reads at import."""
    flags = os.environ.get(variable, "").split()
    if flag not in flags:
        os.environ[variable] = " ".join(flags + [flag])
