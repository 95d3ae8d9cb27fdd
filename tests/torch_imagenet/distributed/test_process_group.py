"""Several ranks compute what one does, and give what they write down only once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.distributed.jobs import (  # noqa: E402
    DRIVER,
    SHORT,
    TORCHRUN,
    Job,
    losses,
    record,
    same_bits,
    train,
    weights,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """48 images to train on, 31 to evaluate on."""
    return images(tmp_path_factory.mktemp("data") / "images", 48, 31)


def images(folder, training, validation):
    """Three classes of small images."""
    from PIL import Image

    random = np.random.RandomState(0)
    for split, number in (("train", training), ("val", validation)):
        for index in range(number):
            label = index % 3
            pixels = random.randint(0, 120, (40, 44, 3))
            pixels[..., label] += 120
            target = folder / split / f"class{label}"
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(target / f"image{index:04d}.png")
    return folder


def test_two_ranks_of_half_the_batch_are_one_of_the_whole(data, tmp_path):
    """Batch normalisation aside. With accumulation, averaging, momentum and smoothing; two epochs of three steps."""
    options = tuple(
        ("--epochs 2 --accumulate 2 --label-smoothing 0.1 --ema-decay 0.9 --clip-norm 1 --learning-rate 0.05").split()
    )
    train(tmp_path / "one", data, *options, "--batch-size", "8", RANKS_DRIVER_PLAIN="1")
    train(tmp_path / "two", data, *options, "--batch-size", "4", "--num-devices", "2", RANKS_DRIVER_PLAIN="1")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for part in ("network", "average"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    first, second = record(tmp_path / "one"), record(tmp_path / "two")
    assert second["device"]["count"] == 2
    for key in ("global_batch_size", "steps_completed", "images_trained", "epochs_completed"):
        assert first[key] == second[key], key
    assert first["evaluation"]["confusion"] == second["evaluation"]["confusion"]


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Two ranks, batch normalisation and dropout, two epochs of six steps."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder, data, *LONG)
    return folder


LONG = tuple("--epochs 2 --batch-size 4 --num-devices 2 --dropout 0.3 --drop-path 0.2 --save-steps 2".split())


@pytest.mark.slow
def test_torchrun_gives_the_ranks_that_our_launcher_starts(data, undisturbed, tmp_path):
    """In processes of their own from the start, and those of our launcher forked: no bit differs."""
    words = [*TORCHRUN, "2", DRIVER, "train", *SHORT, "--data-path", str(data), "--output-dir", str(tmp_path / "run")]
    job = Job([*words, *LONG[:4], *LONG[6:]], tmp_path / "out")
    assert job.end() == 0, job.text
    assert same_bits(weights(tmp_path / "run"), weights(undisturbed))
    assert record(tmp_path / "run")["evaluation"]["confusion"] == record(undisturbed)["evaluation"]["confusion"]


def _slurm(rank, port):
    return {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_JOB_ID": "7",
        "MASTER_PORT": str(port),
    }


def _kubernetes(rank, port):
    return {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}


@pytest.mark.parametrize("given", [_slurm, _kubernetes])
def test_ranks_of_a_scheduler_are_used_as_they_are(data, undisturbed, tmp_path, given):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = [DRIVER, "train", *SHORT, "--data-path", str(data), "--output-dir", str(tmp_path / "run"), "--distributed"]
    options = [*LONG[:4], *LONG[6:]]
    jobs = [Job([*words, *options], tmp_path / f"{rank}.out", **given(rank, port)) for rank in range(2)]
    assert [job.end() for job in jobs] == [0, 0], jobs[0].text + jobs[1].text
    assert same_bits(weights(tmp_path / "run"), weights(undisturbed))
    assert "test: top-1" in jobs[0].text
    assert jobs[1].text == ""  # one rank writes


@pytest.mark.parametrize("which", ["the launcher", "one rank"])
def test_stopped_by_a_signal_and_resumed_is_the_undisturbed_run(data, undisturbed, tmp_path, which):
    job = train(tmp_path / "run", data, *LONG, status=None)
    job.wait_for("Epoch: [0][2/6")
    pids = [job.process.pid] if which == "the launcher" else job.ranks()[1:]
    os.kill(pids[0], signal.SIGTERM)
    assert job.end() == 143, job.text
    assert "continue exactly with --resume" in job.text
    assert not (tmp_path / "run" / "result.json").exists()
    train(tmp_path / "run", data, *LONG, "--resume", str(tmp_path / "run"))
    assert same_bits(weights(tmp_path / "run"), weights(undisturbed))
    assert losses(tmp_path / "run") == losses(undisturbed)


@pytest.mark.slow
def test_evaluation_counts_are_the_same_at_any_number_of_ranks(tmp_path):
    """103 images at 1, 2, 3 and 4 ranks and batch sizes from 1 to 64, where one of four ranks has none."""
    data = images(tmp_path / "images", 12, 103)
    train(tmp_path / "trained", data, "--epochs", "1", "--batch-size", "4")
    seen = {}
    for ranks in (1, 2, 3, 4):
        folder = tmp_path / f"ranks-{ranks}"
        words = [
            DRIVER,
            "evaluate",
            "--checkpoint",
            str(tmp_path / "trained"),
            "--data-path",
            str(data),
            "--workers",
            "1",
            "--device",
            "cpu",
            "--output-dir",
            str(folder),
            "--num-devices",
            str(ranks),
        ]
        job = Job(words, tmp_path / f"{ranks}.out", RANKS_DRIVER_SIZES="1,7,33,64")
        assert job.end() == 0, job.text
        for size in (1, 7, 33, 64):
            seen[ranks, size] = record(folder / f"size-{size}")
    expected = seen[1, 64]["evaluation"]
    assert expected["images"] == 103
    assert np.asarray(expected["confusion"]).sum() == 103
    for (ranks, size), found in seen.items():
        assert found["device"]["count"] == ranks
        for key in ("images", "top1", "top5", "confusion", "per_class_accuracy"):
            assert found["evaluation"][key] == expected[key], (ranks, size, key)
        assert found["evaluation"]["loss"] == pytest.approx(expected["loss"], rel=1e-6), (ranks, size)


def test_a_bad_image_is_told_by_the_rank_that_met_it(data, tmp_path):
    """Fatal: one line with the rank, in the log too. Left out: named and counted once, by the rank that writes."""
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    paths = sorted((damaged / "train").glob("*/*.png"))
    paths[0].write_bytes(paths[0].read_bytes()[:200])  # one, so that one rank meets one
    options = ("--epochs", "1", "--batch-size", "4", "--num-devices", "2")
    job = train(tmp_path / "fatal", damaged, *options, status=2)
    (last,) = [line for line in job.text.splitlines() if line.startswith("error: ")]
    assert last.startswith("error: rank ")
    assert "cannot be read" in last
    assert "Traceback" not in job.text
    log = (tmp_path / "fatal" / "train.log").read_text()
    if not last.startswith("error: rank 0"):
        assert f"{last.split()[1]} {last.split()[2]} error: an image in" in log
    for path in paths[9::9]:
        path.write_bytes(path.read_bytes()[:200])
    job = train(tmp_path / "skip", damaged, *options, "--on-bad-image", "skip")
    assert record(tmp_path / "skip")["bad_images"] == len(paths[::9])
    for path in paths[::9]:
        assert job.text.count(f"bad image left out: {path.parent.name}/{path.name}") == 1


def test_a_rank_without_memory_in_its_backward_pass_finds_a_batch_that_fits(data, tmp_path):
    """The exchange of gradients has begun then, and the other rank waits in it."""
    options = ("--num-devices", "2", "--batch-size", "8", "--max-steps", "1")
    job = train(tmp_path / "run", data, *options, status=2, RANKS_DRIVER_LIMIT="4")
    assert "has no memory left for a batch of 8; --batch-size 4 --accumulate 2" in job.text
