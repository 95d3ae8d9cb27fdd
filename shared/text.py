"""Text from outside: names that are not UTF-8, byte order marks, misspelled words.

Python decodes the bytes of a file name that are not in the file system's encoding to lone surrogates (PEP 383), which
UTF-8 cannot encode. They are kept in memory, and written as escapes, `caf\\udce9`, as in JSON.
"""

from __future__ import annotations

import codecs
import difflib
import os
import sys
import unicodedata
from typing import Dict, Iterable, Optional

_ALIKE = 0.75  # of difflib's ratio: --version is 0.62 of --period
_ABBREVIATION = 4  # letters
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def in_utf8(name: str) -> str:
    """A name of the file system decoded as UTF-8, whatever the locale of the process."""
    if sys.getfilesystemencoding() == "utf-8":
        return name
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def of_system(text: str) -> str:
    """The inverse of `in_utf8`: the name as `open` expects it."""
    return text if sys.getfilesystemencoding() == "utf-8" else os.fsdecode(raw(text))


def raw(text: str) -> bytes:
    """The bytes of a name returned by `in_utf8`."""
    return text.encode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The text in UTF-8, with escapes for lone surrogates."""
    return text.encode("utf-8", "backslashreplace")


def is_name(text: str) -> bool:
    """Whether all characters are printable or lone surrogates, as in the name of a file."""
    return all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in text)


def printable(text: str) -> str:
    """The text with an escape for each lone surrogate, so that UTF-8 can encode it."""
    return encoded(text).decode("utf-8")


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8 (other bytes become lone surrogates) or in UTF-16 with a byte order mark."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    return content.decode("utf-8", "surrogateescape")


def nearest(word: str, choices: Iterable[str]) -> str:
    """The advice for a misspelled word: "did you mean 'x'?" or the list of all choices."""
    choices = list(choices)
    close = closest(word, choices)
    return f"did you mean {close!r}?" if close is not None else f"choose one of {', '.join(choices)}"


def closest(word: str, choices: Iterable[str]) -> Optional[str]:
    """The choice that differs from `word` in a quarter of its letters at most, or that begins with it; else None."""
    bare = {choice: _bare(choice) for choice in choices}
    if word in bare:
        return word
    bare_word = _bare(word)
    scored = [(_ratio(bare_word, text), _ratio(word, choice), choice) for choice, text in bare.items()]
    best, _, near = max(scored, default=(0.0, 0.0, ""))
    if best >= _ALIKE or (best > 0 and sorted(bare_word) == sorted(bare[near])):
        return near
    longer = [choice for choice, text in bare.items() if text.startswith(bare_word) and text[len(bare_word)] != "-"]
    return longer[0] if len(bare_word) >= _ABBREVIATION and len({bare[choice] for choice in longer}) == 1 else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _bare(word: str) -> str:
    return word.strip("-_").replace("_", "-").lower()


def look_alikes(names: Iterable[str], others: Iterable[str]) -> Dict[str, str]:
    """The `names` that differ from one of `others`, their values, in Unicode normalization, case, width or spaces."""
    alike = {_seen(other): other for other in others}
    return {name: alike[_seen(name)] for name in names if alike.get(_seen(name), name) != name}


def _seen(name: str) -> str:
    """A key that is equal for names that look alike."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def duration(seconds: float) -> str:
    """A length of time for people: "3.3 days", "5.0 hours", "12 minutes"."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes"
