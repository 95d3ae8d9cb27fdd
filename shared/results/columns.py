"""Text in the columns of a terminal, in which a Chinese character takes two."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from typing import List

_CLOSING = "，。；：、）％"  # never at the beginning of a line
_OPENING = "（("  # never at the end of one


def width(text: str) -> int:
    """The columns that the text takes."""
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def padded(text: str, columns: int, right: bool = False) -> str:
    """The text with spaces up to this width, to its left if `right`."""
    spaces = " " * (columns - width(text))
    return spaces + text if right else text + spaces


def wrapped(text: str, columns: int, indent: str = "") -> List[str]:
    """The text in lines of at most so many columns, all but the first behind `indent`.

    Lines end at spaces and at Chinese characters; a word that is longer than a line is cut.
    """
    if width(text) == len(text):
        return textwrap.wrap(text, columns, subsequent_indent=indent)
    lines, line = [], ""
    for piece in _pieces(text, columns - len(indent)):
        if line.strip() and width(line + piece.rstrip()) > columns:
            lines.append(line.rstrip())
            line = indent + piece.lstrip()
        else:
            line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str, columns: int) -> List[str]:
    """What stays on one line: a Chinese character with what closes it, or a word, with the space behind it."""
    pieces: List[str] = []
    for word in re.findall(rf"[^\x00-\u2e7f][{_CLOSING}]*\s*|[\x00-\u2e7f]+?(?:\s+|(?=[^\x00-\u2e7f])|$)", text):
        word = str(word)
        if pieces and (word[0] in _CLOSING or pieces[-1][-1] in _OPENING):
            pieces[-1] += word
        else:
            pieces += [word[at : at + columns] for at in range(0, len(word), columns)]
    return pieces
