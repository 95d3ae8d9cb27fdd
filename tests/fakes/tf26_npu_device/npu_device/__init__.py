"""A stand-in for Ascend's adapter on TensorFlow 2.6, in its TensorFlow 1 compatibility mode.

It proves and leaves open what the stand-in for TensorFlow 1.15 does
(tests/fakes/tf115_npu_bridge/npu_bridge/npu_init.py), whose names it shares: the session script is the same. Like the
real one it switches TensorFlow 2 behaviour off, for the whole process.
"""

from . import compat

__all__ = ["compat"]
