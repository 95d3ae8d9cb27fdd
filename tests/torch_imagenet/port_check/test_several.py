"""Two ranks: every planted fault is found at the rank that has it, and traces go from two ranks to two or to one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from shared.errors import UsageError
from shared.port_check.trace import Trace, write_trace
from tests.torch_imagenet.distributed.jobs import DRIVER, SHORT, Job
from tests.torch_imagenet.port_check.rank_faults import AGAINST, CLEAN, FAULTS
from torch_imagenet.distributed.process_group import ALONE, Ranks
from torch_imagenet.port_check.several import read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts processes as on Linux")


@pytest.fixture(scope="module")
def planted(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of two processes: clean, against the trace of that, and with each fault."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    words = [DRIVER, "check-port", *SHORT, "--data-path", str(tiny.folder), "--output-dir", str(folder)]
    words += ["--batch-size", "4", "--max-steps", "2", "--num-devices", "2"]
    words += ["--save-trace", str(folder.parent / "step.trace")]
    job = Job(words, folder.parent / "out", RANKS_DRIVER_FAULTS="1")
    assert job.end() == 3, job.text  # that of the last fault, of all processes and of the launcher
    return folder


def sides(folder: Path) -> Dict[str, Any]:
    """Of port.json."""
    return json.loads((folder / "port.json").read_text())["sides"]


def statuses(folder: Path) -> List[str]:
    """With which each rank has ended."""
    return [(folder / f"status-{rank}").read_text() for rank in range(2)]


def test_clean_ranks_agree(planted: Path) -> None:
    found = sides(planted / CLEAN)
    assert [name.split(" of ")[0] for name in found] == ["rank 0", "rank 1", "all 2 ranks"]
    assert all(side["agrees"] for side in found.values())
    first, second, together = found.values()
    stages = [check["stage"] for check in first["checks"]]
    assert stages.count("exchange") == 14  # ten gradients, the mean and variance of two layers
    assert first["error_by_depth"] != second["error_by_depth"]  # each has images of its own
    assert [check["stage"] for check in together["checks"]] == ["loss curve"] * 2
    assert statuses(planted / CLEAN) == ["0", "0"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_at_its_rank(name: str, planted: Path) -> None:
    fault, found = FAULTS[name], list(sides(planted / name).values())
    assert tuple(rank for rank, side in enumerate(found[:2]) if not side["agrees"]) == fault.ranks
    for rank in fault.ranks:
        first = found[rank]["first"]
        assert first["stage"] == fault.stage
        assert fault.quantity in first["quantity"]
        assert fault.hint in first["hint"]
    assert statuses(planted / name) == ["3", "3"]
    log = (planted / name / "train.log").read_text()
    assert f"parts: rank {fault.ranks[0]} of cpu" in log


def test_traces_of_two_ranks_are_compared_on_two(planted: Path) -> None:
    found = sides(planted / AGAINST)
    assert len(found) == 6
    assert all(side["agrees"] for side in found.values())
    ours, theirs = list(found.values())[:3], list(found.values())[3:]
    assert [side["checks"] for side in ours] == [side["checks"] for side in theirs]  # the same machine


def test_the_trace_of_one_of_two_ranks_is_compared_on_one(
    planted: Path, run_in: Callable[..., Any], tmp_path: Path
) -> None:
    trace = planted.parent / "step.rank1.trace"
    run = run_in(tmp_path / "run", "--max-steps", "2", "--against", str(trace), mode="check-port")
    assert run.status == 0
    (_, own), (name, side) = sides(tmp_path / "run").items()
    assert name == f"rank 1 of 2 in the trace {trace}"
    assert [len([c for c in s["checks"] if c["stage"] == "update"]) for s in (own, side)] == [10, 10]
    assert [len(s["losses"]["side"]) for s in (own, side)] == [2, 1]
    assert "are not compared here" in (tmp_path / "run" / "train.log").read_text()


class Second(Ranks):
    """The second of two ranks."""

    rank, size = 1, 2

    def require_equal(self, what: str, value: str) -> None:
        if value != "first run":
            raise UsageError(f"another {what}")


@pytest.mark.parametrize(
    ("ranks", "file", "described", "message"),
    [
        (ALONE, "a.rank0.trace", (0, 2), "of several ranks; compare it on as many devices, with --num-devices N, or"),
        (Second(), "a.trace", (0, 1), "of one rank, and 2 look for .*a.rank1.trace; compare it on one device"),
        (Second(), "a.rank1.trace", (1, 4), "of rank 1 of 4, and this is rank 1 of 2; use --num-devices 4, or"),
        (Second(), "a.rank1.trace", (0, 2), "of rank 0 of 2, and this is rank 1 of 2"),
        (Second(), "a.rank1.trace", (1, 2), "another recording in .*a.rank1.trace"),
    ],
)
def test_a_trace_of_other_ranks_is_refused(
    ranks: Ranks, file: str, described: Any, message: str, tmp_path: Path
) -> None:
    rank, size = described
    write_trace(tmp_path / file, Trace({"rank": rank, "ranks": size, "run": "second run"}))
    with pytest.raises(UsageError, match=message):
        read(str(tmp_path / "a.trace"), ranks)
