"""Names and lists of others as text: names that are no UTF-8, byte order marks, letters that a stream cannot encode.

Python keeps the bytes of a name that are none of the file system's encoding as lone surrogates (PEP 383), which UTF-8
refuses. They stay in memory, so that the file can be opened, and are written as an escape: `caf\\udce9`, which is also
what JSON calls them.
"""

from __future__ import annotations

import codecs
import os
import sys

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
