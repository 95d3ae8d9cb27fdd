"""Writing a step as msProbe does: what every module gets and returns, forward and backward, in a dump folder.

msProbe (`mindstudio-probe` on PyPI) compares two such folders. The form is that of its tasks "tensor" and "statistics"
at level "L0" in version 26.2, read from its own dumps: dump.json (shape, dtype, statistics and file of each tensor),
construct.json (the module that each call stands in), stack.json (empty here: no call's place in a program), and
dump_tensor_data/*.pt.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import torch
from torch import nn

from shared.errors import UsageError
from shared.system.atomic_files import complete
from shared.system.paths import writing

DUMP, TENSORS, STATISTICS = "dump.json", "dump_tensor_data", "statistics"


class DumpRecorder:
    """Fills a dump with what every module but the network itself computes while `network` takes a step.

    As `Recorder`, it hands copies to and from every module, so that operations in place change nothing and a gradient
    is that of this use of a tensor. msProbe has no gradients of layers in front of an operation in place; here they
    are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._names = {
            module: f"Module.{name}.{type(module).__name__}" for name, module in network.named_modules() if name
        }
        self._counts: Dict[nn.Module, int] = {}
        self._open: List[str] = []
        self.data: Dict[str, Dict[str, Any]] = {}  # as in dump.json
        self.tensors: Dict[str, torch.Tensor] = {}  # by file name, on the CPU
        self.parents: Dict[str, Optional[str]] = {}  # as in construct.json

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the forward and backward passes of the block."""
        with contextlib.ExitStack() as stack:
            for module, name in self._names.items():
                stack.callback(module.register_forward_pre_hook(self._before).remove)
                stack.callback(module.register_forward_hook(self._after).remove)
                for own, parameter in module.named_parameters(recurse=False):
                    if parameter.requires_grad:
                        hook = partial(self._weight_gradient, f"{name}.parameters_grad.0", own)
                        stack.callback(parameter.register_post_accumulate_grad_hook(hook).remove)
            yield

    def _before(self, module: nn.Module, inputs: Tuple[Any, ...]) -> Tuple[Any, ...]:
        number = self._counts[module] = self._counts.get(module, -1) + 1
        name = f"{self._names[module]}.forward.{number}"
        self.parents[name] = self._open[-1] if self._open else None
        self._open.append(name)
        entry: Dict[str, Any] = {"input_args": [], "input_kwargs": {}, "output": [], "parameters": {}}
        entry["input_args"] = [self._described(f"{name}.input.{i}", value) for i, value in enumerate(inputs)]
        for own, parameter in module.named_parameters(recurse=False):
            entry["parameters"][own] = self._described(f"{name}.parameters.{own}", parameter)
        self.data[name] = entry
        return tuple(self._copied(name, "output", i, value) for i, value in enumerate(inputs))

    def _after(self, module: nn.Module, inputs: Tuple[Any, ...], output: Any) -> Any:
        name = self._open.pop()
        entry = self.data.pop(name)  # msProbe's order is that in which modules end
        values = output if isinstance(output, tuple) else (output,)
        entry["output"] = [self._described(f"{name}.output.{i}", value) for i, value in enumerate(values)]
        self.data[name] = entry
        copies = tuple(self._copied(name, "input", i, value) for i, value in enumerate(values))
        return copies if isinstance(output, tuple) else copies[0]

    def _copied(self, name: str, side: str, number: int, value: Any) -> Any:
        """A copy whose gradient is recorded; the gradient at a module's output is its backward pass's input."""
        if not isinstance(value, torch.Tensor):
            return value
        copy = value.clone()
        if copy.requires_grad:
            copy.register_hook(partial(self._gradient, name.replace(".forward.", ".backward."), side, number))
        return copy

    def _gradient(self, name: str, side: str, number: int, gradient: torch.Tensor) -> None:
        if name not in self.data:
            forward = name.replace(".backward.", ".forward.")
            parent = self.parents[forward]
            self.parents[name] = None if parent is None else parent.replace(".forward.", ".backward.")
            self.data[name] = {"input": [], "output": []}
        listed = self.data[name][side]
        listed += [None] * (number + 1 - len(listed))
        listed[number] = self._described(f"{name}.{side}.{number}", gradient)

    def _weight_gradient(self, name: str, own: str, parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            self.data.setdefault(name, {})[own] = [self._described(f"{name}.{own}", parameter.grad)]

    def _described(self, name: str, value: Any) -> Any:
        """The entry of a tensor, whose values are kept, of a plain value, or of several."""
        if isinstance(value, (tuple, list)):
            return [self._described(f"{name}.{number}", part) for number, part in enumerate(value)]
        if not isinstance(value, torch.Tensor):
            return {"type": type(value).__name__, "value": value}
        kept = value.detach()
        self.tensors[f"{name}.pt"] = kept.to("cpu", copy=True)
        real = kept.is_floating_point()
        statistics = [kept.max(), kept.min(), kept.mean() if real else None, kept.norm() if real else None]
        return {
            "type": "torch.Tensor",
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            **dict(zip(("Max", "Min", "Mean", "Norm"), (None if n is None else n.item() for n in statistics))),
            "requires_grad": value.requires_grad,
            "data_name": f"{name}.pt",
        }


def check_new(folder: Union[str, Path]) -> None:
    """Raise UsageError where a dump could not be written to `folder`, before what it holds is computed."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} is not empty; give --msprobe a new folder, or read a dump with --against {path}")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir() or not os.access(str(there), os.W_OK):
        raise UsageError(f"cannot write a dump to {path}; name a folder that can be made")


def write_dump(folder: Union[str, Path], recorder: DumpRecorder) -> Path:
    """Write FOLDER/step0/proc0, the names that msProbe uses for a process without ranks; its path.

    FOLDER/statistics/step0/proc0 is the same with task "statistics", for msProbe compares dumps of one task alone. All
    is there or nothing. Raises UsageError where the disk does not take it.
    """
    rank, root = Path("step0", "proc0"), Path(folder).absolute()
    with writing(folder, "free space, or give --msprobe another folder"), complete(root) as dump:
        _write(dump / STATISTICS / rank, STATISTICS, None, _without_files(recorder.data), recorder)
        _write(dump / rank, "tensor", str(root / rank / TENSORS), recorder.data, recorder)
    return root / rank


def _write(rank: Path, task: str, tensors: Optional[str], data: Dict[str, Any], recorder: DumpRecorder) -> None:
    rank.mkdir(parents=True)
    if tensors is not None:
        (rank / TENSORS).mkdir()
        for name, value in recorder.tensors.items():
            content = io.BytesIO()
            torch.save(value, content)  # to a file it raises RuntimeError where the disk is full
            (rank / TENSORS / name).write_bytes(content.getvalue())
    head = {"task": task, "level": "L0", "framework": "pytorch", "dump_data_dir": tensors}
    for file, part in ((DUMP, {**head, "data": data}), ("construct.json", recorder.parents), ("stack.json", {})):
        (rank / file).write_text(json.dumps(part, indent=1))


def _without_files(value: Any) -> Any:
    """Entries of dump.json without the names of tensors' files."""
    if isinstance(value, dict):
        return {key: _without_files(part) for key, part in value.items() if key != "data_name"}
    return [_without_files(part) for part in value] if isinstance(value, list) else value
