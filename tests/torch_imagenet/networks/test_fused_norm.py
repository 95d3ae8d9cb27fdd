"""Own kernels of batch normalisation: equal to torch's layers, and only where nobody looks at these."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from torch_imagenet.devices import host_kernels  # noqa: E402
from torch_imagenet.networks import create  # noqa: E402
from torch_imagenet.networks.bottleneck import Bottleneck, fuse_gates  # noqa: E402
from torch_imagenet.networks.fused_norm import give_kernels, norm_relu  # noqa: E402
from torch_imagenet.networks.squeeze_excitation import ConvGate, LinearGate  # noqa: E402

# Of values near 1: the roundings of one bfloat16, and of the sums of a few hundred float32.
ERRORS = {torch.float32: 1e-6, torch.bfloat16: 6e-3}
SHAPES = [(3, 64, 17, 19), (8, 96, 7, 7), (1, 20, 40, 33), (4, 5, 1, 1)]


@pytest.fixture(scope="module")
def kernels():
    try:
        return host_kernels.make_kernels()
    except host_kernels.Unavailable as error:
        pytest.skip(f"no own kernels here: {error}")


def _map(shape, seed, dtype, offset=0.0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + offset
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


def _layer(channels):
    torch.manual_seed(1)
    layer = nn.BatchNorm2d(channels)
    nn.init.uniform_(layer.weight, -1.5, 1.5)
    nn.init.normal_(layer.bias)
    return layer


def _error(found, exact):
    return float(((found.double() - exact.double()).norm() / exact.double().norm()).detach())


def _results(layer, relu, x, dy):
    x = x.detach().clone().requires_grad_()
    y = norm_relu(x, layer, relu)
    y.backward(dy.to(y.dtype))
    return [y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]


@pytest.mark.parametrize("dtype", ERRORS)
@pytest.mark.parametrize("relu", [None, nn.ReLU(inplace=True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs_layer_in_float64(shape, relu, dtype, kernels):
    """With a mean of 20 deviations, which squares of float32 would not survive."""
    x, dy, layer = _map(shape, 2, dtype, offset=40.0), _map(shape, 3, dtype), _layer(shape[1])
    exact = _results(copy.deepcopy(layer).double(), relu, x.double(), dy.double())
    layer.kernels = kernels
    assert kernels.takes(layer, x)
    found = _results(layer, relu, x, dy)
    assert found[0].dtype == found[1].dtype == dtype
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    for one, right in zip(found, exact):
        assert _error(one, right) < ERRORS[dtype] * (20 if shape[2] == 1 else 3)
    assert int(layer.num_batches_tracked) == 1


@pytest.mark.parametrize("gate", [ConvGate, LinearGate])
@pytest.mark.parametrize("dtype", ERRORS)
def test_a_block_is_its_layers_in_float64(gate, dtype, kernels):
    torch.manual_seed(0)
    plain = Bottleneck(32, (16, 16, 64), (1, 2), 0.0, gate=gate).to(memory_format=torch.channels_last)
    exact, fused = copy.deepcopy(plain).double(), give_kernels(fuse_gates(copy.deepcopy(plain)), kernels)
    assert "_GatedResidual" in type(fused(_map((2, 32, 4, 4), 1, torch.float32)).grad_fn).__name__
    found = []
    for block in (exact, copy.deepcopy(plain), give_kernels(fuse_gates(copy.deepcopy(plain)), kernels)):
        x = _map((3, 32, 9, 7), 2, torch.float32).to(next(block.parameters()).dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16 and block is not exact):
            output = block(x)
        output.double().square().sum().backward()
        buffers = [value for value in block.buffers() if value.is_floating_point()]
        found.append([output.detach(), x.grad, *(one.grad for one in block.parameters()), *buffers])
    errors = [[_error(one, right) for one, right in zip(side, found[0])] for side in found[1:]]
    for layers, own in zip(*errors):
        assert own < 2 * layers + 10 * torch.finfo(torch.float32).eps


def test_it_does_not_depend_on_the_number_of_threads(kernels):
    layer, x, dy = _layer(64), _map((3, 64, 33, 20), 2, torch.float32), _map((3, 64, 33, 20), 3, torch.float32)
    layer.kernels, before, found = kernels, torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(_results(copy.deepcopy(layer), nn.ReLU(), x, dy))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, right) for one, right in zip(other, found[0]))


@pytest.mark.parametrize("dtype", ERRORS)
def test_what_is_not_a_number_stays_so(dtype, kernels):
    layer, x = _layer(16), _map((2, 16, 5, 5), 2, dtype)
    layer.kernels = kernels
    x[1, 3, 2, 2] = float("nan")
    found = _results(layer, nn.ReLU(), x, torch.ones_like(x))
    assert found[0][:, 3].isnan().all()
    assert found[1][:, 3].isnan().all()
    assert not torch.cat([found[0][:, :3], found[0][:, 4:]], dim=1).isnan().any()


def test_torchs_layers_are_called_for_what_it_does_not_take(kernels):
    layer, x = _layer(16), _map((2, 16, 5, 5), 2, torch.float32)
    assert kernels.takes(layer, x)
    assert not kernels.takes(layer, x.contiguous())
    assert not kernels.takes(layer, x.double())
    assert not kernels.takes(layer, x.half())
    assert not kernels.takes(layer, x[:1, :, :1, :1])  # torch refuses it, too
    assert not kernels.takes(copy.deepcopy(layer).eval(), x)
    assert not kernels.takes(copy.deepcopy(layer).double(), x)
    assert not kernels.takes(nn.BatchNorm2d(16, momentum=None), x)
    assert not kernels.takes(nn.BatchNorm2d(16, affine=False), x)
    assert not kernels.takes(nn.BatchNorm2d(16, track_running_stats=False), x)
    assert not kernels.takes(nn.SyncBatchNorm(16), x)


def test_a_hook_sees_its_layer(kernels):
    """Of each layer of a network, its stem and shortcuts included."""
    network = give_kernels(fuse_gates(create("se_resnet50_caffe", num_classes=3)), kernels)
    network.to(memory_format=torch.channels_last)
    seen, layers = [], [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    images = _map((2, 3, 32, 32), 0, torch.float32)
    network(images)
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(layer))
    network(images)
    assert len(seen) == len(layers) == 53
    assert all(int(layer.num_batches_tracked) == 2 for layer in layers)


def test_a_network_with_kernels_can_be_copied_and_written(kernels):
    layer = _layer(16)
    layer.kernels = kernels
    x = _map((2, 16, 5, 5), 2, torch.float32)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(norm_relu(x, other), norm_relu(x, layer))
