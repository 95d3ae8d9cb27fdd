"""Traces are safetensors files: written and read exactly; tests/torch_imagenet has the format's own library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.port_check.trace import LayerCall, Trace, read_trace, write_trace


def small_trace() -> Trace:
    tensors = {
        "output/conv/0": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        "images": np.full((1, 2, 2, 3), 200, np.uint8),
        "labels": np.array([3], np.int64),
        "losses": np.array([0.5, np.inf]),
        "before/step": np.array(1.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    call = LayerCall("conv", 0, "3x3 convolution", "float32", "bfloat16")
    return Trace({"half": "torch_imagenet", "loss_scale": 64.0}, [call], tensors)


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    trace = small_trace()
    write_trace(tmp_path / "a", trace)
    read = read_trace(tmp_path / "a")
    assert (read.description, read.calls) == (trace.description, trace.calls)
    assert list(read.tensors) == list(trace.tensors)
    for name, value in trace.tensors.items():
        assert read.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(read.tensors[name], value)
    assert set(read.named("output")) == {"conv/0"}
