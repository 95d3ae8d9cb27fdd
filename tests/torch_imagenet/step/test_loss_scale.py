"""Loss scaling: what is unscaled, and what an overflow does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.errors import UsageError  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.distributed.process_group import Ranks  # noqa: E402
from torch_imagenet.step.loss_scale import LossScale  # noqa: E402


@pytest.mark.parametrize("setting", ["0", "-1", "nan", "much", "1e12"])
def test_a_loss_scale_that_makes_no_sense_is_refused(setting):
    with pytest.raises(UsageError, match="a loss scale of .*; give dynamic or a number"):
        LossScale(setting, open_device("cpu"))


def _one_step(scale, optimizer, parameter, gradient):
    optimizer.zero_grad()
    loss = scale.scale((parameter * torch.tensor(gradient)).sum())
    loss.backward()
    scale.unscale_(optimizer)
    seen = parameter.grad.clone()
    scale.step_and_update(optimizer)
    return seen


@pytest.mark.parametrize("setting", ["128", "dynamic", None])
def test_gradients_are_unscaled_before_anybody_looks_at_them(setting):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scale = LossScale(setting, open_device("cpu"))
    assert _one_step(scale, optimizer, parameter, 2.0).tolist() == [2.0, 2.0, 2.0]
    assert parameter.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("setting", "after"), [("128", 128.0), ("dynamic", 2.0**15)])
def test_an_overflow_changes_nothing_and_is_counted(setting, after):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scale = LossScale(setting, open_device("cpu"))
    _one_step(scale, optimizer, parameter, float("inf"))
    assert parameter.tolist() == [1.0, 1.0, 1.0]
    assert scale.get_scale() == after
    assert float(scale.skipped) == 1
    _one_step(scale, optimizer, parameter, 2.0)
    assert parameter.tolist() == [0.0, 0.0, 0.0]
    assert float(scale.skipped) == 1


def test_the_dynamic_scale_is_apexs():
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0, fused=True)
    scale = LossScale("dynamic", open_device("cpu"))
    for _ in range(2000):
        _one_step(scale, optimizer, parameter, 1.0)
    assert scale.get_scale() == 2.0**17


def test_a_state_continues_the_scale_and_the_count():
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0, fused=True)
    scale = LossScale("dynamic", open_device("cpu"))
    _one_step(scale, optimizer, parameter, float("nan"))
    other = LossScale("dynamic", open_device("cpu"))
    other.load_state_dict(scale.state_dict())
    assert other.get_scale() == 2.0**15
    assert float(other.skipped) == 1


class Saturating:
    """A device whose overflows are a flag of its own, as the scale sees it."""

    torch_device, saturates = torch.device("cpu"), True

    def __init__(self):
        self.cleared = 0

    def clear_overflow(self):
        self.cleared += 1


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_where_overflows_are_flags_that_of_another_rank_counts(other, monkeypatch):
    """And one from before the step's first backward pass does not: the flag is cleared there, once a step."""

    def all_reduce(found, operation):
        assert operation == torch.distributed.ReduceOp.MAX
        found.clamp_(min=other)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    parameter, device, ranks = nn.Parameter(torch.ones(3)), Saturating(), Ranks()
    ranks.size = 2
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scale = LossScale("128", device, ranks)
    for _ in range(2):
        scale.scale(parameter.sum()).backward()  # accumulated
        _one_step(scale, optimizer, parameter, 2.0)
    assert device.cleared == 2
    assert float(scale.skipped) == 2 * other
    assert parameter.tolist() == [1.0 if other else -1.0] * 3
