"""CPU, NVIDIA GPU and Ascend NPU: three objects with one interface; no other file names a device.

    device = open_device("auto", precision="O1")
    with tf.Graph().as_default():
        optimizer = device.wrap_optimizer(optimizer)      # outside any tf.control_dependencies
        with tf.compat.v1.Session(config=device.session_config()) as session: ...

TensorFlow ignores, without a word, a graph rewrite that its build or the machine cannot do and a custom
optimizer that it does not know. Hence nothing here is assumed to work: a rewrite is tried on a small graph
whose outcome is read back, and the NPU is opened only when the adapter is there.
"""

from __future__ import annotations

import abc
import math
import os
import platform
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from shared.errors import UsageError
from shared.nearest import closest
from tf_seresnet import npu_options as npu
from tf_seresnet.graph_probe import first_field, rewritten, switch
from tf_seresnet.native_output import native_chatter_dropped
from tf_seresnet.npu_adapter import adapter_for, environment_index, load_adapter

PRECISIONS = ("O0", "O1", "bf16")
LossScale = Union[None, str, float]  # nothing, "dynamic" or a number

_XLA_ON_CPU = "--tf_xla_cpu_global_jit"


@dataclass(frozen=True)
class Request:
    """What the command line asks of a device, whichever it is."""

    precision: str = "O0"
    xla: bool = False
    deterministic: bool = False
    npu_options: Tuple[str, ...] = ()
    loss_scale: LossScale = None


def parse(text: str) -> Tuple[str, Optional[int]]:
    """Kind ("auto", "cpu", "gpu" or "npu") and index, None where none was given, of a `--device` value.

    "cuda" is "gpu". Raises UsageError with the nearest valid spelling.
    """
    match = re.match(r"(auto|cpu)$|(gpu|cuda|npu)(?::(\d{1,4}))?$", text.strip().lower())
    if match is None:
        near = closest(text.lower(), ("auto", "cpu", "gpu", "gpu:0", "npu", "npu:0"), cutoff=0.0)
        raise UsageError(f"unknown device {text!r}; the nearest is {near} (auto, cpu, gpu[:N], npu[:N])")
    kind = (match.group(1) or match.group(2)).replace("cuda", "gpu")
    return kind, int(match.group(3)) if match.group(3) else None


def open_device(
    spec: str,
    precision: str = "O0",
    xla: bool = False,
    deterministic: bool = False,
    npu_options: Sequence[str] = (),
    loss_scale: Optional[str] = None,
) -> Device:
    """The device that `spec` names, checked and ready. See `parse` for `spec`.

    "auto" is the GPU that TensorFlow sees, else the NPU whose adapter is installed, else the CPU.
    `precision` is O0 (float32), O1 (float16 where it is safe, with loss scaling) or bf16. `npu_options` are
    "key=value" texts for the adapter. `loss_scale` is "dynamic" or a number from 1 on; None leaves it to
    the precision.

    Call it before anything else imports TensorFlow: XLA on the CPU is decided when TensorFlow is loaded.
    Raises UsageError where the machine, TensorFlow or the adapter cannot do what is asked.
    """
    kind, index = parse(spec)
    request = Request(precision, xla, deterministic, tuple(npu_options), _loss_scale(loss_scale))
    return _OPENERS[kind](index, request)


def add_options(group: Any) -> None:
    """The options that belong to a device of this half."""
    group.add_argument("--xla", action="store_true", help="compile with XLA (CPU, GPU)")
    group.add_argument(
        "--loss-scale", "--loss_scale", metavar="SCALE", help="dynamic or a number (default: by precision)"
    )
    group.add_argument("--npu-option", action="append", default=[], metavar="KEY=VALUE",
                       help="any option of the Ascend adapter's session configuration; may be repeated")  # fmt: skip


def documented_recipe(spec: str) -> str:
    """The documented row of this kind of device; "auto" never prefers an NPU to a GPU, so it has the GPU's."""
    return "se_resnet110_npu" if parse(spec)[0] == "npu" else "se_resnet110_gpu"


def load_tensorflow(options: Any) -> None:
    """Import TensorFlow with what must be in the environment before it, and without its start-up chatter.

    Raises UsageError where it is not installed or does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only; a setting of the user's own is left alone
    if options.xla and parse(options.device)[0] in ("auto", "cpu"):
        _append_flag("TF_XLA_FLAGS", _XLA_ON_CPU)
    warnings.filterwarnings("ignore", category=FutureWarning)  # TensorFlow 1.15 and 2.6 on the numpy of their day
    try:
        with native_chatter_dropped():
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
    return open_device(options.device, precision, options.xla, options.deterministic, options.npu_option, loss_scale)


class Device(abc.ABC):
    """What the rest of the program knows of the machine it runs on.

    `static_shapes`: every batch must have the same shape. `times_data_wait`: the graph may have a
    tf.timestamp. `notes`: lines for the user, for example that a rewrite is slow here. `loss_scale`: None,
    "dynamic", a number.
    """

    kind: str = ""
    count: int = 1
    static_shapes: bool = False
    times_data_wait: bool = True
    name: str
    index: int
    loss_scale: LossScale

    def __init__(self, request: Request) -> None:
        if request.precision == "O2":
            raise UsageError("precision O2 is not in the CIFAR-10 half; use --precision O1, bf16 or O0")
        if request.precision not in PRECISIONS:
            near = closest(request.precision, PRECISIONS, cutoff=0.0)
            raise UsageError(f"unknown precision {request.precision!r}; use {near} (O0, O1 or bf16)")
        self.precision = request.precision
        self.request = request
        self.notes: List[str] = []
        if request.deterministic:
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

    def describe(self) -> Dict[str, Any]:
        """The device of the record: {"kind", "name", "count"}."""
        return {"kind": self.kind, "name": self.name, "count": self.count}

    def settings(self) -> Dict[str, Any]:
        """Everything that was configured, for config.json."""
        return {
            "kind": self.kind,
            "index": self.index,
            "precision": self.precision,
            "loss_scale": self.loss_scale,
            "xla": self.request.xla,
            "deterministic": self.request.deterministic,
            "notes": list(self.notes),
        }


class _StockDevice(Device):
    """A device of stock TensorFlow: precision by graph rewrite, XLA by the session's optimizer options."""

    # RewriterConfig fields by precision, the newest name first
    rewrites: Dict[str, Tuple[str, ...]] = {}
    reduced_type = {"O1": "float16", "bf16": "bfloat16"}
    jit_level = "ON_1"

    def _prepare(self) -> None:
        """Refuse what has no effect here. Called once name and index are known."""
        if self.request.npu_options:
            raise UsageError(f"--npu-option is for --device npu, and this is {self.kind}; leave it out")
        self.loss_scale = self.request.loss_scale or ("dynamic" if self.precision == "O1" else None)
        self.rewrite = first_field(self.rewrites.get(self.precision, ()))
        if self.precision != "O0" and self.rewrite is None:
            raise self._no_precision()
        if self.precision == "O0" and not self.request.xla:
            return
        types, operations = rewritten(self.session_config())
        if self.precision != "O0" and self.reduced_type[self.precision] not in types:
            raise self._no_precision()
        if self.request.xla and "_XlaRun" not in operations:
            raise UsageError(
                f"XLA has no effect on {self.name} under TensorFlow {_tensorflow_version()}; leave out "
                f"--xla, or set TF_XLA_FLAGS={_XLA_ON_CPU} before Python starts"
            )

    def _no_precision(self) -> UsageError:
        return UsageError(
            f"precision {self.precision} ({self.reduced_type[self.precision]} by graph rewrite) has no "
            f"effect on {self.name} under TensorFlow {_tensorflow_version()}; use --precision O0"
        )

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        self._place(config)
        if self.rewrite is not None:
            switch(config.graph_options.rewrite_options, self.rewrite, on=True)
        if self.request.xla:
            level = getattr(tf.compat.v1.OptimizerOptions, self.jit_level)
            config.graph_options.optimizer_options.global_jit_level = level
        return config

    @abc.abstractmethod
    def _place(self, config: Any) -> None:
        """Let the sessions of `config` use this device and no other."""

    def wrap_optimizer(self, optimizer: Any) -> Any:
        if self.loss_scale is None:
            return optimizer
        import tensorflow as tf

        # Not enable_mixed_precision_graph_rewrite: it wraps in the same way, but switches the rewrite on for
        # every later session of the process; here `session_config` does it for this run's sessions alone.
        experimental = tf.compat.v1.train.experimental
        return experimental.MixedPrecisionLossScaleOptimizer(optimizer, self.loss_scale)

    def settings(self) -> Dict[str, Any]:
        return {**super().settings(), "rewrite": self.rewrite}


class CpuDevice(_StockDevice):
    """The CPU, with every GPU hidden."""

    kind = "cpu"
    index = 0
    jit_level = "ON_2"
    rewrites = {
        "O1": ("auto_mixed_precision_cpu",),
        "bf16": ("auto_mixed_precision_onednn_bfloat16", "auto_mixed_precision_mkl"),
    }

    def __init__(self, index: Optional[int], request: Request) -> None:
        if request.xla:
            _append_flag("TF_XLA_FLAGS", _XLA_ON_CPU)
        super().__init__(request)
        self.name = _cpu_name()
        self._prepare()
        if self.precision != "O0":
            self.notes.append(f"precision {self.precision} is slower than O0 on most CPUs")

    def _place(self, config: Any) -> None:
        config.device_count["GPU"] = 0


class GpuDevice(_StockDevice):
    """One NVIDIA GPU, whose memory is taken as it is needed."""

    kind = "gpu"
    rewrites = {"O1": ("auto_mixed_precision",)}

    def __init__(self, index: Optional[int], request: Request) -> None:
        super().__init__(request)
        visible = _visible_gpus()
        self.index = index or 0
        if not visible:
            raise UsageError(_why_no_gpu())
        if self.index >= len(visible):
            existing = ", ".join(f"gpu:{number}" for number in range(len(visible)))
            raise UsageError(f"there is no gpu:{self.index}; TensorFlow sees {existing}")
        self.name = _gpu_name(visible[self.index], self.index)
        self._prepare()

    def _place(self, config: Any) -> None:
        config.allow_soft_placement = True
        config.gpu_options.allow_growth = True
        config.gpu_options.visible_device_list = str(self.index)


class NpuDevice(Device):
    """One Ascend NPU behind its adapter: npu_bridge on TensorFlow 1.15, npu_device on 2.6."""

    kind = "npu"
    name = "Ascend NPU"
    static_shapes = True
    times_data_wait = False

    def __init__(self, index: Optional[int], request: Request) -> None:
        self.adapter = load_adapter(_tensorflow_version())
        super().__init__(request)
        if request.xla:
            raise UsageError("XLA is not for the NPU, whose adapter compiles graphs itself; leave out --xla")
        self.index = environment_index() if index is None else index
        self.options, notes = npu.session_options(request.npu_options, self.precision, index, request.deterministic)
        self.notes.extend(notes)
        self.loss_scale = request.loss_scale or ("dynamic" if npu.uses_float16(self.options) else None)

    def session_config(self) -> Any:
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto()
        rewrite = config.graph_options.rewrite_options
        custom = rewrite.custom_optimizers.add()
        custom.name = "NpuOptimizer"
        npu.write(self.options, custom.parameter_map)
        switch(rewrite, "remapping", on=False)
        switch(rewrite, "memory_optimization", on=False)
        return config

    def wrap_optimizer(self, optimizer: Any) -> Any:
        optimizer = self.adapter.npu_tf_optimizer(optimizer)
        if self.loss_scale is None:
            return optimizer
        if self.loss_scale == "dynamic":
            manager = self.adapter.ExponentialUpdateLossScaleManager(**npu.DYNAMIC_LOSS_SCALE)
        else:
            manager = self.adapter.FixedLossScaleManager(loss_scale=self.loss_scale)
        return self.adapter.NPULossScaleOptimizer(optimizer, manager)

    def settings(self) -> Dict[str, Any]:
        scale = npu.DYNAMIC_LOSS_SCALE if self.loss_scale == "dynamic" else None
        return {
            **super().settings(),
            "adapter": self.adapter.__name__.partition(".")[0],
            "npu_options": dict(self.options),
            "dynamic_loss_scale": scale and dict(scale),
        }


def _automatic(index: Optional[int], request: Request) -> Device:
    """The best device that is there."""
    if _visible_gpus():
        return GpuDevice(None, request)
    if adapter_for(_tensorflow_version()) is not None:
        return NpuDevice(None, request)
    return CpuDevice(None, request)


_OPENERS: Dict[str, Callable[[Optional[int], Request], Device]] = {
    "auto": _automatic,
    "cpu": CpuDevice,
    "gpu": GpuDevice,
    "npu": NpuDevice,
}


def _make_deterministic() -> None:
    """For the whole process: TensorFlow has no narrower switch."""
    enable = _determinism_switch()
    if enable is not None:
        enable()
    else:
        os.environ["TF_DETERMINISTIC_OPS"] = "1"  # 2.1 to 2.7
        os.environ["TF_CUDNN_DETERMINISTIC"] = "1"  # 1.14 on


def _determinism_switch() -> Optional[Callable[[], None]]:
    import tensorflow as tf

    return getattr(tf.config.experimental, "enable_op_determinism", None)  # since 2.8


def _append_flag(variable: str, flag: str) -> None:
    flags = os.environ.get(variable, "").split()
    if flag not in flags:
        os.environ[variable] = " ".join(flags + [flag])


def _loss_scale(text: Optional[str]) -> LossScale:
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


# -- names and numbers of what is there ----------------------------------------------------------------------


def _tensorflow_version() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def _cpu_name() -> str:
    """The model name that the kernel tells, else the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = re.findall(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        models = []
    return models[0].strip() if models else platform.processor() or platform.machine() or "CPU"


def _visible_gpus() -> List[Any]:
    """TensorFlow's physical devices, in the order of their indices."""
    import tensorflow as tf

    return list(tf.config.experimental.list_physical_devices("GPU"))


def _gpu_name(physical: Any, index: int) -> str:
    import tensorflow as tf

    details = getattr(tf.config.experimental, "get_device_details", None)  # since 2.3
    name = details(physical).get("device_name") if details is not None else None
    names = [] if name else _driver_gpus()
    visible = re.findall(r"\d+", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    number = int(visible[index]) if index < len(visible) else index
    return str(name or (names[number] if number < len(names) else "NVIDIA GPU"))


def _driver_gpus() -> List[str]:
    """Names of the GPUs that the driver lists, in its order; none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listing = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listing.decode("utf-8", "replace").splitlines() if line.strip()]


def _why_no_gpu() -> str:
    import tensorflow as tf

    version = f"TensorFlow {_tensorflow_version()}"
    names = _driver_gpus()
    if not names:
        return f"{version} sees no GPU and nvidia-smi lists none, only {_cpu_name()}; use --device cpu"
    if not tf.test.is_built_with_cuda():
        return (
            f"the driver lists {', '.join(names)}, but this {version} is built for the CPU alone; "
            "pip install 'tensorflow[and-cuda]', or use --device cpu"
        )
    return (
        f"the driver lists {', '.join(names)}, but {version} cannot use it; install the CUDA and cuDNN "
        "libraries it names above (pip install 'tensorflow[and-cuda]'), check CUDA_VISIBLE_DEVICES, or use "
        "--device cpu"
    )
