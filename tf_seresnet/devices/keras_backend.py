"""The devices of Keras 3's backends, TensorFlow, JAX and torch: the CPU, or one NVIDIA GPU."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from shared.errors import UsageError
from shared.system import processor
from tf_seresnet.devices import onednn, probe
from tf_seresnet.devices.base import DeviceConfig

POLICIES = {"O0": "float32", "bf16": "mixed_bfloat16"}  # Keras' names by precision
_BACKENDS = ("tensorflow", "jax", "torch")
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def load() -> Any:
    """Keras 3 on its backend. Raises UsageError where one of them is missing."""
    try:
        import keras
    except (ImportError, ValueError) as error:  # ValueError: of a backend that Keras does not know
        reason = f"needs Keras 3 and its backend ({str(error).splitlines()[0]})"
        hint = "pip install keras and tensorflow, jax or torch, and name that in KERAS_BACKEND"
        raise UsageError(f"the Keras model {reason}; {hint}") from error
    if int(keras.__version__.split(".")[0]) < 3:
        raise UsageError(f"the Keras model needs Keras 3 and this is {keras.__version__}; pip install 'keras>=3'")
    return keras


def backend_name() -> str:
    """The backend on which Keras computes, or will when it is imported with KERAS_BACKEND set."""
    return os.environ.get("KERAS_BACKEND") or str(load().backend.backend())


def prepare_keras(kind: str, index: Optional[int], deterministic: bool) -> None:
    """Set, before Keras is imported, what its backends read then: which device they may take."""
    if kind == "cpu":
        os.environ["JAX_PLATFORMS"] = os.environ["KERAS_TORCH_DEVICE"] = "cpu"
    elif index is not None:
        os.environ["KERAS_TORCH_DEVICE"] = f"cuda:{index}"
    if deterministic and kind != "cpu":
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, _DETERMINISTIC]))


class KerasDevice:
    """One device of Keras' backend, with what a run states of it as `devices.base.Device` does.

    `backend` is its name.
    """

    count, rank = 1, 0
    static_shapes = False
    holds_training_set = True
    no_inference = ""
    loss_scale = None
    revision = 1
    bf16_speedup = None  # not measured

    def __init__(
        self, kind: str, index: Optional[int], request: DeviceConfig, precision: str, loss_scale: Optional[str] = None
    ) -> None:
        self.keras = load()
        self.backend = str(self.keras.backend.backend())
        _refuse(kind, request, precision, loss_scale, self.backend)
        self.request, self.precision, self.policy = request, precision, POLICIES[precision]
        self.index, self.notes = index or 0, [f"Keras {self.keras.__version__} on {self.backend}, {self._version()}"]
        gpus = [] if kind == "cpu" else _gpus(self.backend)
        if kind == "gpu" and self.index >= len(gpus):
            there = f"{len(gpus)} GPUs" if gpus else "no GPU"
            hint = "install its build for CUDA, check the driver and CUDA_VISIBLE_DEVICES, or use --device cpu"
            raise UsageError(f"there is no gpu:{self.index}: {self.backend} sees {there}; {hint}")
        if kind == "auto" and not gpus and probe.driver_gpus():
            self.notes.append(f"{self.backend} cannot use {', '.join(probe.driver_gpus())}; this runs on the CPU")
        self.kind = "gpu" if gpus else "cpu"
        self.name = gpus[self.index] if gpus else processor.name()
        self.xla = bool(request.xla)
        if precision == "bf16" and self.backend == "tensorflow" and self.kind == "cpu" and not self.xla:
            onednn.require_bf16("use --precision O0, or --xla")
        _select(self.backend, self.kind, self.index, request.deterministic)

    def steps_per_call(self, requested: Optional[int]) -> int:
        """How many training steps one call computes at most."""
        # On a CPU a step takes so long that nothing is gained, and Ctrl-C would wait for all of them.
        return requested or (50 if self.kind == "gpu" else 1)

    def versions(self) -> Dict[str, str]:
        """The versions of what computes, for the record."""
        return {"backend": self.backend, "keras": str(self.keras.__version__), self.backend: self._version()}

    def rounding(self) -> Dict[str, Any]:
        """What decides how sums are rounded here, by the names of `shared.run.resumption`."""
        if self.kind != "cpu":
            return {}
        by_onednn = {"onednn": onednn.used()} if self.backend == "tensorflow" else {}
        return {**probe.cpu_rounding(), **_threads(self.backend), **by_onednn}

    def describe(self) -> Dict[str, Any]:
        """The device in result.json: {"kind", "name", "count"}."""
        return {"kind": self.kind, "name": self.name, "count": self.count}

    def settings(self) -> Dict[str, Any]:
        """The whole configuration of the device, for config.json."""
        names = ("kind", "index", "count", "precision", "loss_scale", "backend", "policy")
        options = {"xla": self.xla, "deterministic": self.request.deterministic}
        return {**{name: getattr(self, name) for name in names}, **options, "notes": list(self.notes)}

    def _version(self) -> str:
        return str(__import__(self.backend).__version__)


def _refuse(kind: str, request: DeviceConfig, precision: str, loss_scale: Optional[str], backend: str) -> None:
    """Raise UsageError for what the training through Keras does not have."""
    several = request.requested_devices != 1
    for wrong, what in (
        (backend not in _BACKENDS, f"trains on {', '.join(_BACKENDS)} and not on {backend}; set KERAS_BACKEND"),
        (kind == "npu", "runs on CPUs and NVIDIA GPUs; leave out --layers keras on an NPU"),
        (several, "runs on one device; leave out --num-devices and --distributed"),
        (precision not in POLICIES, f"has no precision {precision}; use --precision O0 or bf16"),
        (loss_scale is not None, "has no loss scale; leave out --loss-scale"),
        (bool(request.npu_option), "has no --npu-option; leave it out"),
        (
            request.xla and backend == "torch",
            "is not compiled by XLA on torch; leave out --xla, or use another backend",
        ),
        (request.workers is not None, "keeps its data set on the device and has no input workers; leave out --workers"),
    ):
        if wrong:
            raise UsageError(f"the Keras model {what}")


def _threads(backend: str) -> Dict[str, int]:
    """As many threads as a step has on a CPU; none of TensorFlow, of which `probe.cpu_rounding` knows."""
    if backend == "torch":
        import torch

        return {"threads": torch.get_num_threads()}
    # DefaultThreadPoolSize of XLA's CPU client, in xla/pjrt/cpu/cpu_client.cc, reads it.
    nproc = os.environ.get("NPROC", "")
    return {"threads": int(nproc) if nproc.isdigit() and int(nproc) else processor.cores()} if backend == "jax" else {}


def _gpus(backend: str) -> List[str]:
    """The names of the GPUs that a backend can use, by index."""
    if backend == "tensorflow":
        return [probe.gpu_name(found, index) for index, found in enumerate(probe.visible_gpus())]
    if backend == "jax":
        import jax

        return [str(device.device_kind) for device in jax.devices() if device.platform == "gpu"]
    import torch

    return [str(torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]


def _select(backend: str, kind: str, index: int, deterministic: bool) -> None:
    """Make the backend compute on this device of the kind, deterministically where that is asked."""
    if backend == "tensorflow":
        import tensorflow as tf

        visible = tf.config.list_physical_devices("GPU")[index : index + 1] if kind == "gpu" else []
        tf.config.set_visible_devices(visible, "GPU")
        for gpu in visible:
            tf.config.experimental.set_memory_growth(gpu, True)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_device", jax.devices()[index])
    elif deterministic:
        import torch

        torch.use_deterministic_algorithms(True)
