"""benchmarks/run.py: the rows that are chosen, what is skipped and why, records after every row, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks import images, run
from benchmarks.environments import Environments, advice
from benchmarks.rows import Group, Row, Side
from shared.system.signals import Stopped

ROOT = Path(__file__).resolve().parents[2]


def quick(name, seconds, needs=("numpy",), target="quick"):
    return Side(target, {"name": name, "seconds": seconds}, needs)


@pytest.fixture
def rows(monkeypatch):
    """Three groups of contenders that do nothing, in the place of the real rows: quick, slow and failing."""
    sides = {"ours": quick("ours", 0.01), "peer": quick("peer", 0.02)}
    groups = [
        Group((Row("quick", "how quick", "ours", "peer", "ms", 1.0),), sides, rounds=3),
        Group(
            (Row("bad", "how bad", "ours", "peer", "ms"),), {**sides, "ours": quick("x", 0, target="broken")}, rounds=3
        ),
        Group((Row("last", "how slow", "ours", "peer", "ms", 100.0),), sides, rounds=3),
        Group(
            (Row("foreign", "of others", "ours", "peer", "ms"),), {**sides, "peer": quick("p", 0, ("jax_of_mars",))}, 3
        ),
    ]
    monkeypatch.setattr(run, "groups_of", lambda kind, device, tiny=False: groups)
    monkeypatch.setattr(run, "CONTENDERS", "tests.benchmarks.contenders:")
    monkeypatch.setattr(Environments, "python", lambda self, needs: None if "jax_of_mars" in needs else sys.executable)
    monkeypatch.setattr(Environments, "missing", lambda self, needs: tuple({"jax_of_mars"} & set(needs)))
    return groups


def start(tmp_path, *words):
    return run.main(["--python", sys.executable, "--records", str(tmp_path / "records"), *words])


def record(tmp_path, name):
    return json.loads((tmp_path / "records" / "cpu" / f"{name}.json").read_text())


def test_rows_are_measured_recorded_and_shown(tmp_path, rows, capsys):
    assert start(tmp_path, "--only", "quick", "last") == 0
    said = capsys.readouterr().out
    made = record(tmp_path, "quick")
    assert (made["row"], made["kind"], made["question"], made["tiny"]) == ("quick", "cpu", "how quick", False)
    assert (made["ours"]["what"], made["peer"]["what"], made["ours"]["images"]) == ("ours", "peer", [1, 1, 1])
    assert len(made["ours"]["seconds"]) == len(made["peer"]["seconds"]) == 3
    ends = {line.split()[0]: line.split()[-1] for line in said.splitlines()[-2:]}
    assert ends == {"quick": "met", "last": "missed"}


def test_a_row_that_fails_is_told_and_the_others_are_measured(tmp_path, rows, capsys):
    assert start(tmp_path, "--only", "bad", "last", "--rounds", "1") == 1
    assert "bad: failed: ValueError: no such thing" in capsys.readouterr().out
    assert len(record(tmp_path, "last")["ours"]["seconds"]) == 1
    assert not (tmp_path / "records" / "cpu" / "bad.json").exists()


def test_a_row_without_its_packages_is_skipped_in_one_line_that_says_what_to_install(tmp_path, rows, capsys):
    assert start(tmp_path, "--only", "foreign") == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"skipped: foreign: {advice(['jax_of_mars'])}"
    assert "bash tests/run.sh" in first
    assert last.endswith("not measured")


def test_nothing_is_begun_when_the_minutes_are_over(tmp_path, rows, capsys, monkeypatch):
    began = time.monotonic()
    clock = iter([began])
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock, began + 3600))
    assert start(tmp_path, "--only", "quick", "last", "--minutes", "5") == 0
    assert capsys.readouterr().out.count("not measured (out of time)") == 2
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "quikc"], "there is no row 'quikc' for cpu; did you mean 'quick'?"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--rounds", "0"], "'0' does not fit"),
        (["--images", "/nowhere"], "/nowhere is no folder; give one with train/ and val/"),
        (
            ["--python", "/nowhere/python"],
            "/nowhere/python is no Python that can be started; name others with --python",
        ),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path, rows, capsys, words, said):
    assert start(tmp_path, *words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert said in errors
    assert errors.count("\n") == 1


def test_ctrl_c_leaves_the_rows_that_are_done(tmp_path, rows, capsys):
    first = tmp_path / "records" / "cpu" / "quick.json"

    def interrupt():
        end = time.monotonic() + 60
        while not first.exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status = start(tmp_path, "--only", "quick", "last", "--rounds", "20")
    thread.join()
    assert status == 130
    assert first.exists()
    assert not (first.parent / "last.json").exists()
    *_, quick_row, last_row = capsys.readouterr().out.splitlines()
    assert quick_row.startswith("quick")
    assert last_row.endswith("not measured")


def test_a_second_signal_does_not_interrupt_the_ending_of_the_processes():
    stop = run._stop_once()
    with pytest.raises(Stopped):
        stop(signal.SIGINT)
    assert stop(signal.SIGINT) is None


def test_the_rows_are_listed_with_what_they_ask(capsys):
    assert run.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "step-senet154 " in listed
    assert "training step of SENet154, batch 4, 128 pixels, float32" in listed
    assert run.main(["--list", "--device", "cuda:0", "--only", "agreement"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_script_starts_the_driver():
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "run.sh"), "--list", "--only", "evaluation"],
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode().startswith("evaluation  ")


# -- image files -----------------------------------------------------------------------------------------------------


def test_generated_images_are_the_same_everywhere(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    images.write_images(tmp_path / "set", per_split=3)
    train, val = images.splits_of(tmp_path / "set")
    assert (train, val) == (tmp_path / "set" / "train", tmp_path / "set" / "val")
    paths = sorted(train.rglob("*.JPEG"))
    assert [Image.open(path).size for path in paths] == list(images.SIZES[:3])
    assert [path.parent.name for path in paths] == ["class0", "class1", "class2"]
    assert 60_000 < paths[0].stat().st_size < 160_000  # ImageNet's have 110 KB on average
    images.write_images(tmp_path / "again", per_split=3)
    assert [path.read_bytes() for path in sorted((tmp_path / "again" / "train").rglob("*.JPEG"))] == [
        path.read_bytes() for path in paths
    ]


def test_a_folder_per_class_is_both_splits(tmp_path):
    (tmp_path / "set" / "cats").mkdir(parents=True)
    assert images.splits_of(tmp_path / "set") == (tmp_path / "set", tmp_path / "set")
    data = images.data_set_of(*images.splits_of(tmp_path / "set"), tmp_path / "both")
    assert [path.name for path in sorted(data.glob("*/*"))] == ["cats", "cats"]
