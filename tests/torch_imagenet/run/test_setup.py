"""Which data set a run has: the one that is named, or an error; the embedded sample only where nothing is named."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from shared import sample  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from torch_imagenet.input_pipeline import dataset  # noqa: E402
from torch_imagenet.options import RunConfig  # noqa: E402


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))


def load(*words, **states):
    return dataset.load_data(RunConfig.from_argv(list(words)), **states)


def state(path, name="tiny"):
    return {"data": {"path": str(path), "name": name, "fingerprint": "0" * 64}}


def test_the_sample_only_where_nothing_is_named(tmp_path):
    assert load().content.name == sample.NAME
    for option in ("--checkpoint", "--resume"):
        with pytest.raises(UsageError, match=r"no data set is named, and there is no \./imagenet; name one with"):
            load(option, "weights.pth")
    with pytest.raises(UsageError, match="nowhere does not exist; "):
        load("--data-path", "nowhere")


def test_a_link_to_a_disk_that_is_not_there_is_not_passed_over(tmp_path):
    (tmp_path / "imagenet").symlink_to("/no such disk")
    with pytest.raises(UsageError, match="imagenet is not a folder; "):
        load()


@pytest.mark.parametrize("resumed", [True, False])
def test_the_data_that_a_checkpoint_names(tiny, tmp_path, resumed):
    """Of a run that goes on, is evaluated, or whose weights a new run starts from."""
    (tmp_path / "imagenet").mkdir()  # another set in the usual place
    remark = load("--checkpoint", "x", state=state(tiny.folder), resumed=resumed).remark
    assert remark.endswith(f"from {tiny.folder}, where the checkpoint was trained")
    with pytest.raises(UsageError, match="gone, where the checkpoint was trained, is gone; say with --data-path"):
        load("--checkpoint", "x", state=state(tmp_path / "gone"), resumed=resumed)
    assert load("--checkpoint", "x", "--data-path", str(tiny.folder), state=state("gone"), resumed=resumed).content.name


def test_the_sample_of_a_run_is_made_again_where_a_cache_was_emptied(tmp_path):
    of_run = state(tmp_path / "other cache" / "se-pnas-kit" / "sample-v1" / "imagenet", sample.NAME)
    data = load("evaluate", "--checkpoint", "x", state=of_run)
    assert (data.content.name, len(data.content.val)) == (sample.NAME, sample.TEST_IMAGES)
    assert data.content.path == str(sample.imagenet_folder())
