"""A run of an original port goes on from its checkpoint as the port would have gone on, written in plain torch."""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from shared.errors import UsageError  # noqa: E402
from shared.run.plan import Plan  # noqa: E402
from tests.torch_imagenet.conftest import SHORT  # noqa: E402
from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402
from torch_imagenet.devices.device import Device, open_device  # noqa: E402
from torch_imagenet.devices.precision import precision  # noqa: E402
from torch_imagenet.distributed.process_group import ALONE  # noqa: E402
from torch_imagenet.networks.spec import NetworkSpec  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402
from torch_imagenet.run import recipe as recipes  # noqa: E402
from torch_imagenet.run.setup import TrainingSetup  # noqa: E402
from torch_imagenet.step.training_step import TrainingStep  # noqa: E402
from torch_imagenet.weights import source  # noqa: E402
from torch_imagenet.weights.load import with_names  # noqa: E402

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
    after, network = run.training(), port.network.module
    for name, value in network.state_dict().items():
        assert torch.equal(after["network"][name], value), name
    for number, parameter in enumerate(network.parameters()):
        momentum = after["optimizer"]["state"][number]["momentum_buffer"]
        assert torch.equal(momentum, port.optimizer.state[parameter]["momentum_buffer"])
    assert (run.record["epochs_completed"], run.record["steps_completed"]) == (EPOCHS, EPOCHS * STEPS)
    assert run.record["images_trained"] == 2 * STEPS * 4  # what the old run has seen is not known
    log = (run.folder / "train.log").read_text()
    best = ", best accuracy 61.500 %" if form != "senet154" else ""
    assert f"2 epochs done, 10 steps; goes on with epoch 3 of 4, learning rate {documented_rate(2):g}" in log
    assert f"taken from it: weights, momentum of 10 parameters{best}\n" in log
    assert ("not in it: best accuracy, order" if form == "senet154" else "not in it: order of the images") in log
    assert "the old run had" not in log


def _in_other_order(classes: int) -> nn.Module:
    """The small network with its layers registered the other way round, and so with other numbers in an optimizer."""
    network = SmallNetwork(classes, 0.0, 0.0)
    network._modules = dict(reversed(network._modules.items()))
    return network


def _file(path, network: nn.Module, settings=None, groups=None, **more: Any):
    """A checkpoint of SE-ResNet-50's form after two epochs, with a momentum that tells each parameter by its number."""
    optimizer = torch.optim.SGD(groups or network.parameters(), **{"lr": BASE, "momentum": 0.9, **(settings or {})})
    for number, parameter in enumerate(network.parameters()):
        optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, number / 1000)
    content = {"epoch": 2, "state_dict": network.state_dict(), "best_acc1": 61.5, "optimizer": optimizer.state_dict()}
    torch.save({key: value for key, value in {**content, **more}.items() if value is not None}, path)
    return path


def _resumed(path, *options: str):
    """A step that goes on from the file, by a setup as the command line makes it, and the lines for the log."""
    config = RunConfig.from_argv(["--resume", str(path), *SHORT, *GO_ON, *options])
    config, _, weights = source.origin(config)
    recipe = recipes.choose_recipe(config, open_device("cpu"))
    plan = Plan(recipe.epochs, STEPS, recipe.epochs * STEPS, 1, None, 1)
    level, spec = precision(recipe.precision), NetworkSpec.from_recipe(recipe, 3)
    setup = TrainingSetup(config, open_device("cpu"), ALONE, recipe, spec, level, None, plan, 1, None)
    setup = weights.run.continued(setup)
    network = SmallNetwork(3, 0.0, 0.0)
    weights.load(network)
    loaded = {name: value.clone() for name, value in network.state_dict().items()}
    step = TrainingStep(network, setup)
    return step, weights.run.load(step, loaded, setup)


def test_momentum_finds_its_parameter_where_the_old_network_has_another_order(tmp_path):
    old = _in_other_order(3)
    step, _ = _resumed(_file(tmp_path / "checkpoint.pth.tar", old))
    numbers = {name: number for number, (name, _) in enumerate(old.named_parameters())}
    assert list(numbers) != list(step.weights.masters)
    for name, weight in step.weights.masters.items():
        assert step.optimizer.state[weight]["momentum_buffer"].unique().tolist() == [
            pytest.approx(numbers[name] / 1000)
        ]


def test_groups_of_equal_weight_decay_belong_together(tmp_path):
    """PNASNet's program puts the parameters without decay first; here they are last."""
    old = SmallNetwork(3, 0.0, 0.0)
    flat = [one for one in old.parameters() if one.ndim <= 1]
    rest = [one for one in old.parameters() if one.ndim > 1]
    groups = [{"params": flat, "weight_decay": 0}, {"params": rest, "weight_decay": 1e-4}]
    path = _file(tmp_path / "checkpoint.pth.tar", old, groups=groups)
    step, _ = _resumed(path, "--decayed", "weights")
    for number, (name, _) in enumerate(old.named_parameters()):
        momentum = step.optimizer.state[step.weights.masters[name]]["momentum_buffer"]
        assert momentum.unique().tolist() == [pytest.approx(number / 1000)]
    with pytest.raises(UsageError, match=r"is not this run's \(of 5 \+ 5 parameters and not 10\); give the old run's"):
        _resumed(path)


O2 = ("--precision", "O2", "--loss-scale", "dynamic")


def test_weights_of_half_precision_keep_what_float32_has(tmp_path):
    """Masters are the file's weights, not those rounded for the network."""
    old = SmallNetwork(3, 0.0, 0.0)
    step, lines = _resumed(
        _file(tmp_path / "x.pth.tar", old, amp={"loss_scaler0": {"loss_scale": 512.0, "unskipped": 9}}), *O2
    )
    assert not torch.equal(old.fc.weight.half().float(), old.fc.weight)
    assert torch.equal(step.weights.masters["fc.weight"], old.fc.weight)
    assert torch.equal(step.network.fc.weight, old.fc.weight.half())
    assert (step.loss_scale.get_scale(), step.loss_scale.state_dict()["scaler"]["_growth_tracker"]) == (512, 9)
    assert "taken from it: weights, momentum of 10 parameters, loss scale 512, best accuracy 61.500 %" in lines
    assert any(line.startswith("not in it: float32 master weights") for line in lines)


@pytest.mark.parametrize(
    ("options", "amp", "said"),
    [
        (O2, None, "not in it: loss scale (here from 65536), float32 master"),
        (O2, {"loss_scaler0": "x"}, "not in it: loss scale (here from 65536), float32 master"),
        (("--precision", "O2", "--loss-scale", "128"), 1024.0, "note: the file's loss scale is 1024 and this"),
        (("--precision", "O2"), 1024.0, "taken from it: weights, momentum of 10 parameters, loss scale 1024, best"),
        ((), 1024.0, "note: the file's loss scale 1024 is left: O0 needs none"),
        (("--learning-rate", "0.2"), None, "note: the old run had learning rate 0.1 in epoch 2, and"),
        (("--weight-decay", "4e-5"), None, "note: the old run had weight decay 0.0001, and se_resnet50_1p has 4e-05"),
        (("--momentum", "0.8"), None, "note: the old run had momentum 0.9, and se_resnet50_1p has 0.8"),
        (("--momentum", "0"), None, "taken from it: weights, best accuracy 61.500 %"),
        (("--ema-decay", "0.9"), None, "taken from it: weights, momentum of 10"),
    ],
)
def test_what_differs_is_said(options, amp, said, tmp_path):
    saved = {"loss_scaler0": {"loss_scale": amp, "unskipped": 0}} if isinstance(amp, float) else amp
    path = _file(tmp_path / "x.pth.tar", SmallNetwork(3, 0.0, 0.0), {"weight_decay": 1e-4}, amp=saved)
    step, lines = _resumed(path, *options)
    assert any(line.startswith(said) for line in lines), lines
    for name, value in step.average.entries.items():
        assert torch.equal(value, step.weights.state_dict()[name])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"optimizer": None}, "not in it: momentum (zero here), order"),
        (
            {"best_acc1": torch.tensor([61.5])},
            "taken from it: weights, momentum of 10 parameters, best accuracy 61.500 %",
        ),
        ({"best_acc1": "very good"}, "not in it: best accuracy, order of the images"),
        ({"scheduler": {}, "args": 1}, "note: in the file and not used: scheduler, args"),
    ],
)
def test_what_is_in_the_file_is_said(more, said, tmp_path):
    _, lines = _resumed(_file(tmp_path / "x.pth.tar", SmallNetwork(3, 0.0, 0.0), **more))
    assert any(line.startswith(said) for line in lines), lines


ADAM = {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"params": [*range(10)], "weight_decay": 0}]}
SHIFTED = {
    "state": {0: {"momentum_buffer": torch.ones(7)}},
    "param_groups": [{"params": [*range(10)], "weight_decay": 0}],
}


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ({"epoch": 4}, "x.pth.tar", "has 4 epochs done, 20 steps, and se_resnet50_1p ends after 20; give"),
        ({"epoch": None}, "x.pth.tar", "does not say how many epochs are done; name it checkpoint-E.pth.rar"),
        ({"epoch": 2.5}, "checkpoint-2.pth.tar", "does not say how many epochs are done"),
        ({"epoch": None}, "checkpoint-4.pth.rar", "has 4 epochs done, 20 steps"),
        ({"epoch": None, "optimizer": None}, "checkpoint-2.pth.rar", "holds weights and no run that could go on"),
        ({"version": 2}, "x.pth.tar", "is no checkpoint of an original port; start a new run"),
        ({"optimizer": ADAM}, "x.pth.tar", r"is not this run's \(of exp_avg, and here SGD\)"),
        ({"optimizer": SHIFTED}, "x.pth.tar", r"the momentum of stem.0.weight is \[7\], not \[16, 3, 3, 3\]"),
        ({"optimizer": {"state": {}}}, "x.pth.tar", "is none of torch's; start a new run"),
        ({"optimizer": {"state": 3, "param_groups": ADAM["param_groups"]}}, "x.pth.tar", "is not this run's"),
        (
            {"state_dict": {**SmallNetwork(3, 0.0, 0.0).state_dict(), "aux.x": torch.ones(1)}},
            "x.pth.tar",
            "has an auxiliary",
        ),
        ({"state_dict": {"fc.weight": torch.ones(3, 16)}}, "x.pth.tar", "does not fit the network"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(more, name, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        _resumed(_file(tmp_path / name, SmallNetwork(3, 0.0, 0.0), **more))


def test_a_run_goes_on_with_its_own_classes_and_mode(run_in, tiny, tmp_path, capsys):
    state = with_names(SmallNetwork(3, 0.0, 0.0).state_dict(), ["class1", "class0", "class2"])
    path = _file(tmp_path / "x.pth.tar", SmallNetwork(3, 0.0, 0.0), state_dict=state)
    assert run_in(tmp_path / "run", "--resume", str(path), *GO_ON).status == 2
    assert "goes on with its own classes, and the data set has another order of the classes" in capsys.readouterr().err
    assert run_in(tmp_path / "run", "--resume", str(path), *GO_ON, mode="finetune").status == 2
    assert "finetune starts a new run; name the weights with --checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
