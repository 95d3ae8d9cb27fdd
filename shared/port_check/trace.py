"""A trace: what one training step computed, in a file that any framework can write and read.

The file is in the safetensors format (https://huggingface.co/docs/safetensors), so that every tool for it opens the
tensors. Its metadata has one entry, `trace`, a JSON object; docs/port-check.md lists its keys. Tensors of 16 bits are
stored as float32, which holds them exactly; the JSON has the dtype in which each was computed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np

from shared.errors import UsageError
from shared.system.atomic_files import write_atomic
from shared.system.paths import writing

VERSION = 1
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer without layers inside, in order of computation."""

    name: str  # "layer1.0.conv1"
    call: int  # 0 for the first call of this layer in the step
    text: str  # what it computes
    input_dtype: str  # "float32", "bfloat16", ...
    dtype: str  # of its output

    def key(self, quantity: str) -> str:
        """Where the trace has a tensor of this call: "input", "output", "input gradient" or "output gradient"."""
        return f"{quantity}/{self.name}/{self.call}"


@dataclass
class Trace:
    """One training step. Other tensors than those of calls are named `kind/name`:

    "images" uint8 [B, H, W, 3], "labels" int64 [B], "before/NAME" and "after/NAME" weights and statistics around the
    update, "gradient/NAME" of each weight, times the loss scale, "losses" float64 [steps].
    """

    description: Dict[str, Any]
    calls: List[LayerCall] = field(default_factory=list)
    tensors: Dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def float32_products(self) -> Dict[str, str]:
        """What the side rounds the factors of a float32 "convolution" or "linear" layer to: "tf32" or "hf32"."""
        return dict(self.description.get("float32_products", {}))

    def named(self, kind: str) -> Dict[str, np.ndarray]:
        """The tensors of one kind by their names: `named("gradient")`."""
        start = kind + "/"
        return {key[len(start) :]: value for key, value in self.tensors.items() if key.startswith(start)}


def check_writable(path: Union[str, Path]) -> None:
    """Raise UsageError where a trace could not be written, before what it holds is computed."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(str(folder), os.W_OK):
        raise UsageError(f"cannot write a trace to {path}; name a file in a folder that can be written")


def write_trace(path: Union[str, Path], trace: Trace) -> None:
    """Write the file, whole or not at all. Raises UsageError where the disk does not take it."""
    content = {"version": VERSION, "description": trace.description, "calls": [asdict(call) for call in trace.calls]}
    header: Dict[str, Any] = {"__metadata__": {"trace": json.dumps(content)}}
    arrays, end = [], 0
    for name, value in trace.tensors.items():
        array = np.ascontiguousarray(value)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(value.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        arrays.append(array)
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with writing(path, "free space, or give --save-trace another file"):
        write_atomic(path, b"".join([len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in arrays)]))


def read_trace(path: Union[str, Path]) -> Trace:
    """Read a file of `write_trace`. Raises UsageError where it is none, or of a later version."""
    try:
        content = np.fromfile(str(path), np.uint8)
        length = int.from_bytes(content[:8].tobytes(), "little")
        header = json.loads(content[8 : 8 + length].tobytes().decode())
        about = json.loads(header.pop("__metadata__")["trace"])
        tensors = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = content[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        calls = [LayerCall(**call) for call in about["calls"]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give a file of --save-trace") from error
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise UsageError(f"{path} is not a trace; give a file of --save-trace") from error
    if about["version"] > VERSION:
        raise UsageError(f"{path} is a trace of version {about['version']}; this program reads {VERSION}; update it")
    return Trace(about["description"], calls, tensors)
