"""The words and options of the mode `predict`."""

from __future__ import annotations

from typing import Dict, Sequence

from shared.cli.modes import Add
from shared.cli.parser import number, one_of
from shared.prediction.output import FORMATS
from shared.system.paths import expanded


def add_options(add: Add, exported: Sequence[str] = ()) -> None:
    """Add them to the group "predict" of a parser; `exported` are the formats of --format in the mode export."""
    images = "image files, folders, - for a list of them on standard input"
    add("images", nargs="*", default=None, metavar="IMAGE", help=images)
    add("--top-k", type=number(int, 1), metavar="K", help="classes for each image (default: 5)")
    formats: Dict[str, Sequence[str]] = {"predict": FORMATS}
    text = f"predict: {', '.join(FORMATS)} (default: text)"
    if exported:
        formats["export"] = exported
        text += f"; export: {', '.join(exported)} (default: by the file's ending)"
    add("--format", modes=formats, type=one_of(*FORMATS, *exported), help=text)
    overlays = "write each image with the regions that speak for its class in colours (Grad-CAM)"
    add("--grad-cam", type=expanded, metavar="DIR", help=overlays)
