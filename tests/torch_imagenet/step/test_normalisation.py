"""Normalisation against torchvision's ToTensor and Normalize."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shared.recipes.imagenet import NORMALISATIONS  # noqa: E402
from torch_imagenet.networks.registry import NETWORKS, mean_and_std  # noqa: E402
from torch_imagenet.step.to_device import Normalisation  # noqa: E402


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_is_torchvisions(torchvision, network, channels_last):
    mean, std = mean_and_std(network)
    images = np.random.RandomState(0).randint(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    transforms = torchvision.transforms
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    expected = torch.stack([reference(image) for image in images])
    normalise = Normalisation(mean, std, torch.device("cpu"), torch.float32, channels_last)
    got = normalise(torch.from_numpy(images))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert got.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("network", NETWORKS)
def test_without_normalisation_it_is_to_tensor_alone(torchvision, network):
    images = np.random.RandomState(0).randint(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    expected = torch.stack([torchvision.transforms.ToTensor()(image) for image in images])
    got = Normalisation(*mean_and_std(network, "none"), torch.device("cpu"), torch.float32, True)(
        torch.from_numpy(images)
    )
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_the_names_are_the_published_ones():
    assert mean_and_std("pnasnet5large", "imagenet") == mean_and_std("senet154")
    assert mean_and_std("senet154", "inception") == mean_and_std("pnasnet5large")
    assert mean_and_std("senet154", "own") != mean_and_std("pnasnet5large", "own")
    for name in NORMALISATIONS:
        assert mean_and_std("senet154", name)


def test_half_precision_is_rounded_once_at_the_end():
    mean, std = mean_and_std("senet154")
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    wide = Normalisation(mean, std, torch.device("cpu"), torch.float32, True)(images)
    half = Normalisation(mean, std, torch.device("cpu"), torch.float16, True)(images)
    assert torch.equal(half, wide.half())
