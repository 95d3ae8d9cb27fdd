"""Loads weights into a network from a file, a run, the name of weights elsewhere, or a state dict.

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

from shared.checkpoint.folder import holds_one
from shared.class_names import Classes, are_names
from shared.errors import UsageError
from shared.imagenet.layout import some
from shared.system.paths import expanded, is_elsewhere
from shared.text import nearest
from torch_imagenet.networks import NETWORKS, create
from torch_imagenet.weights.files import read_weight_file
from torch_imagenet.weights.form import AUXILIARY, FROM_TENSORFLOW, Form, port_of, stored_metadata
from torch_imagenet.weights.remote import fetched

Tensors = Dict[str, torch.Tensor]

HEADS = tuple(sorted({f"{spec.head}." for spec in NETWORKS.values()}))
CLASSIFIERS = (*HEADS, AUXILIARY + "classifier.")
# Of batch normalisation, and unused. Files from before PyTorch 0.4.1 lack it; others cast it together with the weights.
COUNTER = "num_batches_tracked"


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
    """The result of `load_weights`: `matched` of the network's `total` tensors were copied."""

    matched: int
    total: int
    wrapper: Optional[str]  # the key of the dictionary that held the state dict
    prefix: str  # what was removed from all keys
    left_new: Tuple[str, ...]  # the tensors of the network that keep their initial values
    ignored: Tuple[str, ...]  # the tensors of the file that were not used
    background_dropped: bool  # class 0 of 1001 was left out
    port: Optional[str] = None  # the old port whose program wrote the file

    def lines(self) -> List[str]:
        """The report in lines for the log."""
        around = [f"under {self.wrapper!r}"] if self.wrapper else []
        around += [f"prefix {self.prefix!r} removed"] if self.prefix else []
        lines = [f"{self.matched} of {self.total} tensors loaded" + (f" ({', '.join(around)})" if around else "")]
        if self.port == "pnasnet5large":
            lines.append("the old PNASNet port's: a network without zero padding, images that are not normalised")
        lines += ["class 0 of the file's 1001 is the background: dropped"] if self.background_dropped else []
        counters = self.total - self.matched - len(self.left_new)
        lines += [f"{counters} counters {COUNTER} are not in the file as integers; they are unused"] if counters else []
        lines += [f"newly initialised: {some(self.left_new)}"] if self.left_new else []
        return lines + ([f"in the file and not used: {some(self.ignored)}"] if self.ignored else [])


def load_weights(
    module: nn.Module,
    weights: Union[str, Path, Mapping[str, Any]],
    source: str = "auto",
    new_head: bool = False,
    rows: Optional[Sequence[int]] = None,
) -> Report:
    """Copy `weights` into `module`, in its dtype and on its device: a state dict, or all that --checkpoint takes.

    That is a file, a run's folder or a checkpoint in it, hf-hub:OWNER/NAME or a URL; see `remote`.

    `source` is where they come from: "cadene", "timm", "original" (a checkpoint of an original port), or "auto" for any
    of these. With `new_head` the classifiers of the head and the auxiliary head keep their values. `rows` are the rows
    of the file's head to load, one for each class of the network; None loads all. An auxiliary head that only the file
    or only the network has is no error.

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

    named = are_names(stored_metadata(content).get("classes"), 1001)
    dropped = layout.background and not named and _drop_background(state, own, rows)
    if rows is not None:
        heads = {key: value for key, value in state.items() if key.startswith(CLASSIFIERS) and value.dim()}
        state.update({key: value[list(rows)] for key, value in heads.items() if len(value) > max(rows)})
    own_auxiliary, auxiliary = ({key for key in one if key.startswith(AUXILIARY)} for one in (own, state))
    one_sided = set() if own_auxiliary and auxiliary else own_auxiliary | auxiliary
    left_new = [key for key in own if key in one_sided or (new_head and key.startswith(CLASSIFIERS))]
    ignored = [key for key in state if key in one_sided or key in left_new]
    targets = {key: value for key, value in own.items() if key not in left_new}
    sources = {key: value for key, value in state.items() if key not in ignored}
    problems = _problems(targets, sources)
    if problems:
        raise UsageError(f"{name} does not fit the network: {', '.join(problems)}; {_advice(own, state)}")

    with torch.no_grad():
        for key, value in sources.items():
            targets[key].copy_(value)
    left_out = (*ignored, *unused)
    return Report(len(sources), len(own), wrapper, prefix, tuple(left_new), left_out, dropped, port_of(content))


def head_classes(weights: Union[str, Path, Mapping[str, Any]], name: str = "") -> Optional[Classes]:
    """The classes of the head, with their names where the file has them; None where there is no head.

    `name` is that of the file in messages, where its content is given.

    Raises UsageError where the file cannot be read or holds no weights.
    """
    described, content = _read(weights)
    state, _ = state_dict_of(content, name or described)
    heads = [state[key] for key in state if key in {f"{head}weight" for head in HEADS} and state[key].dim() == 2]
    if not heads:
        return None
    count, names = len(heads[0]), stored_metadata(content).get("classes")
    if are_names(names, count):
        return Classes(tuple(names))  # type: ignore[arg-type]
    count -= count == 1001 and FROM_TENSORFLOW in state
    return Classes(tuple(names)) if are_names(names, count) else Classes.numbered(count)  # type: ignore[arg-type]


def state_dict_of(content: Any, name: str) -> Tuple[Tensors, Optional[str]]:
    """The state dict in the content of a file, without prefixes and in the file's order, and the key that held it.

    Raises UsageError, which calls the file `name`, where there is none.
    """
    state, wrapper, _ = _unwrapped(content, SOURCES["auto"], name)
    return _without_prefix(state, SOURCES["auto"].prefixes)[0], wrapper


def with_names(
    weights: Mapping[str, torch.Tensor], names: Optional[Sequence[str]], form: Optional[Form] = None
) -> Tensors:
    """The state dict with class names and form in its `_metadata`; see `form.own_metadata`.

    It remains a plain state dict, whose keys are those of the network, for any other program.
    """
    named, own = OrderedDict(weights), form.stored() if form is not None else {}
    own.update({} if names is None else {"classes": list(names)})
    if own:
        named._metadata = {"": {"version": 1, **own}}  # type: ignore[attr-defined]
    return named


# -- what surrounds the weights --------------------------------------------------------------------------------


def _read(weights: Union[str, Path, Mapping[str, Any]]) -> Tuple[str, Any]:
    """A name for messages, and the content."""
    if not isinstance(weights, (str, Path)):
        return "the state dict", weights
    path = fetched(str(weights)).path if is_elsewhere(str(weights)) else Path(expanded(weights))
    if not path.is_dir() and not holds_one(path):
        return str(path), read_weight_file(path)
    from torch_imagenet.run import checkpoints  # which reads files by this package

    return str(path), checkpoints.evaluated(checkpoints.find(path).folder)


def _unwrapped(content: Any, source: Source, name: str) -> Tuple[Tensors, Optional[str], List[str]]:
    """The state dict, the key that held it, and the keys of further state dicts, which are not used."""
    if _is_state_dict(content):
        return dict(content), None, []
    if not isinstance(content, Mapping):
        raise UsageError(f"{name} holds a {type(content).__name__} and no state dict; choose a file of weights")
    found = [key for key in source.wrappers if _is_state_dict(content.get(key))]
    if not found:
        holds = some([str(key) for key in content]) or "nothing"
        raise UsageError(f"no weights found in {name}, which holds {holds}; give a state dict, or one in 'state_dict'")
    return dict(content[found[0]]), found[0], found[1:]


def _is_state_dict(content: Any) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())


def _without_prefix(state: Mapping[str, torch.Tensor], prefixes: Tuple[str, ...]) -> Tuple[Tensors, str]:
    """The state dict without the leading prefixes that all keys share, and what was removed.

    A prefix counts only at the beginning, because "se_module." contains "module.".
    """
    state, removed = dict(state), ""
    while True:
        common = next((prefix for prefix in prefixes if all(key.startswith(prefix) for key in state)), None)
        if common is None:
            return state, removed
        state, removed = {key[len(common) :]: value for key, value in state.items()}, removed + common


def _drop_background(state: Tensors, own: Tensors, rows: Optional[Sequence[int]]) -> bool:
    """Drop class 0 of 1001 from `state` if the network, or the list that `rows` selects from, has 1000.

    Returns whether the class was dropped.
    """
    head = [key for key in own if key.startswith(HEADS) and key in state]
    fits = [
        state[key].shape == (1001, *own[key].shape[1:]) and (rows is not None or len(own[key]) == 1000) for key in head
    ]
    if FROM_TENSORFLOW not in own or not head or not all(fits):
        return False
    state.update({key: state[key][1:] for key in head})
    return True


# -- what fits -------------------------------------------------------------------------------------------------


def _problems(targets: Tensors, sources: Tensors) -> List[str]:
    """Why `sources` cannot be copied to `targets`, for a message."""
    missing = [key for key in targets if key not in sources and not key.endswith(COUNTER)]
    unknown = [key for key in sources if key not in targets]
    differing = [key for key in sources if key in targets and not _fits(sources[key], targets[key])]
    problems = [f"{len(missing)} of {len(targets)} tensors missing ({some(missing)})"] if missing else []
    problems += [f"{len(unknown)} unknown ({some(unknown)})"] if unknown else []
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
    body = _body(state)
    if not _problems(_body(own), body):
        return "only the head differs: use the file's number of classes, or the mode finetune, which makes a new head"
    for name in NETWORKS:
        with torch.device("meta"):
            other = create(name).state_dict()
        if other.keys() != own.keys() and not _problems(_body(other), body):
            return f"the weights are those of {name}: use --network {name}"
    return "check that the file was made with this network"


def _body(state: Tensors) -> Tensors:
    return {key: value for key, value in state.items() if not key.startswith((*HEADS, AUXILIARY))}
