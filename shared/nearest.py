"""What was meant by a misspelled word."""

from __future__ import annotations

import difflib
import unicodedata
from typing import Dict, Iterable, Optional


def nearest(word: str, choices: Iterable[str]) -> str:
    """What to do about a misspelled word: "did you mean 'x'?" or the list of all choices."""
    choices = list(choices)
    close = closest(word, choices)
    return f"did you mean {close!r}?" if close is not None else f"choose one of {', '.join(choices)}"


def closest(word: str, choices: Iterable[str], cutoff: float = 0.6) -> Optional[str]:
    """The choice most like the word; None where none is at least `cutoff` alike, from 0 (anything) to 1 (the same)."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return close[0] if close else None


def look_alikes(names: Iterable[str], others: Iterable[str]) -> Dict[str, str]:
    """The `names` beside another one of `others` that a screen shows alike: Unicode's NFC and NFD, as macOS has it,
    large and small letters, other widths, spaces at the ends.
    """
    alike = {_seen(other): other for other in others}
    found = {name: alike.get(_seen(name), name) for name in names}
    return {name: other for name, other in found.items() if other != name}


def _seen(name: str) -> str:
    """The same for names that look alike."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
