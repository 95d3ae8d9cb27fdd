"""`python -m tests.faults`: what it prints, when it fails, and the table in the document."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.faults import __main__ as command
from tests.faults.case import SHARED, Case, all_cases, halves_here

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
ROW = re.compile(r"^\| (.+) \| `(\w+)` \| (\d+) \| (.+) \| \d+ \|$", re.MULTILINE)


def _raises(folder, rng):
    raise ValueError("a defect")


CASES = {
    "fake": [
        Case("kept", SHARED, lambda folder, rng: "", rounds=3),
        Case("lost now and then", SHARED, lambda folder, rng: rng.choice(["", "a weight"]), rounds=20),
        Case("raising", SHARED, _raises),
    ]
}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """run(*options) -> exit status, output, rows."""
    monkeypatch.setattr(command, "all_cases", lambda: CASES)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def start(*options):
        status = command.main([*options, "--json", str(tmp_path / "rows.json")])
        rows = json.loads((tmp_path / "rows.json").read_text()) if (tmp_path / "rows.json").exists() else []
        return status, capsys.readouterr().out, rows

    return start


def test_a_case_without_loss_passes_and_leaves_nothing(run, tmp_path):
    status, out, rows = run("--only", "kept")
    assert (status, rows[0]["rounds"], rows[0]["lost"]) == (0, 3, 0)
    assert "kept | shared | 3 | 0 |" in out
    assert not list(tmp_path.glob("faults-*"))


def test_a_loss_is_printed_with_its_round_and_its_folder_is_kept(run, tmp_path):
    status, out, rows = run("--only", "lost", "raising")
    assert status == 1
    assert [row["lost"] > 0 for row in rows] == [True, True]
    assert re.search(r"LOST: lost now and then, round \d+: a weight \(see .*faults-", out)
    assert "LOST: raising, round 0: ValueError: a defect" in out
    assert len(list(tmp_path.glob("faults-*"))) == sum(row["lost"] for row in rows)


def test_a_round_can_be_repeated(run):
    _, out, _ = run("--only", "lost")
    number = re.search(r"round (\d+)", out).group(1)
    assert run("--only", "lost", "--first", number, "--rounds", "1")[2][0]["lost"] == 1


def test_running_no_case_fails(run):
    assert run("--only", "no such case")[0] == 1


def test_the_table_is_written_between_its_marks(tmp_path):
    document = tmp_path / "document.md"
    document.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    rows = [
        {"fault": "a fault", "half": "shared", "rounds": 2, "lost": 0, "seconds": 1},
        {"fault": "another", "half": "shared", "rounds": 2, "lost": 1, "seconds": 1},
    ]
    command.write_into(document, rows)
    lines = document.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert "| a fault | `shared` | 2 | nothing | 1 |" in lines
    assert "| another | `shared` | 2 | **1** | 1 |" in lines
    assert "old" not in lines


def test_the_document_has_every_case_with_all_rounds_and_no_loss():
    rows = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert {lost for *_, lost in rows} == {"nothing"}
    documented = [(name, half, int(rounds)) for name, half, rounds, _ in rows if half in halves_here()]
    assert sorted(documented) == sorted(
        (case.name, case.half, case.rounds) for cases in all_cases().values() for case in cases
    )
