"""SGD over float32 masters: against torch's own, and what is decayed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.recipes.imagenet import ImageNetRecipe  # noqa: E402
from shared.schedules import Schedule  # noqa: E402
from torch_imagenet.devices.device import open_device  # noqa: E402
from torch_imagenet.step.loss_scale import LossScale  # noqa: E402
from torch_imagenet.step.optimizer import Weights, load_optimizer, sgd  # noqa: E402

CPU = open_device("cpu")


def _recipe(**changes):
    fields = {"weight_decay": 0.01, "momentum": 0.9, **changes}
    return ImageNetRecipe("test", "se_resnet50", 1, 2, Schedule("cosine", 0.1, 1), **fields)


def _network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def _backward(network, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 3, 8, 8, generator=generator).to(dtype)
    network(images).float().square().mean().backward()


def test_all_parameters_are_decayed_as_documented_or_weights_alone():
    network = _network()
    everything = sgd(Weights(network), _recipe(), CPU)
    assert [(len(group["params"]), group["weight_decay"]) for group in everything.param_groups] == [(6, 0.01)]
    some = sgd(Weights(network), _recipe(decayed="weights"), CPU)
    assert [(len(group["params"]), group["weight_decay"]) for group in some.param_groups] == [(2, 0.01), (4, 0.0)]
    assert all(parameter.ndim > 1 for parameter in some.param_groups[0]["params"])


def test_without_momentum_a_recipe_with_nesterovs_is_plain_gradient_descent():
    network, plain = _network(), _network()
    for which in (network, plain):
        _backward(which)
    sgd(Weights(network), _recipe(momentum=0.0, nesterov=True), CPU).step()
    torch.optim.SGD(plain.parameters(), lr=0.1, weight_decay=0.01).step()
    for ours, theirs in zip(network.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_parameter_is_not_the_optimizers():
    network = _network()
    network[0].requires_grad_(False)
    optimizer = sgd(Weights(network), _recipe(), CPU)
    assert len(optimizer.param_groups[0]["params"]) == 4


def test_float32_weights_are_the_networks_own():
    network = _network()
    weights = Weights(network)
    assert all(weights.masters[name] is parameter for name, parameter in network.named_parameters())


def test_half_weights_follow_float32_masters():
    """A step of the masters by torch's own SGD with the half gradients in float32; the network gets them rounded."""
    network = _network()
    start = {name: value.detach().clone() for name, value in network.named_parameters()}
    weights = Weights(network, torch.float16)
    assert all(torch.equal(value, start[name]) for name, value in weights.masters.items())  # rounded nowhere
    reference = {name: value.clone().float() for name, value in weights.masters.items()}
    optimizer = sgd(weights, _recipe(), CPU)
    _backward(network, torch.float16)
    weights.take_gradients()
    gradients = {name: value.grad.clone() for name, value in weights.masters.items()}
    optimizer.step()
    weights.copy_to_model()
    weights.clear_gradients()
    for name, parameter in network.named_parameters():
        expected = reference[name] - 0.1 * (gradients[name] + 0.01 * reference[name])
        torch.testing.assert_close(weights.masters[name].detach(), expected, rtol=1e-6, atol=1e-8)
        assert torch.equal(parameter.detach(), weights.masters[name].detach().to(parameter.dtype))
        assert parameter.grad is None


def test_small_updates_are_not_lost_in_half_weights():
    """What O2's masters are for: 1 + 2**-12 is 1 in float16, but a hundred such updates are not nothing."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    weights = Weights(network, torch.float16)
    optimizer = sgd(weights, _recipe(weight_decay=0.0, momentum=0.0), CPU)
    for _ in range(100):
        network(torch.ones(1, 1, dtype=torch.float16)).mul(2**-12 * 10).sum().backward()
        weights.take_gradients()
        optimizer.step()
        weights.copy_to_model()
        weights.clear_gradients()
    assert float(network.weight.detach()) == pytest.approx(1 - 100 * 2**-12, abs=2**-10)


def test_a_state_dict_is_float32_and_goes_back_exactly():
    network = _network()
    weights = Weights(network, torch.float16)
    with torch.no_grad():
        weights.masters["0.weight"].add_(2**-20)
    state = {name: value.clone() for name, value in weights.state_dict().items()}
    assert state["0.weight"].dtype == torch.float32
    other = _network(seed=5)
    others = Weights(other, torch.float16)
    others.load_state_dict(state)
    assert all(torch.equal(value, state[name]) for name, value in others.state_dict().items())


def test_an_overflow_in_the_very_first_step_leaves_no_garbage_in_the_momentum():
    """torch's fused SGD allocates its buffers in that step and does not write them; the second step would read them."""
    network = nn.Linear(64, 64)
    weights = Weights(network)
    before = network.weight.detach().clone()
    optimizer = sgd(weights, _recipe(weight_decay=0.0), CPU)
    assert optimizer.defaults["fused"]
    scale = LossScale("128", open_device("cpu"))
    for gradient in (float("inf"), 1.0):
        scale.scale((network.weight * gradient).sum() + network.bias.sum()).backward()
        scale.unscale_(optimizer)
        scale.step_and_update(optimizer)
        weights.clear_gradients()
    torch.testing.assert_close(network.weight.detach(), before - 0.1)


def test_a_momentum_that_was_stored_contiguous_goes_on_in_channels_last():
    """torch's fused SGD would add it to the wrong elements, without a word."""
    ends = []
    for stored in (False, True):
        torch.manual_seed(0)
        network = nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)
        weights = Weights(network)
        optimizer = sgd(weights, _recipe(), CPU)
        for step in range(3):
            if step == 1 and stored:
                state = optimizer.state_dict()
                for entry in state["state"].values():
                    entry["momentum_buffer"] = entry["momentum_buffer"].contiguous()
                optimizer = sgd(weights, _recipe(), CPU)
                load_optimizer(optimizer, state)
            network(torch.ones(1, 5, 4, 4) * (step + 1)).square().sum().backward()
            optimizer.step()
            weights.clear_gradients()
        ends.append(network.weight.detach().clone())
    assert torch.equal(*ends)
