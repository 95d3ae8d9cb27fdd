"""One step by itself: an auxiliary head, clipping, averaging over unequal batches, what is counted."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.torch_imagenet.small_network import SmallNetwork, training_step  # noqa: E402
from torch_imagenet.devices.precision import precision  # noqa: E402
from torch_imagenet.input_pipeline.loader import Batch  # noqa: E402
from torch_imagenet.networks.registry import mean_and_std  # noqa: E402
from torch_imagenet.step.losses import mean_loss  # noqa: E402

CLASSES = 4


class TwoHeads(nn.Module):
    """In training the logits and those of a second head, as PNASNet gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.fc = nn.Linear(6, CLASSES)
        self.aux = nn.Linear(6, CLASSES)

    def forward(self, images):
        features = self.body(images).mean(dim=(2, 3))
        return (self.fc(features), self.aux(features)) if self.training else self.fc(features)


def _step(network, level="O0", **changes):
    return training_step(network, CLASSES, precision=level, **changes)


def _batch(images=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return Batch(pixels, torch.randint(0, CLASSES, (images,), generator=generator), ())


def test_an_auxiliary_head_adds_its_share_and_is_not_counted():
    torch.manual_seed(0)
    network = TwoHeads()
    step, batch = _step(network, auxiliary_weight=0.4), _batch()
    mean, std = map(torch.tensor, mean_and_std("se_resnet50"))
    normalised = (batch.images.float() / 255 - mean) / std
    logits, auxiliary = network(normalised.permute(0, 3, 1, 2))
    expected = float(mean_loss((logits, auxiliary), batch.labels, 0.0, 0.4).detach())
    correct = int((logits.argmax(dim=1) == batch.labels).sum())
    result = step.run([batch], 0.1, 0, 0)
    assert float(result[0]) == pytest.approx(expected, rel=1e-5)
    assert int(result[1]) == correct
    assert int(result[3]) == 6
    assert network.aux.weight.grad is None  # cleared after the update
    assert step.forward(torch.zeros(2, 3, 8, 8)).shape == (2, CLASSES)


def test_unequal_batches_are_averaged_over_their_images():
    """A batch that lost an image to a bad file weighs what it holds; here the network has no batch statistics."""
    ends = []
    for parts in ([6], [4, 2], [1, 5]):
        torch.manual_seed(0)
        step, batch = _step(TwoHeads(), auxiliary_weight=0.4, accumulate=len(parts)), _batch()
        pieces = [Batch(i, n, ()) for i, n in zip(batch.images.split(parts), batch.labels.split(parts))]
        result = step.run(pieces, 0.1, 0, 0)
        ends.append((result, step.weights.state_dict()["fc.weight"].clone()))
    for values, weight in ends[1:]:
        torch.testing.assert_close(values, ends[0][0])
        torch.testing.assert_close(weight, ends[0][1])


@pytest.mark.parametrize("level", ["O0", "O2"])
def test_clipping_bounds_the_update(level):
    """Without momentum and decay an update is rate times gradient, so its norm is at most rate times the limit."""
    torch.manual_seed(0)
    step = _step(SmallNetwork(CLASSES, 0.0, 0.0), level, clip_norm=0.01, momentum=0.0, weight_decay=0.0)
    before = {name: value.clone() for name, value in step.weights.masters.items()}
    step.run([_batch()], 1.0, 0, 0)
    change = [(step.weights.masters[name] - value).flatten() for name, value in before.items()]
    assert float(torch.cat(change).detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_o2_computes_in_half_and_keeps_its_logits_close_to_float32():
    losses = []
    for level in ("O0", "O2"):
        torch.manual_seed(0)
        step = _step(SmallNetwork(CLASSES, 0.0, 0.0), level)
        assert step.network.fc.weight.dtype == precision(level).weights
        losses.append([float(step.run([_batch(seed=seed)], 0.05, 0, seed)[0]) for seed in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_the_gradients_of_a_loss_scale_are_those_without():
    ends = []
    for scale in (None, "1024"):
        torch.manual_seed(0)
        step = _step(SmallNetwork(CLASSES, 0.0, 0.0), loss_scale=scale)
        step.run([_batch()], 0.1, 0, 0)
        ends.append(step.weights.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-5, atol=1e-7)
