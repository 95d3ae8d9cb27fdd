"""The ModelArts way of starting, with a `moxing` that keeps its buckets in a folder."""

from __future__ import annotations

import json
import shutil
import sys
import types

import pytest

from shared.errors import UsageError
from tf_seresnet.options import RunConfig
from tf_seresnet.run import modelarts

pytestmark = pytest.mark.once

RUN = "obs://bucket/run"
DATA = "obs://bucket/data"


class Moxing(types.ModuleType):
    """moxing.file.copy_parallel between folders and buckets; remembers every copy."""

    def __init__(self, buckets):
        super().__init__("moxing")
        self.buckets = buckets
        self.copies = []
        self.file = types.SimpleNamespace(copy_parallel=self._copy)

    def _copy(self, source, target):
        self.copies.append((source, target))
        shutil.copytree(self.local(source), self.local(target))

    def local(self, path):
        scheme, found, rest = path.partition("://")
        return str(self.buckets / scheme / rest) if found else path


@pytest.fixture
def moxing(tmp_path, monkeypatch):
    module = Moxing(tmp_path / "buckets")
    monkeypatch.setitem(sys.modules, "moxing", module)
    (tmp_path / "buckets" / "obs" / "bucket" / "data").mkdir(parents=True)
    (tmp_path / "buckets" / "obs" / "bucket" / "data" / "data_batch_1").write_text("pixels")
    return module


@pytest.fixture
def no_moxing(monkeypatch):
    monkeypatch.setitem(sys.modules, "moxing", None)


def config_of(*words):
    return RunConfig.from_argv([str(word) for word in words])


def write_result(folder):
    folder.mkdir(exist_ok=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last").write_text("weights")
    (folder / "result.json").write_text("{}")


def _write_and_raise(folder, failure):
    write_result(folder)
    raise failure


# -- object storage --------------------------------------------------------------------------------------------


def test_data_is_copied_in_before_the_run(tmp_path, moxing):
    config = config_of("--data_url", DATA, "--modelarts_data_dir", tmp_path / "cache")
    with modelarts.staged(config) as local:
        assert local.data_path == str(tmp_path / "cache")
        assert (tmp_path / "cache" / "data_batch_1").read_text() == "pixels"
    assert moxing.copies == [(DATA, str(tmp_path / "cache"))]


def test_results_are_copied_out_after_the_run(tmp_path, moxing):
    config = config_of("--train_url", RUN, "--modelarts_result_dir", tmp_path / "run")
    with modelarts.staged(config) as local:
        assert local.output_dir == str(tmp_path / "run")
        write_result(tmp_path / "run")
        assert moxing.copies == []
    assert moxing.copies == [(str(tmp_path / "run"), RUN)]
    assert (moxing.buckets / "obs" / "bucket" / "run" / "checkpoints" / "last").read_text() == "weights"


FAILURES = (ValueError("defect"), UsageError("loss is nan; lower the rate"), KeyboardInterrupt())


@pytest.mark.parametrize("failure", FAILURES)
def test_results_are_copied_out_after_a_failure_too(tmp_path, moxing, failure):
    config = config_of("--train_url", RUN, "--output-dir", tmp_path / "run")
    with pytest.raises(type(failure)) as caught, modelarts.staged(config):
        _write_and_raise(tmp_path / "run", failure)
    assert caught.value is failure
    assert moxing.copies == [(str(tmp_path / "run"), RUN)]


def test_a_run_that_wrote_nothing_copies_nothing_and_keeps_its_error(tmp_path, moxing):
    config = config_of("--train_url", RUN, "--output-dir", tmp_path / "run")
    with pytest.raises(ValueError, match="too early"), modelarts.staged(config):
        raise ValueError("too early")
    assert moxing.copies == []


def test_results_wait_in_the_services_cache_by_default(moxing):
    config = config_of("--train_url", "s3://bucket/run")
    with modelarts.staged(config) as local:
        assert local.output_dir == "/cache/output"


@pytest.mark.parametrize("words", [["--data_url", DATA], ["--train_url", RUN], ["--train_url", "s3://bucket/run"]])
def test_without_moxing_the_run_does_not_begin(tmp_path, no_moxing, words):
    begun = False
    with pytest.raises(UsageError) as caught, modelarts.staged(config_of(*words, "--output-dir", tmp_path)):
        begun = True
    assert not begun
    assert "moxing is not importable" in str(caught.value)
    assert "; run on ModelArts" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- local paths -----------------------------------------------------------------------------------------------


def test_without_urls_nothing_changes(no_moxing):
    for words in ([], ["--data-path", "DATA", "--output-dir", "OUT"]):
        config = config_of(*words)
        with modelarts.staged(config) as local:
            assert local == config


def test_local_urls_are_used_as_they_are(tmp_path, no_moxing):
    config = config_of("--data_url", "./cifar-10-batches-py", "--train_url", tmp_path / "run")
    with modelarts.staged(config) as local:
        assert (local.data_path, local.output_dir) == ("./cifar-10-batches-py", str(tmp_path / "run"))
        write_result(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_kits_own_options_win(tmp_path, moxing):
    config = config_of(
        "--data_url", DATA, "--data-path", "DATA", "--train_url", tmp_path / "url", "--output-dir", "OUT"
    )
    with modelarts.staged(config) as local:
        assert (local.data_path, local.output_dir) == ("DATA", "OUT")
    assert moxing.copies == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("option", ["--output-dir", "--modelarts_result_dir"])
def test_a_local_train_url_beside_another_folder_gets_a_copy_without_moxing(tmp_path, no_moxing, option, exists):
    target = tmp_path / "url"
    if exists:
        target.mkdir()
        (target / "other").write_text("kept")
        record = {"schema": 1, "half": "tf_seresnet", "mode": "train", "versions": {}, "started": ""}
        (target / "result.json").write_text(json.dumps(record))
    with modelarts.staged(config_of("--train_url", target, option, tmp_path / "run")):
        write_result(tmp_path / "run")
    assert (target / "checkpoints" / "last").read_text() == "weights"
    assert (target / "result.json").read_text() == "{}"
    assert (target / "other").exists() == exists


def test_a_train_url_that_is_the_runs_folder_in_other_words(tmp_path, no_moxing, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with modelarts.staged(config_of("--train_url", "./run/", "--output-dir", tmp_path / "run")):
        write_result(tmp_path / "run")
    assert (tmp_path / "run" / "result.json").read_text() == "{}"


def test_a_folder_of_others_is_not_copied_into(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.log").write_text("mine")
    config = config_of("--output-dir", tmp_path / "run", "--train_url", tmp_path / "mine")
    with pytest.raises(UsageError, match="holds train.log, .*; choose another --train_url"), modelarts.staged(config):
        raise AssertionError("the training began")
    assert (tmp_path / "mine" / "train.log").read_text() == "mine"


def test_a_copy_to_a_disk_without_links_and_permissions(tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise PermissionError(1, "Operation not permitted")

    config = config_of("--output-dir", tmp_path / "run", "--train_url", tmp_path / "out")
    with modelarts.staged(config):
        (tmp_path / "run" / "checkpoints" / "step-00000001").mkdir(parents=True)
        (tmp_path / "run" / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
        (tmp_path / "run" / "checkpoints" / "best").symlink_to("step-00000001")
        for name in ("symlink", "chmod", "utime"):
            monkeypatch.setattr(modelarts.os, name, refuse)
    assert (tmp_path / "out" / "checkpoints" / "step-00000001" / "state.json").read_text() == "{}"
    assert (tmp_path / "out" / "checkpoints" / "best").read_text() == "step-00000001\n"
