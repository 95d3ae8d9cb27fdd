"""Faults of one of two ranks, planted in their processes, and where the comparison has to find each."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Tuple
from unittest.mock import patch

import torch
import torch.distributed as dist

from torch_imagenet.distributed.data_parallel import Replicas
from torch_imagenet.step.loss_scale import LossScale
from torch_imagenet.step.training_step import TrainingStep


class RankFault(NamedTuple):
    """What takes the place of a method on both ranks, and the first check that fails: ranks, stage, quantity, hint."""

    method: Tuple[type, str]
    value: Callable[..., Any]
    ranks: Tuple[int, ...]
    stage: str
    quantity: str
    hint: str = ""


_STEP, _INIT, _REPLICAS = LossScale.step_and_update, TrainingStep.__init__, Replicas.__init__


def _is_second() -> bool:
    return os.environ["RANK"] == "1"


def _skip(self: LossScale, optimizer: torch.optim.Optimizer) -> None:
    if not _is_second():
        _STEP(self, optimizer)


def _other_start(self: TrainingStep, *settings: Any) -> None:
    _INIT(self, *settings)
    if _is_second():
        self.weights.masters["fc.weight"].data[0, 0] += 0.01


def _left_out(self: Replicas, *settings: Any, **averaged: bool) -> None:
    _REPLICAS(self, *settings)

    def average(state, bucket):  # torch takes none of our annotations
        share = bucket.buffer().mul_(0.0 if _is_second() else 0.5)
        return dist.all_reduce(share, async_op=True).get_future().then(lambda done: done.value()[0])

    self.module.register_comm_hook(None, average)


def _own_statistics(self: Replicas, *settings: Any, **averaged: bool) -> None:
    _REPLICAS(self, *settings, averaged_statistics=False)


def _no_exchange(self: Replicas, now: bool) -> Any:
    return self.module.no_sync()


FAULTS: Dict[str, RankFault] = {
    "a rank skips an update": RankFault(
        (LossScale, "step_and_update"), _skip, (1,), "update", "weight", "as before the step"
    ),
    "a rank starts elsewhere": RankFault((TrainingStep, "__init__"), _other_start, (1,), "weights", "weight"),
    "a rank is left out": RankFault(
        (Replicas, "__init__"), _left_out, (0, 1), "exchange", "gradient", "rank 1 counts as zero"
    ),
    "no exchange": RankFault((Replicas, "exchange"), _no_exchange, (0, 1), "exchange", "gradient", "alone"),
    "statistics not averaged": RankFault(
        (Replicas, "__init__"), _own_statistics, (0, 1), "exchange", "running_mean", "alone"
    ),
}
CLEAN, AGAINST = "clean", "against the trace of clean"


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The fault is there inside."""
    if name not in FAULTS:
        yield
        return
    holder, attribute = FAULTS[name].method
    with patch.object(holder, attribute, FAULTS[name].value):
        yield


def with_each(check_port: Callable[..., None]) -> Callable[..., None]:
    """The mode check-port, without a fault and with each, each into a folder of its name; statuses in `status-RANK`.

    The first writes the trace that the command line names, the second compares with it.
    """

    def run(config: Any, *others: Any) -> None:
        traces = {CLEAN: {}, AGAINST: {"save_trace": None, "against": config.save_trace}}
        for name in (CLEAN, AGAINST, *FAULTS):
            folder = Path(config.output_dir) / name
            changes = {"output_dir": str(folder), **traces.get(name, {"save_trace": None})}
            status = 0
            try:
                with planted(name):
                    check_port(dataclasses.replace(config, **changes), *others)
            except SystemExit as ended:
                status = int(ended.code or 0)
            (folder / f"status-{os.environ['RANK']}").write_text(str(status))
        raise SystemExit(status)

    return run
