"""The precision levels: what is half and what is not, and what a loss scale does at an overflow."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.errors import UsageError  # noqa: E402
from torch_imagenet.devices.precision import LossScale, precision, to_half  # noqa: E402


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def test_an_unknown_level_says_which_there_are():
    with pytest.raises(UsageError, match="unknown precision 'O4'; choose one of O0, O1, O2, bf16"):
        precision("O4")


def test_o2_keeps_batch_normalisation_in_float32_as_apex_does():
    network = _network()
    to_half(network, precision("O2").weights)
    kinds = {name: value.dtype for name, value in network.state_dict().items() if value.is_floating_point()}
    assert kinds["0.weight"] == kinds["0.bias"] == kinds["4.weight"] == torch.float16
    assert {kind for name, kind in kinds.items() if name.startswith("1.")} == {torch.float32}
    logits = network(torch.zeros(2, 3, 8, 8, dtype=torch.float16))
    assert logits.dtype == torch.float16


@pytest.mark.parametrize("setting", ["0", "-1", "nan", "much", "1e12"])
def test_a_loss_scale_that_makes_no_sense_is_refused(setting):
    with pytest.raises(UsageError, match="a loss scale of .*; give dynamic or a number"):
        LossScale(setting, "cpu")


def _one_step(scale, optimizer, parameter, gradient):
    optimizer.zero_grad()
    loss = scale.scale((parameter * torch.tensor(gradient)).sum())
    loss.backward()
    scale.unscale(optimizer)
    seen = parameter.grad.clone()
    scale.step(optimizer)
    return seen


@pytest.mark.parametrize("setting", ["128", "dynamic", None])
def test_gradients_are_unscaled_before_anybody_looks_at_them(setting):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scale = LossScale(setting, "cpu")
    assert _one_step(scale, optimizer, parameter, 2.0).tolist() == [2.0, 2.0, 2.0]
    assert parameter.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("setting", "after"), [("128", 128.0), ("dynamic", 2.0**15)])
def test_an_overflow_changes_nothing_and_is_counted(setting, after):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.5, fused=True)
    scale = LossScale(setting, "cpu")
    _one_step(scale, optimizer, parameter, float("inf"))
    assert parameter.tolist() == [1.0, 1.0, 1.0]
    assert scale.value() == after
    assert float(scale.skipped) == 1
    _one_step(scale, optimizer, parameter, 2.0)
    assert parameter.tolist() == [0.0, 0.0, 0.0]
    assert float(scale.skipped) == 1


def test_the_dynamic_scale_is_apexs():
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0, fused=True)
    scale = LossScale("dynamic", "cpu")
    for _ in range(2000):
        _one_step(scale, optimizer, parameter, 1.0)
    assert scale.value() == 2.0**17


def test_a_state_continues_the_scale_and_the_count():
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0, fused=True)
    scale = LossScale("dynamic", "cpu")
    _one_step(scale, optimizer, parameter, float("nan"))
    other = LossScale("dynamic", "cpu")
    other.load_state_dict(scale.state_dict(), torch.device("cpu"))
    assert other.value() == 2.0**15
    assert float(other.skipped) == 1
