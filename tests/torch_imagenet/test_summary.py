"""What the ImageNet networks cost, against the published tables, and what the mode prints."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch_imagenet.main import main  # noqa: E402
from torch_imagenet.networks.cost import network_cost  # noqa: E402
from torch_imagenet.networks.spec import NetworkSpec  # noqa: E402

# timm's benchmark-infer tables (fvcore): multiply-adds in G, activations in M, parameters in M.
REFERENCE = {
    "senet154": (224, (20.77, 38.69, 115.09)),
    "se_resnet50": (224, (4.11, 11.13, 28.09)),  # timm's seresnet50, whose stride is in the 3x3 too
    "se_resnet50_caffe": (224, (3.88, 10.60, 28.09)),
    "pnasnet5large": (331, (25.04, 92.89, 86.06)),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_agrees_with_the_reference_to_one_percent(name):
    size, wanted = REFERENCE[name]
    cost = network_cost(NetworkSpec(name, 1000), size)
    found = (cost.multiply_adds / 1e9, cost.activations / 1e6, cost.parameters / 1e6)
    assert found == pytest.approx(wanted, rel=0.01)


def test_a_head_that_only_trains_is_not_counted():
    with_one = NetworkSpec("pnasnet5large", 10, options={"auxiliary_head": True})
    assert network_cost(with_one, 96) == network_cost(NetworkSpec("pnasnet5large", 10), 96)


def test_counting_draws_nothing_from_the_generator_that_weights_come_from():
    torch.manual_seed(0)
    network_cost(NetworkSpec("se_resnet50", 10), 32)
    after = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), after)


def test_the_mode_prints_it(capsys):
    options = ["--network", "senet154", "--precision", "bf16", "--batch-size", "32"]
    assert main(["summary", *options, "--peak-flops", "790e12", "--memory-bandwidth", "4.3e12"]) == 0
    out = capsys.readouterr().out
    assert "parameters: 115,088,984" in out
    assert "activations: 38.69 M" in out
    assert "memory, usual kernels       8.061 ms        3,970 images/s" in out


def test_the_log_says_which_share_of_the_floor_is_reached(run_in, tmp_path):
    run = run_in(tmp_path / "run", "--peak-flops", "1e12", "--memory-bandwidth", "1e11", "--epochs", "2")
    assert run.status == 0
    assert " % of the median step's " in (run.folder / "train.log").read_text()
