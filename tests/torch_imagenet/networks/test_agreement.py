"""Our networks against timm's, Cadene's and torchvision's: names, logits and ten steps of SGD, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.torch_imagenet.networks.references import (
    CLASSES,
    TIMM,
    as_port,
    cadene_network,
    distance,
    gated_resnet50,
    images,
    logits,
    losses_of_ten_steps,
    port_pnasnet,
    timm_network,
)
from torch_imagenet.networks import create
from torch_imagenet.networks.pnasnet import AuxiliaryHead
from torch_imagenet.weights import load_weights

# Cadene's PNASNet pads the input of cell_4 alone, which is right where that side is even and the others odd, as from
# 43 and 331 pixels. timm pads as TensorFlow does, at any size.
CADENE_SIZE = {"senet154": 65, "se_resnet50_caffe": 97, "pnasnet5large": 43}
# Batch, side, learning rate. PNASNet's first gradient has a norm of 3,400, and at 1e-5 rounding errors of 1e-14 in the
# loss grow to 5e-2 within ten steps; at 1e-6 to 4e-10, while the loss falls from 2.15 to 1.42.
STEPS = {"senet154": (2, 32, 2e-4), "se_resnet50_caffe": (4, 40, 2e-4), "pnasnet5large": (2, 43, 1e-6)}
FULL = {"senet154": 224, "se_resnet50_caffe": 224, "pnasnet5large": 331}


def ours(name: str, reference: nn.Module, **options) -> nn.Module:
    """Our network with the reference's weights, loaded as a user loads them; everything must match."""
    network = create(name, CLASSES, dropout=0.0, **options).double()
    report = load_weights(network, reference.state_dict())
    assert report.matched == report.total == len(reference.state_dict())
    return network


@pytest.fixture(scope="module", params=sorted(TIMM))
def pair(request):
    """Name, timm's network, ours with its weights."""
    reference = timm_network(request.param)
    return request.param, reference, ours(request.param, reference)


def test_the_names_and_their_order_are_timms(pair):
    name, reference, network = pair
    assert list(network.state_dict()) == list(reference.state_dict())
    assert [key for key, _ in network.named_parameters()] == [key for key, _ in reference.named_parameters()]


@pytest.mark.parametrize("side", [(64, 96), (75, 47)])
def test_the_logits_are_timms(pair, side):
    name, reference, network = pair
    x = images(2, 3, *side)
    expected = logits(reference, x)
    assert expected.std() > 0.01
    assert distance(logits(network, x), expected) < 1e-10


def test_the_logits_are_cadenes(pair):
    name, _, network = pair
    reference = cadene_network(name)
    assert list(network.state_dict()) == list(reference.state_dict())
    reference.load_state_dict(network.state_dict())
    x = images(2, 3, CADENE_SIZE[name], CADENE_SIZE[name])
    assert distance(logits(network, x), logits(reference, x)) < 1e-10


@pytest.mark.slow
def test_the_logits_at_the_documented_size_are_cadenes_with_its_own_head(pair):
    name, _, network = pair
    reference = cadene_network(name, any_size=False)
    reference.load_state_dict(network.state_dict())
    x = images(1, 3, FULL[name], FULL[name])
    assert distance(logits(network, x), logits(reference, x)) < 1e-10


@pytest.mark.slow
def test_ten_steps_of_training_are_timms(pair):
    name, reference, network = pair
    network.load_state_dict(reference.state_dict())
    batch, side, rate = STEPS[name]
    x = images(batch, 3, side, side)
    expected = losses_of_ten_steps(reference, x, rate)
    assert abs(expected[-1] - expected[0]) > 0.1  # it learns; otherwise nothing is compared
    assert losses_of_ten_steps(network, x, rate) == pytest.approx(expected, rel=1e-8)


# -- the comparison would see a mistake ------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", [{"eps": 1e-3}, {"momentum": 0.01}, {"affine": False}])
def test_a_mistake_in_one_batch_normalisation_is_seen(mistake):
    reference = timm_network("se_resnet50_caffe")
    x = images(4, 3, 64, 64)
    network = ours("se_resnet50_caffe", reference)
    norm = network.layer3[2].bn2
    if mistake.pop("affine", True):
        vars(norm).update(mistake)
    else:
        norm.weight.data.fill_(1.0)
    for each in (network, reference):
        each.train()(x)  # moves the statistics
    assert distance(logits(network, x), logits(reference, x)) > 1e-8


# -- the ports -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_the_zero_padding_pnasnet_is_the_ports_and_no_longer_cadenes():
    reference = port_pnasnet()
    network = ours("pnasnet5large", reference, zero_pad=False)
    upstream = ours("pnasnet5large", reference)
    for side in (43, 64):
        x = images(2, 3, side, side)
        expected = logits(reference, x)
        assert distance(logits(network, x), expected) < 1e-10
        assert distance(logits(upstream, x), expected) > 1e-3


def test_the_auxiliary_head_is_the_ports():
    reference = nn.Sequential(
        nn.ReLU(), nn.AvgPool2d(7, stride=2), nn.Conv2d(4320, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(),
        nn.Conv2d(128, 768, 3, bias=False), nn.BatchNorm2d(768), nn.ReLU(), nn.Flatten(), nn.Linear(768, CLASSES),
    ).double()  # fmt: skip
    head = AuxiliaryHead(CLASSES).double()
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    for part in ("weight", "bias"):
        state[f"classifier.{part}"] = state.pop(f"features.9.{part}")
    head.load_state_dict(state)
    x = images(2, 4320, 11, 11)
    with torch.no_grad():
        assert distance(head(x), reference(x)) < 1e-12


@pytest.mark.slow
def test_the_ports_se_resnet50_is_a_gated_resnet50():
    reference = gated_resnet50()
    network = create("se_resnet50", CLASSES).double()
    state = as_port(reference.state_dict())
    assert set(state) == set(network.state_dict())
    load_weights(network, state)
    for side in ((64, 64), (75, 47)):
        x = images(2, 3, *side)
        assert distance(logits(network, x), logits(reference, x)) < 1e-10
    x = images(4, 3, 40, 40)
    expected = losses_of_ten_steps(reference, x, 2e-4)
    assert abs(expected[-1] - expected[0]) > 0.1
    assert losses_of_ten_steps(network, x, 2e-4) == pytest.approx(expected, rel=1e-8)


def test_the_ports_se_resnet50_starts_as_torchvisions(torchvision):
    torch.manual_seed(5)
    expected = torchvision.models.resnet50().state_dict()
    torch.manual_seed(5)
    drawn = create("se_resnet50").state_dict()
    for key, value in expected.items():
        assert drawn[key].shape == value.shape
        if value.ndim == 4 and value.numel() > 30000:
            assert drawn[key].std().item() == pytest.approx(value.std().item(), rel=0.02)
