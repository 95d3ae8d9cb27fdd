"""A fake of Ascend's adapter for TensorFlow 2.6, in its TensorFlow 1 compatibility mode.

The session script is the same as for TensorFlow 1.15, so it shares the names and the limits of that fake
(tests/fakes/tf115_npu_bridge/npu_bridge/npu_init.py). Like the real adapter it disables TensorFlow 2 behaviour for the
whole process.
"""

from . import compat

__all__ = ["compat"]
