"""A run's folder: others' files in it, a new run in an earlier one's, one that was copied, a path that is not UTF-8."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tf_seresnet.main import main  # noqa: E402


@pytest.mark.slow
def test_a_new_run_from_the_run_in_its_own_folder(finished, train):
    before = finished()
    weights = before.weights()
    for number, given in enumerate((before.folder, before.folder / "model.ckpt"), 1):
        again = train("--checkpoint", str(given), "--max-steps", "1", "--learning-rate", "1e-12")
        assert again.status == 0
        assert (again.folder / f"previous-{number}" / "checkpoints" / "last").exists()
        kernel = "conv2d/kernel"
        np.testing.assert_allclose(again.weights()[kernel], weights[kernel], atol=1e-6)


def test_a_folder_of_others_is_not_moved(train, tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "team.pth").write_text("mine")
    assert train().status == 2
    assert "holds checkpoints, and no config.json of a run" in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "run").rglob("*"))] == [
        "run/checkpoints",
        "run/checkpoints/team.pth",
    ]


def test_a_run_whose_links_were_followed_goes_on(finished, train, tmp_path):
    before = finished()
    shutil.copytree(str(before.folder), str(tmp_path / "copy"))
    assert train("--resume", str(tmp_path / "copy"), "--epochs", "3", name="copy", short=False).status == 0
    assert os.readlink(str(tmp_path / "copy" / "checkpoints" / "last")) == "step-00000009"


@pytest.mark.parametrize("option", ["--output-dir", "--checkpoint"])
def test_a_path_that_tensorflow_cannot_open_is_refused_before_the_training(finished, sample_folder, capsys, option):
    before = finished()
    odd = before.folder.parent / "caf\udce9"
    if option == "--checkpoint":
        os.rename(str(before.folder), str(odd))
    elsewhere = [] if option == "--output-dir" else ["--output-dir", str(before.folder.parent / "new")]
    words = ["--device", "cpu", "--data-path", str(sample_folder), option, str(odd), "--max-steps", "1", *elsewhere]
    status = main(words)
    assert status == 2
    error = capsys.readouterr().err
    assert r"caf\udce9" in error
    assert "TensorFlow opens no such path; choose or rename a folder" in error


def test_the_data_set_of_a_run_is_the_same_from_another_folder(sample_folder, train, tmp_path, monkeypatch, capsys):
    """Another one stands there under the path that was typed."""
    (tmp_path / "here").symlink_to(sample_folder)
    (tmp_path / "elsewhere" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    run = train("--data-path", "here", "--max-steps", "1")
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["evaluate", "--checkpoint", str(run.folder), "--device", "cpu", "--output-dir", "evaluation"]) == 0
    assert f"from {tmp_path / 'here'}, where the checkpoint was trained" in capsys.readouterr().out


def test_branches_that_are_loaded_do_not_begin_at_zero_and_that_is_said(finished, train, capsys):
    before = finished()
    capsys.readouterr()
    train("--checkpoint", str(before.folder), "--zero-init", "--max-steps", "1", name="again")
    assert "note: zero-init has no effect, for the branches are the weights'" in capsys.readouterr().out
