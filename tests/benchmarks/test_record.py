"""benchmarks/record.py and table.py: ratios, verdicts, what a table says, and that the document is the records'."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from benchmarks import record as records
from benchmarks import run, table
from benchmarks.record import Record, SideRecord, verdict
from benchmarks.rows import Row, groups_of, rows_of
from shared.errors import UsageError

VERSIONS = {"python": "3.11.9", "torch": "2.13.0"}
ROW = Row("one", "how fast", "ours", "peer", "ms", 1.5)


def side(*seconds, images=8):
    return SideRecord("a side", VERSIONS, seconds, (images,) * len(seconds), False)


def record(ours, peer, row=ROW, **changes):
    made = Record(
        row.name, row.question, "cpu", "a CPU", "a CPU, 2 cores", "2026-01-02T03:04:05+00:00", "c" * 40, ours, ()
    )
    return dataclasses.replace(made, peer=peer, **changes)


def test_a_ratio_is_that_of_a_round_and_above_one_where_ours_is_faster():
    made = record(side(1.0, 2.0, 4.0), side(2.0, 2.0, 2.0))
    assert made.ratios == [2.0, 1.0, 0.5]
    assert records.spread(made.ratios) == (1.0, 0.5, 2.0)
    assert record(side(1.0), side(1.0, images=4)).ratios == [2.0]


@pytest.mark.parametrize(
    ("ours", "row", "said"),
    [
        (side(1.0), ROW, "met"),  # the peer takes 1.5 seconds
        (side(1.0035), ROW, "missed"),  # 1.4948, shown as 1.49
        (side(1.003), ROW, "met"),  # 1.4955, shown as 1.50
        (side(9.0), dataclasses.replace(ROW, aim=None), ""),
        (side(20.04), dataclasses.replace(ROW, aim=20.0, aim_seconds=True), "met"),
        (side(20.06), dataclasses.replace(ROW, aim=20.0, aim_seconds=True), "missed"),
    ],
)
def test_met_is_by_the_figure_that_is_shown(ours, row, said):
    assert verdict(row, record(ours, side(1.5))) == said
    assert table.cells(row, record(ours, side(1.5)))[-1] == said


def test_a_row_that_was_not_measured_says_so():
    assert verdict(ROW, None) == "not measured"
    assert table.cells(ROW, None)[-1] == "not measured"
    assert table.cells(ROW, None, "failed: no disk")[-1] == "failed: no disk"


def test_a_check_has_findings_and_no_ratio():
    row = Row("check", "is it right", "ours", None, "check")
    nothing = record(side(), None, row)
    assert verdict(row, nothing) == "passed"
    assert table.cells(row, dataclasses.replace(nothing, findings=("it waits",)))[-1] == "failed; it waits"


def test_a_record_is_read_as_it_was_written(tmp_path):
    made = record(side(1.0, 2.0), side(3.0, 4.0), images="some files")
    path = records.write(made, tmp_path)
    assert path == tmp_path / "cpu" / "one.json"
    assert records.read(tmp_path, "cpu") == {"one": made}
    assert records.read(tmp_path, "cuda") == {}


@pytest.mark.parametrize(
    ("key", "value"), [("row", 1), ("extra", 1), ("ours", {}), ("peer", dataclasses.asdict(side(1.0, 2.0)))]
)
def test_a_file_that_is_no_record_is_refused(tmp_path, key, value):
    path = records.write(record(side(1.0), side(1.0)), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UsageError, match=r"one\.json is no record of a benchmark \(.*\); remove it"):
        records.read(tmp_path, "cpu")


def test_the_text_table_has_a_line_for_every_row():
    row = dataclasses.replace(ROW, name="two")
    shown = table.text([ROW, row], {"one": record(side(0.5), side(1.0))}, {"two": "not measured (out of time)"})
    first, one, two = shown.splitlines()
    assert first.split() == "row peer ours ratio (range) rounds aim".split()
    assert one.split("  ")[0] == "one"
    for words in ("1000 ms, a side", "500 ms, a side", "2.00 (2.00 to 2.00)", "1.5", "met"):
        assert words in one
    assert two.startswith("two")
    assert two.endswith("1.5  not measured (out of time)")


@pytest.mark.parametrize("kind", records.KINDS)
def test_every_row_has_a_name_of_its_own_and_both_sides(kind):
    groups = groups_of(kind, f"{kind}:0")
    names = [row.name for row in rows_of(groups)]
    assert len(set(names)) == len(names) > 8
    for group in groups:
        assert {side for row in group.rows for side in (row.ours, row.peer) if side} == set(group.sides)


# -- the document ----------------------------------------------------------------------------------------------------


def committed():
    return {kind: records.read(run.COMMITTED, kind) for kind in records.KINDS}


def test_the_document_is_that_of_the_records():
    """Renew it with `bash benchmarks/run.sh --document`."""
    text = run.DOCUMENT.read_text(encoding="utf-8")
    assert table.renewed(text, committed()) == text
    for kind in records.KINDS:
        for row in rows_of(groups_of(kind, kind)):
            assert f"| {row.name} | " in text


def test_the_documents_links_and_commands_work():
    text = run.DOCUMENT.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 5
    for link in links:
        assert (run.DOCUMENT.parent / link.split("#")[0]).exists(), link
    commands = re.findall(r"bash benchmarks/run\.sh([^#`\n]*)", text)
    assert len(commands) > 5
    for words in map(str.split, commands):
        run.chosen(
            run.parser().parse_args([word for word in words if word != "ROW"] + ["evaluation"] * ("ROW" in words))
        )


def test_every_committed_record_is_of_a_row_of_today_and_measures_something():
    for kind, found in committed().items():
        rows = {row.name: row for row in rows_of(groups_of(kind, kind))}
        for name, each in found.items():
            assert each.question == rows[name].question, f"{name} was measured when it asked something else"
            assert not each.tiny
            assert not each.commit.endswith("-dirty")
            assert len(each.ratios) >= 3 or rows[name].peer is None


def test_the_document_names_the_machine_and_the_versions():
    text = table.markdown({"cpu": {"input-uint8": record(side(1.0), side(1.0), images="files")}})
    for line in ("- Device: a CPU", "- Machine: a CPU, 2 cores", "- Versions: torch 2.13.0, python 3.11.9"):
        assert line in text.splitlines()
    assert f"- Commit: {'c' * 12}" in text
    assert text.count("not measured") == len(rows_of(groups_of("cpu", "cpu"))) - 1 + len(
        rows_of(groups_of("cuda", "c"))
    )
    assert text.count("Nothing of this has been measured yet.") == 1
