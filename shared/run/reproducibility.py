"""Settings that change floating-point rounding between a run and its continuation.

Floating-point addition depends on its order, and so on the number of threads, the memory format, the device and the
version of the framework. With other settings the continuation is not bit-identical to an uninterrupted run.
"""

from __future__ import annotations

from typing import Any, List, Mapping

# How to restore the earlier value.
_REMEDIES = {
    "threads": "start with OMP_NUM_THREADS={0} (under TensorFlow TF_NUM_INTRAOP_THREADS={0})",
    "memory_format": "give --memory-format {0}",
}
_DEFAULT_REMEDY = "where that matters, restore the earlier setting"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    """A line per setting that differs from `before` the interruption. Settings missing on one side are skipped."""
    lines = []
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            remedy = _REMEDIES.get(name, _DEFAULT_REMEDY).format(before[name])
            lines.append(
                f"the run continues with {name.replace('_', ' ')} {now[name]} and began with {before[name]}, which"
                f" changes floating-point rounding: it will not be bit-identical to an uninterrupted run; {remedy}"
            )
    return lines
