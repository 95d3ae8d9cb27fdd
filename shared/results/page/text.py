"""Text of HTML: everything that is not ours goes through `escaped`."""

from __future__ import annotations

import html
from typing import Any, Iterable, Sequence, Tuple

from shared.text import printable


def escaped(value: Any) -> str:
    """The value as text of a page, in an attribute too; what cannot be seen is a question mark."""
    text = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in printable(str(value)))
    return html.escape(text, quote=True)


def table(head: Sequence[str], lines: Iterable[Tuple[str, Sequence[str]]], words: int) -> str:
    """A table of cells that are HTML already; each line with its class. Columns from `words` on are numbers."""
    kinds = ["" if column < words else ' class="number"' for column in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head))
    body = [
        f'<tr class="{name}">' + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells)) + "</tr>"
        for name, cells in lines
    ]
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def pairs(lines: Iterable[Tuple[str, str]]) -> str:
    """Names and what they are; the latter is HTML already."""
    return "<dl>" + "".join(f"<div><dt>{escaped(name)}</dt><dd>{value}</dd></div>" for name, value in lines) + "</dl>"


def figures(drawings: Sequence[str]) -> str:
    """Drawings side by side where there is room."""
    return '<div class="figures">' + "".join(f"<figure>{one}</figure>" for one in drawings) + "</div>"


def note(text: str) -> str:
    """A line that says what is not there."""
    return f'<p class="note">{escaped(text)}</p>'
