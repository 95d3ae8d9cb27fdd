"""--dry-run says what the run says of itself before it writes, writes nothing, and finds what is wrong."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("tensorflow")

from tf_seresnet.main import main  # noqa: E402


@pytest.mark.slow
@pytest.mark.once
def test_it_says_what_the_run_says_and_writes_nothing(train, tmp_path, capsys):
    run = train("--max-steps", "2", name="run")
    log, files = capsys.readouterr().out.splitlines(), sorted(os.listdir(str(tmp_path)))
    dry = train("--max-steps", "2", "--dry-run", name="dry")
    lines = capsys.readouterr().out.splitlines()
    assert (dry.status, sorted(os.listdir(str(tmp_path)))) == (0, files)
    first = [line for line in log if line.startswith(("data:", "device:", "network:", "recipe:"))]
    assert [line for line in lines if line in first] == first
    assert "images: 1,495 to train on, 299 to evaluate on, 10 classes" in lines
    assert "steps: 2" in lines
    assert lines[-2:] == [f"output: {dry.folder}", "dry run: nothing was run or written; without --dry-run this begins"]
    words = ["evaluate", "--device", "cpu", "--checkpoint", str(run.folder), "--dry-run"]
    assert main([*words, "--output-dir", str(tmp_path / "dry")]) == 0
    assert "images: 299 to evaluate on, 10 classes" in capsys.readouterr().out
    assert main([*words, "--output-dir", str(run.folder)]) == 2
    assert "holds a training run; choose another folder" in capsys.readouterr().err
    assert sorted(os.listdir(str(tmp_path))) == files


def test_what_is_wrong_is_found_as_in_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--dry-run", "--data-path", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []
