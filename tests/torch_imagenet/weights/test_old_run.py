"""A run of an original port goes on from its checkpoint as the port would have gone on, written in plain torch."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.devices.device import Device  # noqa: E402
from torch_imagenet.step.training_step import TrainingStep  # noqa: E402

EPOCHS, STEPS, WARM_UP, BASE = 4, 5, 1, 0.1  # of the whole run; the file is of its second epoch
GO_ON = ["--epochs", str(EPOCHS), "--memory-format", "contiguous"]


def documented_rate(epoch: int) -> float:
    """`adjust_learning_rate` of SE-ResNet-50's and PNASNet's programs."""
    if epoch < WARM_UP:
        return BASE * (epoch + 1) / (WARM_UP + 1)
    return 0.5 * BASE * (1 + math.cos(math.pi * (epoch - WARM_UP) / (EPOCHS - WARM_UP)))


class Port:
    """The training loop of the original programs, on one device in float32."""

    def __init__(self, classes: int) -> None:
        torch.manual_seed(3)
        self.network = nn.DataParallel(SmallNetwork(classes, 0.0, 0.0))  # its keys begin with "module."
        self.optimizer = torch.optim.SGD(self.network.parameters(), BASE, momentum=0.9, weight_decay=1e-4)
        self.criterion = nn.CrossEntropyLoss()

    def epoch(self, epoch: int, batches: List[Any]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = documented_rate(epoch)
        self.network.train()
        for images, labels in batches:
            loss = self.criterion(self.network.module(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def saved(self, form: str, epoch: int) -> Dict[str, Any]:
        """What each program passes to `torch.save` after this zero-based epoch."""
        weights, optimizer = self.network.state_dict(), self.optimizer.state_dict()
        if form == "senet154":
            return {"net": weights, "optimizer": optimizer}
        if form == "pnasnet5large":
            return {"epoch": epoch + 1, "state_dict": weights, "acc": 40.0, "best_acc": 61.5, "optimizer": optimizer}
        best = torch.tensor(61.5)  # the mean of a meter of tensors
        return {
            "epoch": epoch + 1,
            "arch": "resnext101_32x8d",
            "state_dict": weights,
            "best_acc1": best,
            "optimizer": optimizer,
        }


class Started(NamedTuple):
    port: Port
    folder: Any


@pytest.fixture
def started(tiny, tmp_path):
    """The port after two of its four epochs."""
    port, generator = Port(tiny.classes), torch.Generator().manual_seed(5)
    for epoch in range(2):
        labels = [torch.randint(tiny.classes, (4,), generator=generator) for _ in range(STEPS)]
        port.epoch(epoch, [(torch.randn(4, 3, 32, 32, generator=generator), label) for label in labels])
    return Started(port, tmp_path)


@pytest.fixture
def seen(monkeypatch):
    """What the program trains on, by epoch: [B, 3, H, W] as the network gets it, and labels; and the rates."""
    original, batches, rates = TrainingStep.run, {}, {}

    def run(self, group, rate, epoch, position):
        (batch,) = group
        batches.setdefault(epoch, []).append((self._normalise(batch.images).clone(), batch.labels.long()))
        rates[epoch] = rate
        return original(self, group, rate, epoch, position)

    monkeypatch.setattr(TrainingStep, "run", run)
    monkeypatch.setattr(Device, "has_fused_sgd", lambda self, momentum: False)  # whose additions are rounded otherwise
    return batches, rates


FORMS = {"senet154": "checkpoint-2.pth.rar", "se_resnet50": "checkpoint.pth.tar", "pnasnet5large": "model_best.pth.tar"}


@pytest.mark.parametrize("form", FORMS)
def test_the_rest_of_the_run_is_what_the_port_would_have_done(form, started, seen, run_in):
    port, path = started.port, started.folder / FORMS[form]
    torch.save(port.saved(form, 1), path)
    run = run_in(started.folder / "run", "--resume", str(path), *GO_ON)
    assert run.status == 0
    batches, rates = seen
    assert {epoch: len(group) for epoch, group in batches.items()} == {2: STEPS, 3: STEPS}
    for epoch in (2, 3):
        assert rates[epoch] == pytest.approx(documented_rate(epoch), rel=1e-12)
        port.epoch(epoch, batches[epoch])
    after = run.training()
    for name, value in port.network.module.state_dict().items():
        torch.testing.assert_close(after["network"][name], value, rtol=0, atol=0)
