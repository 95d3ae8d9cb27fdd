"""Which data set a run has: the one that is named, or an error; the embedded sample only where nothing is named."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("tensorflow")

from shared import (
    cifar10,  # noqa: E402
    sample,  # noqa: E402
)
from shared.errors import UsageError  # noqa: E402
from tf_seresnet.main import main  # noqa: E402
from tf_seresnet.options import RunConfig  # noqa: E402
from tf_seresnet.run.setup import load_data  # noqa: E402


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def own(sample_folder, tmp_path):
    """A data set of the user's."""
    folder = tmp_path / "own" / cifar10.FOLDER
    shutil.copytree(str(sample_folder), str(folder))
    return folder


def load(*words, state=None):
    return load_data(RunConfig.from_argv(words), state)


def state_of(path):
    return {"data": {"path": str(path), "fingerprint": "0" * 64}}


def test_the_sample_only_where_nothing_is_named():
    assert "the embedded sample is used" in load()[1]
    for option in ("--checkpoint", "--resume"):
        with pytest.raises(UsageError, match=r"no data set is named, and there is no \./cifar-10-batches-py; name one"):
            load(option, "model.ckpt")
    with pytest.raises(UsageError, match="nowhere does not exist; "):
        load("--data-path", "nowhere")


def test_a_link_to_a_disk_that_is_not_there_is_not_passed_over(tmp_path):
    (tmp_path / cifar10.FOLDER).symlink_to("/no such disk")
    with pytest.raises(UsageError, match="{} does not exist; ".format(cifar10.FOLDER)):
        load()
    assert main(["check-data"]) == 2


def test_the_data_that_a_checkpoint_names(own, tmp_path):
    (tmp_path / cifar10.FOLDER).mkdir()  # another set in the usual place
    remark = load("--checkpoint", "x", state=state_of(own))[1]
    assert remark.endswith("{}, where the checkpoint was trained".format(own))
    with pytest.raises(UsageError, match="gone, where the checkpoint was trained, is gone; say with --data-path"):
        load("--checkpoint", "x", state=state_of(tmp_path / "gone"))
    assert load("--data-path", str(own), state=state_of("gone"))[0].path == str(own)


def test_the_sample_of_a_run_is_made_again_where_a_cache_was_emptied(tmp_path):
    place = tmp_path / "other cache" / "se-pnas-kit" / "sample-v1" / cifar10.FOLDER
    assert load("--checkpoint", "x", state=state_of(place))[0].path == str(sample.cifar10_folder())


def test_a_new_run_from_weights_has_the_data_of_theirs(finished, capsys):
    run = finished("--epochs", "1")
    words = "--variant paper --depth 8 --recipe sample --max-steps 1 --device cpu --output-dir new".split()
    assert main([*words, "--checkpoint", str(run.folder)]) == 0
    assert "where the checkpoint was trained" in capsys.readouterr().out


def test_check_data_looks_at_the_data_that_a_url_names(own, capsys):
    assert main(["check-data", "--data_url", str(own)]) == 0
    assert "folder {}".format(own) in capsys.readouterr().out
    assert main(["check-data", "--data_url", "nowhere"]) == 2


def test_two_names_for_the_weights_are_one_too_many(capsys):
    assert main(["evaluate", "--device", "cpu", "--checkpoint", "a", "--resume", "b"]) == 2
    assert "give one of them" in capsys.readouterr().err
