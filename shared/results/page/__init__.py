"""The results as one self-contained HTML page that opens from a file and makes no network request; pieces of HTML.

Records, config.json and events.jsonl may be a stranger's: their text is escaped on the page and never part of a figure.
"""

from __future__ import annotations

import html
import json
from typing import Any, Iterable, Iterator, NamedTuple, Sequence, Tuple

from shared.errors import one_line
from shared.results.language import Language


class Sheet(NamedTuple):
    """What all parts of one page share: its language, and the numbers that make the ids of its figures unique."""

    say: Language
    ids: Iterator[int]


def escaped(value: Any) -> str:
    """The value as HTML text or attribute value, with a question mark for unprintable characters."""
    return html.escape("\n".join(map(one_line, str(value).split("\n"))), quote=True)


def table(
    head: Sequence[str], rows: Iterable[Tuple[str, Sequence[str]]], text_columns: int, narrow: bool = False
) -> str:
    """A table of (CSS class, HTML cells) rows. Columns from `text_columns` on are numbers, "-" where there is none.

    A telephone has no room for a table that is not `narrow`. There, each row is a block, and the style sheet, which
    knows the columns as variables, writes their names into it.
    """
    names = "".join(
        f"--column-{number}: {json.dumps(name, ensure_ascii=False)}; " for number, name in enumerate(head, 1)
    )
    kinds = ["" if column < text_columns else "number" for column in range(len(head))]

    def cell(kind: str, text: str) -> str:
        classes = " ".join(filter(None, (kind, "none" if text == "-" else "")))
        return f'<td class="{classes}">{text}</td>' if classes else f"<td>{text}</td>"

    top = "".join(f'<th scope="col" class="{kind}">{name}</th>' for kind, name in zip(kinds, head))
    lines = [f'<tr class="{name}">{"".join(map(cell, kinds, cells))}</tr>\n' for name, cells in rows]
    body = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>"
    start = "<table>" if narrow else f'<table class="wide" style="{escaped(names)}">'
    return f'<div class="scroll" tabindex="0">{start}\n{body}</table></div>'


def figures(drawings: Sequence[str]) -> str:
    """Drawings in a grid."""
    return '<div class="figures">' + "".join(f"<figure>{one}</figure>" for one in drawings) + "</div>"


def note(text: str) -> str:
    """A highlighted remark, such as what is missing."""
    return f'<p class="note">{escaped(text)}</p>'
