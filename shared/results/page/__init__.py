"""The results as one self-contained HTML page that opens from a file and makes no network request; pieces of HTML.

Records, config.json and events.jsonl may be a stranger's: their text is escaped on the page and never part of a figure.
"""

from __future__ import annotations

import html
from typing import Any, Iterable, Sequence, Tuple

from shared.errors import one_line


def escaped(value: Any) -> str:
    """The value as HTML text or attribute value, with a question mark for unprintable characters."""
    return html.escape("\n".join(map(one_line, str(value).split("\n"))), quote=True)


def table(head: Sequence[str], rows: Iterable[Tuple[str, Sequence[str]]], text_columns: int) -> str:
    """A table of (CSS class, HTML cells) rows. Columns from `text_columns` on are numbers."""
    kinds = ["" if column < text_columns else ' class="number"' for column in range(len(head))]
    top = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head))
    lines = [
        f'<tr class="{name}">' + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells)) + "</tr>\n"
        for name, cells in rows
    ]
    body = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>"
    return f'<div class="scroll" tabindex="0"><table>\n{body}</table></div>'


def figures(drawings: Sequence[str]) -> str:
    """Drawings in a grid."""
    return '<div class="figures">' + "".join(f"<figure>{one}</figure>" for one in drawings) + "</div>"


def note(text: str) -> str:
    """A highlighted remark, such as what is missing."""
    return f'<p class="note">{escaped(text)}</p>'
