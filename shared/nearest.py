"""What was meant by a misspelled word."""

from __future__ import annotations

import difflib
import unicodedata
from typing import Dict, Iterable, Optional

_ALIKE = 0.75  # of difflib's ratio: --version is 0.62 of --period
_ABBREVIATION = 4  # letters


def nearest(word: str, choices: Iterable[str]) -> str:
    """What to do about a misspelled word: "did you mean 'x'?" or the list of all choices."""
    choices = list(choices)
    close = closest(word, choices)
    return f"did you mean {close!r}?" if close is not None else f"choose one of {', '.join(choices)}"


def closest(word: str, choices: Iterable[str]) -> Optional[str]:
    """The choice that was meant, as far as can be told: one letter in four is wrong at most, or the end is missing.

    Dashes, underscores and large letters are looked past: what only they have in common is nothing. None where a hint
    would be a guess.
    """
    bare = {choice: _bare(choice) for choice in choices}
    if word in bare:
        return word
    wanted = _bare(word)
    scored = [(_ratio(wanted, text), _ratio(word, choice), choice) for choice, text in bare.items()]
    best, _, near = max(scored, default=(0.0, 0.0, ""))
    if best >= _ALIKE or (best > 0 and sorted(wanted) == sorted(bare[near])):
        return near
    longer = [choice for choice, text in bare.items() if text.startswith(wanted) and text[len(wanted)] != "-"]
    return longer[0] if len(wanted) >= _ABBREVIATION and len({bare[choice] for choice in longer}) == 1 else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _bare(word: str) -> str:
    return word.strip("-_").replace("_", "-").lower()


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
