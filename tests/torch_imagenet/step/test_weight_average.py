"""The moving average of the weights, against its definition."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from torch_imagenet.step.optimizer import WeightAverage, Weights  # noqa: E402


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_average_is_what_the_formula_says():
    network = _network()
    average = WeightAverage(Weights(network), 0.9)
    expected = network[0].weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            network[0].weight.add_(step)
            network[1].running_mean.add_(1)
        average.update()
        expected = 0.9 * expected + 0.1 * network[0].weight.detach()
    torch.testing.assert_close(average.entries["0.weight"], expected)
    assert float(average.entries["1.running_mean"][0]) == pytest.approx(1.3139, abs=1e-3)


def test_it_is_evaluated_in_the_weights_stead_and_gives_them_back():
    network = _network()
    average = WeightAverage(Weights(network), 0.5)
    before = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.add_(1)
    average.update()
    with average.applied():
        torch.testing.assert_close(network[0].weight.detach(), before + 0.5)
    torch.testing.assert_close(network[0].weight.detach(), before + 1)


def test_a_state_continues_it():
    network = _network()
    average = WeightAverage(Weights(network), 0.5)
    with torch.no_grad():
        network[0].weight.add_(1)
    average.update()
    other = WeightAverage(Weights(_network()), 0.5)
    other.load_state_dict({name: value.clone() for name, value in average.entries.items()})
    assert all(torch.equal(value, other.entries[name]) for name, value in average.entries.items())
