"""Pieces of HTML. All text from files goes through `escaped`."""

from __future__ import annotations

import html
from typing import Any, Iterable, Sequence, Tuple

from shared.text import printable


def escaped(value: Any) -> str:
    """The value as HTML text or attribute value, with a question mark for unprintable characters."""
    text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in printable(str(value)))
    return html.escape(text, quote=True)


def table(head: Sequence[str], rows: Iterable[Tuple[str, Sequence[str]]], text_columns: int) -> str:
    """A table of (CSS class, HTML cells) rows. Columns from `text_columns` on are numbers."""
    kinds = ["" if column < text_columns else ' class="number"' for column in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head))
    body = [
        f'<tr class="{name}">' + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells)) + "</tr>"
        for name, cells in rows
    ]
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def pairs(lines: Iterable[Tuple[str, Any]]) -> str:
    """A description list of names and values."""
    items = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in lines)
    return f"<dl>{items}</dl>"


def figures(drawings: Sequence[str]) -> str:
    """Drawings in a grid."""
    return '<div class="figures">' + "".join(f"<figure>{one}</figure>" for one in drawings) + "</div>"


def note(text: str) -> str:
    """A highlighted remark, such as what is missing."""
    return f'<p class="note">{escaped(text)}</p>'
