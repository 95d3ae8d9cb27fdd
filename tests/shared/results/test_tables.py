"""`python -m shared.results`: which rows there are, what they look like, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from shared import recipes
from shared.results.__main__ import main
from shared.results.page.document import page
from shared.results.record import build_record, write_record
from shared.results.rows import beside_documented, rows
from shared.results.tables import WIDTH, render

ROOT = Path(__file__).resolve().parents[3]


def _record(**changes):
    parts = {
        "half": "tf_seresnet",
        "mode": "train",
        "network": "se_resnet110",
        "recipe": "se_resnet110_gpu",
        "dataset": {"name": "cifar-10", "fingerprint": "abc"},
        "device": {"kind": "gpu", "name": "Fast(R) Card CPU @ 2.00GHz", "count": 1},
        "precision": "O0",
        "batch_size": 128,
        "global_batch_size": 128,
        "epochs_completed": 160,
        "steps_completed": 62560,
        "images_trained": 8000000,
        "throughput": {"images_per_second": 5123.4, "step_ms_p50": 24.96, "steps_timed": 9},
        "evaluation": {"images": 10000, "loss": 0.2, "top1": 94.5, "top5": 99.8},
        "versions": {"python": "3.11"},
        "started": "2024-01-02T03:04:05",
        "seconds": 5400.0,
        "commit": "c0ffee",
        "seed": 0,
    }
    return build_record(**dict(parts, **changes))


def _of(kind, records, network="se_resnet110"):
    return [row for row in rows(records) if row.kind == kind and row.network == network]


def _missing(records, network="se_resnet110"):
    """The recipes that the one row of what is not measured names."""
    found = _of("not measured", records, network)
    assert len(found) <= 1
    return [name for row in found for name in row.settings.split(", ")]


def _write(folder, *records):
    for number, record in enumerate(records):
        (folder / f"run{number}").mkdir(parents=True)
        write_record(folder / f"run{number}" / "result.json", record)
        (folder / f"run{number}" / "config.json").write_text("{}")
    return str(folder)


def test_without_records_everything_documented_stands_beside_not_measured():
    table = rows([])
    assert _missing([]) == ["se_resnet110_gpu", "se_resnet110_npu"]
    for network, count in (("senet154", 4), ("se_resnet50", 2), ("pnasnet5large", 2)):
        names = _missing([], network)
        assert len(names) == len(set(names)) == count
    assert {row.kind for row in table} == {"documented", "expected", "not measured"}
    assert all(row.top1 is None for row in table if row.kind == "not measured")


def test_a_measured_row_has_the_records_numbers():
    (row,) = _of("measured", [_record()])
    assert row.error == 5.5
    assert (row.top1, row.top5, row.images_evaluated) == (94.5, 99.8, 10000)
    assert (row.images_per_second, row.step_ms, row.hours) == (5123.4, 24.96, 1.5)
    assert (row.hardware, row.precision, row.batch_size, row.epochs) == ("1 x Fast Card", "O0", 128, 160)
    assert (row.top1_std, row.runs, row.source) == (None, 1, "c0ffee")
    assert _missing([_record()]) == ["se_resnet110_npu"]


@pytest.mark.parametrize(
    ("kind", "count", "machine", "hardware"),
    [
        ("cpu", 1, "AMD EPYC 7763 64-Core Processor with avx2, 2 cores", "1 x AMD EPYC 7763 with avx2, 2 cores"),
        ("cpu", 2, "Intel(R) Xeon(R) CPU @ 2.20GHz with avx512f, 1 core", "2 x Intel Xeon with avx512f, 1 core"),
        ("cpu", 1, None, "1 x Fast Card"),  # a record of before
        ("npu", 8, "Kunpeng-920, 48 cores", "8 x Fast Card"),
    ],
)
def test_of_a_cpu_the_machine_is_named(kind, count, machine, hardware):
    device = {"kind": kind, "name": "Fast Card", "count": count}
    (row,) = _of("measured", [_record(device=device, machine=machine)])
    assert row.hardware == hardware


def test_what_is_expected_of_a_modern_recipe_stands_beside_what_is_documented_as_a_range():
    (row,) = _of("expected", [])
    assert (str(row.top1), str(row.error), row.epochs, row.batch_size) == (
        "95.4 \u2013 95.8",
        "4.2 \u2013 4.6",
        160,
        128,
    )
    assert float(row.top1) == 95.6
    assert row.hardware is None  # on nothing
    (row,) = _of("expected", [], "senet154")
    assert (str(row.top1), row.error, row.batch_size) == ("81.5 \u2013 82.5", None, 1024)
    assert "| expected <sup>5</sup> | se_resnet110_modern |" in render(rows([]), "markdown")


@pytest.mark.parametrize(("recipe", "kinds"), [("se_resnet110_modern", 1), ("se_resnet110_gpu", 0)])
def test_a_run_by_a_modern_recipe_ends_beside_what_is_expected_of_it(recipe, kinds):
    shown = beside_documented(_record(recipe=recipe))
    assert [row.kind for row in shown] == ["documented"] * 3 + ["expected"] * kinds + ["measured"]


@pytest.mark.parametrize("name", recipes.expected())
def test_the_expected_accuracy_is_that_of_the_recipes_text(name):
    least, most = recipes.expected()[name]
    said = recipes.document(name).partition("Expected:")[2]
    if "error" in said[:20]:
        least, most = 100 - most, 100 - least
    assert f"{least:.1f} to {most:.1f} %" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 20},
        {"variant": "paper"},
        {"epochs_completed": 1},
        {"global_batch_size": 64},
        {"mode": "evaluate"},
        {"evaluation": None},
        {"dataset": {"name": "digits"}},
    ],
)
def test_a_shortened_recipe_does_not_pass_for_the_documented_one(changes):
    assert "se_resnet110_gpu" in _missing([_record(**changes)])


def test_seeds_become_mean_and_deviation():
    top1 = [94.4, 94.5, 94.9]
    records = [
        _record(seed=seed, evaluation={"images": 10000, "top1": value, "top5": 99.5}) for seed, value in enumerate(top1)
    ]
    (row,) = _of("measured", records)
    assert (row.top1, row.top1_std) == (statistics.mean(top1), statistics.stdev(top1))
    assert (row.top5, row.top5_std, row.runs) == (99.5, 0, 3)
    assert row.settings == "se_resnet110_gpu, 3 seeds"
    assert "94.60 ±0.26" in render(rows(records), "markdown")


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "O1"},
        {"depth": 20},
        {"variant": "paper"},
        {"layers": "slim"},
        {"recipe": "se_resnet110_npu"},
        {"global_batch_size": 256},
        {"epochs_completed": 2},
        {"steps_completed": 5},
        {"device": {"kind": "gpu", "name": "Other", "count": 1}},
        {"machine": "elsewhere"},
        {"begun_on": ["device cpu, AMD EPYC, threads 2, instructions avx2"]},
        {"dataset": {"name": "cifar-10", "fingerprint": "other"}},
    ],
)
def test_runs_with_different_settings_are_never_averaged(changes):
    assert len(_of("measured", [_record(), _record(seed=1, **changes)])) == 2


def test_the_same_seed_twice_is_called_runs():
    assert _of("measured", [_record(), _record()])[0].settings == "se_resnet110_gpu, 2 runs"


def test_hours_of_several_machines_are_called_so():
    (row,) = _of("measured", [_record(depth=20, begun_on=["device cpu, AMD EPYC, threads 2, instructions avx2"])])
    assert row.settings == "se_resnet110_gpu, depth 20, begun on other hardware or threads"
    assert row.hours == 1.5


def test_evaluations_of_other_checkpoints_or_among_other_answers_are_not_averaged():
    def evaluated(**more):
        part = {"images": 10000, "loss": 0.5, "top1": 90.0, "top5": 99.0, "checkpoint": "checkpoints/last", **more}
        return _record(mode="evaluate", evaluation=part)

    assert len(_of("measured", [evaluated(), evaluated()])) == 1
    assert len(_of("measured", [evaluated(), evaluated(checkpoint="checkpoints/best")])) == 2
    rows = _of("measured", [evaluated(), evaluated(restricted=True)])
    assert [row.settings for row in rows if "restricted" in row.settings] == [
        "se_resnet110_gpu, evaluate, answers restricted to the data set's classes"
    ]
    assert len(rows) == 2


def test_runs_that_began_on_different_hardware_are_not_averaged():
    assert len(_of("measured", [_record(seed=seed, begun_on=[f"gpu {seed}"]) for seed in range(2)])) == 2


def test_other_data_sets_get_a_table_of_their_own():
    records = [_record(network="se_resnet", recipe="sample", depth=11, dataset={"name": "digits"})]
    (row,) = _of("measured", records, "se_resnet")
    assert (row.dataset, row.settings) == ("digits", "sample, depth 11")
    assert "se_resnet, digits" in render(rows(records))


def test_a_run_cut_off_within_its_first_epoch_shows_its_steps():
    (row,) = _of("measured", [_record(epochs_completed=0, steps_completed=20)])
    assert row.steps == 20
    assert "20 st." in render([row])


def test_the_text_fits_the_terminal_and_names_what_it_shows():
    records = [_record(seed=seed) for seed in range(3)] + [
        _record(device={"kind": "cpu", "name": "Some Xeon Platinum 8375C with a long name", "count": 2}, depth=20)
    ]
    text = render(rows(records))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    for words in ("documented [", "measured ", "not measured", "94.79", "80.161", "5306.66", "[13] ", "top-1"):
        assert words in text
    assert all(f"[{number}]" in text for number in range(1, 14))
    assert text.endswith(".\n")


def test_csv_and_json_hold_the_same_full_numbers():
    table = rows([_record()])
    from_json = json.loads(render(table, "json"))
    from_csv = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(from_json) == len(from_csv) == len(table)
    for one, other in zip(from_json, from_csv):
        assert (one["network"], one["kind"]) == (other["network"], other["kind"])
        assert (other["top1"] and float(other["top1"])) == ("" if one["top1"] is None else one["top1"])
    assert 955.433 in [row["images_per_second"] for row in from_json]


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "html"])
def test_every_form_has_the_digits_of_the_documents(form):
    text = page([]) if form == "html" else render(rows([]), form)
    for digits in ("955.433", "949.309", "1522.120", "747.41", "5306.66", "79.130", "78.100", "94.010"):
        assert re.search(rf"(?<![\d.]){re.escape(digits)}(?![\d.])", text), digits
    for number in ("45", "69", "353", "141", "91", "8"):  # without a point that the documents do not have
        assert re.search(rf"(?<![\d.]){number}(?![\d.])", text), number
        assert not re.search(rf"(?<![\d.]){number}\.0(?!\d)", text), number
    for error in ("5.21", "5.45"):
        assert error in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_markdown_tables_are_rectangular(language):
    lines = [line for line in render(rows([_record()]), "markdown", language).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {13}
    assert ("| 来源 |" in lines[0]) == (language == "zh")
    assert any(("实测" if language == "zh" else "measured") in line for line in lines)


def test_the_command_takes_folders_and_files_each_once(tmp_path, capsys):
    folder = _write(tmp_path / "runs", _record(), _record(seed=1))
    assert main([folder, folder + "/run0", folder + "/run1/result.json", "--format", "json"]) == 0
    measured = [row for row in json.loads(capsys.readouterr().out) if row["kind"] == "measured"]
    assert [row["runs"] for row in measured] == [2]


def test_without_arguments_the_committed_records_are_read(tmp_path, capsys, monkeypatch):
    committed = tmp_path / "results" / "cifar"
    committed.mkdir(parents=True)
    monkeypatch.setattr("shared.results.__main__.COMMITTED", tmp_path / "results")
    assert main(["--format", "csv"]) == 0
    assert ",measured," not in capsys.readouterr().out
    write_record(committed / "gpu-seed0.json", _record())
    assert main(["--format", "csv"]) == 0
    assert ",measured," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fromat", "csv"], "did you mean '--format'?"),
        (["--format", "cvs"], "did you mean 'csv'?"),
        (["--format"], "--format"),
        (["nowhere"], "no record at nowhere; "),
        (["--check", "nowhere.md"], "nowhere.md"),
        (["--update-readme", "nowhere.md"], "nowhere.md"),
    ],
)
def test_a_mistake_is_exit_2_and_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert said in output.err
    assert "; " in output.err


@pytest.mark.parametrize("asked", ["runs/new", "runs"])
def test_a_run_that_has_not_ended_is_named_as_one(asked, tmp_path, monkeypatch, capsys):
    """Its other JSON files are no records, and one of an earlier run in its folder is not its own."""
    monkeypatch.chdir(tmp_path)
    run = Path("runs/new")
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    for name in ("config.json", "examples.json", "checkpoints/step-00000001/state.json"):
        (run / name).write_text('{"half": "torch_imagenet", "mode": "train", "progress": {}}')
    if asked == "runs/new":
        (run / "previous-1").mkdir()
        write_record(run / "previous-1" / "result.json", _record())
    assert main([asked]) == 2
    line = f"error: the run {run} has no result.json, so it has not ended; finish it with --resume {run}\n"
    assert capsys.readouterr() == ("", line)
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    assert main([asked]) == 2  # a run of check-port cannot be resumed
    assert capsys.readouterr().err.endswith("it has not ended; let it end, or run it again\n")
    (tmp_path / "elsewhere").rename(run / "checkpoints")
    assert main([str(run / "checkpoints")]) == 2
    assert "no record at runs/new/checkpoints; name a run's folder" in capsys.readouterr().err
    assert main([str(run / "config.json")]) == 2
    assert "config.json is not a record; name the result.json that a run wrote" in capsys.readouterr().err
    write_record(run / "result.json", _record())
    assert main([asked]) == 0


def test_a_reader_that_goes_away_ends_it_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "shared.results"]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=str(ROOT), timeout=120)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_record_is_exit_2_and_named(tmp_path, capsys):
    (tmp_path / "result.json").write_text('{"schema": 1, "half": NaN}')
    assert main([str(tmp_path)]) == 2
    assert "result.json: half is nan, not a text; " in capsys.readouterr().err


BLOCK = "# Title\n\n<!-- results:begin{} -->\nold\n<!-- results:end -->\n\nafter\n"


def test_readmes_are_updated_and_checked(tmp_path, capsys):
    folder = _write(tmp_path / "runs", _record())
    english, chinese = tmp_path / "README.md", tmp_path / "README.zh-CN.md"
    english.write_text(BLOCK.format(""), encoding="utf-8")
    chinese.write_text(BLOCK.format(" lang=zh"), encoding="utf-8")
    files = [str(english), str(chinese)]

    assert main([folder, "--check"] + files) == 1
    output = capsys.readouterr()
    assert "-old" in output.out
    assert "--update-readme" in output.err
    assert "old" in english.read_text(encoding="utf-8")

    assert main([folder, "--update-readme"] + files) == 0
    assert main([folder, "--check"] + files) == 0
    text = english.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n<!-- results:begin -->\n")
    assert text.endswith("<!-- results:end -->\n\nafter\n")
    assert "| measured |" in text
    assert "| 实测 |" in chinese.read_text(encoding="utf-8")

    assert main(["--check", str(english), "--", folder + "/run0"]) == 0
    english.write_text(text.replace("94.50", "95.50"), encoding="utf-8")
    assert main([folder, "--check"] + files) == 1


@pytest.mark.parametrize("text", ["no block\n", "<!-- results:begin -->\nnever ended\n", BLOCK.format(" lang=fr")])
def test_a_file_without_a_proper_block_is_refused_and_left_alone(tmp_path, capsys, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    assert main(["--update-readme", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == text


def test_images_of_another_size_are_named_and_are_not_the_documented_run():
    changes = {
        "half": "torch_imagenet",
        "network": "se_resnet50",
        "recipe": "se_resnet50_1p",
        "global_batch_size": 128,
        "epochs_completed": 1,
        "dataset": {"name": "imagenet"},
        "schedule": None,
        "depth": None,
        "variant": None,
    }
    whole, small = _record(**changes, image_size=224), _record(**changes, image_size=64)
    (row,) = _of("measured", [whole], "se_resnet50")
    assert row.settings == "se_resnet50_1p"
    assert _missing([whole], "se_resnet50") == ["se_resnet50_8p"]
    (row,) = _of("measured", [small], "se_resnet50")
    assert row.settings == "se_resnet50_1p, 64 px"
    assert "se_resnet50_1p" in _missing([small], "se_resnet50")


def test_another_normalisation_or_padding_is_named_and_is_not_the_documented_run():
    changes = {"half": "torch_imagenet", "network": "pnasnet5large", "recipe": "pnasnet5large_1p", "schedule": None}
    changes.update(global_batch_size=32, epochs_completed=1, dataset={"name": "imagenet"})
    for own, settings in (
        ({"normalisation": "own", "zero_pad": False}, "pnasnet5large_1p"),
        ({"normalisation": "none", "zero_pad": False}, "pnasnet5large_1p, normalisation none"),
        ({"normalisation": "own", "zero_pad": True}, "pnasnet5large_1p, zero-pad"),
    ):
        record = _record(**changes, **own)
        (row,) = _of("measured", [record], "pnasnet5large")
        assert row.settings == settings
        missing = "pnasnet5large_1p" in _missing([record], "pnasnet5large")
        assert missing == (settings != "pnasnet5large_1p")


@pytest.mark.parametrize(("base", "complete"), [(0.4, True), (0.32, True), (0.3, False)])
def test_both_documented_rates_of_pnasnet_complete_its_row_and_are_shown(base, complete):
    schedule = f"cosine from {base:g} to 0"
    record = _record(
        half="torch_imagenet",
        network="pnasnet5large",
        recipe="pnasnet5large_8p",
        global_batch_size=256,
        epochs_completed=90,
        dataset={"name": "imagenet"},
        schedule=schedule,
    )
    (row,) = _of("measured", [record], "pnasnet5large")
    assert row.settings == ("pnasnet5large_8p" if base == 0.4 else f"pnasnet5large_8p, {schedule}")
    missing = _missing([record], "pnasnet5large")
    assert missing == (["pnasnet5large_1p"] if complete else ["pnasnet5large_1p", "pnasnet5large_8p"])


def test_a_benchmark_names_its_layout_and_whether_it_was_compiled():
    record = _record(mode="benchmark", memory_format="channels_last", compiled=True, evaluation=None)
    (row,) = _of("measured", [record])
    assert row.settings == "se_resnet110_gpu, benchmark, channels last, compiled"
    (row,) = _of("measured", [{**record, "compile_mode": "reduce-overhead"}])
    assert row.settings == "se_resnet110_gpu, benchmark, channels last, compiled (reduce-overhead)"
