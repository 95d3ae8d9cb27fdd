"""Several ranks: a trace of each, in a file of its own, and the comparisons of all of them together."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from shared.errors import UsageError
from shared.port_check.findings import verdict
from shared.port_check.report import Comparison
from shared.port_check.trace import Trace, read_trace
from torch_imagenet.distributed.process_group import Ranks

Compared = Tuple[str, Trace, Comparison]


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


def _of_several(ranks: Ranks, compared: Iterable[Compared]) -> Iterator[Compared]:
    own = [(side, Trace(trace.description), found) for side, trace, found in compared]
    everyone: List[List[Compared]] = ranks.gather(own)
    for number, (name, trace, found) in enumerate(everyone[0]):
        for rank, others in enumerate(everyone):
            _, described, part = others[number]
            checks = [check for check in part.verdict.checks if check.stage != "loss curve"]
            yield f"rank {rank} of {name}", described, part._replace(verdict=verdict(checks))
        curve = [check for check in found.verdict.checks if check.stage == "loss curve"]
        yield f"all {ranks.size} ranks of {name}", trace, Comparison(verdict(curve), [], found.losses)
