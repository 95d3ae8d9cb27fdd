"""oneDNN's operators on the CPU, which TensorFlow 2.9 and newer have and use on some processors alone unless asked.

Two cores of an AMD EPYC with AVX2, TensorFlow 2.21, depth 20, batch 128: 995 ms a step without them, 550 with them.
"""

from __future__ import annotations

import os
import sys
from typing import Optional, Tuple

from shared.errors import UsageError
from shared.run.provenance import installed
from shared.system import processor
from tf_seresnet.devices.base import TENSORFLOW_PACKAGES

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"  # read when TensorFlow is imported
_SINCE = (2, 9)
# The instructions with one of which TensorFlow uses oneDNN by itself: IsMKLEnabled of its tsl/util/port.cc.
_BY_ITSELF = ("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
_BF16 = ("avx512f", "avx_ne_convert")  # with one of which it has bfloat16: IsBF16SupportedByOneDNNOnThisCPU


def enable() -> None:
    """Have TensorFlow use oneDNN, unless the user has decided, or TensorFlow has been imported already.

    Raises UsageError where the user has turned it on in a TensorFlow that is wrong with it.
    """
    release = _release()
    if release is None or "tensorflow" in sys.modules:
        return
    if release >= _SINCE and "avx2" in processor.instructions():
        os.environ.setdefault(_VARIABLE, "1")
    elif (2, 5) <= release < _SINCE and _turned_on():
        # 2.6.5 on a processor with AVX2: a chain of convolutions is 0, and a training ends with SIGFPE.
        wrong = f"{_VARIABLE}={os.environ[_VARIABLE]}, with which TensorFlow before 2.9 computes wrong convolutions"
        raise UsageError(f"the environment has {wrong}; unset it")


def used() -> bool:
    """Whether this process's TensorFlow computes convolutions on the CPU by oneDNN."""
    return _turned_on() and (_release() or ()) >= _SINCE if os.environ.get(_VARIABLE) else used_by_itself()


def used_by_itself() -> bool:
    """Whether TensorFlow uses it on this processor where nobody asks, as in runs that do not say whether they did."""
    return (_release() or ()) >= _SINCE and not processor.instructions().isdisjoint(_BY_ITSELF)


def require_bf16(instead: str) -> None:
    """Raise UsageError, with what to do `instead`, where convolutions in bfloat16 are Eigen's and not oneDNN's.

    Eigen rounds sums to bfloat16 on the way: on a processor with AVX2 alone the gradient of a 3x3x16x16 kernel was
    2.3 % wrong after 32 images of 32x32, and XLA's 0.16 %, by the rounding of the result. Only x86 has been tried.
    """
    there = processor.instructions()
    if "avx" in there and (not used() or there.isdisjoint(_BF16)):
        without = "without both TensorFlow rounds its sums to bfloat16, too"
        raise UsageError(f"precision bf16 on a CPU needs AVX-512 and oneDNN ({without}); {instead}")


def _turned_on() -> bool:
    return os.environ.get(_VARIABLE, "").lower() in ("1", "true")


def _release() -> Optional[Tuple[int, ...]]:
    """Major and minor version of the installed TensorFlow; None where that cannot be told without importing it."""
    version = next(filter(None, map(installed, TENSORFLOW_PACKAGES)), None)
    return tuple(int(part) for part in version.split(".")[:2]) if version else None
