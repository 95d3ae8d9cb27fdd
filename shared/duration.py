"""A length of time in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A length of time as people say it: "3.3 days", "5.0 hours", "12 minutes"."""
    for unit, size, digits in (("days", 86400.0, 1), ("hours", 3600.0, 1), ("minutes", 60.0, 0)):
        if seconds >= 2 * size or unit == "minutes":
            return f"{seconds / size:.{digits}f} {unit}"
    raise AssertionError("unreachable")
