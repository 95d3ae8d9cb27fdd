"""A trace and the safetensors library, which this half's environment has: each reads what the other has written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from shared.port_check.trace import read_trace, write_trace
from tests.shared.port_check.test_trace import small_trace


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", small_trace())
    read = load_file(tmp_path / "a")
    for name, value in small_trace().tensors.items():
        np.testing.assert_array_equal(read[name], value)


def test_it_reads_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    write_trace(tmp_path / "a", small_trace())
    with safe_open(str(tmp_path / "a"), "np") as file:
        metadata = file.metadata()
    save_file(dict(small_trace().tensors), tmp_path / "b", metadata=metadata)
    read = read_trace(tmp_path / "b")
    np.testing.assert_array_equal(read.tensors["output/conv/0"], small_trace().tensors["output/conv/0"])
    assert read.calls == small_trace().calls
