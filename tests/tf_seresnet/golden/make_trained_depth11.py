"""Make trained_depth11.npz and twenty_steps.json beside this file: run it as a script.

Weights that have been trained, because from freshly drawn ones the first steps of this network are chaotic in float32:
a relative change of 1e-7 grows about tenfold a step until the runs have nothing in common but their statistics, so no
two TensorFlow releases stay together. Kernels are kept as int8 with one scale each, a third of a megabyte in all; the
test needs weights from a flat region, not exact ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from tests.tf_seresnet.golden.twenty_steps import losses, unpack  # noqa: E402
from tf_seresnet.main import main  # noqa: E402


def pack(prefix: str) -> dict:
    """Every variable of the checkpoint: kernels as int8 and a scale, the rest as it is."""
    import tensorflow as tf

    reader = tf.compat.v1.train.load_checkpoint(prefix)
    packed = {}
    for name in sorted(reader.get_variable_to_shape_map()):
        value = reader.get_tensor(name)
        if name.endswith("/kernel"):
            scale = np.float32(np.abs(value).max() / 127)
            packed[name + ":int8"] = np.rint(value / scale).astype(np.int8)
            packed[name + ":scale"] = scale
        else:
            packed[name] = value
    return packed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        status = main(["--recipe", "sample", "--epochs", "30", "--weight-decay", "5e-4", "--output-dir", folder])
        if status:
            sys.exit(status)
        np.savez_compressed(HERE / "trained_depth11.npz", **pack(folder + "/model.ckpt"))
    golden = losses(unpack(HERE / "trained_depth11.npz"), "core")
    (HERE / "twenty_steps.json").write_text(json.dumps(golden, indent=1) + "\n")
