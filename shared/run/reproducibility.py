"""What rounds sums otherwise when a run goes on: not another run, but not the uninterrupted one to the last bit.

Floating-point addition depends on its order, which follows from the number of threads, the memory format, the device
and the library's version.
"""

from __future__ import annotations

from typing import Any, List, Mapping

# What the user can do to have it as it was.
_REMEDIES = {
    "threads": "start with OMP_NUM_THREADS={0} (under TensorFlow TF_NUM_INTRAOP_THREADS={0})",
    "memory_format": "give --memory-format {0}",
}
_OTHERWISE = "where that matters, go on as it was"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    """A line for each of these facts about a run that is not what it was when the run was interrupted.

    Facts that one of the two does not know are left out.
    """
    lines = []
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            remedy = _REMEDIES.get(name, _OTHERWISE).format(before[name])
            lines.append(
                f"the run goes on with {name.replace('_', ' ')} {now[name]} and began with {before[name]}, which rounds"
                f" sums otherwise: its last bits are not those of an uninterrupted run; {remedy}"
            )
    return lines
