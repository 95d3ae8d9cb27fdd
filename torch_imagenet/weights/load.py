"""Loads weights into a network from a file or a state dict.

    report = load_weights(network, "senet154-c7b49a05.pth")
    print("\n".join(report.lines()))

Either every tensor is matched or the network stays unchanged. What differs between sources is removed: the dictionary
around the state dict, the key prefix of a wrapped network, the background class of networks trained in TensorFlow.
Sources are Cadene's pretrained-models.pytorch, timm (with the same keys) and checkpoints of the original ports.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from shared.class_names import Classes, are_names
from shared.errors import UsageError
from shared.text import nearest
from torch_imagenet.networks import NETWORKS, create
from torch_imagenet.weights.files import read_weight_file

Tensors = Dict[str, torch.Tensor]

AUXILIARY = "aux."
HEADS = tuple(sorted({f"{spec.head}." for spec in NETWORKS.values()}))
# Of batch normalisation, and unused. Files from before PyTorch 0.4.1 lack it; others cast it together with the weights.
COUNTER = "num_batches_tracked"
FROM_TENSORFLOW = "cell_stem_0.conv_1x1.conv.weight"  # of PNASNet, whose published weights have a background class 0


@dataclass(frozen=True)
class Source:
    """What may surround the weights: a dictionary with one of the keys `wrappers`, key prefixes, a background class."""

    wrappers: Tuple[str, ...]
    prefixes: Tuple[str, ...]
    background: bool


SOURCES = {
    "auto": Source(
        ("state_dict", "model", "net", "network", "model_state_dict", "state_dict_ema", "model_ema", "average"),
        ("module.", "_orig_mod."),
        background=True,
    ),
    "cadene": Source((), (), background=True),
    "timm": Source(("state_dict", "model", "state_dict_ema", "model_ema"), ("module.", "_orig_mod."), background=False),
    "original": Source(("state_dict", "net"), ("module.",), background=False),
}


@dataclass(frozen=True)
class Report:
    """The result of `load_weights`: `matched` of the network's `total` tensors were copied.

    `left_new` names the tensors of the network that keep their initial values, `ignored` the tensors of the file that
    were not used. `wrapper` is the key of the dictionary that held the state dict, `prefix` what was removed from all
    keys. `background_dropped` says that class 0 of 1001 was left out.
    """

    matched: int
    total: int
    source: str
    wrapper: Optional[str] = None
    prefix: str = ""
    left_new: Tuple[str, ...] = ()
    ignored: Tuple[str, ...] = ()
    background_dropped: bool = False

    def lines(self) -> List[str]:
        """The report in lines for the log."""
        around = [f"under {self.wrapper!r}"] if self.wrapper else []
        around += [f"prefix {self.prefix!r} removed"] if self.prefix else []
        lines = [f"{self.matched} of {self.total} tensors loaded" + (f" ({', '.join(around)})" if around else "")]
        if self.background_dropped:
            lines.append("class 0 of the file's 1001 is the background: dropped")
        counters = self.total - self.matched - len(self.left_new)
        if counters:
            lines.append(f"{counters} counters {COUNTER} are not in the file as integers; they are unused")
        if self.left_new:
            lines.append(f"newly initialised: {_some(self.left_new)}")
        if self.ignored:
            lines.append(f"in the file and not used: {_some(self.ignored)}")
        return lines


def load_weights(
    module: nn.Module,
    weights: Union[str, Path, Mapping[str, Any]],
    source: str = "auto",
    new_head: Optional[bool] = False,
    rows: Optional[Sequence[int]] = None,
) -> Report:
    """Copy `weights`, a file or a state dict, into `module`, in its dtype and on its device.

    `source` is where they come from: "cadene", "timm", "original" (a checkpoint of an original port), or "auto" for any
    of these. With `new_head` the classifiers of the head and the auxiliary head keep their values; None keeps them
    where the shapes differ. `rows` are the rows of the file's head to load, one for each class of the network; None
    loads all. An auxiliary head that only the file or only the network has is no error.

    Raises UsageError, and leaves the network unchanged, where the file cannot be read or where a tensor is missing,
    unknown or of another shape.
    """
    if source not in SOURCES:
        raise UsageError(f"unknown source of weights {source!r}; {nearest(source, SOURCES)}")
    layout = SOURCES[source]
    name, content = _read(weights)
    state, wrapper, unused = _unwrapped(content, layout, name)
    state, prefix = _without_prefix(state, layout.prefixes)
    state = {key: value for key, value in state.items() if not key.endswith(COUNTER) or _fits(value, torch.tensor(0))}
    own, _ = _without_prefix(module.state_dict(), SOURCES["auto"].prefixes)

    dropped = layout.background and _drop_background(state, own, 1000 if rows is not None else None)
    if rows is not None:
        heads = {key: value for key, value in state.items() if _is_head(key) and value.dim()}
        state.update({key: value[list(rows)] for key, value in heads.items() if len(value) > max(rows)})
    left_new = [key for key, value in own.items() if _stays_new(key, value, state, new_head)]
    ignored = [key for key in state if key not in own and _may_be_ignored(key, own)]
    ignored += [key for key in state if key in left_new]
    targets = {key: value for key, value in own.items() if key not in left_new}
    sources = {key: value for key, value in state.items() if key not in ignored}
    problems = _problems(targets, sources)
    if problems:
        raise UsageError(f"{name} does not fit the network: {', '.join(problems)}; {_advice(own, state)}")

    with torch.no_grad():
        for key, value in sources.items():
            targets[key].copy_(value)
    return Report(len(sources), len(own), source, wrapper, prefix, tuple(left_new), (*ignored, *unused), dropped)


def head_classes(weights: Union[str, Path, Mapping[str, Any]]) -> Optional[Classes]:
    """The classes of the head, with their names where the file has them; None where there is no head.

    Raises UsageError where the file cannot be read or holds no weights.
    """
    name, content = _read(weights)
    state, wrapper, _ = _unwrapped(content, SOURCES["auto"], name)
    state, _ = _without_prefix(state, SOURCES["auto"].prefixes)
    heads = [state[f"{head}weight"] for head in HEADS if f"{head}weight" in state]
    sizes = [len(head) for head in heads if head.dim() == 2]
    if not sizes:
        return None
    count = sizes[0] - (sizes[0] == 1001 and FROM_TENSORFLOW in state)
    names = stored_names(content if wrapper is None else content[wrapper])
    return Classes(tuple(names)) if are_names(names, count) else Classes.numbered(count)


def with_names(weights: Mapping[str, torch.Tensor], names: Optional[Sequence[str]]) -> Tensors:
    """The state dict with class names in its `_metadata`, where `nn.Module` keeps version numbers.

    It remains a plain state dict, whose keys are those of the network, for any other program.
    """
    named = OrderedDict(weights)
    if names is not None:
        named._metadata = {"": {"version": 1, "classes": list(names)}}  # type: ignore[attr-defined]
    return named


def stored_names(weights: Any) -> Any:
    """The class names that `with_names` has stored, unchecked; None where there are none."""
    metadata = getattr(weights, "_metadata", None)
    own = metadata.get("") if isinstance(metadata, dict) else None
    return own.get("classes") if isinstance(own, dict) else None


# -- what surrounds the weights --------------------------------------------------------------------------------


def _read(weights: Union[str, Path, Mapping[str, Any]]) -> Tuple[str, Any]:
    """A name for messages, and the content."""
    if isinstance(weights, (str, Path)):
        return str(weights), read_weight_file(weights)
    return "the state dict", weights


def _unwrapped(content: Any, source: Source, name: str) -> Tuple[Tensors, Optional[str], List[str]]:
    """The state dict, the key that held it, and the keys of further state dicts, which are not used."""
    if _is_state_dict(content):
        return dict(content), None, []
    if not isinstance(content, Mapping):
        raise UsageError(f"{name} holds a {type(content).__name__} and no state dict; choose a file of weights")
    found = [key for key in source.wrappers if _is_state_dict(content.get(key))]
    if not found:
        holds = _some([str(key) for key in content]) if content else "nothing"
        raise UsageError(f"no weights found in {name}, which holds {holds}; give a state dict, or one in 'state_dict'")
    return dict(content[found[0]]), found[0], found[1:]


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())
    )


def _without_prefix(state: Mapping[str, torch.Tensor], prefixes: Tuple[str, ...]) -> Tuple[Tensors, str]:
    """The state dict without the leading prefixes that all keys share, and what was removed.

    A prefix counts only at the beginning, because "se_module." contains "module.".
    """
    removed = ""
    state = dict(state)
    while True:
        common = [prefix for prefix in prefixes if all(key.startswith(prefix) for key in state)]
        if not common:
            return state, removed
        state = {key[len(common[0]) :]: value for key, value in state.items()}
        removed += common[0]


def _drop_background(state: Tensors, own: Tensors, classes: Optional[int] = None) -> bool:
    """Drop class 0 of 1001 from `state` if the network, or the list of `classes` it selects from, has 1000.

    Returns whether the class was dropped.
    """
    head = [key for key in own if key.startswith(HEADS) and key in state]
    if FROM_TENSORFLOW not in own or not head:
        return False
    for key in head:
        rows, *rest = own[key].shape
        if state[key].shape != ((classes or rows) + 1, *rest) or len(state[key]) != 1001:
            return False
    state.update({key: state[key][1:] for key in head})
    return True


# -- what fits -------------------------------------------------------------------------------------------------


def _is_head(key: str) -> bool:
    return key.startswith((*HEADS, AUXILIARY + "classifier."))


def _stays_new(key: str, value: torch.Tensor, state: Tensors, new_head: Optional[bool]) -> bool:
    """Whether this tensor of the network keeps its value: of a new head, or of an auxiliary head the file lacks."""
    if key.startswith(AUXILIARY) and not any(other.startswith(AUXILIARY) for other in state):
        return True
    if new_head is None:
        return _is_head(key) and key in state and state[key].shape != value.shape
    return new_head and _is_head(key)


def _may_be_ignored(key: str, own: Tensors) -> bool:
    """Whether this tensor of the file is of an auxiliary head that the network lacks."""
    return key.startswith(AUXILIARY) and not any(other.startswith(AUXILIARY) for other in own)


def _problems(targets: Tensors, sources: Tensors) -> List[str]:
    """Why `sources` cannot be copied to `targets`, for a message."""
    missing = [key for key in targets if key not in sources and not key.endswith(COUNTER)]
    unknown = [key for key in sources if key not in targets]
    differing = [key for key in sources if key in targets and not _fits(sources[key], targets[key])]
    problems = [f"{len(missing)} of {len(targets)} tensors missing ({_some(missing)})"] if missing else []
    problems += [f"{len(unknown)} unknown ({_some(unknown)})"] if unknown else []
    if differing:
        first = f"{differing[0]} is {_shape(sources[differing[0]])} and not {_shape(targets[differing[0]])}"
        problems.append(f"{len(differing)} of another shape ({first})")
    return problems


def _fits(value: torch.Tensor, target: torch.Tensor) -> bool:
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_complex() and not value.is_meta
    return dense and value.shape == target.shape and value.is_floating_point() == target.is_floating_point()


def _shape(tensor: torch.Tensor) -> str:
    sizes = " x ".join(str(size) for size in tensor.shape) or "a scalar"
    return sizes if tensor.is_floating_point() else f"{sizes} {str(tensor.dtype).replace('torch.', '')}"


def _advice(own: Tensors, state: Tensors) -> str:
    """What to do about weights that do not fit, for a message."""
    if not _problems(_body(own), _body(state)):
        return "only the head differs: use the file's number of classes, or the mode finetune, which makes a new head"
    for name in NETWORKS:
        with torch.device("meta"):
            other = create(name).state_dict()
        if other.keys() != own.keys() and not _problems(_body(other), _body(state)):
            return f"the weights are those of {name}: use --network {name}"
    return "check that the file was made with this network"


def _body(state: Tensors) -> Tensors:
    return {key: value for key, value in state.items() if not key.startswith((*HEADS, AUXILIARY))}


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few names and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more
