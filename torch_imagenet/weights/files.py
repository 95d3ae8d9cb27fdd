"""Reads files of weights without running code in them: those of torch.save and .safetensors."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import torch

from shared.errors import UsageError


def read_weight_file(path: Union[str, Path]) -> Any:
    """The content of the file, on the CPU: usually a state dict, or a dictionary that contains one.

    What is no .safetensors file, by its suffix or its beginning, must be a file of torch.save, of any version. Data
    that is no tensor, number or text, such as the options of a training, is read as an `Inert` object.

    Raises UsageError where the file is missing or damaged, or where loading it would run code.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file of weights in it")
    if not path.is_file():
        raise UsageError(f"there is no file {path}; check the path")
    try:
        if path.suffix == ".safetensors" or _begins_as_safetensors(path):
            from safetensors.torch import load_file

            return _with_own_metadata(load_file(str(path), device="cpu"), read_metadata(path))
        with warnings.catch_warnings(), torch.serialization.safe_globals([*_INERT, *_OF_NPU]):
            warnings.simplefilter("ignore")  # old formats cause warnings
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise UsageError(f"{path} {_reason(error)}") from error


def read_metadata(path: Path) -> Dict[str, str]:
    """The texts in the header of a .safetensors file. Raises what safetensors does for a file that is none."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


def _with_own_metadata(state: Dict[str, torch.Tensor], metadata: Dict[str, str]) -> Dict[str, torch.Tensor]:
    """The state dict; of a file that `export` wrote with its class names and form, as torch.save keeps them."""
    try:
        size = {"image_size": int(metadata["image_size"])} if "image_size" in metadata else {}
        own = {"classes": json.loads(metadata["classes"]), **json.loads(metadata["form"]), **size}
    except (KeyError, ValueError, TypeError, RecursionError):
        return state
    named = OrderedDict(state)
    named._metadata = {"": {"version": 1, **own}}  # type: ignore[attr-defined]
    return named


def _begins_as_safetensors(path: Path) -> bool:
    """Whether the file begins with the length of a header, 8 bytes, and the header, an object of JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _reason(error: Exception) -> str:
    """What is wrong; what to do. Leaves out torch's advice to load the file with weights_only=False."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code or "TorchScript" in str(error):
        what = code.group(1) if code else "a TorchScript program"
        return (
            f"is refused: it is more than data, loading it would run code of its own ({what}); ask its author for"
            " a .safetensors file, or for plain tensors saved with torch.save"
        )
    if isinstance(error, ImportError):
        return "needs the package safetensors; pip install safetensors"
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    if isinstance(error, pickle.UnpicklingError):
        return "is refused: it is not a file of plain tensors; ask its author for a .safetensors file"
    return "is damaged, or not a file of torch.save or safetensors; copy or download it again"


class Inert:
    """A stand-in for an object beside the weights: it discards its arguments and its state.

    The class that the file names is neither imported nor called.
    """

    def __init__(self, *values: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _inert(full_name: str, builtin: Optional[type] = None) -> type:
    """A subclass of Inert under this name. With `builtin`, an instance is one of that, filled afterwards."""
    module, name = full_name.rsplit(".", 1)
    new = {} if builtin is None else {"__new__": lambda cls, *values: builtin()}
    return type(name, (Inert,), {"__module__": module, "__qualname__": name, **new})


# What timm, torchvision, the original ports and others save beside the weights: options, paths, times, versions, and
# accuracies as NumPy scalars. torch itself allows tensors, OrderedDict, Counter, set and bytes.
_NAMES = """
    argparse.Namespace types.SimpleNamespace builtins.frozenset builtins.range builtins.slice builtins.bool
    builtins.float builtins.int builtins.str builtins.list builtins.tuple builtins.dict
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal uuid.UUID
    pathlib.Path pathlib.PurePath pathlib.PosixPath pathlib.PurePosixPath pathlib.WindowsPath pathlib.PureWindowsPath
    pathlib._local.Path pathlib._local.PurePath pathlib._local.PosixPath pathlib._local.PurePosixPath
    pathlib._local.WindowsPath pathlib._local.PureWindowsPath torch.torch_version.TorchVersion
    numpy.dtype numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct
"""
_INERT: List[Any] = [
    *map(_inert, _NAMES.split()),
    _inert("collections.defaultdict", dict),
    _inert("collections.deque", list),
]


def _npu_tensor(storage: Any, offset: int, size: Any, stride: Any, gradient: bool, hooks: Any, *_: Any) -> torch.Tensor:
    """A tensor that torch_npu before 2.1 has saved from an NPU, with its memory format there behind the rest."""
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, gradient, hooks)


# Known by their own names and not by pairs with a name, which a later torch than 2.6 may have brought.
_npu_tensor.__module__, _npu_tensor.__name__ = "torch_npu.utils.storage", "_rebuild_npu_tensor"
_npu_tensor.__qualname__ = _npu_tensor.__name__
_OF_NPU: List[Any] = [_npu_tensor, _inert("torch_npu.npu._format.Format")]
