"""Several ranks: a trace of each, in a file of its own, and the comparisons of all of them together."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from torch import nn

from shared.errors import UsageError
from shared.port_check.findings import verdict
from shared.port_check.report import Comparison
from shared.port_check.trace import Trace, read_trace
from torch_imagenet.distributed.process_group import Ranks
from torch_imagenet.options import RunConfig
from torch_imagenet.port_check.leaves import array
from torch_imagenet.port_check.msprobe_read import is_dump
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step.training_step import TrainingStep

Compared = Tuple[str, Trace, Comparison]


class RecordedStep(TrainingStep):
    """A training step whose first run records, on each of several ranks, what they exchange.

    The hooks of `recorder.Recorder` see the gradients before their exchange.
    """

    def __init__(self, network: nn.Module, setup: RunSetup, trace: Trace) -> None:
        super().__init__(network, setup)
        self._tensors = trace.tensors if setup.ranks.size > 1 else None

    def _agreed(self, values: torch.Tensor) -> torch.Tensor:
        tensors, self._tensors = self._tensors, None
        if tensors is not None:
            tensors["loss"] = array(values[0].double())
            for name, weight in self.network.named_parameters():
                if weight.grad is not None:
                    tensors[f"averaged/{name}"] = array(weight.grad)
            for name, value in self.network.named_buffers():
                if value.is_floating_point():
                    tensors[f"own/{name}"] = array(value)
        return super()._agreed(values)


def check(config: RunConfig) -> None:
    """Raise UsageError for an option with which the steps of several ranks cannot be compared."""
    if config.sync_bn:
        raise UsageError("check-port compares the layers of each device by themselves; leave --sync-bn out")
    if config.compile:
        raise UsageError("check-port compares compiled steps on one device; leave --compile out, or use one")
    if config.msprobe or (config.against and is_dump(config.against)):
        raise UsageError("a dump of msProbe is that of one device here; leave --distributed and --num-devices out")
    if config.max_restarts:
        raise UsageError(
            "check-port ends with status 3 where ranks differ, and is not restarted; leave --max-restarts out"
        )


def rank_file(path: str, ranks: Ranks, rank: Optional[int] = None) -> str:
    """Where a rank has its trace: "step.rank3.trace" for "step.trace"; a single rank has the file itself."""
    rank, file = ranks.rank if rank is None else rank, Path(path)
    return str(file.with_name(f"{file.stem}.rank{rank}{file.suffix}")) if ranks.size > 1 else path


def identity(ranks: Ranks) -> Dict[str, Any]:
    """What tells the traces of one step apart, and from those of another step; nothing for a single rank."""
    run = ranks.broadcast_result(lambda: uuid.uuid4().hex)
    return {"rank": ranks.rank, "ranks": ranks.size, "run": run} if ranks.size > 1 else {}


def read(path: str, ranks: Ranks) -> Trace:
    """The trace that this rank compares. Raises UsageError where it is that of another number of ranks, or none."""
    own = rank_file(path, ranks)
    several = Path(path).with_name(f"{Path(path).stem}.rank0{Path(path).suffix}")
    if ranks.size == 1 and several.is_file() and not Path(path).exists():
        raise UsageError(
            f"{path} is of several ranks; compare it on as many devices, with --num-devices N, or one of them on one"
            f" device, with --against {several}"
        )
    if ranks.size > 1 and Path(path).is_file() and not Path(own).exists():
        raise UsageError(
            f"{path} is of one rank, and {ranks.size} look for {own}; compare it on one device, or give the name that"
            " --save-trace had"
        )
    trace = read_trace(own)
    rank, size = trace.description.get("rank", 0), trace.description.get("ranks", 1)
    if ranks.size > 1 and (rank, size) != (ranks.rank, ranks.size):
        raise UsageError(
            f"{own} is of rank {rank} of {size}, and this is rank {ranks.rank} of {ranks.size}; use --num-devices"
            f" {size}, or compare one of them on one device, with --against {own}"
        )
    ranks.require_equal(f"recording in {own}", str(trace.description.get("run")))
    return trace


def side(path: str, trace: Trace, ranks: Ranks) -> str:
    """What a trace from a file is called in the report."""
    size = trace.description.get("ranks", 1)
    alone = ranks.size == 1 and size > 1
    return f"rank {trace.description['rank']} of {size} in the trace {path}" if alone else f"the trace {path}"


def left_out(trace: Trace, ranks: Ranks) -> List[str]:
    """A line for the log on what a trace is not compared in."""
    size = trace.description.get("ranks", 1)
    if size == ranks.size:
        return []
    return [f"the trace is of one of {size} ranks: what they exchange, and the losses of all, are not compared here"]


def of_all(ranks: Ranks, compared: Iterable[Compared]) -> Iterable[Compared]:
    """The comparisons of all ranks, on each of them; this one's as they come, where it is alone.

    The loss curve is that of all ranks together. It stands by itself, behind what each of them has computed.
    """
    return compared if ranks.size == 1 else list(_of_several(ranks, compared))


def summary(found: Iterable[Compared]) -> str:
    """One line: where something is out of tolerance, among the parts of `of_all`."""
    parts = [(name, comparison.verdict.agrees) for name, _, comparison in found]
    names = [name for name, agrees in parts if not agrees]
    return f"differs in {len(names)} of {len(parts)} parts: {', '.join(names)}"


def _of_several(ranks: Ranks, compared: Iterable[Compared]) -> Iterator[Compared]:
    own = [(side, Trace(trace.description), found) for side, trace, found in compared]
    everyone: List[List[Compared]] = ranks.gather(own)
    for number, (name, trace, found) in enumerate(everyone[0]):
        for rank, others in enumerate(everyone):
            device, described, part = others[number]
            checks = [check for check in part.verdict.checks if check.stage != "loss curve"]
            yield f"rank {rank} of {device}", described, part._replace(verdict=verdict(checks))
        curve = [check for check in found.verdict.checks if check.stage == "loss curve"]
        yield f"all {ranks.size} ranks of {name}", trace, Comparison(verdict(curve), [], found.losses)
