"""Traces are safetensors files: written and read exactly, and read by the format's own library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.port_check.trace import LayerCall, Trace, read_trace, write_trace


def _trace() -> Trace:
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
    trace = _trace()
    write_trace(tmp_path / "a", trace)
    read = read_trace(tmp_path / "a")
    assert (read.description, read.calls) == (trace.description, trace.calls)
    assert list(read.tensors) == list(trace.tensors)
    for name, value in trace.tensors.items():
        assert read.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(read.tensors[name], value)
    assert set(read.named("output")) == {"conv/0"}


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    write_trace(tmp_path / "a", _trace())
    read = library.load_file(tmp_path / "a")
    for name, value in _trace().tensors.items():
        np.testing.assert_array_equal(read[name], value)


def test_it_reads_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    write_trace(tmp_path / "a", _trace())
    from safetensors import safe_open

    with safe_open(str(tmp_path / "a"), "np") as file:
        metadata = file.metadata()
    library.save_file(dict(_trace().tensors), tmp_path / "b", metadata=metadata)
    read = read_trace(tmp_path / "b")
    np.testing.assert_array_equal(read.tensors["output/conv/0"], _trace().tensors["output/conv/0"])
    assert read.calls == _trace().calls
