"""Weights into a network, from a file or a state dict, whoever saved them.

    report = load_weights(network, "senet154-c7b49a05.pth")
    for line in report.lines(): ...

Every tensor must find its place, or nothing is changed. What differs from saver to saver is undone: the dictionary
around the state dict, the prefix of a wrapped network, the background class of networks trained in TensorFlow.
Sources: Cadene's pretrained-models.pytorch, timm (the same names) and the checkpoints of the original ports.
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
# Of batch normalisation. Nothing uses it: files from before PyTorch 0.4.1 lack it, others cast it with the weights.
COUNTER = "num_batches_tracked"
FROM_TENSORFLOW = "cell_stem_0.conv_1x1.conv.weight"  # only PNASNet has it; in its published weights class 0 is none


@dataclass(frozen=True)
class Form:
    """What may surround the weights: a dictionary under one of these keys, these prefixes, a background class."""

    wrappers: Tuple[str, ...]
    prefixes: Tuple[str, ...]
    background: bool


SOURCES = {
    "auto": Form(
        ("state_dict", "model", "net", "network", "model_state_dict", "state_dict_ema", "model_ema", "average"),
        ("module.", "_orig_mod."),
        background=True,
    ),
    "cadene": Form((), (), background=True),
    "timm": Form(("state_dict", "model", "state_dict_ema", "model_ema"), ("module.", "_orig_mod."), background=False),
    "original": Form(("state_dict", "net"), ("module.",), background=False),
}


@dataclass(frozen=True)
class Report:
    """What was matched. `matched` of the network's `total` tensors were copied.

    `left_new` names tensors of the network that keep their values, `ignored` tensors of the file that were not used.
    `wrapper` and `prefix` are what stood around the weights; `background_dropped`: class 0 of 1001 was left out.
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
        """For the log."""
        around = [f"under {self.wrapper!r}"] if self.wrapper else []
        around += [f"prefix {self.prefix!r} removed"] if self.prefix else []
        lines = [f"{self.matched} of {self.total} tensors loaded" + (f" ({', '.join(around)})" if around else "")]
        if self.background_dropped:
            lines.append("class 0 of the file's 1001 is the background: dropped")
        counters = self.total - self.matched - len(self.left_new)
        if counters:
            lines.append(f"{counters} counters {COUNTER} are not in the file as whole numbers; nothing uses them")
        if self.left_new:
            lines.append(f"left new: {_some(self.left_new)}")
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
    """Copy `weights`, a file or a state dict, into the network, in the network's dtype and on its device.

    `source` says who saved them: "cadene", "timm", "original" (a port's checkpoint), or "auto" for any of these.
    `new_head` leaves the linear layers of the head and the auxiliary head as they are, for other classes; None leaves
    them where the file's are of other classes. `rows` says for each of the network's classes which of the file's it is;
    None: they are the same. An auxiliary head that only the file or only the network has is no error.

    Raises UsageError, with the network unchanged, where the file cannot be read or a tensor is missing, unknown or of
    another shape.
    """
    if source not in SOURCES:
        raise UsageError(f"unknown source of weights {source!r}; {nearest(source, SOURCES)}")
    form = SOURCES[source]
    if isinstance(weights, (str, Path)):
        name, content = str(weights), read_weight_file(weights)
    else:
        name, content = "the state dict", weights
    wrapped, wrapper, unused = _unwrapped(content, form, name)
    state, prefix = _without_prefix(wrapped, form.prefixes)
    state = {key: value for key, value in state.items() if not key.endswith(COUNTER) or _fits(value, torch.tensor(0))}
    own, _ = _without_prefix(module.state_dict(), SOURCES["auto"].prefixes)

    dropped = form.background and _drop_background(state, own, 1000 if rows is not None else None)
    if rows is not None:
        heads = {key: value for key, value in state.items() if _is_head(key) and value.dim()}
        state.update({key: value[list(rows)] for key, value in heads.items() if len(value) > max(rows)})
    left_new = [key for key, value in own.items() if _stays_new(key, value, state, new_head)]
    ignored = [key for key in state if key not in own and _may_be_ignored(key, own)]
    ignored += [key for key in state if key in left_new]
    wanted = {key: value for key, value in own.items() if key not in left_new}
    offered = {key: value for key, value in state.items() if key not in ignored}
    problems = _problems(wanted, offered)
    if problems:
        problem = f"{name} does not fit the network: {', '.join(problems)}; {_advice(own, state)}"
        raise UsageError(problem)  # the names are the file's

    with torch.no_grad():
        for key, value in offered.items():
            wanted[key].copy_(value)
    return Report(len(offered), len(own), source, wrapper, prefix, tuple(left_new), (*ignored, *unused), dropped)


def head_classes(weights: Union[str, Path, Mapping[str, Any]]) -> Optional[Classes]:
    """The classes of the head, with their names where the file says them; None where there is no head.

    Raises UsageError where the file cannot be read, or is none of weights.
    """
    name, content = ("the state dict", weights) if isinstance(weights, Mapping) else (str(weights), None)
    content = read_weight_file(name) if content is None else content
    wrapped, wrapper, _ = _unwrapped(content, SOURCES["auto"], name)
    state, _ = _without_prefix(wrapped, SOURCES["auto"].prefixes)
    heads = [state[f"{head}weight"] for head in HEADS if f"{head}weight" in state]
    sizes = [len(head) for head in heads if head.dim() == 2]
    if not sizes:
        return None
    count = sizes[0] - (sizes[0] == 1001 and FROM_TENSORFLOW in state)
    names = stored_names(content if wrapper is None else content[wrapper])
    return Classes(tuple(names)) if are_names(names, count) else Classes.numbered(count)


def with_names(weights: Mapping[str, torch.Tensor], names: Optional[Sequence[str]]) -> Tensors:
    """The state dict with its classes' names where `nn.Module.load_state_dict` keeps what is no tensor.

    So it stays a plain state dict for everybody: the keys are the network's, and a network takes it as it is.
    """
    named = OrderedDict(weights)
    if names is not None:
        named._metadata = {"": {"version": 1, "classes": list(names)}}  # type: ignore[attr-defined]
    return named


def stored_names(weights: Any) -> Any:
    """What `with_names` has stored, or whatever a stranger's file has in its place; None where nothing is."""
    metadata = getattr(weights, "_metadata", None)
    own = metadata.get("") if isinstance(metadata, dict) else None
    return own.get("classes") if isinstance(own, dict) else None


# -- what stands around the weights ----------------------------------------------------------------------------


def _unwrapped(content: Any, form: Form, name: str) -> Tuple[Tensors, Optional[str], List[str]]:
    """The state dict, the key that it was under, and the keys of other state dicts, which are not used."""
    if _is_state_dict(content):
        return dict(content), None, []
    if not isinstance(content, Mapping):
        raise UsageError(f"{name} holds a {type(content).__name__} and no state dict; choose a file of weights")
    found = [key for key in form.wrappers if _is_state_dict(content.get(key))]
    if not found:
        holds = _some([str(key) for key in content]) if content else "nothing"
        problem = f"no weights found in {name}, which holds {holds}; give a state dict, or one in 'state_dict'"
        raise UsageError(problem)
    return dict(content[found[0]]), found[0], found[1:]


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())
    )


def _without_prefix(state: Mapping[str, torch.Tensor], prefixes: Tuple[str, ...]) -> Tuple[Tensors, str]:
    """The state dict without the leading prefixes that every key has, and what they were.

    Only the beginning is looked at, and only where all keys agree: "se_module." holds a "module." too.
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
    """Leave out class 0 of 1001 in `state` where the network, or what it takes its classes from, has the other 1000;
    whether it was so.
    """
    head = [key for key in own if key.startswith(HEADS) and key in state]
    if FROM_TENSORFLOW not in own or not head:
        return False
    if any(
        state[key].shape != ((classes or own[key].shape[0]) + 1, *own[key].shape[1:]) or len(state[key]) != 1001
        for key in head
    ):
        return False
    state.update({key: state[key][1:] for key in head})
    return True


# -- what fits -------------------------------------------------------------------------------------------------


def _is_head(key: str) -> bool:
    return key.startswith((*HEADS, AUXILIARY + "classifier."))


def _stays_new(key: str, value: torch.Tensor, state: Tensors, new_head: Optional[bool]) -> bool:
    """Whether the network's tensor keeps its value: a new head's, or an auxiliary head's that the file has not."""
    if key.startswith(AUXILIARY) and not any(other.startswith(AUXILIARY) for other in state):
        return True
    if new_head is None:
        return _is_head(key) and key in state and state[key].shape != value.shape
    return new_head and _is_head(key)


def _may_be_ignored(key: str, own: Tensors) -> bool:
    """Whether the file's tensor is not needed: an auxiliary head's that the network has not."""
    return key.startswith(AUXILIARY) and not any(other.startswith(AUXILIARY) for other in own)


def _problems(wanted: Tensors, offered: Tensors) -> List[str]:
    """What keeps `offered` from being copied into `wanted`, in words."""
    missing = [key for key in wanted if key not in offered and not key.endswith(COUNTER)]
    unknown = [key for key in offered if key not in wanted]
    differing = [key for key in offered if key in wanted and not _fits(offered[key], wanted[key])]
    problems = [f"{len(missing)} of {len(wanted)} tensors missing ({_some(missing)})"] if missing else []
    problems += [f"{len(unknown)} unknown ({_some(unknown)})"] if unknown else []
    if differing:
        first = f"{differing[0]} is {_kind(offered[differing[0]])} and not {_kind(wanted[differing[0]])}"
        problems.append(f"{len(differing)} of another shape ({first})")
    return problems


def _fits(value: torch.Tensor, place: torch.Tensor) -> bool:
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_complex() and not value.is_meta
    return plain and value.shape == place.shape and value.is_floating_point() == place.is_floating_point()


def _kind(tensor: torch.Tensor) -> str:
    sizes = " x ".join(str(size) for size in tensor.shape) or "a scalar"
    return sizes if tensor.is_floating_point() else f"{sizes} {str(tensor.dtype).replace('torch.', '')}"


def _advice(own: Tensors, state: Tensors) -> str:
    """What to do about weights that do not fit."""
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
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more
