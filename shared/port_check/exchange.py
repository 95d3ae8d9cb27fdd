"""Several ranks: whether what each of them goes on with is the mean of what all have computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, List, Optional

import numpy as np

from shared.port_check.findings import Check, compare
from shared.port_check.tolerance import Rounding, bound
from shared.port_check.trace import Trace

Gather = Callable[[np.ndarray], List[np.ndarray]]  # an array of this rank -> those of all ranks, in their order


def exchange_checks(trace: Trace, gather: Gather) -> List[Check]:
    """The averaged gradients and statistics of a rank beside the means, in float64, of what all ranks have recorded.

    Every rank calls it with its own trace of the same step. An average in floating point rounds each of the N values
    that are divided by N, and each of their sums.
    """
    dtypes = trace.description.get("weight_dtypes", {})
    averaged, after = trace.named("averaged"), trace.named("after")
    checks = [
        _check(name, " gradient", gather(own), averaged.get(name), dtypes.get(name, "float32"))
        for name, own in trace.named("gradient").items()
    ]
    return checks + [
        _check(name, "", gather(own), after.get(name), "float32") for name, own in trace.named("own").items()
    ]


def _check(name: str, what: str, parts: List[np.ndarray], observed: Optional[np.ndarray], dtype: str) -> Check:
    layer, _, kind = name.rpartition(".")
    text, count = f"the mean over {len(parts)} ranks of {what and 'the gradient of '}{name}", len(parts)
    if observed is None or len({part.shape for part in parts}) > 1:
        inf = float("inf")
        return Check("exchange", layer, kind + what, text, inf, inf, "it is not on every rank", "another network")
    wide = np.stack([part.astype(np.float64) for part in parts])
    with np.errstate(invalid="ignore", over="ignore"):  # of an overflow on a rank
        expected = wide.mean(axis=0)
        margin = bound(expected, np.abs(wide).mean(axis=0), Rounding(dtype, "float32", count, count + 1))
        check = compare("exchange", layer, kind + what, text, expected, observed, margin, dtype)
        return check if check.agrees else replace(check, hint=_instead(wide, observed, margin) or check.hint)


def _instead(parts: np.ndarray, observed: np.ndarray, margin: np.ndarray) -> str:
    """Which ranks' values, `parts` [N, ...], make up what is there in place of the mean; "" for none of the usual."""
    total, count = parts.sum(axis=0), len(parts)
    found: Dict[str, np.ndarray] = {}
    for rank, part in enumerate(parts):
        found[f"it is that of rank {rank} alone"] = part
        found[f"rank {rank} counts as zero"] = (total - part) / count
        if count > 2:
            found[f"rank {rank} is left out"] = (total - part) / (count - 1)
    return next((text for text, value in found.items() if (np.abs(value - observed) <= 2 * margin).all()), "")
