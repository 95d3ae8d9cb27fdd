"""The words and options of the mode `predict`."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from shared.cli.arguments import number, one_of
from shared.prediction.output import FORMATS


def add_options(add: Callable[..., Any], exported: Sequence[str] = ()) -> None:
    """Add them with a parser's `add_argument`; `exported` are the formats of --format in the mode export."""
    images = "predict: image files, folders, - for a list of them on standard input"
    add("images", nargs="*", default=None, metavar="IMAGE", help=images)
    add("--top-k", type=number(int, 1), metavar="K", help="classes for each image (default: 5)")
    formats = f"predict: {', '.join(FORMATS)} (default: text)"
    if exported:
        formats += f"; export: {', '.join(exported)} (default: by the file's ending)"
    add("--format", type=one_of(*FORMATS, *exported), help=formats)
