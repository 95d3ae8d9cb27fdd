"""The adapter's ranks: reading the environment, and starting the ranks of one machine."""

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

from shared.errors import UsageError  # noqa: E402
from shared.metrics import Metrics  # noqa: E402
from shared.system.signals import Interrupts, Stopped  # noqa: E402
from tf_seresnet.devices import probe  # noqa: E402
from tf_seresnet.devices.npu import environment as npu_environment  # noqa: E402
from tf_seresnet.devices.npu import hccl, launch  # noqa: E402
from tf_seresnet.devices.npu.environment import Rank  # noqa: E402

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
    for name in [
        *npu_environment.CHIEF,
        "RANK_TABLE_FILE",
        "RANK_ID",
        "RANK_SIZE",
        "ASCEND_DEVICE_ID",
        "CM_RANK",
        "JOB_ID",
    ]:
        monkeypatch.delenv(name, raising=False)


# -- which rank this is ----------------------------------------------------------------------------------------


def test_ranks_of_a_rank_table(table):
    variables = {"RANK_TABLE_FILE": table(), "RANK_ID": "3", "RANK_SIZE": "4"}
    assert npu_environment.current_rank(variables) == Rank(3, 4, 5)
    assert npu_environment.current_rank({**variables, "ASCEND_DEVICE_ID": "1"}) == Rank(
        3, 4, 1
    )  # a container numbers from 0
    assert npu_environment.is_rank(variables)


def test_the_older_rank_table(table):
    instances = [{"rank_id": str(rank), "devices": [{"device_id": str(rank)}]} for rank in range(2)]
    older = {"status": "completed", "group_list": [{"device_num": "2", "instance_list": instances}]}
    assert npu_environment.read_rank_table(table(older)) == {0: 0, 1: 1}


def test_a_rank_table_with_a_byte_order_mark(tmp_path, table):
    with open(table(), "rb") as file:
        content = file.read()
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert npu_environment.read_rank_table(str(tmp_path / "marked.json")) == npu_environment.read_rank_table(table())


def test_ranks_of_the_chiefs_variables():
    assert npu_environment.current_rank({**CHIEF, "ASCEND_DEVICE_ID": "3"}) == Rank(3, 4, 3)
    second = {**CHIEF, "ASCEND_DEVICE_ID": "1", "CM_RANK": "1", "CM_LOCAL_WORKER": "2"}
    assert npu_environment.current_rank(second) == Rank(3, 4, 1)
    assert npu_environment.current_rank({**CHIEF, "CM_WORKER_SIZE": "1"}) is None


@pytest.mark.parametrize("alone", [{}, {"RANK_SIZE": "1", "RANK_ID": "0", "JOB_ID": "10087"}])
def test_a_process_that_trains_alone(alone):
    assert npu_environment.current_rank(alone) is None
    assert not npu_environment.is_rank(alone)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"RANK_SIZE": "8"}, "RANK_SIZE is 8, but neither RANK_TABLE_FILE nor CM_CHIEF_IP"),
        ({"RANK_TABLE_FILE": "T", **CHIEF}, "RANK_TABLE_FILE and CM_CHIEF_IP are both set.*exclude each other"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "0"}, "RANK_SIZE is None in the environment"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "0", "RANK_SIZE": "2"}, "RANK_SIZE 2, but .* has ranks 0 to 3"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "4", "RANK_SIZE": "4"}, "RANK_ID is 4 .* has ranks 0 to 3"),
        ({"RANK_TABLE_FILE": "T", "RANK_ID": "-1", "RANK_SIZE": "4"}, "RANK_ID is '-1' .* not a number"),
        ({"RANK_TABLE_FILE": "/no/table", "RANK_ID": "0", "RANK_SIZE": "4"}, "/no/table, which cannot be read"),
        ({**CHIEF, "RANK_ID": "0"}, "RANK_ID is set beside CM_CHIEF_IP.*unset RANK_ID"),
        ({"CM_CHIEF_IP": "1.2.3.4"}, "CM_CHIEF_PORT and CM_CHIEF_DEVICE and CM_WORKER_SIZE and CM_WORKER_IP not set"),
        (CHIEF, "ASCEND_DEVICE_ID is None"),
        ({**CHIEF, "ASCEND_DEVICE_ID": "4"}, "makes rank 4 of 4"),
        ({**CHIEF, "ASCEND_DEVICE_ID": "1", "CM_RANK": "2", "CM_LOCAL_WORKER": "2"}, "makes rank 5 of 4"),
    ],
)
def test_contradictions_are_one_line(table, variables, says):
    variables = {name: table() if value == "T" else value for name, value in variables.items()}
    with pytest.raises(UsageError, match=says) as refused:
        npu_environment.current_rank(variables)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no rank table of HCCL .JSONDecodeError"),
        ("[]", "no rank table of HCCL .AttributeError"),
        ({}, "does not list the ranks"),
        ({"status": "initializing", "server_list": []}, "is not completed"),
        ({"server_list": [{"device": [{"rank_id": "0"}]}]}, "device_id"),
        ({"server_list": [{"device": [device(0, 0), device(0, 1)]}]}, "0, 1, ..., each once"),
        ({"server_list": [{"device": [device(0, 0), device(2, 1)]}]}, "0, 1, ..., each once"),
    ],
)
def test_an_invalid_rank_table_is_one_line(table, content, says):
    with pytest.raises(UsageError, match=says) as refused:
        npu_environment.read_rank_table(table(content))
    assert "\n" not in str(refused.value)


# -- starting ranks -------------------------------------------------------------------------------------------


def test_an_empty_rank_size_does_not_make_a_rank():
    """The originals' scripts leave RANK_SIZE empty; a process that is a rank would start no others."""
    assert not npu_environment.is_rank({"RANK_SIZE": ""})
    assert npu_environment.is_rank({"RANK_SIZE": "2"})


def test_ranks_and_devices_come_from_the_table(table, monkeypatch):
    monkeypatch.setenv("RANK_TABLE_FILE", table())
    environments = launch.rank_environments(4)
    assert [rank["RANK_ID"] for rank in environments] == ["0", "1", "2", "3"]
    assert [rank["ASCEND_DEVICE_ID"] for rank in environments] == ["4", "5", "4", "5"]
    assert {(rank["RANK_SIZE"], rank["JOB_ID"]) for rank in environments} == {("4", "10087")}
    assert launch.rank_environments(None) == environments
    with pytest.raises(UsageError, match="--num-devices 8, but .* lists 4 devices"):
        launch.rank_environments(8)
    monkeypatch.setenv("CM_CHIEF_IP", "1.2.3.4")
    with pytest.raises(UsageError, match="exclude each other"):
        launch.rank_environments(4)


def test_the_chiefs_variables_of_one_machine(monkeypatch):
    monkeypatch.setattr(probe, "npu_count", lambda: 8)
    monkeypatch.setenv("RANK_SIZE", "1")  # as the originals' launchers set it
    environments = launch.rank_environments(2)
    for number, rank in enumerate(environments):
        inherited = {name: value for name, value in {**os.environ, **rank}.items() if value is not None}
        assert npu_environment.current_rank(inherited) == Rank(number, 2, number)
    assert environments[0]["CM_CHIEF_PORT"] == environments[1]["CM_CHIEF_PORT"]
    assert len(launch.rank_environments(None)) == 8
    with pytest.raises(UsageError, match="--num-devices 9, but this machine has 8 npu; lower it"):
        launch.rank_environments(9)
    monkeypatch.setenv("CM_CHIEF_IP", "10.0.0.1")
    monkeypatch.setenv("CM_WORKER_SIZE", "16")
    with pytest.raises(UsageError, match="--num-devices 2, but CM_WORKER_SIZE is 16"):
        launch.rank_environments(2)
    monkeypatch.setenv("CM_WORKER_SIZE", "2")
    assert {rank["CM_CHIEF_IP"] for rank in launch.rank_environments(2)} == {"10.0.0.1"}


def test_without_a_driver_the_number_is_required(monkeypatch):
    monkeypatch.setattr(probe, "npu_count", lambda: 0)
    with pytest.raises(UsageError, match="add their number with --num-devices N"):
        launch.rank_environments(None)
    assert len(launch.rank_environments(2)) == 2


def run_ranks(program, number=3, interrupts=None):
    """Run this Python program as several ranks, with the rank in WHO."""
    ranks = [{"WHO": str(rank), "RANK_SIZE": None} for rank in range(number)]
    launch.run_ranks([sys.executable, "-c", program], ranks, interrupts or Interrupts())


def test_ranks_run_with_their_environment_and_the_first_prints(capfd, monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "1")
    run_ranks("import os, sys; print(os.environ['WHO'], 'RANK_SIZE' in os.environ); print('hm', file=sys.stderr)")
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
def test_the_failure_of_a_rank_ends_the_others_and_is_raised(capfd, failure, status, says):
    with pytest.raises(SystemExit) as ended:
        run_ranks(FAIL.format(failure))
    assert ended.value.code == status
    assert says in capfd.readouterr().err


def test_a_usage_error_of_a_rank_is_raised(capfd):
    with pytest.raises(UsageError, match="^rank 1: no such thing; correct it$"):
        run_ranks(FAIL.format("print('error: rank 1: no such thing; correct it', file=sys.stderr); sys.exit(2)"))
    assert capfd.readouterr().err == ""  # the caller prints it last


STOP = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *arguments: sys.exit(143))
time.sleep(300)
"""


def test_a_signal_reaches_every_rank():
    interrupts = Interrupts()
    threading.Timer(1.0, lambda: setattr(interrupts, "requested", signal.SIGTERM)).start()
    with pytest.raises(Stopped) as stopped:
        run_ranks(STOP, interrupts=interrupts)
    assert stopped.value.exit_status == 143


# -- metrics and interrupts --------------------------------------------------------------------------------------


def counted(images, classes, seed):
    metrics, random = Metrics(classes), np.random.RandomState(seed)
    logits = random.standard_normal((images, classes)) * 30
    logits[: images // 5] *= np.inf
    metrics.update(logits, random.randint(0, classes, images))
    return metrics


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(1, 12), st.integers(0, 99))
def test_the_sum_of_packed_metrics_is_the_metrics_of_all(parts, classes, seed):
    all_metrics = [counted(images, classes, seed + number) for number, images in enumerate(parts)]
    digits = sum(hccl.pack(metrics).astype(np.int64) for metrics in all_metrics)
    assert digits.max(initial=0) < 2**31
    merged = Metrics(classes)
    for metrics in all_metrics:
        merged.merge(metrics)
    assert hccl.unpack(digits.astype(np.int32), classes).to_state() == merged.to_state()


def test_ten_thousand_ranks_of_the_largest_losses_do_not_overflow():
    metrics = Metrics(2)
    metrics.update(np.array([[1e308, -1e308]] * 1000), np.ones(1000, int))
    digits = hccl.pack(metrics).astype(np.int64) * 10_000
    assert digits.max() < 2**31
    assert hccl.unpack(digits.astype(np.int32), 2).loss == metrics.loss == 2**20


def test_a_rank_stops_only_when_all_agree():
    own, rank = Interrupts(), hccl.HcclRanks(0, 2, None)
    own.requested = signal.SIGINT
    rank.propose_stop(signal.SIGINT, 1)
    assert rank.agreed_stop(1) is None  # the others still wait for this rank's next step
    rank.raise_if_stopping(own)
    rank.agree(1)
    assert rank.agreed_stop(1) == signal.SIGINT
    with pytest.raises(Stopped) as stopped:
        rank.raise_if_stopping(own)
    assert stopped.value.exit_status == 130
    other = hccl.HcclRanks(1, 2, None)  # which has received no signal
    other.agree(1)
    assert other.agreed_stop(1) == signal.SIGTERM
