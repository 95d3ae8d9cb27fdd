"""The names of a network's classes for a reader: of WordNet ids those that an installed torchvision or timm brings.

Both are read as data and not imported: torchvision fails to load beside a torch that it was not built for.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import importlib.util
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from shared.class_names import Classes, imagenet, match

_WNID = re.compile(r"n\d{8}\Z")


class Named(NamedTuple):
    """The classes of a network's outputs, in their order."""

    labels: Tuple[str, ...]  # as the weights, or the order of ImageNet, have them; indices where there are no names
    names: Tuple[str, ...]  # for a reader, each different from the others
    notes: Tuple[str, ...]  # lines for the user


def labelled(outputs: Classes) -> Tuple[Classes, List[str]]:
    """The same, and lines for the user; 1,000 without names are taken for ImageNet's in its published order."""
    if outputs.named:
        return outputs, []
    if len(outputs.names) == len(imagenet()):
        matched = match(outputs, Classes(imagenet()), "")
        return Classes(matched.names), list(matched.notes)
    return outputs, ["the weights have no class names; a class is named by its number, from 0"]


def named(outputs: Classes) -> Named:
    """The names of these outputs for a reader; without names see `labelled`."""
    outputs, notes = labelled(outputs)
    labels = outputs.names
    readable: Dict[str, str] = {}
    if any(map(_WNID.match, labels)):
        readable = _of_torchvision() or _of_timm()
        if not readable:
            notes.append("readable names of WordNet ids come with torchvision or timm, which are not installed")
    names = [readable.get(label, label) for label in labels]
    often = collections.Counter(names)  # ImageNet has two cranes, a bird and a machine
    unique = [name if often[name] == 1 else f"{name} ({label})" for name, label in zip(names, labels)]
    return Named(labels, tuple(unique), tuple(notes))


def _of_torchvision() -> Dict[str, str]:
    """The names by WordNet id in torchvision's models/_meta.py, which has them in ImageNet's order; else none."""
    source = _text("torchvision", "models/_meta.py")
    names: List[str] = []
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_IMAGENET_CATEGORIES":
                names = [str(name) for name in ast.literal_eval(node.value)]
    return dict(zip(imagenet(), names)) if len(names) == len(imagenet()) else {}


def _of_timm() -> Dict[str, str]:
    """The first of the names by WordNet id in timm's data; else none."""
    lines = [line.split("\t") for line in _text("timm", "data/_info/imagenet_synset_to_lemma.txt").splitlines()]
    return {line[0]: line[1].split(",")[0] for line in lines if len(line) == 2}


def _text(package: str, file: str) -> str:
    """A file of an installed package, which is not imported; empty where there is none."""
    spec: Optional[importlib.machinery.ModuleSpec] = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Path(folder, file).read_text(encoding="utf-8")
    return ""
