"""What holds of every network: any image size, drop path in training alone, memory formats, precisions."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.torch_imagenet.networks.references import drawn
from torch_imagenet.networks import NETWORKS, create
from torch_imagenet.networks.bottleneck import zero_init_last
from torch_imagenet.networks.drop_path import DropPath
from torch_imagenet.networks.pnasnet import AuxiliaryHead, AuxiliaryPool
from torch_imagenet.networks.pnasnet_cells import Cell, CellStem0, MaxPool, SeparableConv2d, same_shift
from torch_imagenet.networks.squeeze_excitation import ConvGate, LinearGate, use_products


@pytest.fixture(scope="module")
def networks():
    """One of each, 5 classes, in evaluation; pnasnet5large with its auxiliary head. Not to be changed."""
    return {
        name: _made(name, **({"auxiliary_head": True} if "auxiliary_head" in spec.options else {})).eval()
        for name, spec in NETWORKS.items()
        if name != "senet154"  # the same code as se_resnet50_caffe, at six times the price; see test_agreement.py
    }


def _made(name, **options):
    """With weights whose drawing costs nothing."""
    with torch.device("meta"):
        network = create(name, 5, **options)
    return drawn(network).float()


NAMES = sorted(set(NETWORKS) - {"senet154"})
DEEP = ("senet154", "pnasnet5large")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in NETWORKS])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(height=st.integers(32, 400), width=st.integers(32, 400))
def test_logits_of_any_image_size(name, height, width):
    """By shapes alone, so that many sizes cost nothing: every addition and concatenation must fit."""
    with torch.device("meta"):
        network = _META.setdefault(name, create(name, 5))
    assert network(torch.empty(2, 3, height, width, device="meta")).shape == (2, 5)


_META: dict = {}


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True)
@given(height=st.integers(32, 500), width=st.integers(32, 500))
def test_the_auxiliary_head_takes_any_image_size(height, width):
    with torch.device("meta"):
        network = _META.setdefault("aux", create("pnasnet5large", 5, auxiliary_head=True))
    logits, auxiliary = network(torch.empty(2, 3, height, width, device="meta"))
    assert logits.shape == auxiliary.shape == (2, 5)


@pytest.mark.parametrize("name", NAMES)
def test_small_images_give_finite_logits(networks, name):
    with torch.no_grad():
        assert torch.isfinite(networks[name](torch.randn(1, 3, 33, 40))).all()


# -- padding ---------------------------------------------------------------------------------------------------


def same_padded(x, kernel, value=0.0):
    """x with TensorFlow's "SAME" padding for stride 2, as its documentation words it."""
    total = [max((-(-side // 2) - 1) * 2 + kernel - side, 0) for side in x.shape[2:]]
    (top, left), (bottom, right) = [t // 2 for t in total], [t - t // 2 for t in total]
    return nn.functional.pad(x, (left, right, top, bottom), value=value)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=st.integers(1, 12), width=st.integers(1, 12), kernel=st.sampled_from([3, 5, 7]))
def test_stride_two_pads_as_tensorflow_does(height, width, kernel):
    x = torch.randn(2, 4, height, width, dtype=torch.float64)
    separable = SeparableConv2d(4, 4, kernel, 2).double()
    weight = separable.depthwise_conv2d.weight
    expected = nn.functional.conv2d(same_padded(x, kernel), weight, stride=2, groups=4)
    torch.testing.assert_close(separable.depthwise_conv2d(x, same_shift(x)), expected)
    expected = nn.functional.max_pool2d(same_padded(x, 3, -float("inf")), 3, 2)
    torch.testing.assert_close(MaxPool(2, zero_pad=True)(x), expected)


# -- gates -----------------------------------------------------------------------------------------------------


def test_a_gate_by_products_is_that_by_convolutions_and_a_hook_sees_them():
    torch.manual_seed(0)
    by_convolutions, seen = ConvGate(32).double(), []
    by_products = use_products(copy.deepcopy(by_convolutions))
    found = []
    for gate in (by_convolutions, by_products):
        x = torch.linspace(-1, 2, 2 * 32 * 5 * 3, dtype=torch.float64).view(2, 32, 5, 3).requires_grad_()
        gate(x).square().sum().backward()
        found.append([gate(x).detach(), x.grad, *(one.grad for one in gate.parameters())])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    by_products.fc1.register_forward_hook(lambda *_: seen.append("fc1"))
    by_products(x)
    assert seen == ["fc1"]


@pytest.mark.parametrize("gate", [ConvGate, LinearGate])
def test_a_gate_multiplies_each_channel_by_its_own_factor(gate):
    torch.manual_seed(0)
    x = torch.rand(3, 64, 5, 4) + 1
    factor = gate(64)(x) / x
    torch.testing.assert_close(factor, factor[:, :, :1, :1].expand_as(factor))
    assert ((factor > 0) & (factor < 1)).all()
    assert factor[:, :, 0, 0].std() > 0


# -- drop path -------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rate=st.floats(0.05, 0.9), shape=st.sampled_from([(4,), (2, 3, 3), ()]), seed=st.integers(0, 99))
def test_drop_path_zeroes_whole_samples_and_scales_the_rest(rate, shape, seed):
    torch.manual_seed(seed)
    x = torch.rand(2000, *shape) + 1
    drop = DropPath(rate)
    y = drop(x)
    ratio = (y / x).reshape(2000, -1)
    kept = ratio[:, 0] > 0
    torch.testing.assert_close(ratio, (kept / (1 - rate))[:, None].expand_as(ratio))
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / 2000) ** 0.5)
    assert torch.equal(drop.eval()(x), x)


def test_drop_path_at_rate_0_is_not_in_the_graph():
    x = torch.rand(2, 3)
    assert DropPath(0.0)(x) is x
    state = torch.get_rng_state()
    network = create("se_resnet50", 5)
    assert not torch.equal(torch.get_rng_state(), state)  # its weights are drawn
    state = torch.get_rng_state()
    network.train()(torch.ones(2, 3, 32, 32))
    assert torch.equal(torch.get_rng_state(), state)  # and nothing in training


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_rate_grows_linearly_with_depth(name):
    with torch.device("meta"):
        network = create(name, 5, drop_path=0.6)
    rates = {key: module.rate for key, module in network.named_modules() if isinstance(module, DropPath)}
    if name == "pnasnet5large":
        for key, rate in rates.items():
            cell = key.split(".")[0]
            expected = 0.0 if "stem" in cell else 0.6 * (int(cell.split("_")[1]) + 1) / 12
            assert rate == pytest.approx(expected), key
        assert len(rates) == 14 * 6
        assert all("comb_iter" in key for key in rates)
    else:
        blocks = {"senet154": 50}.get(name, 16)
        assert list(rates.values()) == pytest.approx([0.6 * (block + 1) / blocks for block in range(blocks)])


@pytest.mark.parametrize("name", ["se_resnet50", "se_resnet50_caffe"])
def test_a_dropped_block_is_its_shortcut(name):
    network = _made(name, drop_path=0.999)
    torch.manual_seed(0)
    block = network.layer4[2]
    x = torch.rand(8, 2048, 2, 2)
    assert torch.equal(block.train()(x), x)  # at this rate and seed every sample is dropped
    assert not torch.equal(block.eval()(x), x)


@pytest.mark.parametrize("name", NAMES)
def test_drop_path_is_in_training_alone(networks, name):
    torch.manual_seed(0)
    network = _made(name, dropout=0.0, drop_path=0.5)
    network.load_state_dict({key: value for key, value in networks[name].state_dict().items() if "aux." not in key})
    for module in network.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # with the moving statistics the samples do not depend on each other
    x = torch.randn(1, 3, 40, 40).expand(2, 3, 40, 40)
    with torch.no_grad():
        trained = network(x)
        assert not torch.allclose(trained[0], trained[1])
        evaluated = network.eval()(x)
        torch.testing.assert_close(evaluated, networks[name](x))
    torch.testing.assert_close(evaluated[0], evaluated[1])


# -- the auxiliary head ----------------------------------------------------------------------------------------


def test_the_auxiliary_head_is_computed_in_training_alone(networks):
    network = copy.deepcopy(networks["pnasnet5large"])
    calls = []
    network.aux.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 5)
    assert calls == []
    logits, auxiliary = network.train()(x)
    assert calls == [1]
    assert logits.shape == auxiliary.shape == (2, 5)
    auxiliary.sum().backward()  # it trains the cells up to its own and not those after
    assert network.cell_8.conv_1x1.conv.weight.grad is not None
    assert network.cell_9.conv_1x1.conv.weight.grad is None


@pytest.mark.parametrize(("side", "pooled"), [(1, 3), (2, 3), (7, 3), (10, 3), (11, 3), (12, 3), (13, 4), (31, 13)])
def test_the_auxiliary_pool_always_leaves_what_the_convolution_needs(side, pooled):
    x = torch.ones(1, 2, side, side)
    y = AuxiliaryPool()(x)
    assert y.shape == (1, 2, pooled, pooled)
    torch.testing.assert_close(y, torch.ones_like(y))
    assert AuxiliaryHead(5).eval()(torch.rand(1, 4320, side, side)).shape == (1, 5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 10), (3, 5), (4, 30), (8, 8)])
def test_a_small_map_is_pooled_as_by_torchs_adaptive_pooling(shape):
    """Output and gradient; torch's own has no deterministic backward pass on a GPU."""
    x = torch.randn(2, 3, *shape, requires_grad=True)
    same = x.detach().clone().requires_grad_()
    pooled, expected = AuxiliaryPool()(x), torch.nn.functional.adaptive_avg_pool2d(same, 3)
    torch.testing.assert_close(pooled, expected)
    gradient = torch.randn(pooled.shape)
    pooled.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(x.grad, same.grad)


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        self.names.add(operator.overloadpacket.__name__)
        return operator(*arguments, **(options or {}))


def test_a_small_image_meets_no_pooling_that_deterministic_refuses():
    """The adaptive pooling of torch.use_deterministic_algorithms' list; a mean over the whole map is none of it."""
    with torch.device("meta"):
        network = _META.setdefault("aux", create("pnasnet5large", 5, auxiliary_head=True))
    with Operators() as seen:
        network(torch.empty(2, 3, 64, 64, device="meta"))
    assert {"mean", "max_pool2d_with_indices"} <= seen.names
    assert not {name for name in seen.names if "adaptive" in name or "upsample" in name or "reflection" in name}


# -- memory formats and precisions -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_is_the_same_network(networks, name):
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = networks[name](x)
        network = copy.deepcopy(networks[name]).to(memory_format=torch.channels_last)
        torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_autocast_is_near_float32(networks, name):
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        expected = networks[name](x)
        with torch.autocast("cpu", torch.bfloat16):
            logits = networks[name](x)
    assert logits.dtype == torch.bfloat16
    assert ((logits.float() - expected).norm() / expected.norm()).item() < 0.1


def test_a_cell_and_the_stem_halve_by_rounding_up():
    x = torch.randn(2, 8, 9, 6)
    stem = CellStem0(8, 4, zero_pad=True)(x)
    assert stem.shape == (2, 20, 5, 3)
    assert Cell(8, 20, 6, 1, halve_left=True, zero_pad=True, drop_path=0.0)(x, stem).shape == (2, 30, 5, 3)
    assert Cell(8, 8, 6, 2, halve_left=False, zero_pad=False, drop_path=0.0)(x, x).shape == (2, 30, 5, 3)


def test_zero_init_is_timms(networks, torchvision):
    """Every block begins as its shortcut, in the parameters that timm's zero_init_last sets to zero."""
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        reference = timm.create_model("seresnet50")
    network = copy.deepcopy(networks["se_resnet50"])
    zero_init_last(network)
    zeros = {name for name, parameter in network.named_parameters() if name.endswith("weight") and not parameter.any()}
    blocks = [name for name, module in reference.named_modules() if hasattr(module, "zero_init_last")]
    assert zeros == {f"{name}.bn3.weight" for name in blocks}
    assert len(zeros) == 16
