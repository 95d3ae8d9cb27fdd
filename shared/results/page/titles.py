"""What the page calls a run: SE-ResNet-50, imagenette, 25 Nov."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Sequence

from shared.results.language import ENGLISH, Language
from shared.results.tables import title

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # strftime's depend on the locale


def titles(records: Sequence[Dict[str, Any]], names: Sequence[str], say: Language = ENGLISH) -> List[str]:
    """A different title for each record, with its name, and then its place, where two would have the same.

    Years are left out where all are the same. The texts are those of the records, not escaped.
    """
    with_year = len({record["started"][:4] for record in records}) > 1
    found = [_title(record, with_year, say) for record in records]
    found = _distinct(found, names)
    return _distinct(found, [str(place) for place in range(1, len(found) + 1)])


def _distinct(found: Sequence[str], more: Sequence[str]) -> List[str]:
    times = Counter(found)
    return [one if times[one] == 1 else f"{one}, {other}" for one, other in zip(found, more)]


def _title(record: Dict[str, Any], with_year: bool, say: Language) -> str:
    names = [title(name) for name in (record.get("network"), record.get("dataset", {}).get("name")) if name]
    names += [say(record["mode"])] if record["mode"] != "train" else []
    return ", ".join([*names, _date(record["started"], with_year, say)])


def _date(started: str, with_year: bool, say: Language) -> str:
    """The day of a time in ISO 8601, whose digits a record's reader has checked, but not that there is such a day."""
    year, month, day = started[:10].split("-")
    if not 1 <= int(month) <= len(_MONTHS):
        return started[:10]
    form = "{day} {name} {year}" if with_year else "{day} {name}"
    return say(form, day=int(day), month=int(month), name=_MONTHS[int(month) - 1], year=year)
