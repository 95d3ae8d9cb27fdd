"""Ranks that are killed, ranks that hang, two machines. KIT_TEST_KILLS: how many runs lose a rank (default 1)."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest

torch = pytest.importorskip("torch")

from tests.torch_imagenet.distributed.jobs import DRIVER, SHORT, Job, losses, record, same_bits, train, weights  # noqa: E402
from tests.torch_imagenet.distributed.test_process_group import images  # noqa: E402
from tests.torch_imagenet.distributed.two_machines import two_machines, why_not  # noqa: E402

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux"), pytest.mark.slow]
KILLS = int(os.environ.get("KIT_TEST_KILLS", "1"))
LONG = ("--epochs", "3", "--batch-size", "4", "--dropout", "0.3", "--save-steps", "2", "--max-restarts", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return images(tmp_path_factory.mktemp("data") / "images", 64, 31)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """Two ranks on one machine, three epochs of eight steps."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(folder, data, *LONG, "--num-devices", "2")
    return folder


def _kill_one(job, number):
    """End a rank at a moment that nobody has chosen; which, follows from `number`."""
    draws = random.Random(number)
    job.wait_for("Epoch: [0][0/8" if number % 2 else "output: ")
    time.sleep(draws.uniform(0, 2))
    ranks = job.ranks()
    if ranks:
        os.kill(draws.choice(ranks), signal.SIGKILL)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_rank_that_is_killed_takes_nothing_along(data, undisturbed, tmp_path, number):
    job = train(tmp_path / "run", data, *LONG, "--num-devices", "2", status=None)
    _kill_one(job, number)
    assert job.end() == 0, job.text
    assert same_bits(weights(tmp_path / "run"), weights(undisturbed))
    assert losses(tmp_path / "run") == losses(undisturbed)


@pytest.mark.parametrize("number", range(KILLS))
def test_two_machines_train_together_and_survive_a_kill_on_either(data, undisturbed, tmp_path, number):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with two_machines() as machines:
        jobs = []
        for node, machine in enumerate(machines):
            words = [
                DRIVER,
                "train",
                *SHORT,
                "--data-path",
                str(data),
                "--output-dir",
                str(tmp_path / "run"),
                *LONG,
                "--num-devices",
                "1",
                "--nnodes",
                "2",
                "--node-rank",
                str(node),
                "--master-addr",
                machines[0].address,
                "--master-port",
                "29533",
            ]
            jobs.append(Job(words, tmp_path / f"machine-{node}.out", namespace=machine.namespace))
        jobs[0].wait_for("Epoch: [0][1/8")
        assert "Epoch: [0][1/8" not in jobs[1].text  # the first machine writes
        time.sleep(random.Random(number).uniform(0, 2))
        for pid in jobs[(number + 1) % 2].ranks():
            os.kill(pid, signal.SIGKILL)
        assert [job.end() for job in jobs] == [0, 0], jobs[0].text + jobs[1].text
    assert same_bits(weights(tmp_path / "run"), weights(undisturbed))
    assert record(tmp_path / "run")["device"]["count"] == 2


def test_without_restarts_a_killed_rank_is_one_line(data, tmp_path):
    job = train(tmp_path / "run", data, *LONG[:-2], "--num-devices", "2", status=None)
    job.wait_for("Epoch: [0][1/8")
    os.kill(job.ranks()[1], signal.SIGKILL)
    assert job.end() == 2
    assert job.text.splitlines()[-1].startswith("error: rank 1 was ended by SIGKILL")
    assert f"--resume {tmp_path / 'run'}" in job.text.splitlines()[-1]
    assert "Traceback" not in job.text
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_rank_that_hangs_is_named(data, tmp_path):
    options = (*LONG[:-2], "--num-devices", "3", "--timeout", "6")
    job = train(tmp_path / "run", data, *options, status=None, real=True)  # of forked ones rank 1 says: rank 0
    job.wait_for("Epoch: [0][1/5")
    stopped = job.ranks()[2]
    os.kill(stopped, signal.SIGSTOP)
    job.wait_for("error: ")
    os.kill(stopped, signal.SIGKILL)  # as torch's launcher would after half a minute
    assert job.end() == 2
    assert job.text.splitlines()[-1].startswith("error: rank 2 has not answered for 6 seconds")
    assert "Traceback" not in job.text


def test_machines_that_do_not_find_each_other_are_one_line(data, tmp_path):
    machines = ("--nnodes", "2", "--node-rank", "0", "--master-addr", "127.0.0.1", "--master-port", "29544")
    job = train(tmp_path / "run", data, *LONG, "--num-devices", "1", *machines, "--timeout", "3", status=2)
    assert job.text.splitlines()[-1].startswith("error: the 2 machines did not find each other at 127.0.0.1:29544")
    assert "Traceback" not in job.text
