"""What is refused before several processes start, and what is made of their end."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from shared.errors import UsageError  # noqa: E402
from shared.recipes.imagenet import ImageNetRecipe  # noqa: E402
from shared.run.progress import Progress  # noqa: E402
from torch_imagenet.devices.device import open_device, several  # noqa: E402
from torch_imagenet.distributed import launch  # noqa: E402
from torch_imagenet.distributed.process_group import ALONE  # noqa: E402
from torch_imagenet.input_pipeline.dataset import load_data  # noqa: E402
from torch_imagenet.main import main  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402
from torch_imagenet.run.recipe import choose_recipe, resumed_recipe  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def _refused(capsys, *words):
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "--num-devices", "2"), "error: the mode profile looks at one device; leave"),
        (
            ("check-port", "--device", "cpu", "--num-devices", "2", "--sync-bn"),
            "error: check-port compares the layers of",
        ),
        (("check-port", "--device", "cpu", "--num-devices", "2", "--compile"), "error: check-port compares compiled"),
        (("check-port", "--device", "cpu", "--num-devices", "2", "--max-restarts", "1"), "error: check-port ends with"),
        (("train", "--distributed", "--device", "cpu"), "error: --distributed on the CPU needs a number of processes;"),
        (("train", "--sync-bn", "--device", "cpu"), "error: --sync-bn is for several devices; add --distributed"),
        (
            ("benchmark", "--device", "cpu", "--nnodes", "2", "--num-devices", "1"),
            "error: several machines need --node-rank (0 on the first) and --master-addr",
        ),
        (
            tuple("benchmark --device cpu --nnodes 2 --num-devices 1 --node-rank 2 --master-addr 127.0.0.1".split()),
            "error: --node-rank 2 of --nnodes 2; it counts from 0",
        ),
        (("evaluate", "--device", "cpu", "--num-devices", "2", "--checkpoint", "/nowhere"), "error: no checkpoint at"),
    ],
)
def test_refused_in_one_line_before_anything_starts(capsys, monkeypatch, words, message):
    monkeypatch.setattr(launch, "elastic_launch", None)
    assert _refused(capsys, *words).startswith(message)


def test_a_training_of_several_is_looked_at_before_it_starts(capsys, monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(launch, "elastic_launch", None)
    common = ("train", "--device", "cpu", "--num-devices", "3", "--output-dir", str(tmp_path / "run"))
    line = _refused(capsys, *common, "--data-path", str(tmp_path / "no"))
    assert line.startswith(f"error: {tmp_path / 'no'} does not exist;")
    line = _refused(capsys, *common, "--data-path", str(tiny.folder), "--batch-size", "8")
    assert line.startswith("error: a step of 24 images is larger than the training set of 21;")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_log_level_that_torch_does_not_know_is_one_line(tmp_path):
    """torch's launcher reads LOGLEVEL as it loads, and an empty one is none of its levels."""
    command = [sys.executable, "-m", "torch_imagenet.main", "benchmark", "--device", "cpu", "--num-devices", "2"]
    environment = {**os.environ, "LOGLEVEL": "", "KIT_CACHE": str(tmp_path)}
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "error: torch's launcher does not load (LOGLEVEL=: " in ended.stderr.splitlines()[-1]


def test_more_devices_than_there_are(monkeypatch):
    of_a_card = {"get_device_capability": lambda index: (9, 0), "get_arch_list": lambda: ["sm_90"]}
    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 4, **of_a_card)
    monkeypatch.setattr(torch, "cuda", cuda)
    assert several("cuda", None, count_all=2).count == 8
    assert several("gpu", 3).count == 3
    with pytest.raises(UsageError, match="--num-devices 8, but this machine has 4 cuda; lower it"):
        several("cuda", 8)
    with pytest.raises(UsageError, match="--device cuda:1 is one device, and several are requested; write"):
        several("cuda:1", 2)


def test_the_linear_scaling_rule(tiny):
    """0.1 is documented for 128 images a step: 2 x 16 x 4 devices are as many, 1 x 16 x 4 half as many."""
    device = dataclasses.replace(open_device("cpu"), count=4)
    words = ["--recipe", "se_resnet50_1p", "--data-path", str(tiny.folder), "--batch-size", "16"]
    for more, rate in (
        ([], 0.1),
        (["--scale-learning-rate", "--accumulate", "2"], 0.1),
        (["--scale-learning-rate"], 0.05),
        (["--scale-learning-rate", "--learning-rate", "0.4"], 0.2),
    ):
        config = RunConfig.from_argv([*words, *more])
        data = load_data(config)
        recipe = choose_recipe(config, device, data)
        assert recipe.schedule.base == pytest.approx(rate)
        stored = {
            "recipe": recipe.to_json(),
            "data": {"fingerprint": data.content.fingerprint},
            "progress": dataclasses.asdict(Progress()),
        }
        assert resumed_recipe(config, stored, data) == recipe  # the same command goes on after a restart
        assert isinstance(recipe, ImageNetRecipe)


# -- how it ended ----------------------------------------------------------------------------------------------


def _failure(rank, exitcode, timestamp, told=None):
    return SimpleNamespace(local_rank=rank, exitcode=exitcode, timestamp=timestamp, error_file=str(told or "<N/A>"))


CONFIG = RunConfig.from_argv(["--node-rank", "1", "--num-devices", "4"])


def test_the_rank_that_told_why_is_the_reason(tmp_path):
    told = tmp_path / "error.json"
    told.write_text("{}")
    failures = [_failure(0, -9, 1), _failure(1, 2, 3, told), _failure(2, 143, 2), _failure(3, -15, 1)]
    with pytest.raises(SystemExit) as ended:
        launch._explain(failures, CONFIG)
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        launch._explain([_failure(0, -15, 3, told), _failure(2, -9, 1)], CONFIG)  # ended on its way out
    assert ended.value.code == 2


def test_a_killed_rank_is_named_with_its_number_among_all():
    failures = [_failure(0, -15, 1), _failure(2, -9, 5), _failure(3, 2, 2)]
    with pytest.raises(UsageError, match=r"rank 6 was ended by SIGKILL \(out of memory\?\); start it again"):
        launch._explain(failures, CONFIG)


def test_a_mode_without_restarts_does_not_advise_one():
    config = dataclasses.replace(CONFIG, mode="check-port")
    with pytest.raises(UsageError, match=r"SIGSEGV; start it again$"):
        launch._explain([_failure(0, -11, 1)], config)


def test_ranks_that_were_stopped_end_as_stopped():
    with pytest.raises(SystemExit) as ended:
        launch._explain([_failure(0, 143, 2), _failure(1, -15, 1)], CONFIG)
    assert ended.value.code == 143


def test_where_to_go_on(tmp_path):
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    config = RunConfig.from_argv(["--num-devices", "2", "--output-dir", str(tmp_path)])
    with pytest.raises(UsageError, match=f"rank 1 was ended by SIGSEGV; go on with --resume {tmp_path}, or let"):
        launch._explain([_failure(1, -11, 1)], config)


# -- one process alone -----------------------------------------------------------------------------------------


def test_one_process_alone_needs_nobody():
    assert ALONE.is_first
    assert ALONE.broadcast_result(lambda: 7) == 7
    ALONE.require_equal("data set", "x")
    assert ALONE.gather(7) == [7]
    alone = torch.ones(2)
    ALONE.average([alone])
    assert alone.tolist() == [1, 1]
    assert ALONE.all_reduce(None, [["a"]]) == (None, [["a"]])
    assert ALONE.receive() == []
    assert ALONE.agreed_stop(0) is None
    ALONE.barrier()
