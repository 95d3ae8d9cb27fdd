"""The golden file of the agreement is what the libraries that are installed give, and their weights are loaded."""

from __future__ import annotations

import pytest
import torch

from tests.torch_imagenet.networks.agreement import CASES, apart, golden, names
from tests.torch_imagenet.networks.references import CLASSES, TIMM, timm_network
from torch_imagenet.networks import create
from torch_imagenet.weights.load import load_weights

pytestmark = [pytest.mark.live, pytest.mark.slow]
GOLDEN = golden()


@pytest.mark.parametrize("name", CASES)
def test_theirs_gives_what_it_gave(name):
    case = CASES[name]
    assert apart(case.measure(case.theirs()), GOLDEN[name]) < 1


@pytest.mark.parametrize("name", sorted(TIMM))
def test_timms_weights_are_loaded_as_a_user_loads_them(name):
    reference = timm_network(name)
    assert names(reference) == GOLDEN["names"][name]
    with torch.device("meta"):
        network = create(name, CLASSES)
    network = network.double().to_empty(device="cpu")
    assert [key for key, _ in network.named_parameters()] == [key for key, _ in reference.named_parameters()]
    state = reference.state_dict()
    report = load_weights(network, state)
    assert report.matched == report.total == len(state)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
