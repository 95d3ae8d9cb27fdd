"""The names of the fake for TensorFlow 1.15, loaded from its file, which need not be on the path."""

import importlib.util
from pathlib import Path

_FILE = Path(__file__).resolve().parents[4] / "tf115_npu_bridge" / "npu_bridge" / "npu_init.py"
_spec = importlib.util.spec_from_file_location("npu_device_stand_in_names", str(_FILE))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
__all__ = list(_module.__all__)
globals().update({name: getattr(_module, name) for name in __all__})
