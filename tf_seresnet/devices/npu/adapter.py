"""Finds and loads the Ascend adapter that fits this TensorFlow."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from typing import Any, Optional, Tuple

from shared.errors import UsageError
from tf_seresnet.devices.npu import session_options as npu


def adapter_for(version: str) -> Optional[Tuple[str, str]]:
    """Package and module of the installed adapter for this version of TensorFlow; imports nothing."""
    major, minor = (re.findall(r"\d+", version) + ["0", "0"])[:2]
    package, module = npu.ADAPTERS.get((int(major), int(minor)), ("", ""))
    return (package, module) if package and importlib.util.find_spec(package) else None


def load_adapter(version: str) -> Any:
    """Import the adapter's module. Raises UsageError if it is missing, broken or for another TensorFlow."""
    found = adapter_for(version)
    if found is None:
        installed = [package for package, _ in npu.ADAPTERS.values() if importlib.util.find_spec(package)]
        if installed:
            raise UsageError(
                f"the Ascend adapter {installed[0]} does not work with TensorFlow {version}; install "
                "npu_bridge with TensorFlow 1.15 or npu_device with TensorFlow 2.6, or use --device cpu"
            )
        raise UsageError(
            f"the Ascend adapter (npu_bridge or npu_device) is not importable in {sys.executable}; install "
            "npu_bridge (TensorFlow 1.15) or npu_device (TensorFlow 2.6), or use --device cpu"
        )
    package, module_name = found
    try:
        top = importlib.import_module(package)
        module = importlib.import_module(module_name)
        enable = getattr(getattr(top, "compat", None), "enable_v1", None)
        if enable is not None:
            enable()  # npu_device: graph sessions instead of eager execution
    except Exception as error:  # missing CANN libraries: ImportError, OSError or tf.errors
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(
            f"the Ascend adapter {package} fails at import ({reason}); source CANN's set_env.sh and try again, or"
            " use --device cpu"
        ) from error
    missing = [name for name in npu.ADAPTER_NAMES if not hasattr(module, name)]
    if missing:
        raise UsageError(f"the Ascend adapter {package} lacks {', '.join(missing)}; install a newer one")
    return module


def environment_index() -> int:
    """The adapter's default device, from ASCEND_DEVICE_ID. Raises UsageError if that is not a number."""
    text = os.environ.get("ASCEND_DEVICE_ID", "0")
    if not text.isdigit():
        raise UsageError(f"ASCEND_DEVICE_ID is {text!r}, not a device index; set it to 0, 1, ..., or unset it")
    return int(text)
