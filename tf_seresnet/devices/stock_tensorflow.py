"""The devices of stock TensorFlow: the CPU and NVIDIA GPUs, one or several per process."""

from __future__ import annotations

import abc
from typing import Any, Dict, Optional, Set, Tuple

from shared.errors import UsageError
from shared.system import processor
from tf_seresnet.devices import onednn, probe
from tf_seresnet.devices.base import Device, Request, check_count, refuse_index

XLA_ON_CPU = "--tf_xla_cpu_global_jit"

# Passes of TensorFlow's graph optimizer (grappler) that cost seconds of a first call and none of whose changes makes a
# float32 step on a CPU faster. What stays: removing what is not needed, and fusing (`remapping`), which does.
_WITHOUT_GAIN_ON_CPU = (
    *("arithmetic_optimization", "common_subgraph_elimination", "constant_folding", "dependency_optimization"),
    *("function_optimization", "implementation_selector", "layout_optimizer", "loop_optimization"),
    *("pin_to_host_optimization", "scoped_allocator_optimization", "shape_optimization"),
)


class _StockDevice(Device):
    """Sets precision by graph rewrite and XLA by session options; uses several devices through tf.distribute."""

    # RewriterConfig fields by precision, the newest name first.
    rewrites: Dict[str, Tuple[str, ...]] = {}
    reduced_type = {"O1": "float16", "bf16": "bfloat16"}
    jit_level = "ON_1"
    usual_xla = False
    reduction: str  # tf.distribute's for devices of this kind, which it would otherwise probe the devices to choose

    def _prepare(self) -> None:
        """Refuse options without effect on this device. Called once name, index and count are known."""
        if self.request.npu_options:
            raise UsageError(f"--npu-option is for --device npu, and this is {self.kind}; leave it out")
        self.loss_scale = self.request.loss_scale or ("dynamic" if self.precision == "O1" else None)
        from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

        fields, names = RewriterConfig.DESCRIPTOR.fields_by_name, self.rewrites.get(self.precision, ())
        self.rewrite = next((name for name in names if name in fields), None)
        self.xla = self.usual_xla if self.request.xla is None else self.request.xla
        if self.precision == "O0" and not self.xla:
            return
        types, operations = self._tried()
        self.static_shapes = self.xla  # it compiles for every shape anew
        under = f"on {self.name} under TensorFlow {probe.tensorflow_version()}"
        if self.precision != "O0" and (self.rewrite is None or self.reduced_type[self.precision] not in types):
            raise UsageError(
                f"precision {self.precision} ({self.reduced_type[self.precision]} by graph rewrite) has no effect"
                f" {under}; use --precision O0"
            )
        if self.xla and "_XlaRun" not in operations:
            raise UsageError(
                f"XLA has no effect {under}; leave out --xla, or set TF_XLA_FLAGS={XLA_ON_CPU} before Python starts"
            )

    def _tried(self) -> Tuple[Set[str], Set[str]]:
        """What TensorFlow makes of a small network; without XLA where that fails and nobody has asked for it."""
        import tensorflow as tf

        reason = "has no effect"
        try:
            types, operations = probe.rewritten(self.session_config())
            if self.request.xla is not None or not self.xla or "_XlaRun" in operations:
                return types, operations
        except tf.errors.OpError as error:
            if not self.xla:
                raise
            reason = f"fails ({' '.join(error.message.split())[:200]})"
            if self.request.xla:
                raise UsageError(f"XLA {reason} on {self.name}; give --no-xla") from error
        self.xla = False
        self.notes.append(f"XLA {reason} on {self.name}, so this is not compiled")
        return probe.rewritten(self.session_config())

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        self._select_devices(config)
        rewrite_options = config.graph_options.rewrite_options
        if self.rewrite is not None:
            setattr(rewrite_options, self.rewrite, rewrite_options.ON)
        if self.xla:
            level = getattr(tf.compat.v1.OptimizerOptions, self.jit_level)
            config.graph_options.optimizer_options.global_jit_level = level
        return config

    @abc.abstractmethod
    def _select_devices(self, config: Any) -> None:
        """Restrict the sessions of `config` to the devices of this object."""

    def wrap_optimizer(self, optimizer: Any) -> Any:
        if self.loss_scale is None:
            return optimizer
        from tf_seresnet.devices.flat_loss_scale import FlatLossScaleOptimizer

        # Not enable_mixed_precision_graph_rewrite: it enables the rewrite for every later session of the process;
        # `session_config` enables it for the sessions of this run only.
        return FlatLossScaleOptimizer(optimizer, self.loss_scale)

    def _several(self) -> Any:
        import tensorflow as tf

        from tf_seresnet.devices.replicas import Mirrored

        names = [f"/{self.kind}:{number}" for number in range(self.count)]
        return Mirrored(names, getattr(tf.distribute, self.reduction)())

    def settings(self) -> Dict[str, Any]:
        return {**super().settings(), "rewrite": self.rewrite}


class CpuDevice(_StockDevice):
    """The CPU, with every GPU hidden. Several are TensorFlow's logical CPU devices, for trials of a distributed run."""

    kind = "cpu"
    index = 0
    jit_level = "ON_2"
    reduction = "ReductionToOneDevice"
    rewrites = {
        "O1": ("auto_mixed_precision_cpu",),
        "bf16": ("auto_mixed_precision_onednn_bfloat16", "auto_mixed_precision_mkl"),
    }

    def __init__(self, index: Optional[int], request: Request) -> None:
        super().__init__(request)
        if request.number is None:
            raise UsageError("--distributed on the CPU needs a number of devices; add --num-devices N")
        self.count = request.number
        self.name = processor.name()
        if self.precision == "bf16":
            onednn.require_bf16("use --precision O0")
        self._prepare()
        # Measured in float32 and bf16 with oneDNN.
        self.products = self.precision in ("O0", "bf16") and not self.xla and probe.release() >= (2, 9)
        # 2: 1x1 convolutions as products, fewer passes over the graph; 3: in bf16, too; gradients of biases as products
        self.revision = 3 if self.products else 2
        if self.precision == "O1" or (self.precision == "bf16" and not _multiplies_bf16()):
            self.notes.append(f"precision {self.precision} is slower than O0 on most CPUs")
        # TensorFlow 2.21 ends the process: the rewrite casts what has no float16 kernel back to float32, and does not
        # find the type of a cast that it has added itself (NodeTypeAttrMap::GetInputTypeAttr, std::out_of_range).
        if self.precision == "O1" and "avx512_fp16" not in processor.instructions():
            no = f"precision O1 cannot be evaluated on {self.name}, which has no avx512_fp16"
            self.no_inference = f"{no}; use --precision bf16 or O0"

    @property
    def bf16_speedup(self) -> Optional[float]:
        # Measured at depth 29, batch 128, TensorFlow 2.21, two cores of an AMD EPYC with avx512_bf16.
        by_onednn = self.precision == "O0" and self.products and onednn.used()
        return 1.4 if by_onednn and _multiplies_bf16() else None

    def rounding(self) -> Dict[str, Any]:
        return {**probe.cpu_rounding(), "onednn": onednn.used()}

    def _select_devices(self, config: Any) -> None:
        config.device_count["GPU"] = 0
        if self.count > 1:
            config.device_count["CPU"] = self.count
        if self.precision == "O0" and not self.xla:
            _leave_out_passes(config.graph_options.rewrite_options)


def _multiplies_bf16() -> bool:
    """Whether the CPU has instructions for products of bfloat16, of those that oneDNN uses."""
    return not processor.instructions().isdisjoint(("avx512_bf16", "amx_bf16"))


def _leave_out_passes(rewrite_options: Any) -> None:
    """Turn off the passes that gain nothing on a CPU, as far as this TensorFlow has them, and the second round."""
    fields = rewrite_options.DESCRIPTOR.fields_by_name
    for name in _WITHOUT_GAIN_ON_CPU:
        if name in fields:
            setattr(rewrite_options, name, rewrite_options.OFF)
    rewrite_options.memory_optimization = rewrite_options.NO_MEM_OPT
    rewrite_options.meta_optimizer_iterations = rewrite_options.ONE
    if "disable_tfg_optimizer" in fields:
        rewrite_options.disable_tfg_optimizer = True


class GpuDevice(_StockDevice):
    """NVIDIA GPUs of this machine. GPU memory is allocated as needed."""

    kind = "gpu"
    usual_steps_per_call = 10  # neither this nor what follows has been measured
    usual_xla = True
    reduction = "NcclAllReduce"
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
    def holds_training_set(self) -> bool:  # type: ignore[override]
        return self.count == 1

    @property
    def float32_products(self) -> Dict[str, str]:
        return {"convolution": "tf32", "linear": "tf32"} if probe.multiplies_in_tf32(self.index) else {}

    def _select_devices(self, config: Any) -> None:
        config.allow_soft_placement = True
        config.gpu_options.allow_growth = True
        config.gpu_options.visible_device_list = ",".join(str(self.index + number) for number in range(self.count))
