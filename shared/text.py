"""Names and lists of others as text: names that are no UTF-8, byte order marks, letters that a stream cannot encode.

Python keeps the bytes of a name that are none of the file system's encoding as lone surrogates (PEP 383), which UTF-8
refuses. They stay in memory, so that the file can be opened, and are written as an escape: `caf\\udce9`, which is also
what JSON calls them.
"""

from __future__ import annotations

import codecs
import difflib
import os
import sys
import unicodedata
from typing import Dict, Iterable, Optional

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def in_utf8(name: str) -> str:
    """A name of the file system, its bytes read as UTF-8: the same text whatever the locale of the process."""
    if sys.getfilesystemencoding() == "utf-8":
        return name
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def of_system(text: str) -> str:
    """The reverse of `in_utf8`: what `open` takes for the name here."""
    return text if sys.getfilesystemencoding() == "utf-8" else os.fsdecode(raw(text))


def raw(text: str) -> bytes:
    """The bytes of a name that `in_utf8` gave."""
    return text.encode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """UTF-8 for a file, what it has no bytes for as an escape."""
    return text.encode("utf-8", "backslashreplace")


def is_name(text: str) -> bool:
    """Whether the text can be the name of something on a disk that a line of text may show, escapes in it or none."""
    return all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in text)


def printable(text: str) -> str:
    """The text with an escape for each lone surrogate: UTF-8 can encode it."""
    return encoded(text).decode("utf-8")


def decoded(content: bytes) -> str:
    """The text of a list that somebody has made: UTF-8, or UTF-16 with the byte order mark that tells it.

    A mark is no part of the text (Excel, Notepad and PowerShell write one). Bytes that are no UTF-8 stay as surrogates.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "replace")
    return content.decode("utf-8", "surrogateescape")


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


def duration(seconds: float) -> str:
    """A length of time as people say it: "3.3 days", "5.0 hours", "12 minutes"."""
    for unit, size, digits in (("days", 86400.0, 1), ("hours", 3600.0, 1), ("minutes", 60.0, 0)):
        if seconds >= 2 * size or unit == "minutes":
            return f"{seconds / size:.{digits}f} {unit}"
    raise AssertionError("unreachable")
