"""Reading a dump of msProbe as a trace, so that its modules are compared with the reference as those of a trace are.

A dump of level "L0" and task "tensor" has what every module got and returned, its weights and their gradients. It has
no labels, loss, running statistics and updated weights. msProbe leaves out the gradients of a layer in front of an
operation in place; what is missing is taken from where the same tensor stands as another layer's, or computed.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from shared.errors import UsageError
from shared.port_check import tolerance
from shared.port_check.trace import LayerCall, Trace
from torch_imagenet.port_check.leaves import array, describe, dtype_name, hooked, leaves, roundings, tensor
from torch_imagenet.port_check.msprobe import DUMP, TENSORS
from torch_imagenet.port_check.replay import Divergence, Replay, rounded_operands

_KEY = re.compile(r"Module\.(?P<name>.+)\.(?P<kind>\w+)\.(?P<pass_>forward|backward|parameters_grad)\.(?P<call>\d+)")
_AGAIN = 'make it with task "tensor" and level "L0" of msProbe, or with check-port --msprobe'


class Dump(NamedTuple):
    """A dump.json: `modules` has its entries by module, pass ("forward", ...) and call."""

    file: Path
    modules: Dict[Tuple[str, str, int], Dict[str, Any]]

    def shape(self, module: str) -> Optional[List[int]]:
        """The shape of a module's first output; None where it is not there."""
        outputs = self.modules.get((module, "forward", 0), {}).get("output") or [None]
        return outputs[0]["shape"] if outputs[0] else None

    def values(self, described: Optional[Dict[str, Any]]) -> Optional[torch.Tensor]:
        """A tensor by its entry. Raises UsageError where its file is missing or no tensor."""
        if not described or "data_name" not in described:
            return None
        path = self.file.parent / TENSORS / described["data_name"]
        try:
            value = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise UsageError(f"{path} is missing; copy the dump whole") from error
        except Exception as error:  # pickle and zip have many
            raise UsageError(f"{path} cannot be read as a tensor; copy the dump again") from error
        if not isinstance(value, torch.Tensor) or list(value.shape) != described["shape"]:
            raise UsageError(f"{path} is not the tensor of {self.file.name}; copy the dump again")
        return value.detach()

    def notes(self, trace: Trace, network: nn.Module) -> List[str]:
        """What is not compared, for the log."""
        lines = [f"dump: {self.file}, whose step has no labels: no loss, statistics, update and loss curve to compare"]
        known = {name for name, _ in network.named_modules()}
        other = sorted({name for name, _, _ in self.modules} - known)
        lines += [f"note: left out, not in this network: {_listed(other)}"] if other else []
        calls = {(name, number) for name, kind, number in self.modules if kind == "forward"}
        missing = [call.name for call in trace.calls if (call.name, call.call) not in calls]
        products = "convolutions there round the factors of products to TF32 or HF32, and are compared so"
        lines += [f"note: {products}"] if trace.float32_products else []
        lines += [f"note: not in the dump, and so not compared: {_listed(missing)}"] if missing else []
        return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def is_dump(path: Union[str, Path]) -> bool:
    """Whether the path is that of a dump and not of a trace: a folder, or dump.json in one."""
    return Path(path).is_dir() or Path(path).name == DUMP


def read_dump(path: Union[str, Path], names: Sequence[str]) -> Dump:
    """The dump in a folder, that of a step or of a rank in it, or a dump.json; `names` are the network's modules.

    A prefix of the module names (`module.` of data parallelism, the number of a model in a list) is left out. Raises
    UsageError where there is no dump, more than one, or one that has not the network's modules and their tensors.
    """
    file = _find(Path(path))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        task, level, data = content["task"], content["level"], content["data"]
        entries = [(match, entry) for match, entry in ((_KEY.fullmatch(key), data[key]) for key in data) if match]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is not a dump of msProbe; {_AGAIN}") from error
    if content.get("framework") != "pytorch":
        raise UsageError(f"{file} is a dump of {content.get('framework')}, and not of PyTorch")
    if task != "tensor":
        what = f'{file} has task "{task}": numbers about tensors, from which no layer is computed again'
        raise UsageError(f"{what}; compare it with DIR/statistics of --msprobe DIR by msProbe, or {_AGAIN}")
    known, modules = set(names), {}
    for match, entry in entries:
        modules[_without_prefix(match["name"], known), match["pass_"], int(match["call"])] = entry
    if not known & {name for name, kind, _ in modules if kind == "forward"}:
        other = next((name for name, *_ in modules), None)
        what = f"another network ({other})" if other else f'level "{level}", without modules'
        raise UsageError(f"{file} is of {what}; give its --network, or {_AGAIN}")
    return Dump(file, modules)


def _find(path: Path) -> Path:
    if path.name == DUMP:
        return path
    found = [file for pattern in ("", "*/", "*/*/") for file in sorted(path.glob(pattern + DUMP))]
    if not found:
        raise UsageError(f"{path} has no {DUMP}; give the folder of a dump of msProbe, or a file of --save-trace")
    if len(found) > 1:
        raise UsageError(f"{path} has {len(found)} dumps; give one of them, as in {found[0].parent}")
    return found[0]


def _without_prefix(name: str, known: Set[str]) -> str:
    short = name
    while short not in known and re.match(r"(module|\d+)\.", short):
        short = short.split(".", 1)[1]
    return short if short in known else name


def dump_weights(dump: Dump, network: nn.Module) -> Dict[str, torch.Tensor]:
    """The network's weights as the dump has them. Raises UsageError where it has not all."""
    found = {}
    for name, _ in network.named_parameters():
        module, _, own = name.rpartition(".")
        described = dump.modules.get((module, "forward", 0), {}).get("parameters", {}).get(own)
        value = dump.values(described)
        if value is None:
            what = "the --network that was dumped"
            raise UsageError(f"{dump.file} has no {name}; give {what}, or {_AGAIN}, of every module and all its data")
        found[name] = value
    return found


def trace_of(dump: Dump, network: nn.Module) -> Trace:
    """The step of a dump. `network` is the reference, in float64 and in training mode; it has the dump's weights.

    Raises UsageError where another network was dumped.
    """
    trace = Trace({"half": "torch_imagenet", "loss_scale": 1.0, "msprobe": str(dump.file)})
    kept = trace.description["weight_dtypes"] = {}
    for name, value in dump_weights(dump, network).items():
        trace.tensors[f"before/{name}"] = array(value)
        kept[name] = dtype_name(value.dtype)
        module, _, own = name.rpartition(".")
        listed = dump.modules.get((module, "parameters_grad", 0), {}).get(own) or [None]
        gradient = dump.values(listed[0])
        if gradient is not None:
            trace.tensors[f"gradient/{name}"] = array(gradient)
    first = next((name for name, _ in leaves(network)), "")
    images = dump.values((dump.modules.get((first, "forward", 0), {}).get("input_args") or [None])[0])
    if images is None:
        raise UsageError(f"{dump.file} has no input of {first}, the network's first layer; {_AGAIN}")
    order = _Order(copy.deepcopy(network).float())
    try:
        order.run(images.float())
    except RuntimeError as error:
        raise UsageError(f"{dump.file} is of another network: its images do not go through this one") from error
    kinds = dict(leaves(network))
    for name, kind, number in dump.modules:
        if kind == "forward" and (name, number) not in order.calls and any(True for _ in _own(kinds, name)):
            what = f"more than one pass through {name}"
            raise UsageError(f"{dump.file} has {what}; dump one forward and backward pass of one batch")
    for name, number in order.calls:
        trace.calls.append(_call(dump, trace, name, number, describe(kinds[name])))
    order.share(trace)
    trace.description["float32_products"] = _products(trace, kinds[first])
    _complete(trace, network)
    return trace


def _products(trace: Trace, first: nn.Module) -> Dict[str, str]:
    """What the factors of convolutions were rounded to, which a dump does not say: what explains the first one."""
    call = trace.calls[0]
    recorded = trace.tensors.get(call.key("output"))
    if recorded is None or not isinstance(first, nn.Conv2d):
        return {}
    x, absolute = tensor(trace.tensors[call.key("input")], torch.float64), copy.deepcopy(first)
    with torch.no_grad():
        for parameter in absolute.parameters():
            parameter.abs_()
        expected, magnitude = first(x).numpy(), absolute(x.abs()).numpy()
    for kinds in ({}, {"convolution": "tf32"}):
        rounding = roundings(first, tuple(x.shape), expected.shape, call.dtype, kinds)["output"]
        if (np.abs(recorded - expected) <= tolerance.bound(expected, magnitude, rounding)).all():
            return kinds
    return {}


def images_and_loss(trace: Trace) -> Tuple[torch.Tensor, Any]:
    """The first layer's input, float64 [B, 3, H, W], and a function of the outputs with their recorded gradients.

    A dump has no labels. The sum of outputs times recorded gradients has those as its gradients.
    """
    images = tensor(trace.tensors[trace.calls[0].key("input")], torch.float64)
    gradients = [trace.tensors[trace.calls[at].key("output gradient")] for at in trace.description["heads"]]

    def loss(outputs: Any) -> torch.Tensor:
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        products = [(part * tensor(g, part.dtype)).sum() for part, g in zip(parts, gradients)]
        return torch.stack(products).sum()

    return images, loss


def _own(kinds: Dict[str, nn.Module], name: str) -> Iterator[nn.Parameter]:
    return kinds[name].parameters() if name in kinds else iter(())


def _call(dump: Dump, trace: Trace, name: str, number: int, text: str) -> LayerCall:
    """A call, whose tensors go into the trace, as far as the dump has them."""
    forward = dump.modules.get((name, "forward", number), {})
    backward = dump.modules.get((name, "backward", number), {})
    dtypes = {}
    for what, listed in (
        ("input", forward.get("input_args")),
        ("output", forward.get("output")),
        ("output gradient", backward.get("input")),
        ("input gradient", backward.get("output")),
    ):
        value = dump.values((listed or [None])[0])
        if value is not None:
            trace.tensors[f"{what}/{name}/{number}"] = array(value)
            dtypes[what] = dtype_name(value.dtype)
    dtype = dtypes.get("output", "float32")
    return LayerCall(name, number, text, dtypes.get("input", dtype), dtype)


class _Order(TorchFunctionMode):
    """The order in which a network calls its layers, and which of them hand a tensor to one other layer alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._inside = False
        self._made: Dict[int, int] = {}  # the call that made a tensor, by the tensor's id
        self._kept: List[torch.Tensor] = []  # so that no id is used again
        self._uses: Dict[int, int] = {}
        self._links: List[Tuple[int, int]] = []
        self.calls: List[Tuple[str, int]] = []
        self.heads: List[int] = []

    def run(self, images: torch.Tensor) -> None:
        """One forward pass."""
        with torch.no_grad(), hooked(self._network, self._after, self._before), self:
            outputs = self._network(images)
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        self.heads = [self._made[id(part)] for part in parts]

    def share(self, trace: Trace) -> None:
        """Where two calls have a tensor in common and the trace has it once, it gets it twice."""
        trace.description["heads"] = self.heads
        for maker, user in self._links:
            keys = [("output", "input")]
            keys += [("output gradient", "input gradient")] if self._uses[maker] == 1 else []
            for pair in keys:
                one, other = (trace.calls[at].key(what) for at, what in zip((maker, user), pair))
                for there, missing in ((one, other), (other, one)):
                    if there in trace.tensors:
                        trace.tensors.setdefault(missing, trace.tensors[there])

    def _before(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...]) -> None:
        self._inside = True
        number = sum(known == name for known, _ in self.calls)
        self.calls.append((name, number))
        maker = self._use(inputs[0])
        if maker is not None:
            self._links.append((maker, len(self.calls) - 1))

    def _after(self, name: str, layer: nn.Module, inputs: Tuple[Any, ...], output: torch.Tensor) -> None:
        self._inside = False
        self._made[id(output)] = len(self.calls) - 1
        self._kept.append(output)

    def _use(self, value: Any) -> Optional[int]:
        maker = self._made.get(id(value))
        if maker is not None:
            self._uses[maker] = self._uses.get(maker, 0) + 1
        return maker

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not self._inside and isinstance(result, torch.Tensor):
            for value in args:
                for part in value if isinstance(value, (list, tuple)) else (value,):
                    self._use(part)
        return result


def _complete(trace: Trace, network: nn.Module) -> None:
    """Compute what the dump lacks from what it has; `trace.derived` remembers that there is nothing to compare."""
    trace.derived.add(trace.calls[0].key("input"))  # no images to compute it from
    for at in trace.description["heads"]:
        if trace.calls[at].key("output gradient") not in trace.tensors:
            what = f"no gradient at the output of {trace.calls[at].name}"
            raise UsageError(f"{trace.description['msprobe']} has {what}; {_AGAIN}, of forward and backward pass")

    def see(quantity: str, call: LayerCall, layer: nn.Module, computed: torch.Tensor) -> None:
        key = call.key(quantity)
        if key not in trace.tensors:
            trace.tensors[key] = computed.numpy().copy()
            trace.derived.add(key)

    complete = copy.deepcopy(network)
    rounded_operands(complete, trace)
    with contextlib.suppress(Divergence):  # which the comparison then reports
        Replay(complete, trace, see).run(*images_and_loss(trace))
