"""The end of an SE block as one function: equal to its layers, and only where nobody looks at them."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.networks import bottleneck  # noqa: E402
from torch_imagenet.networks.bottleneck import Bottleneck, fuse_gates  # noqa: E402
from torch_imagenet.networks.fused_gate import Excitation, gated_residual  # noqa: E402
from torch_imagenet.networks.squeeze_excitation import ConvGate, LinearGate  # noqa: E402


def _tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def _block(gate, dtype=torch.float64, channels=32):
    torch.manual_seed(0)
    return Bottleneck(channels, (16, 16, 64), (1, 2), 0.0, gate=gate).to(dtype)


def _gradients(block, x):
    """The output, and the gradients of the input and of all weights, of a loss that is not linear."""
    x = x.detach().clone().requires_grad_()
    output = block(x)
    output.float().square().sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in block.parameters())]


@pytest.mark.parametrize("bias", [True, False])
def test_its_derivative_is_that_of_finite_differences(bias):
    x, shortcut, reduce, expand, *biases = _tensors((2, 6, 3, 2), (2, 6, 3, 2), (4, 6), (6, 4), (4,), (6,))
    first, second = biases if bias else (None, None)
    weights = [weight for weight in (reduce, first, expand, second) if weight is not None]

    def function(*inputs):
        return gated_residual(x, shortcut, Excitation(reduce, first, expand, second))

    assert torch.autograd.gradcheck(function, [x, shortcut, *weights])


@pytest.mark.parametrize("gate", [ConvGate, LinearGate])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_block_computes_what_its_layers_do(gate, layout):
    x = torch.randn(3, 32, 7, 5, dtype=torch.float64).to(memory_format=layout)
    plain = _block(gate)
    fused = fuse_gates(copy.deepcopy(plain))
    for one, other in zip(_gradients(plain, x), _gradients(fused, x)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
        assert one.stride() == other.stride()


def _called(monkeypatch):
    calls = []

    def counted(*inputs):
        calls.append(1)
        return gated_residual(*inputs)

    monkeypatch.setattr(bottleneck, "gated_residual", counted)
    return calls


def test_under_autocast_and_with_16_bit_weights(monkeypatch):
    """The gradients have the weights' dtypes, and differ from the layers' by the rounding of bfloat16."""
    calls, x = _called(monkeypatch), torch.randn(3, 32, 8, 8)
    plain = _block(ConvGate, torch.float32)
    fused = fuse_gates(copy.deepcopy(plain))
    exact = _gradients(copy.deepcopy(plain), x)

    def error(values):
        return [float((value.float() - right).norm() / right.norm()) for value, right in zip(values, exact)]

    for dtype, enabled in ((torch.float32, True), (torch.bfloat16, False)):
        for block in (plain, fused):
            block.zero_grad()
            block.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            theirs, ours = _gradients(plain, x.to(dtype)), _gradients(fused, x.to(dtype))
        assert [value.dtype for value in ours] == [value.dtype for value in theirs]
        assert all(own < 1.5 * other + 0.01 for own, other in zip(error(ours), error(theirs)))
    assert len(calls) == 2


def test_the_layers_are_called_where_something_looks_at_them_or_nothing_is_trained(monkeypatch):
    calls, block, x = _called(monkeypatch), fuse_gates(_block(ConvGate)), torch.randn(2, 32, 4, 4, dtype=torch.float64)
    for layer in (block.relu, block.se_module, block.se_module.fc2):
        seen = []
        with_hook = layer.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append(output))
        block(x)
        with_hook.remove()
        assert seen
        assert not calls
    with torch.no_grad():
        block(x)
    block.eval()(x)
    block.train().drop_path.rate = 0.5
    block(x)
    assert not calls
    block.drop_path.rate = 0.0
    block(x)
    assert calls
    assert not _block(ConvGate).fused  # a network is plain until a training takes it
