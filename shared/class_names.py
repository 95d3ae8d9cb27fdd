"""Which output of a network stands for which class of a data set: by the classes' names, never by their places alone.

Labels and outputs are numbers, and the same number means another class as soon as a folder is renamed, is missing or
sorts elsewhere. `index_map` compares the names; `match` also knows what to do where one of the two has none, as weights
alone and shards without a list of names have.
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
_BESIDE = ".classes.json"  # the ending of the file with the names of weights whose own form has no place for them
_MOST_BYTES = 64 * 2**20


class Classes(NamedTuple):
    """The classes of a network's outputs, or of a data set's labels, in their order.

    Where nobody has `named` them, `names` are their numbers.
    """

    names: Tuple[str, ...]
    named: bool = True

    @classmethod
    def numbered(cls, count: int) -> Classes:
        """So many classes that nobody has named."""
        return cls(tuple(map(str, range(count))), False)

    def stored(self) -> Optional[List[str]]:
        """The names as JSON holds them; None where there are none."""
        return list(self.names) if self.named else None


@dataclass(frozen=True)
class Match:
    """Class i of the data set is output `outputs[i]`; `names` are those of all outputs that can be answered.

    `notes` is what the user should know. `columns` picks those outputs from the network's, in its order; None: all.
    """

    outputs: Tuple[int, ...]
    names: Tuple[str, ...]
    notes: Tuple[str, ...] = ()
    columns: Optional[Tuple[int, ...]] = None

    @property
    def in_place(self) -> bool:
        """Whether every class is the output with its own number, and there are no others."""
        return self.outputs == tuple(range(len(self.names)))

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """The data set's labels int32 [N] as numbers of outputs."""
        return np.array(self.outputs, np.int32)[labels]

    def restricted(self) -> Match:
        """The same for answers that can be the data set's classes alone."""
        if len(self.outputs) == len(self.names):
            return self
        columns = tuple(sorted(self.outputs))
        places = {column: place for place, column in enumerate(columns)}
        return dataclasses.replace(
            self,
            outputs=tuple(places[output] for output in self.outputs),
            names=tuple(self.names[column] for column in columns),
            columns=columns,
        )

    def for_evaluation(self, restrict: bool) -> Match:
        """What an evaluation counts by: all outputs can be answers, unless it is to `restrict` them; `notes` say so."""
        classes, outputs = len(self.outputs), len(self.names)
        if classes == outputs:
            return self
        said = f"answers are all {outputs:,} classes of the network, --restrict-classes leaves them to the data set's"
        if restrict:
            said = f"answers are restricted to the data set's {classes:,} of {outputs:,} classes"
        return dataclasses.replace(self.restricted() if restrict else self, notes=(*self.notes, said))


def match(network: Classes, data: Classes, advice: str) -> Match:
    """Which outputs of the network are the data set's classes, which may be fewer.

    Weights without names whose outputs are as many as ImageNet's or CIFAR-10's classes have their published order,
    where the data set's names are of these. Else, without names on both sides, numbers must do, as many on either.
    Raises UsageError, with the caller's `advice` on what to do, where the network does not know a class.
    """
    notes: Tuple[str, ...] = ()
    if not network.named:
        known, title = _published(len(network.names), data)
        if known is not None:
            notes = (f"the weights have no class names; their outputs are taken for {title}'s classes in its order",)
            network = known
    if network.named and data.named:
        outputs = index_map(network.names, data.names, advice)
        names = list(network.names)
        for name, output in zip(data.names, outputs):
            names[output] = name  # as the data set spells it, whose files are looked for by this name
        return Match(outputs, tuple(names), (*notes, *_differences(outputs, len(names))))
    if len(network.names) != len(data.names):
        raise UsageError(
            f"the checkpoint has {_counted(network.names)} and the data set {len(data.names):,},"
            f" and {_nameless(network, data)} no names to tell which; {advice}"
        )
    said = f"{_nameless(network, data)} no class names; class i of the data set is taken for output i of the network"
    return Match(tuple(range(len(data.names))), (data if data.named else network).names, (said,))


def index_map(network: Sequence[str], data: Sequence[str], advice: str) -> Tuple[int, ...]:
    """For each of the data set's names, the place that it has among the network's.

    Composed and decomposed letters (é has both forms) are the same name. Raises UsageError with the names that differ,
    and with those that are there twice unless both lists are the same.
    """
    if list(network) == list(data):
        return tuple(range(len(data)))
    for whose, names in (("network", network), ("data set", data)):
        twice = sorted(name for name, count in collections.Counter(names).items() if count > 1)
        if twice:
            raise UsageError(f"classes of the {whose} have the same name ({some(twice)}); name each its own")
    own, others = _composed(network), _composed(data)
    if own is None or others is None:
        own, others = list(network), list(data)
    places = {name: place for place, name in enumerate(own)}
    unknown = [name for name, key in zip(data, others) if key not in places]
    if unknown:
        left = set(others)
        missing = [name for name, key in zip(network, own) if key not in left]
        what = f"the data set has {_counted(unknown)} that the network does not know ({some(unknown)})"
        if missing:
            what += f", and lacks {_counted(missing)} that it knows ({some(missing)})"
        raise UsageError(f"{what}; {advice}")
    return tuple(places[key] for key in others)


def check_same(stored: Optional[Sequence[str]], data: Classes, path: str) -> None:
    """Raise UsageError where a run that goes on would find its classes under other names or in another order.

    `stored` are those that it was trained on; None: nobody knows.
    """
    if stored is None or not data.named or tuple(stored) == data.names:
        return
    others = [
        f"{number} is {now} and was {before}"
        for number, (before, now) in enumerate(zip(stored, data.names))
        if before != now
    ]
    others = others or [f"{len(data.names)} and were {len(stored)}"]
    raise UsageError(
        f"{path} is not the data set that the run was trained on, its classes are others ({some(others)}); give"
        " that one with --data-path, or start a new run with --checkpoint"
    )


def of_state(state: Dict[str, Any], outputs: int) -> Classes:
    """The classes of a checkpoint's outputs. One of before names were stored has none."""
    names = state["data"].get("classes")
    return Classes(tuple(names)) if names is not None else Classes.numbered(outputs)


def are_names(names: Any, count: int) -> bool:
    """Whether this is a list of so many names, as a stranger's file may have it or not."""
    return isinstance(names, (list, tuple)) and len(names) == count and all(isinstance(name, str) for name in names)


# -- a file beside weights ---------------------------------------------------------------------------------------


def beside(prefix: Union[str, Path]) -> Path:
    """The file with the names of the weights at `prefix`."""
    return Path(f"{prefix}{_BESIDE}")


def write_beside(prefix: Union[str, Path], names: Optional[Sequence[str]]) -> None:
    """Write that file; without names, remove the one of earlier weights. Raises OSError."""
    if names is not None:
        write_atomic(beside(prefix), json.dumps(list(names), indent=1) + "\n")
    elif beside(prefix).exists():
        os.remove(str(beside(prefix)))


def read_beside(prefix: Union[str, Path], outputs: int) -> Classes:
    """The classes of so many outputs from that file; without names where it is none, or not of these weights."""
    try:
        with open(str(beside(prefix)), "rb") as file:
            names = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        names = None
    return Classes(tuple(names)) if are_names(names, outputs) else Classes.numbered(outputs)


# -- what is known without a file --------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def imagenet() -> Tuple[str, ...]:
    """The 1,000 WordNet ids of ILSVRC 2012 in the order of the published weights' outputs, which is sorted.

    Source: the folders of the official training archive of https://image-net.org; Cadene's, timm's and torchvision's
    weights have this order. The SHA-256 is that of `imagenet_layout`.
    """
    return tuple(Path(__file__).with_name("imagenet").joinpath("wnids.txt").read_text(encoding="ascii").split())


def _published(outputs: int, data: Classes) -> Tuple[Optional[Classes], str]:
    """The published order that weights without names may have; a data set whose WordNet ids are mostly ImageNet's is
    compared with it, so that a stray folder among them is found.
    """
    for title, names, share in (("ImageNet", imagenet(), 0.5), ("CIFAR-10", CIFAR10, 1.0)):
        if len(names) == outputs and data.named and len(set(data.names) & set(names)) >= share * len(data.names):
            return Classes(names), title
    return None, ""


def _composed(names: Sequence[str]) -> Optional[List[str]]:
    """The names with composed letters; None where two of them are then one."""
    composed = [unicodedata.normalize("NFC", name) for name in names]
    return composed if len(set(composed)) == len(composed) else None


def _differences(outputs: Tuple[int, ...], size: int) -> List[str]:
    if len(outputs) < size:
        return [f"the data set has {_counted(outputs)} of the network's {size:,}: matched by name"]
    if outputs != tuple(range(size)):
        return ["the data set's classes have another order than the network's: matched by name"]
    return []


def _counted(classes: Sequence[Any]) -> str:
    return counted(len(classes), "class", "classes")


def _nameless(network: Classes, data: Classes) -> str:
    return "the weights have" if not network.named else "the data set has"
