"""The adapter's ranks: what the environment may say, and starting those of one machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from shared.cli.signals import Interrupts, Stopped  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from shared.metrics import Metrics  # noqa: E402
from tf_seresnet.devices import probe  # noqa: E402
from tf_seresnet.devices.npu import environment as npu_ranks  # noqa: E402
from tf_seresnet.devices.npu import (
    exact_sums,  # noqa: E402
    launch,
)
from tf_seresnet.devices.npu.environment import Rank  # noqa: E402
from tf_seresnet.step.replicas import AgreedInterrupts  # noqa: E402

pytestmark = pytest.mark.once

CHIEF = {
    "CM_CHIEF_IP": "192.168.1.1",
    "CM_CHIEF_PORT": "6000",
    "CM_CHIEF_DEVICE": "0",
    "CM_WORKER_SIZE": "4",
    "CM_WORKER_IP": "192.168.1.1",
}


def device(rank, number):
    return {"rank_id": str(rank), "device_id": str(number), "device_ip": f"192.168.1.{8 + rank}"}


@pytest.fixture
def table(tmp_path):
    """table(content) writes a rank table and gives its path; by default two servers with two devices each."""
    servers = [
        {"server_id": "node_0", "device": [device(0, 4), device(1, 5)]},
        {"server_id": "node_1", "device": [device(2, 4), device(3, 5)]},
    ]
    documented = {"status": "completed", "version": "1.0", "server_count": "2", "server_list": servers}

    def write(content=documented):
        path = tmp_path / "rank_table.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [*npu_ranks.CHIEF, "RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE", "ASCEND_DEVICE_ID", "CM_RANK", "JOB_ID"]:
        monkeypatch.delenv(name, raising=False)


# -- which rank this is ----------------------------------------------------------------------------------------


def test_ranks_of_a_rank_table(table):
    given_ = {"RANK_TABLE_FILE": table(), "RANK_ID": "3", "RANK_SIZE": "4"}
    assert npu_ranks.given(given_) == Rank(3, 4, 5)
    assert npu_ranks.given({**given_, "ASCEND_DEVICE_ID": "1"}) == Rank(3, 4, 1)  # a container numbers from 0
    assert npu_ranks.started(given_)


def test_the_older_rank_table(table):
    instances = [{"rank_id": str(rank), "devices": [{"device_id": str(rank)}]} for rank in range(2)]
    older = {"status": "completed", "group_list": [{"device_num": "2", "instance_list": instances}]}
    assert npu_ranks.read_table(table(older)) == {0: 0, 1: 1}


def test_a_rank_table_with_a_byte_order_mark(tmp_path, table):
    with open(table(), "rb") as file:
        content = file.read()
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert npu_ranks.read_table(str(tmp_path / "marked.json")) == npu_ranks.read_table(table())


def test_ranks_of_the_chiefs_variables():
    assert npu_ranks.given({**CHIEF, "ASCEND_DEVICE_ID": "3"}) == Rank(3, 4, 3)
    second = {**CHIEF, "ASCEND_DEVICE_ID": "1", "CM_RANK": "1", "CM_LOCAL_WORKER": "2"}
    assert npu_ranks.given(second) == Rank(3, 4, 1)
    assert npu_ranks.given({**CHIEF, "CM_WORKER_SIZE": "1"}) is None


@pytest.mark.parametrize("alone", [{}, {"RANK_SIZE": "1", "RANK_ID": "0", "JOB_ID": "10087"}])
def test_a_process_by_itself(alone):
    assert npu_ranks.given(alone) is None
    assert not npu_ranks.started(alone)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"RANK_SIZE": "8"}, "RANK_SIZE is 8, but neither RANK_TABLE_FILE nor CM_CHIEF_IP"),
        ({"RANK_TABLE_FILE": "T", **CHIEF}, "RANK_TABLE_FILE and CM_CHIEF_IP are both set.*exclude each other"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "0"}, "RANK_SIZE is None in the environment"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "0", "RANK_SIZE": "2"}, "RANK_SIZE is 2, and .* lists 4 devices"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "4", "RANK_SIZE": "4"}, "RANK_ID is 4, .* it is 0 to 3"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "-1", "RANK_SIZE": "4"}, "RANK_ID is '-1' .* not a number"),
        ({"RANK_TABLE_FILE": "/no/table", "RANK_ID": "0", "RANK_SIZE": "4"}, "/no/table, which cannot be read"),
        ({**CHIEF, "RANK_ID": "0"}, "RANK_ID is set beside CM_CHIEF_IP.*unset RANK_ID"),
        ({"CM_CHIEF_IP": "1.2.3.4"}, "CM_CHIEF_PORT and CM_CHIEF_DEVICE and CM_WORKER_SIZE and CM_WORKER_IP not set"),
        (CHIEF, "ASCEND_DEVICE_ID is None"),
        ({**CHIEF, "ASCEND_DEVICE_ID": "4"}, "makes rank 4 of 4"),
        ({**CHIEF, "ASCEND_DEVICE_ID": "1", "CM_RANK": "2", "CM_LOCAL_WORKER": "2"}, "makes rank 5 of 4"),
    ],
)
def test_contradictions_are_one_line(table, given_, says):
    given_ = {name: table() if value == "T" else value for name, value in given_.items()}
    with pytest.raises(UsageError, match=says) as refused:
        npu_ranks.given(given_)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "has no rank and device of every NPU"),
        ({}, "has no rank and device"),
        ({"status": "initializing", "server_list": []}, "is not completed"),
        ({"server_list": [{"device": [{"rank_id": "0"}]}]}, "device_id"),
        ({"server_list": [{"device": [device(0, 0), device(0, 1)]}]}, "twice"),
        ({"server_list": [{"device": [device(0, 0), device(2, 1)]}]}, "not 0 to 1, each once"),
    ],
)
def test_a_rank_table_that_is_none_is_one_line(table, content, says):
    with pytest.raises(UsageError, match=says) as refused:
        npu_ranks.read_table(table(content))
    assert "\n" not in str(refused.value)


# -- starting them ---------------------------------------------------------------------------------------------


def test_an_empty_number_of_ranks_is_none():
    """As the originals' scripts leave it; a process that took itself for one of several would start no others."""
    assert not npu_ranks.started({"RANK_SIZE": ""})
    assert npu_ranks.started({"RANK_SIZE": "2"})


def test_the_starter_takes_ranks_and_devices_from_the_table(table, monkeypatch):
    monkeypatch.setenv("RANK_TABLE_FILE", table())
    started = launch.environments(4)
    assert [rank["RANK_ID"] for rank in started] == ["0", "1", "2", "3"]
    assert [rank["ASCEND_DEVICE_ID"] for rank in started] == ["4", "5", "4", "5"]
    assert {(rank["RANK_SIZE"], rank["JOB_ID"]) for rank in started} == {("4", "10087")}
    assert launch.environments(None) == started
    with pytest.raises(UsageError, match="--num-devices 8, and .* lists 4 devices"):
        launch.environments(8)
    monkeypatch.setenv("CM_CHIEF_IP", "1.2.3.4")
    with pytest.raises(UsageError, match="exclude each other"):
        launch.environments(4)


def test_the_starter_makes_the_chiefs_variables_of_one_machine(monkeypatch):
    monkeypatch.setattr(probe, "npu_nodes", lambda: 8)
    monkeypatch.setenv("RANK_SIZE", "1")  # as the originals' launchers set it
    started = launch.environments(2)
    for number, rank in enumerate(started):
        inherited = {name: value for name, value in {**os.environ, **rank}.items() if value is not None}
        assert npu_ranks.given(inherited) == Rank(number, 2, number)
    assert started[0]["CM_CHIEF_PORT"] == started[1]["CM_CHIEF_PORT"]
    assert len(launch.environments(None)) == 8
    with pytest.raises(UsageError, match="--num-devices 9, but this machine has 8 npu; lower it"):
        launch.environments(9)
    monkeypatch.setenv("CM_CHIEF_IP", "10.0.0.1")
    monkeypatch.setenv("CM_WORKER_SIZE", "16")
    with pytest.raises(UsageError, match="--num-devices 2, and CM_WORKER_SIZE is 16"):
        launch.environments(2)
    monkeypatch.setenv("CM_WORKER_SIZE", "2")
    assert {rank["CM_CHIEF_IP"] for rank in launch.environments(2)} == {"10.0.0.1"}


def test_without_a_driver_the_number_must_be_said(monkeypatch):
    monkeypatch.setattr(probe, "npu_nodes", lambda: 0)
    with pytest.raises(UsageError, match="say how many with --num-devices N"):
        launch.environments(None)
    assert len(launch.environments(2)) == 2


def start(program, number=3, interrupts=None):
    """Ranks that run this Python text, with WHO as their number."""
    ranks = [{"WHO": str(rank), "RANK_SIZE": None} for rank in range(number)]
    launch.start([sys.executable, "-c", program], ranks, interrupts or Interrupts())


def test_ranks_run_with_their_environment_and_the_first_speaks(capfd, monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "1")
    start("import os, sys; print(os.environ['WHO'], 'RANK_SIZE' in os.environ); print('hm', file=sys.stderr)")
    out, err = capfd.readouterr()
    assert out == "0 False\n"
    assert sorted(err.splitlines()) == ["hm", "rank 1: hm", "rank 2: hm"]


FAIL = """
import os, sys, time
if os.environ["WHO"] == "1":
    {}
time.sleep(300)
"""


@pytest.mark.parametrize(
    ("failure", "status", "says"),
    [("raise ValueError('ours')", 1, "rank 1: ValueError: ours"), ("os.kill(os.getpid(), 9)", 137, "ended by SIGKILL")],
)
def test_the_failure_of_a_rank_ends_the_others_and_is_ours(capfd, failure, status, says):
    with pytest.raises(SystemExit) as ended:
        start(FAIL.format(failure))
    assert ended.value.code == status
    assert says in capfd.readouterr().err


def test_what_the_user_can_mend_is_one_line_at_the_end(capfd):
    with pytest.raises(UsageError, match="^rank 1: no such thing; mend it$"):
        start(FAIL.format("print('error: rank 1: no such thing; mend it', file=sys.stderr); sys.exit(2)"))
    assert capfd.readouterr().err == ""  # command_line writes it, behind everything else


STOP = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(143))
time.sleep(300)
"""


def test_a_signal_reaches_every_rank():
    interrupts = Interrupts()
    threading.Timer(1.0, lambda: setattr(interrupts, "requested", signal.SIGTERM)).start()
    with pytest.raises(Stopped) as stopped:
        start(STOP, interrupts=interrupts)
    assert stopped.value.exit_status == 143


# -- what they tell each other ---------------------------------------------------------------------------------


def counted(images, classes, seed):
    metrics, random = Metrics(classes), np.random.RandomState(seed)
    logits = random.standard_normal((images, classes)) * 30
    logits[: images // 5] *= np.inf
    metrics.update(logits, random.randint(0, classes, images))
    return metrics


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 12), st.integers(0, 99))
def test_the_sum_of_packed_metrics_is_the_metrics_of_all(parts, classes, seed):
    all_metrics = [counted(images, classes, seed + number) for number, images in enumerate(parts)]
    digits = sum(exact_sums.pack(metrics).astype(np.int64) for metrics in all_metrics)
    assert digits.max(initial=0) < 2**31
    whole = Metrics(classes)
    for metrics in all_metrics:
        whole.merge(metrics)
    assert exact_sums.unpack(digits.astype(np.int32), classes).to_state() == whole.to_state()


def test_ten_thousand_ranks_of_the_largest_losses_do_not_overflow():
    metrics = Metrics(2)
    metrics.update(np.array([[1e308, -1e308]] * 1000), np.ones(1000, int))
    digits = exact_sums.pack(metrics).astype(np.int64) * 10_000
    assert digits.max() < 2**31
    assert exact_sums.unpack(digits.astype(np.int32), 2).loss == metrics.loss == 2**20


def test_a_rank_stops_only_where_all_know_of_it():
    own = Interrupts()
    agreed = AgreedInterrupts(own)
    own.requested = signal.SIGINT
    agreed.raise_if_requested()  # the others are still waiting for this one's next step
    assert agreed.requested == signal.SIGINT
    agreed.agreed = True
    with pytest.raises(Stopped) as stopped:
        agreed.raise_if_requested()
    assert stopped.value.exit_status == 130
    own.requested = None  # another rank was asked to
    with pytest.raises(Stopped) as stopped:
        agreed.raise_if_requested()
    assert stopped.value.exit_status == 143
