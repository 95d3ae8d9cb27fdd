"""Checkpoints: found by any name, pruned, replaced, and never trusted when damaged."""

from __future__ import annotations

import os

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from shared.checkpoint import folder as checkpoint_folder  # noqa: E402
from shared.errors import UsageError  # noqa: E402
from tf_seresnet.devices import onednn  # noqa: E402
from tf_seresnet.run import checkpoints  # noqa: E402
from tf_seresnet.step import variables as graph  # noqa: E402


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


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_state_that_does_not_name_onednn_has_what_tensorflow_does_by_itself(finished, monkeypatch, by_itself):
    run = finished("--epochs", "1")
    state = checkpoints.find(run.folder).state
    state["arithmetic"].pop("onednn", None)
    monkeypatch.setattr(onednn, "used_by_itself", lambda: by_itself)
    assert checkpoints._checked(run.folder, state)["arithmetic"] == {**state["arithmetic"], "onednn": by_itself}
    del state["arithmetic"]  # a state of before that does not say what it was made by
    assert checkpoints._checked(run.folder, state) == state


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


def test_tensorflows_own_saver_reads_what_is_written_and_the_other_way_round(tmp_path):
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = [
            tf1.get_variable("weights", initializer=np.arange(6, dtype=np.float32).reshape(2, 3)),
            tf1.get_variable("layer/steps", initializer=np.int64(7)),
        ]
        session.run(tf1.global_variables_initializer())
        values = session.run(variables)
        checkpoints.save_weights(session, tmp_path / "ours.ckpt", variables)
        saver = tf1.train.Saver(variables)
        saver.save(session, str(tmp_path / "theirs.ckpt"), write_meta_graph=False)
        zeros = {one.op.name: np.zeros_like(value) for one, value in zip(variables, values)}
        found = checkpoints.Found(str(tmp_path / "theirs.ckpt"), None, [])
        before = len(session.graph.get_operations())
        for restore in (
            lambda: checkpoints.restore(session, found, variables),
            lambda: saver.restore(session, str(tmp_path / "ours.ckpt")),
        ):
            graph.load_values(session, zeros)
            restore()
            for one, other in zip(session.run(variables), values):
                np.testing.assert_array_equal(one, other)
        assert len(session.graph.get_operations()) == before  # restoring adds none
    listed = [tf.train.list_variables(str(tmp_path / name)) for name in ("ours.ckpt", "theirs.ckpt")]
    assert listed[0] == listed[1] == [("layer/steps", []), ("weights", [2, 3])]


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
