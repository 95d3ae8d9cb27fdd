"""The wheel and the checkout read each other's checkpoints, and train alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.support import wheel  # noqa: E402
from tests.torch_imagenet.small_network import create_small  # noqa: E402
from torch_imagenet import classifier  # noqa: E402
from torch_imagenet.networks import spec as network_spec  # noqa: E402

USE = """
import json, sys
import torch
from se_pnas_kit.torch_imagenet import classifier
from se_pnas_kit.torch_imagenet.main import main
from se_pnas_kit.torch_imagenet.networks import spec
from small_network import create_small

torch.set_num_threads(1)
spec.create = create_small
run, image, epochs = sys.argv[1:]
answers = classifier(run, device="cpu")(image)
status = main(["train", "--resume", run, "--epochs", epochs, "--workers", "1"])
foreign = [name for name in sys.modules if name.split(".")[0] in ("shared", "tf_seresnet", "torch_imagenet")]
print(json.dumps([status, answers, foreign]))
"""


def same(found, expected) -> bool:
    """Of nested containers of tensors."""
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


@pytest.mark.slow
def test_runs_go_on_from_the_checkout_to_the_wheel_and_back(run_in, tiny, tmp_path, monkeypatch):
    """Two epochs in the checkout, a third in the wheel, which is the one of the checkout, a fourth in the checkout."""
    run = run_in(tmp_path / "run")
    twin = run.at(tmp_path / "twin")
    shutil.copytree(run.folder, twin.folder, symlinks=True)
    image = str(next(tiny.folder.rglob("*.png")))
    site = wheel.installed(tmp_path / "wheel")
    monkeypatch.setattr(network_spec, "create", create_small)
    expected = classifier(str(run.folder), device="cpu")(image)

    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.syspath_prepend(str(wheel.ROOT / "scripts"))
    import build_backend

    small = (Path(__file__).parent / "small_network.py").read_text(encoding="utf-8")
    (project / "small_network.py").write_text(build_backend.moved(small, "small_network.py"), encoding="utf-8")
    status, output, error = wheel.beside_a_foreign_shared(site, project, "-c", USE, str(run.folder), image, "3")
    assert (status, error) == (0, "")
    status, answers, foreign = json.loads(output.splitlines()[-1])
    assert (status, foreign) == (0, [])
    assert [tuple(answer) for answer in answers] == expected

    options = ["--workers", "1"]
    assert run_in(twin.folder, "--resume", str(twin.folder), "--epochs", "3", *options, plain=True).status == 0
    assert same(run.training(), twin.training())
    assert run_in(run.folder, "--resume", str(run.folder), "--epochs", "4", *options, plain=True).status == 0
    assert 3 * run.record["steps_completed"] == 4 * twin.record["steps_completed"]
