"""Normalisation against torchvision's ToTensor and Normalize."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.networks.registry import NETWORKS  # noqa: E402
from torch_imagenet.step.to_device import Normalisation  # noqa: E402


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_is_torchvisions(torchvision, network, channels_last):
    spec = NETWORKS[network]
    images = np.random.RandomState(0).randint(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    transforms = torchvision.transforms
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)])
    expected = torch.stack([reference(image) for image in images])
    normalise = Normalisation(spec.mean, spec.std, torch.device("cpu"), torch.float32, channels_last)
    got = normalise(torch.from_numpy(images))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert got.is_contiguous(memory_format=layout)


def test_half_precision_is_rounded_once_at_the_end():
    spec = NETWORKS["senet154"]
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    wide = Normalisation(spec.mean, spec.std, torch.device("cpu"), torch.float32, True)(images)
    half = Normalisation(spec.mean, spec.std, torch.device("cpu"), torch.float16, True)(images)
    assert torch.equal(half, wide.half())
