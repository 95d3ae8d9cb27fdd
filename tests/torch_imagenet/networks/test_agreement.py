"""Our networks against timm's, Cadene's and torchvision's: names, logits and steps of training, in float64.

What theirs give is in golden/agreement.json; test_live.py compares that with the libraries themselves.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.torch_imagenet.networks.agreement import (
    CASES,
    STEPS,
    apart,
    golden,
    images,
    logits,
    names,
    ours,
    three_steps,
)
from tests.torch_imagenet.networks.references import CLASSES, TIMM
from torch_imagenet.networks import create
from torch_imagenet.networks.pnasnet import AuxiliaryHead

GOLDEN = golden()


@pytest.mark.parametrize("name", sorted(TIMM))
def test_the_names_and_their_order_are_timms(name):
    with torch.device("meta"):
        assert names(create(name, CLASSES)) == GOLDEN["names"][name]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if case.dear else name for name, case in CASES.items()]
)
def test_ours_gives_what_theirs_gave(name):
    case = CASES[name]
    assert apart(case.measure(case.ours()), GOLDEN[name]) < 1


# -- the comparison would see a mistake ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake", [{"eps": 1e-5 + 1e-6}, {"eps": 1e-3}, {"momentum": 0.01}, {"momentum": 0.1001}, {"scale": 1.0}]
)
def test_a_mistake_in_one_batch_normalisation_is_seen(mistake):
    network = ours("se_resnet50_caffe")
    norm = network.layer3[2].bn2
    if "scale" in mistake:
        norm.weight.data.fill_(1.0)
    vars(norm).update(mistake)
    found = three_steps(*STEPS["se_resnet50_caffe"])(network)
    assert apart(found, GOLDEN["se_resnet50_caffe: three steps of timm's"]) > 1


def test_with_the_zero_padding_pnasnet_is_not_the_ports():
    found = logits((43, 43), (64, 64))(ours("pnasnet5large"))
    assert apart(found, GOLDEN["pnasnet5large: the port's logits, without the zero padding"]) > 1e7


# -- the ports -------------------------------------------------------------------------------------------------


def test_the_auxiliary_head_is_the_ports():
    reference = nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(7, stride=2),
        nn.Conv2d(4320, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 768, 3, bias=False),
        nn.BatchNorm2d(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, CLASSES),
    ).double()
    head = AuxiliaryHead(CLASSES).double()
    state = {f"features.{key}": value for key, value in reference.state_dict().items()}
    for part in ("weight", "bias"):
        state[f"classifier.{part}"] = state.pop(f"features.9.{part}")
    head.load_state_dict(state)
    x = images(2, 4320, 11, 11)
    with torch.no_grad():
        expected = reference(x)
        assert (head(x) - expected).norm() < 1e-12 * expected.norm()


def test_the_ports_se_resnet50_starts_as_torchvisions(torchvision):
    torch.manual_seed(5)
    expected = torchvision.models.resnet50().state_dict()
    torch.manual_seed(5)
    drawn = create("se_resnet50").state_dict()
    for key, value in expected.items():
        assert drawn[key].shape == value.shape
        if value.ndim == 4 and value.numel() > 30000:
            assert drawn[key].std().item() == pytest.approx(value.std().item(), rel=0.02)
