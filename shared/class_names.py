"""Match the outputs of a network with the classes of a data set, by name and not by index alone.

Labels and outputs are indices, and the same index means another class as soon as a folder is renamed, is missing or
sorts elsewhere. `index_map` compares names; `match` also handles weights and shards that come without names.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from shared.errors import UsageError
from shared.imagenet.layout import counted, some
from shared.system.atomic_files import write_atomic

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MOST_BYTES = 64 * 2**20


class Classes(NamedTuple):
    """The classes of a network's outputs or of a data set's labels, in their order; indices as text if not `named`."""

    names: Tuple[str, ...]
    named: bool = True

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """`count` classes without names."""
        return cls(tuple(map(str, range(count))), False)

    def stored(self) -> Optional[List[str]]:
        """The names for JSON; None without names."""
        return list(self.names) if self.named else None


@dataclass(frozen=True)
class Match:
    """Class i of the data set is output `outputs[i]`; `names` are those of all outputs that can be predicted.

    `notes` are lines for the user, `columns` the indices of those outputs among the network's; None means all.
    """

    outputs: Tuple[int, ...]
    names: Tuple[str, ...]
    notes: Tuple[str, ...] = ()
    columns: Optional[Tuple[int, ...]] = None

    @property
    def in_place(self) -> bool:
        """Whether class i is output i, and there are no other outputs."""
        return self.outputs == tuple(range(len(self.names)))

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """The data set's labels int32 [N] as indices of outputs."""
        return np.array(self.outputs, np.int32)[labels]

    def for_evaluation(self, restrict: bool) -> Match:
        """The match for an evaluation: any output can be predicted, or with `restrict` the data set's classes alone."""
        classes, outputs = len(self.outputs), len(self.names)
        if classes == outputs:
            return self
        if not restrict:
            note = f"answers are all {outputs:,} classes of the network, --restrict-classes leaves the data set's"
            return dataclasses.replace(self, notes=(*self.notes, note))
        columns = tuple(sorted(self.outputs))
        note = f"answers are restricted to the data set's {classes:,} of {outputs:,} classes"
        positions, names = tuple(map(columns.index, self.outputs)), tuple(self.names[column] for column in columns)
        return Match(positions, names, (*self.notes, note), columns)


def match(network: Classes, data: Classes, advice: str) -> Match:
    """Match the classes of the data set with the outputs of the network, which may be more.

    Weights without names are assumed to have the published order of ImageNet or CIFAR-10 if the number of outputs is
    theirs and the data set's names are of these. Otherwise, if one side has no names, indices are matched, which the
    names of a data set may be ("0", "1", "10", ...: ImageNet-V2), and both sides must have as many. Raises UsageError,
    which ends with `advice`, if the network lacks a class.
    """
    known, notes = (network, []) if network.named else _published(len(network.names), data)
    if known.named and data.named:
        outputs, size = index_map(known.names, data.names, advice), len(known.names)
        names = list(known.names)
        for name, output in zip(data.names, outputs):
            names[output] = name  # in the spelling of the data set, whose files are found by this name
        if len(outputs) < size:
            notes.append(f"the data set has {_counted(outputs)} of the network's {size:,}: matched by name")
        elif outputs != tuple(range(size)):
            notes.append("the data set's classes have another order than the network's: matched by name")
        return Match(outputs, tuple(names), tuple(notes))
    nameless = "the weights have" if not network.named else "the data set has"
    if len(network.names) != len(data.names):
        what = f"the checkpoint has {_counted(network.names)} and the data set {len(data.names):,}"
        raise UsageError(f"{what}, and {nameless} no names to tell which; {advice}")
    if data.named and set(data.names) == set(network.names):  # numbers, which sort as texts: 0, 1, 10, ...
        note = "the weights have no class names; the data set's classes are the numbers of their outputs"
        return Match(tuple(map(int, data.names)), network.names, (note,))
    note = f"{nameless} no class names; class i of the data set is taken for output i of the network"
    return Match(tuple(range(len(data.names))), (data if data.named else network).names, (note,))


def index_map(network: Sequence[str], data: Sequence[str], advice: str) -> Tuple[int, ...]:
    """For each name of the data set, its index among the network's; equal are names with one composed form (NFC).

    Raises UsageError with the names that differ, and with repeated names unless both lists are the same.
    """
    if list(network) == list(data):
        return tuple(range(len(data)))
    for whose, names in (("network", network), ("data set", data)):
        twice = sorted(name for name, count in collections.Counter(names).items() if count > 1)
        if twice:
            raise UsageError(f"classes of the {whose} have the same name ({some(twice)}); name each its own")
    outputs, labels = _composed(network), _composed(data)
    if len(set(outputs)) < len(outputs) or len(set(labels)) < len(labels):  # two of them become equal
        outputs, labels = list(network), list(data)
    indices = {name: index for index, name in enumerate(outputs)}
    unknown = [name for name, key in zip(data, labels) if key not in indices]
    if unknown:
        known = set(labels)
        missing = [name for name, key in zip(network, outputs) if key not in known]
        what = f"the data set has {_counted(unknown)} that the network does not know ({some(unknown)})"
        if missing:
            what += f", and lacks {_counted(missing)} that it knows ({some(missing)})"
        raise UsageError(f"{what}; {advice}")
    return tuple(indices[key] for key in labels)


def _composed(names: Sequence[str]) -> List[str]:
    return [unicodedata.normalize("NFC", name) for name in names]


def _counted(classes: Sequence[Any]) -> str:
    return counted(len(classes), "class")


@functools.lru_cache(maxsize=None)
def imagenet() -> Tuple[str, ...]:
    """The 1,000 WordNet ids of ILSVRC 2012 in the order of the published weights' outputs, which is sorted.

    Source: the folders of the official training archive of https://image-net.org; Cadene's, timm's and torchvision's
    weights have this order. A test compares them with the SHA-256 in `imagenet.layout`.
    """
    return tuple(Path(__file__).with_name("imagenet").joinpath("wnids.txt").read_text(encoding="ascii").split())


def _published(outputs: int, data: Classes) -> Tuple[Classes, List[str]]:
    """The published order of so many outputs, if half of the names are ImageNet's or all CIFAR-10's, and a note."""
    for title, names, share in (("ImageNet", imagenet(), 0.5), ("CIFAR-10", CIFAR10, 1.0)):
        if len(names) == outputs and data.named and len(set(data.names) & set(names)) >= share * len(data.names):
            note = f"the weights have no class names; their outputs are taken for {title}'s classes in its order"
            return Classes(names), [note]
    return Classes.numbered(outputs), []


# -- names that are stored with weights ------------------------------------------------------------------------


def of_state(state: Dict[str, Any], outputs: int) -> Classes:
    """The classes of a checkpoint's outputs. Checkpoints of earlier versions have no names."""
    names = state["data"].get("classes")
    return Classes(tuple(names)) if names is not None else Classes.numbered(outputs)


def are_names(names: Any, count: int) -> bool:
    """Whether this value from an untrusted file is a list of `count` names."""
    return isinstance(names, (list, tuple)) and len(names) == count and all(isinstance(name, str) for name in names)


def beside(prefix: Union[str, Path]) -> Path:
    """The path of the file with the class names of the weights at `prefix`, whose format has no field for them."""
    return Path(f"{prefix}.classes.json")


def write_beside(prefix: Union[str, Path], names: Optional[Sequence[str]]) -> None:
    """Write the class names beside the weights at `prefix`; without names, remove an earlier file. Raises OSError."""
    if names is not None:
        write_atomic(beside(prefix), json.dumps(list(names), indent=1) + "\n")
    elif beside(prefix).exists():
        os.remove(str(beside(prefix)))


def read_beside(prefix: Union[str, Path], outputs: int) -> Classes:
    """The classes of the weights at `prefix`; without names if there is no file, or one of other weights."""
    try:
        with beside(prefix).open("rb") as file:
            names = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        names = None
    return Classes(tuple(names)) if are_names(names, outputs) else Classes.numbered(outputs)
