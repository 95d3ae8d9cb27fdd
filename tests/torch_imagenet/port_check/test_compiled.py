"""A compiled step has the values of the one that is not; a fault is found in it, and in the graph that records nothing.

In the quick tests the network is "compiled" by calling it as it is, so that what the graph adds must not be seen.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from typing import Any, Callable

import pytest
import torch
from torch import nn

from shared.port_check.trace import Trace
from tests.torch_imagenet.port_check.faults import CLASSES, Fault, TinySENet, recorded, seeded, setup
from tests.torch_imagenet.small_network import SmallNetwork
from torch_imagenet.port_check.reference import compare_trace
from torch_imagenet.run.setup import RunSetup
from torch_imagenet.step import compiled as compiled_step


def _compiled_setup(level: str) -> RunSetup:
    run = setup(level)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, compile="default"))


def _traced(network: nn.Module, run: RunSetup, steps: int = 1) -> Trace:
    return recorded(run, copy.deepcopy(network), Fault("", "", ""), steps)


@pytest.mark.parametrize("level", ["O0", "bf16"])
def test_the_record_of_a_compiled_step_is_that_of_the_step(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def compiled(network: Any, **_: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda images: called.append(len(images)) or network(images)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(compiled_step, "use_products", lambda network: network)  # which round otherwise
    network = seeded(TinySENet)
    plain, trace = _traced(network, setup(level)), _traced(network, _compiled_setup(level))
    assert called == [4, 4]  # not the recipe's batch size, for which nothing would be compiled here
    assert trace.calls == plain.calls
    again = trace.named("compiled gradient")
    for name, value in plain.tensors.items():
        assert (trace.tensors[name] == value).all(), name
    assert {name: value.tolist() for name, value in again.items()} == {
        name: value.tolist() for name, value in plain.named("gradient").items()
    }


def test_a_fault_of_the_graph_that_records_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_wrongly(network: Any, **_: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        """Right while there are hooks, as where two layers are computed in one kernel only without them."""

        def forward(images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network(images)
            return logits if network.fc._forward_hooks else logits * 1.01

        return forward

    monkeypatch.setattr(torch, "compile", compile_wrongly)
    network, run = seeded(TinySENet), _compiled_setup("O0")
    found = compare_trace(run.recipe, network, _traced(network, run)).verdict
    assert {check.stage for check in found.causes} == {"compiled"}
    assert found.first.layer == "fc"


@pytest.mark.slow
def test_a_fault_is_found_where_it_is_in_a_compiled_step() -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    network: Any = seeded(lambda: SmallNetwork(CLASSES, 0.0, 0.0))
    side = copy.deepcopy(network)
    side.layer1[1].eps = 1e-1
    run = _compiled_setup("bf16")  # in which what is compiled into one kernel rounds less than what is recorded
    torch._dynamo.utils.counters.clear()
    found = compare_trace(run.recipe, network, recorded(run, side, Fault("", "", ""), 1)).verdict
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert (found.first.stage, found.first.layer, found.first.quantity) == ("forward", "layer1.1", "output")
    assert {check.layer for check in found.causes if check.layer} == {"layer1.1"}
