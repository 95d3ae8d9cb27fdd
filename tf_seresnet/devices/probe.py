"""What this machine has: names and numbers of processors and devices, and what TensorFlow does with them."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from typing import Any, Dict, List, Set, Tuple

from shared.system import processor


def tensorflow_version() -> str:
    """TensorFlow's version, for example "1.15.5"."""
    import tensorflow as tf

    return str(tf.__version__)


def release() -> Tuple[int, ...]:
    """TensorFlow's major and minor version, for example (1, 15)."""
    return tuple(int(part) for part in tensorflow_version().split(".")[:2])


def cpu_rounding() -> Dict[str, Any]:
    """What decides how sums on the CPU are rounded, by the names of `shared.run.resumption`."""
    configured = os.environ.get("TF_NUM_INTRAOP_THREADS", "")  # read by TensorFlow at start
    threads = int(configured) if configured.isdigit() and int(configured) else processor.cores()
    return {"threads": threads, "instructions": processor.vectors()}


def visible_gpus() -> List[Any]:
    """TensorFlow's physical GPUs, ordered by index."""
    import tensorflow as tf

    return list(tf.config.experimental.list_physical_devices("GPU"))


def gpu_name(physical: Any, index: int) -> str:
    """The product name of the GPU at this index of `visible_gpus`."""
    import tensorflow as tf

    details = getattr(tf.config.experimental, "get_device_details", None)  # since 2.3
    name = details(physical).get("device_name") if details is not None else None
    names = [] if name else driver_gpus()
    visible = re.findall(r"\d+", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    number = int(visible[index]) if index < len(visible) else index
    return str(name or (names[number] if number < len(names) else "NVIDIA GPU"))


def multiplies_in_tf32(index: int) -> bool:
    """Whether the GPU at this index of `visible_gpus` rounds the factors of float32 products to TF32.

    TensorFlow does since 2.4, unless it is told not to, on cards of compute capability 8.0 or more.
    """
    import tensorflow as tf

    enabled = getattr(tf.config.experimental, "tensor_float_32_execution_enabled", None)
    if enabled is None or not enabled() or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    details = tf.config.experimental.get_device_details(visible_gpus()[index])
    return tuple(details.get("compute_capability", (0, 0))) >= (8, 0)


def driver_gpus() -> List[str]:
    """Names of the GPUs in the order of nvidia-smi; empty without a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listing = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listing.decode("utf-8", "replace").splitlines() if line.strip()]


def why_no_gpu() -> str:
    """One line that says why TensorFlow sees no GPU and what to do."""
    import tensorflow as tf

    cause = "cannot use them" if tf.test.is_built_with_cuda() else "is built for the CPU alone"
    return (
        f"nvidia-smi lists {', '.join(driver_gpus()) or 'no GPU'}, and TensorFlow {tensorflow_version()} {cause}; pip"
        " install 'tensorflow[and-cuda]', check the driver and CUDA_VISIBLE_DEVICES, or use --device cpu"
    )


def unused_accelerators() -> List[str]:
    """Notes on accelerators of this machine that TensorFlow cannot use, for `auto` on the CPU."""
    no_adapter = f"an Ascend NPU is here, but {sys.executable} has no adapter for TensorFlow {tensorflow_version()}"
    causes = [why_no_gpu()] if driver_gpus() else []
    causes += [f"{no_adapter}; bash run_npu.sh runs on it"] if npu_count() else []
    return [f"{cause}; this runs on the CPU" for cause in causes]


def npu_count() -> int:
    """Number of the driver's NPU device files; 0 if there are none, as in some containers with NPUs."""
    return len(glob.glob("/dev/davinci[0-9]*"))


def rewritten(config: Any) -> Tuple[Set[str], Set[str]]:
    """Data types and operation types in the graph that TensorFlow runs under `config`, for a small network.

    TensorFlow silently ignores a graph rewrite that its build or the machine does not support, so it is tried.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [8, 8, 8, 16])
        kernel = tf.fill([3, 3, 16, 16], 0.01) * v1.placeholder_with_default(1.0, [])
        y = tf.nn.relu(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"))
        y = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(y, kernel, [1, 1, 1, 1], "SAME")))
        fetches = [y] + v1.gradients(y, [kernel])
        metadata = v1.RunMetadata()
        options = v1.RunOptions(output_partition_graphs=True)
        with v1.Session(config=config) as session:
            session.run(fetches, {x: [[[[1.0] * 16] * 8] * 8] * 8}, options=options, run_metadata=metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    functions = [function for graph in metadata.partition_graphs for function in graph.library.function]
    nodes += [node for function in functions for node in function.node_def]
    types = {tf.as_dtype(value.type).name for node in nodes for value in node.attr.values() if value.type}
    return types, {node.op for node in nodes}
