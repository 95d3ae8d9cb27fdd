"""A new head on somebody's weights: what is taken over, what is new, what is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.small_network import SmallNetwork  # noqa: E402

SMALL = ["--image-size", "32", "--batch-size", "4", "--epochs", "1", "--workers", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as the originals write them, of a network with seven classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "model_best.pth.tar"
    state = {f"module.{name}": value for name, value in SmallNetwork(7, 0.0, 0.0).state_dict().items()}
    torch.save({"epoch": 3, "arch": "resnext101_32x8d", "state_dict": state}, path)
    return path


@pytest.fixture
def finetune(run_in, tiny, tmp_path):
    def start(*options):
        arguments = ["--data-path", str(tiny.folder), *SMALL, *options]
        return run_in(tmp_path / "tuned", *arguments, plain=True, mode="finetune")

    return start


def test_the_body_is_taken_over_and_the_head_is_new(weights, finetune, tiny):
    run = finetune(
        "--checkpoint", str(weights), "--network", "se_resnet50", "--num-classes", str(tiny.classes), "--freeze-body"
    )
    assert run.status == 0
    assert run.record["mode"] == "finetune"
    before = torch.load(weights, weights_only=True)["state_dict"]
    after = run.training()["network"]
    assert after["fc.weight"].shape == (tiny.classes, 16)
    assert torch.equal(after["layer1.0.weight"], before["module.layer1.0.weight"])
    assert torch.equal(after["stem.1.running_mean"], before["module.stem.1.running_mean"])


def test_a_head_of_other_classes_is_replaced_without_being_asked(weights, finetune, tiny):
    run = finetune("--checkpoint", str(weights), "--network", "se_resnet50", "--max-steps", "1")
    assert run.status == 0
    assert run.training()["network"]["fc.weight"].shape == (tiny.classes, 16)
    assert "fc" in (run.folder / "train.log").read_text()


def test_a_head_that_fits_is_kept(finetune, tiny, tmp_path):
    torch.manual_seed(2)
    state = SmallNetwork(tiny.classes, 0.0, 0.0).state_dict()
    torch.save(state, tmp_path / "own.pth")
    run = finetune(
        "--checkpoint",
        str(tmp_path / "own.pth"),
        "--network",
        "se_resnet50",
        "--max-steps",
        "1",
        "--learning-rate",
        "1e-9",
    )
    torch.testing.assert_close(run.training()["network"]["fc.weight"], state["fc.weight"], rtol=0, atol=1e-6)


def test_a_fine_tuning_needs_weights(finetune, capsys):
    assert finetune().status == 2
    assert "finetune starts from weights" in capsys.readouterr().err


def test_weights_of_another_network_are_refused(weights, finetune, tmp_path, capsys):
    state = torch.load(weights, weights_only=True)["state_dict"]
    torch.save({name.replace("layer1", "layer9"): value for name, value in state.items()}, tmp_path / "other.pth")
    assert finetune("--checkpoint", str(tmp_path / "other.pth"), "--network", "se_resnet50").status == 2
    assert "does not fit the network" in capsys.readouterr().err
