"""benchmarks/contenders of the ImageNet half: both sides do the same work, and the rows run at the smallest sizes."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from benchmarks import images, run  # noqa: E402
from benchmarks.rows import OURS, groups_of  # noqa: E402
from benchmarks.torchvision_import import import_torchvision  # noqa: E402
from tests.benchmarks.rows_run import run_rows  # noqa: E402

try:  # before timm imports it, and in no test's time
    import_torchvision()
except ModuleNotFoundError:
    pytest.skip("torchvision is not installed", allow_module_level=True)
pytest.importorskip("timm")
importlib.import_module("torch._dynamo")  # the first optimizer loads it

STEP = {"network": "se_resnet50_caffe", "device": "cpu", "batch": 2, "size": 32, "precision": "O0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "images"
    images.write_images(folder, per_split=4)
    return str(folder)


def test_both_pipelines_read_as_many_images(data):
    from benchmarks.contenders import imagenet_input

    options = {"data": data, "size": 32, "batch": 2, "images": 6}
    sides = [imagenet_input.torchvision({**options, "dtype": kind}) for kind in ("float32", "uint8")]
    for side in [imagenet_input.ours(options), *sides]:
        assert side.processor_time
        assert [side.run(attempt) for attempt in range(2)] == [8, 8]  # two epochs of the four images


def test_timms_network_has_as_many_parameters_as_ours():
    import timm

    from benchmarks.contenders.imagenet_step import TIMM
    from torch_imagenet.networks import create

    for name, other in TIMM.items():
        options = {"auxiliary_head": False} if name == "pnasnet5large" else {}
        with torch.device("meta"):
            networks = create(name, num_classes=1000, **options), timm.create_model(other, num_classes=1000)
        ours, theirs = (sum(parameter.numel() for parameter in network.parameters()) for network in networks)
        assert ours == theirs, name


def test_a_peer_is_not_set_up_by_this_program(monkeypatch):
    """Opening a device sets what holds for the whole process, as the allocator, which must not help a peer."""
    from benchmarks.contenders import imagenet_evaluation, imagenet_step

    for module in (imagenet_step, imagenet_evaluation):
        monkeypatch.setattr(module, "open_device", lambda name: pytest.fail("a peer has opened the device"))
    assert imagenet_step.timm(STEP).run(0) == 2


def test_our_side_has_the_environment_that_the_program_makes(monkeypatch):
    from torch_imagenet import main
    from torch_imagenet.options import RunConfig

    for name in ("OMP_WAIT_POLICY", *OURS):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    main._load_torch(RunConfig.from_argv([]))
    assert dict(os.environ) == {**before, **OURS}
    for group in groups_of("cpu", "cpu"):
        for name, side in group.sides.items():
            program = side.target in ("imagenet_step:ours", "imagenet_evaluation:ours")
            assert side.environment == (OURS if program else {}), name


@pytest.mark.slow
def test_a_row_runs_at_the_smallest_size(tmp_path, capsys):
    names = ["evaluation"]
    run_rows(tmp_path, *names)
    assert sorted(path.stem for path in (tmp_path / "cpu").iterdir()) == sorted(names)
    assert "failed" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_rows_of_a_gpu_run_on_the_cpu(tmp_path, capsys, monkeypatch):
    """Those of one network, and the checks: what they find on a CPU is nothing."""
    groups = groups_of("cuda", "cpu", tiny=True)
    monkeypatch.setattr(run, "groups_of", lambda *_: groups)
    names = ["synchronisation", "step-se_resnet50_caffe-channels_last"]
    run_rows(tmp_path, *names)
    said = capsys.readouterr().out
    assert "synchronisation: passed" in said
    assert (Path(tmp_path) / "cpu" / "step-se_resnet50_caffe-channels_last.json").is_file()


def test_timms_network_is_one_of_the_programs_networks(monkeypatch):
    from benchmarks.contenders import timm_training
    from torch_imagenet.networks import spec
    from torch_imagenet.networks.registry import NETWORKS
    from torch_imagenet.run import log_lines

    name = timm_training.NAME
    monkeypatch.setattr(spec, "create", spec.create)  # what is registered goes with the test
    monkeypatch.setitem(NETWORKS, name, NETWORKS["se_resnet50"])
    monkeypatch.setitem(log_lines._FORMS, name, log_lines._FORMS["se_resnet50"])
    timm_training.register()
    network = spec.NetworkSpec(name, 10).make(zero_init=True)
    assert type(network).__module__ == "timm.models.resnet"
    assert sum(parameter.numel() for parameter in network.parameters()) == 26_059_514
    assert network.get_submodule(NETWORKS[name].head).out_features == 10
    assert not any(block.bn3.weight.any() for block in network.modules() if hasattr(block, "bn3"))
    assert type(spec.NetworkSpec("se_resnet50", 10).make()).__name__ == "SEResNet50"
