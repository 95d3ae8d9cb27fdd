"""Reads files of weights without running code in them: those of torch.save and .safetensors."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Optional, Union

import torch

from shared.errors import UsageError


def read_weight_file(path: Union[str, Path]) -> Any:
    """The content of the file, on the CPU: usually a state dict, or a dictionary that contains one.

    The suffix .safetensors selects that format; everything else must be a file of torch.save, of any version. Data that
    is no tensor, number or text, such as the options of a training, is read as an `Inert` object.

    Raises UsageError where the file is missing or damaged, or where loading it would run code.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file of weights in it")
    if not path.is_file():
        raise UsageError(f"there is no file {path}; check the path")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


class Inert:
    """A stand-in for an object beside the weights: it discards its arguments and its state.

    The class that the file names is neither imported nor called.
    """

    def __init__(self, *values: Any) -> None:
        """Discards the arguments of the constructor."""

    def __setstate__(self, state: Any) -> None:
        """Discards the attributes."""


def _inert(full_name: str, holder: Optional[type] = None) -> type:
    """A subclass of Inert under this name. With `holder`, its instances are of that builtin, filled afterwards."""
    module, name = full_name.rsplit(".", 1)
    content: Dict[str, Any] = {"__module__": module, "__qualname__": name}
    if holder is not None:
        content["__new__"] = lambda cls, *values: holder()
    return type(name, (Inert,), content)


# What timm, torchvision, the original ports and others save beside the weights: options, paths, times, versions, and
# accuracies as NumPy scalars. torch itself allows tensors, OrderedDict, Counter, set and bytes.
_INERT = [
    *(
        _inert(name)
        for name in (
            "argparse.Namespace types.SimpleNamespace builtins.frozenset builtins.range builtins.slice builtins.bool "
            "builtins.float builtins.int builtins.str builtins.list builtins.tuple builtins.dict datetime.date "
            "datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal uuid.UUID "
            "numpy.dtype numpy.ndarray torch.torch_version.TorchVersion"
        ).split()
    ),
    *(_inert(f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(
        _inert(f"pathlib{module}.{name}")
        for module in ("", "._local")
        for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    ),
    _inert("collections.defaultdict", dict),
    _inert("collections.deque", list),
]


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old formats cause warnings
            with torch.serialization.safe_globals([*_INERT]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch.load raise nearly anything
        raise UsageError(f"{path} {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong; what to do. Leaves out torch's advice to load the file with weights_only=False."""
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code or "TorchScript" in text:
        what = code.group(1) if code else "a TorchScript program"
        return (
            f"is refused: it is more than data, loading it would run code of its own ({what}); ask its author for"
            " a .safetensors file, or for plain tensors saved with torch.save"
        )
    if isinstance(error, PermissionError):
        return "may not be read; change its permissions"
    if isinstance(error, pickle.UnpicklingError):
        return "is refused: it is not a file of plain tensors; ask its author for a .safetensors file"
    return "is damaged, or not a file of torch.save; copy or download it again"


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UsageError(f"{path} needs the package safetensors; pip install safetensors") from error
    try:
        return load_file(str(path), device="cpu")
    except PermissionError as error:
        raise UsageError(f"{path} may not be read; change its permissions") from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is damaged, or not a .safetensors file; copy or download it again") from error
