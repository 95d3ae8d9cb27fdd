"""SGD without torch's compiler: the numbers, hooks and state dict of torch.optim.SGD, and no import of the compiler."""

from __future__ import annotations

import copy
import sys

import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.step.sgd import SGD  # noqa: E402

SETTINGS = [{"fused": True}, {"foreach": True}, {"foreach": False}]


def _parameters():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((5, 3), (7,), ())]


def _train(optimizer, parameters, steps=3):
    generator = torch.Generator().manual_seed(4)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("how", SETTINGS, ids=str)
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_weights_and_state_are_those_of_torchs_own(how, momentum, nesterov):
    settings = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.01, **how}
    own, theirs = _parameters(), _parameters()
    ours, reference = SGD(own, **settings), torch.optim.SGD(theirs, **settings)
    _train(ours, own)
    _train(reference, theirs)
    assert all(torch.equal(a, b) for a, b in zip(own, theirs))
    state, expected = ours.state_dict(), reference.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()
    for key, entry in expected["state"].items():
        assert entry.keys() == state["state"][key].keys()
        assert all(torch.equal(value, state["state"][key][name]) for name, value in entry.items())


def test_a_state_of_torchs_own_continues_to_the_same_weights():
    own, theirs = _parameters(), _parameters()
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    _train(reference, theirs)
    ours = SGD(own, lr=0.5)
    ours.load_state_dict(copy.deepcopy(reference.state_dict()))
    for a, b in zip(own, theirs):
        a.data.copy_(b.data)
    _train(ours, own)
    _train(reference, theirs)
    assert all(torch.equal(a, b) for a, b in zip(own, theirs))


def test_a_step_records_no_gradient_and_restores_the_mode():
    parameters = _parameters()
    optimizer = SGD(parameters, lr=0.1, momentum=0.9, foreach=False)
    _train(optimizer, parameters)
    assert torch.is_grad_enabled()
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in parameters)


def test_hooks_before_and_after_a_step_are_called():
    parameters, called = _parameters(), []
    optimizer = SGD(parameters, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    _train(optimizer, parameters, steps=1)
    assert called == ["before", "after"]


def test_torchs_scaler_leaves_out_a_step_that_overflows():
    for how in SETTINGS:
        parameters = _parameters()
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer, scaler = SGD(parameters, lr=0.1, **how), torch.amp.GradScaler("cpu", 8.0)
        sum(scaler.scale(parameter.sum()) for parameter in parameters).backward()
        parameters[0].grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        assert all(torch.equal(a, b) for a, b in zip(before, parameters))
        assert scaler.get_scale() == 4.0


def test_the_fused_step_of_channels_last_weights_is_that_of_contiguous_ones_and_copies_nothing():
    first, gradient = torch.randn((2, 6, 5, 3, 3), generator=torch.Generator().manual_seed(5))
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = first.clone().contiguous(memory_format=layout).requires_grad_()
        optimizer = SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01, fused=True)
        momentum = optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        for _ in range(3):
            weight.grad = gradient.contiguous(memory_format=layout)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                optimizer.step()
        names = {one.key for one in profile.key_averages()}
        assert "aten::_fused_sgd_" in names
        assert "aten::clone" not in names
        assert momentum.stride() == weight.stride()
        found += [weight.detach(), momentum]
    torch.testing.assert_close(found[2], found[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[3], found[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_the_compiler_is_not_imported(monkeypatch, how):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it raises
    parameters = _parameters()
    optimizer = SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.1, momentum=0.9, **how)
    _train(optimizer, parameters)
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(ImportError):  # else this test could not fail
        torch.optim.SGD(_parameters(), lr=0.1).step()
