"""A checkpoint of the old PNASNet program is evaluated and trained on as that program did, and the log says so."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from torch_imagenet.networks import spec as network_spec  # noqa: E402

SIDE = 32


class Network(nn.Module):
    """A few of PNASNet's tensors, and an output that depends on the padding, as its own does."""

    def __init__(self, num_classes, zero_pad=True, auxiliary_head=False):
        super().__init__()
        conv = nn.Conv2d(3, 8, 3, stride=2)
        self.cell_stem_0 = nn.ModuleDict({"conv_1x1": nn.ModuleDict({"conv": conv})})
        self.last_linear = nn.Linear(8, num_classes)
        self.aux = nn.ModuleDict({"classifier": nn.Linear(8, num_classes)}) if auxiliary_head else None
        self.sign = 1 if zero_pad else -1

    def forward(self, images):
        features = torch.relu(self.cell_stem_0["conv_1x1"]["conv"](images)).mean(dim=(2, 3))
        logits = self.sign * self.last_linear(features)
        return (logits, self.aux["classifier"](features)) if self.aux is not None and self.training else logits


@pytest.fixture
def run(run_in, tiny, tmp_path, monkeypatch):
    """run(name, mode, *options) -> the run, and what it has logged."""
    monkeypatch.setattr(
        network_spec, "create", lambda name, num_classes, dropout, drop_path, **options: Network(num_classes, **options)
    )

    def start(name, mode, *options):
        words = ["--image-size", str(SIDE), "--batch-size", "4", "--device", "cpu", "--workers", "1"]
        done = run_in(
            tmp_path / name, *words, "--data-path", str(tiny.folder), *options, mode=mode, plain=True, real=True
        )
        log = done.folder / "train.log"
        return done, log.read_text() if done.status == 0 else ""

    return start


@pytest.fixture
def old_file(tiny, tmp_path):
    """What the program writes for its best epoch, and the network in it."""
    torch.manual_seed(3)
    network = Network(tiny.classes, zero_pad=False, auxiliary_head=True).eval()
    with torch.no_grad():
        network.last_linear.weight.mul_(20)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 90, "state_dict": state, "acc": 79.6, "best_acc": 79.6, "optimizer": {}}, path)
    return path, network


def _loss(torchvision, network, folder, mean, std):
    """By torchvision's transforms, in plain torch: the mean cross-entropy of the validation images."""
    t = torchvision.transforms
    transform = t.Compose([t.Resize(int(SIDE / 0.875)), t.CenterCrop(SIDE), t.ToTensor(), t.Normalize(mean, std)])
    files = sorted((folder / "val").glob("*/*.png"))
    images = torch.stack([transform(Image.open(file)) for file in files])
    labels = torch.tensor([int(file.parent.name[-1]) for file in files])
    with torch.no_grad():
        return nn.functional.cross_entropy(network(images), labels).item()


ZERO, ONE, HALF = [0.0] * 3, [1.0] * 3, [0.5] * 3


def test_it_is_evaluated_as_its_program_did(run, old_file, tiny, torchvision):
    path, network = old_file
    done, log = run("evaluated", "evaluate", "--checkpoint", str(path))
    expected = _loss(torchvision, network, tiny.folder, ZERO, ONE)
    assert done.record["evaluation"]["loss"] == pytest.approx(expected, rel=1e-5)
    assert (done.record["network"], done.record["recipe"]) == ("pnasnet5large", "pnasnet5large_1p_as_run")
    assert "the old PNASNet port's: a network without zero padding, images that are not normalised" in log
    assert "3 classes, without zero padding, inputs not normalised" in log
    assert "note: --" not in log


def test_options_override_the_files_form_and_the_log_says_what_they_contradict(run, old_file, tiny, torchvision):
    path, network = old_file
    done, log = run("other", "evaluate", "--checkpoint", str(path), "--normalisation", "own", "--zero-pad")
    network.sign = 1
    expected = _loss(torchvision, network, tiny.folder, HALF, HALF)
    assert done.record["evaluation"]["loss"] == pytest.approx(expected, rel=1e-5)
    assert "note: --normalisation own, and the weights were trained with --normalisation none" in log
    assert "note: --zero-pad, and the weights were trained with --no-zero-pad" in log


def test_published_weights_keep_their_padding_and_normalisation(run, old_file, tiny, tmp_path, torchvision):
    _, network = old_file
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("aux.")}
    torch.save(state, tmp_path / "published.pth")
    words = ["--checkpoint", str(tmp_path / "published.pth"), "--network", "pnasnet5large"]
    done, log = run("evaluated", "evaluate", *words)
    network.sign = 1
    expected = _loss(torchvision, network, tiny.folder, HALF, HALF)
    assert done.record["evaluation"]["loss"] == pytest.approx(expected, rel=1e-5)
    assert "classes, drop-path 0.4, with zero padding, " in log
    tuned, log = run("tuned", "finetune", *words, "--max-steps", "1")
    assert (tuned.recipe["name"], tuned.recipe["zero_pad"]) == ("pnasnet5large_finetune", True)


def test_weights_that_do_not_say_how_they_were_trained_are_pointed_out(run, old_file, tmp_path):
    _, network = old_file
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    words = ["--checkpoint", str(tmp_path / "bare.pth"), "--network", "pnasnet5large"]
    hint = "for weights of the old PNASNet port give --no-zero-pad --normalisation none"
    assert hint in run("one", "evaluate", *words)[1]
    log = run("two", "evaluate", *words, "--recipe", "pnasnet5large_8p_as_run")[1]
    assert hint not in log
    assert "without zero padding, inputs not normalised" in log


def test_a_training_from_it_stays_in_its_form_and_so_do_its_files(run, old_file, tiny, torchvision, capsys):
    path, _ = old_file
    done, log = run("tuned", "finetune", "--checkpoint", str(path), "--max-steps", "2", "--original-names")
    assert (done.recipe["name"], done.recipe["normalisation"]) == ("pnasnet5large_finetune_as_run", "none")
    assert (done.recipe["zero_pad"], done.recipe["drop_path"]) == (False, 0.0)
    assert "the old PNASNet port's" in log
    trained = Network(tiny.classes, zero_pad=False).eval()
    trained.load_state_dict(done.training()["network"], strict=False)
    expected = _loss(torchvision, trained, tiny.folder, ZERO, ONE)
    assert done.record["evaluation"]["loss"] == pytest.approx(expected, rel=1e-5)
    for name in ("model.pth", "checkpoint.pth.tar"):
        words = ["--checkpoint", str(done.folder / name), "--network", "pnasnet5large"]
        again, log = run(f"again-{name}", "evaluate", *words)
        assert again.record["evaluation"]["loss"] == pytest.approx(expected, rel=1e-5), name
        assert "old PNASNet port" not in log
    capsys.readouterr()
    words = ["--checkpoint", str(done.folder), "--normalisation", "own"]
    assert run("refused", "evaluate", *words)[0].status == 2
    assert "trained with --normalisation none; leave --normalisation own out" in capsys.readouterr().err
    assert run("refused", "train", "--resume", str(done.folder), "--zero-pad")[0].status == 2
    assert "--zero-pad contradicts the run that is resumed" in capsys.readouterr().err
    further, log = run("further", "train", "--checkpoint", str(done.folder), "--zero-pad", "--max-steps", "1")
    assert (further.recipe["zero_pad"], further.recipe["normalisation"]) == (True, "none")
    assert "note: --zero-pad, and the weights were trained with --no-zero-pad" in log
