"""Checkpoints: found by any name, pruned, replaced, and never trusted when damaged."""

from __future__ import annotations

import os

import pytest

tf = pytest.importorskip("tensorflow")

from shared.checkpoint import folder as checkpoint_folder  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tf_seresnet.run import checkpoints  # noqa: E402


def test_the_folder_of_a_run_means_its_last_checkpoint(finished):
    run = finished()
    for name in (run.folder, run.folder / "checkpoints", run.folder / "checkpoints" / "last"):
        found = checkpoints.find(name)
        assert found.state["progress"]["step"] == 6
        assert found.notes == []
    assert os.readlink(str(run.folder / "checkpoints" / "last")) == "step-00000006"


def test_tensorflows_own_files_are_found_by_prefix_or_any_of_their_names(finished):
    run = finished("--epochs", "1")
    prefix = str(run.folder / "model.ckpt")
    for name in (prefix, prefix + ".index", prefix + ".data-00000-of-00001"):
        assert checkpoints.find(name) == checkpoints.Found(prefix, None, [])


def test_the_originals_model_folder_is_found(finished, tmp_path):
    """The original wrote ./model/senet110.ckpt and TensorFlow's `checkpoint` file beside it."""
    run = finished("--epochs", "1")
    model = tmp_path / "model"
    model.mkdir()
    for file in run.folder.glob("model.ckpt.*"):
        os.rename(str(file), str(model / file.name.replace("model.ckpt", "senet110.ckpt")))
    (model / "checkpoint").write_text('model_checkpoint_path: "senet110.ckpt"\n')
    assert checkpoints.find(model).prefix == str(model / "senet110.ckpt")


@pytest.mark.once
def test_only_the_newest_are_kept_besides_the_best(train):
    run = train("--save-steps", "1", "--keep", "2")
    numbered = sorted(path.name for path in (run.folder / "checkpoints").glob("step-*"))
    best = os.readlink(str(run.folder / "checkpoints" / "best"))
    assert set(numbered) == {"step-00000005", "step-00000006", best}


@pytest.mark.once
@pytest.mark.parametrize("file", ["model.ckpt.data-00000-of-00001", "model.ckpt.index", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(finished, file):
    run = finished()
    damaged = run.folder / "checkpoints" / "step-00000006" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    if file == "state.json":
        damaged.write_text("{")
    found = checkpoints.find(run.folder)
    assert found.state["progress"]["step"] == 3
    assert len(found.notes) == 1
    assert "step-00000006 is damaged" in found.notes[0]


def test_no_intact_checkpoint_is_an_error(finished):
    run = finished("--epochs", "1")
    for state in (run.folder / "checkpoints").glob("step-*/state.json"):
        state.write_text("[]")
    with pytest.raises(UsageError, match="damaged"):
        checkpoints.find(run.folder)


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no checkpoint at .*; name a run's folder"):
        checkpoints.find(tmp_path)


def test_a_failed_write_leaves_the_old_checkpoint_and_no_trace(finished, monkeypatch, tmp_path):
    run = finished("--epochs", "1")
    before = checkpoints.find(run.folder)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_folder, "sync_files", full)
    with tf.Graph().as_default():
        tf.compat.v1.get_variable("x", [], initializer=tf.compat.v1.zeros_initializer())
        with tf.compat.v1.Session() as session:
            write = checkpoints.writer(session, run.folder, 3, {})
            session.run(tf.compat.v1.global_variables_initializer())
            with pytest.raises(OSError, match="No space"):
                write({"progress": {"step": 9}}, False)
    assert checkpoints.find(run.folder) == before
    assert not list((run.folder / "checkpoints").glob(".*"))


@pytest.mark.parametrize("size", [0, 3000, 39999])
def test_a_disk_that_takes_nothing_is_an_oserror_and_leaves_nothing(tmp_path, size):
    """TensorFlow's own exception is of another kind with every reason; a limit on files' sizes is one for everybody."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("weights", [10000])
        session.run(variable.initializer)
        save = checkpoints.writer(session, tmp_path, 2, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            for write in (
                lambda: save({"progress": {"step": 1}}, False),
                lambda: checkpoints.save_weights(session, tmp_path / "model.ckpt", [variable]),
            ):
                with pytest.raises(OSError, match="File too large"):
                    write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoints"]
