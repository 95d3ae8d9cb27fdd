"""The images of examples.json on the page: the most confident predictions, correct and wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

from shared.results.page.text import escaped
from shared.run.examples import FILE, MOST

# Nothing but a picture gets through, and none that would fill the page.
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]{1,200000}={0,2}")


@dataclass(frozen=True)
class Example:
    """One image: its picture as a URL that holds it, the answer's softmax in percent."""

    picture: str
    label: int
    label_name: str
    answer: int
    answer_name: str
    confidence: float


@dataclass(frozen=True)
class Examples:
    """What examples.json holds; `images` is the number of those that were chosen from."""

    images: int
    right: Tuple[Example, ...]
    wrong: Tuple[Example, ...]


def read_examples(folder: Path, missing: List[str]) -> Optional[Examples]:
    """None, with a sentence in `missing`, where the file is absent or damaged."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        right, wrong = (tuple(_example(entry) for entry in content[kind][:MOST]) for kind in ("right", "wrong"))
        return Examples(int(content["images"]), right, wrong)
    except OSError as error:
        missing.append(f"No example images: {FILE} cannot be read ({error.strerror or error}).")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        missing.append(f"No example images: {FILE} is damaged.")
    return None


def _example(entry: Any) -> Example:
    if not _PICTURE.fullmatch(entry["picture"]) or not 0 <= entry["confidence"] <= 100:
        raise ValueError("no example")
    return Example(
        entry["picture"],
        int(entry["label"]),
        str(entry["label_name"]),
        int(entry["answer"]),
        str(entry["answer_name"]),
        float(entry["confidence"]),
    )


def examples_section(examples: Examples, evaluated: int, classes: Sequence[str]) -> str:
    """Both rows; `classes` are better names than the file's, where they are known."""

    def name(label: int, own: str) -> str:
        return classes[label] if 0 <= label < len(classes) else own

    parts = ["<h3>Examples</h3>"]
    for title, shown in (("Most confident and right", examples.right), ("Most confident and wrong", examples.wrong)):
        if shown:
            figures = "".join(
                _figure(one, name(one.label, one.label_name), name(one.answer, one.answer_name)) for one in shown
            )
            parts.append(f'<h4>{title}</h4><div class="examples">{figures}</div>')
    share = "" if examples.images == evaluated else f" Chosen from {examples.images:,}, the first process's part."
    parts.append(f'<p class="caption">Of each class at most one. Percent: the confidence in the answer.{share}</p>')
    return "\n".join(parts)


def _figure(one: Example, label: str, answer: str) -> str:
    taken = "" if one.label == one.answer else f"taken for {escaped(answer)}"
    seen = ", ".join(filter(None, (escaped(label), taken)))
    said = f"{escaped(label)}<small>{taken or 'rightly'}, {one.confidence:.1f}&nbsp;%</small>"
    return f'<figure><img src="{one.picture}" alt="{seen}"><figcaption>{said}</figcaption></figure>'
