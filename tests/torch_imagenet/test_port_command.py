"""Command lines of the old programs, run: what is said of them, and the processes that an old script starts."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch_imagenet.main  # noqa: E402
from torch_imagenet.distributed.environment import process_environment  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402

HALF = Path(torch_imagenet.main.__file__).parent
# One process of SE-ResNet-50's train_full_8p.sh, on two devices and small.
SCRIPT = (
    "--port se_resnet50 --addr=10.1.1.1 --seed=49 --workers=2 --learning-rate=0.000001 --mom=0.9"
    " --weight-decay=1.0e-04 --print-freq=1 --dist-url=tcp://127.0.0.1:50009 --dist-backend=hccl"
    " --multiprocessing-distributed --world-size=1 --rank=0 --device=cpu --epochs=1 --batch-size=8 --device_list=0,1"
)


def test_the_translation_is_a_line_of_the_log(run_in, tmp_path):
    done = run_in(tmp_path / "run", "--port", "se_resnet50", "--device", "cpu", "-b", "4", "--max-steps", "1")
    assert done.status == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("port se_resnet50: read as train --network se_resnet50 --") == 1
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["options"]["port"] == "se_resnet50"
    assert config["recipe"]["precision"] == "O0"  # --amp was not given


def test_a_note_is_a_line_of_the_log(run_in, tmp_path):
    done = run_in(tmp_path / "run", "--max_step", "1")
    assert done.status == 0
    assert "note: --max_step ends the training; in PNASNet's old" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("local_rank", [0, 5])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_process_of_an_old_script_finds_its_rank(local_rank, nodes):
    words = f"--port se_resnet50 /d --multiprocessing-distributed --gpu {local_rank} --world-size {nodes}"
    config = RunConfig.from_argv([*words.split(), "--rank", str(nodes - 1), "--addr", "10.1.1.1"])
    place = process_environment(config, {})
    rank = 8 * (nodes - 1) + local_rank
    assert (place.rank, place.size, place.local_rank, place.local_size) == (rank, 8 * nodes, local_rank, 8)
    address = "127.0.0.1" if nodes == 1 else "10.1.1.1"
    expected = {"RANK": str(rank), "WORLD_SIZE": str(8 * nodes), "MASTER_ADDR": address, "MASTER_PORT": "29688"}
    assert place.variables == expected


def test_the_environment_of_a_launcher_goes_first():
    config = RunConfig.from_argv("--port senet154 --distributed --local_rank 1".split())
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert process_environment(config, {**torchrun, "MASTER_ADDR": "h", "MASTER_PORT": "1"}).rank == 5


@pytest.mark.slow
def test_two_processes_that_an_old_script_starts_train_together(tiny, tmp_path):
    command = [sys.executable, str(HALF / "main.py"), str(tiny.folder), *SCRIPT.split()]
    command += ["--image-size", "32", "--max-steps", "1", "--output-dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, f"--gpu={rank}"], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    first, second = (process.communicate(timeout=300)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert "port se_resnet50: read as" in first
    assert second == ""
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (record["device"]["count"], record["batch_size"], record["global_batch_size"]) == (2, 4, 8)


def test_pnasnets_start_file_is_main_with_its_port(monkeypatch):
    seen = []
    monkeypatch.setattr(torch_imagenet.main, "main", lambda argv: seen.append(list(argv)) or 7)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["imagenet_fast.py", "--data", "d", "--max_step", "9"])
    with pytest.raises(SystemExit) as raised:
        runpy.run_path(str(HALF / "imagenet_fast.py"), run_name="__main__")
    assert raised.value.code == 7
    config = RunConfig.from_argv(seen[0])
    assert (config.network, config.data_path, config.steps_per_epoch) == ("pnasnet5large", "d", 9)
