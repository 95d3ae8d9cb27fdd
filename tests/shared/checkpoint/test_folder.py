"""Checkpoints of any framework: whole or absent, found by any name of theirs, pruned, never trusted when damaged."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.checkpoint import folder as checkpoint_folder
from shared.checkpoint.folder import CheckpointFolder, find, holds_one
from shared.errors import UsageError
from shared.run.disk_errors import advice


def weights(content=b"weights", name="weights.bin"):
    """What a framework does: its files in the folder that it is given."""

    def write(folder):
        (folder / name).write_bytes(content)
        (folder / (name + ".index")).write_bytes(b"index of " + content)

    return write


def save(folder, *steps, best=(), keep=3):
    made = CheckpointFolder(folder, keep)
    for step in steps:
        made.save(step, weights(b"of step %d" % step), {"progress": {"step": step}}, step in best)
    return folder


def numbered(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def linked(folder, name):
    return os.readlink(str(folder / "checkpoints" / name))


def refusal(path):
    with pytest.raises(UsageError) as caught:
        find(path)
    text = str(caught.value)
    assert ";" in text
    assert "\n" not in text
    return text


# -- written and found -----------------------------------------------------------------------------------------


def test_what_is_saved_is_found(tmp_path):
    state = {"progress": {"step": 7, "loss": 0.1 + 0.2}, "recipe": {"name": "a", "milestones": [1, 2]}}
    folder = CheckpointFolder(tmp_path, 3).save(7, weights(), state)
    assert folder == tmp_path / "checkpoints" / "step-00000007"
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "weights.bin", "weights.bin.index"]
    found = find(tmp_path)
    assert found.folder == folder
    assert {key: found.state[key] for key in state} == state
    assert found.notes == []
    assert (found.folder / "weights.bin").read_bytes() == b"weights"


def test_the_checksums_are_those_of_sha256sum(tmp_path):
    save(tmp_path, 1)
    # printf 'of step 1' | sha256sum
    known = "55c35777cefc5f8f96c563e401e78f89eea10fd318c718247a6caa7c4f6d8e98"
    files = find(tmp_path).state["files"]
    assert sorted(files) == ["weights.bin", "weights.bin.index"]
    assert files["weights.bin"] == known


def test_every_folder_that_means_a_checkpoint(tmp_path):
    save(tmp_path, 1, 2, best=[1])
    steps = {"": 2, "checkpoints": 2, "checkpoints/last": 2, "checkpoints/best": 1, "checkpoints/step-00000001": 1}
    for name, step in steps.items():
        path = tmp_path / name
        assert holds_one(path)
        assert holds_one(str(path))
        assert find(str(path)).state["progress"]["step"] == step


@pytest.mark.parametrize("name", ["weights.bin", "weights.bin.index", "weights"])
def test_a_file_of_a_checkpoint_means_the_checkpoint(tmp_path, name):
    """Also by the beginning of its name, as TensorFlow has it: the state beside it says what the tensors do not."""
    save(tmp_path, 1, 2)
    (tmp_path / "weights.bin").write_text("of somebody else")
    for folder, step in (("last", 2), ("step-00000001", 1)):
        assert holds_one(tmp_path / "checkpoints" / folder / name)
        assert find(tmp_path / "checkpoints" / folder / name).state["progress"]["step"] == step
    assert not holds_one(tmp_path / name)
    assert not holds_one(tmp_path / "checkpoints" / "last" / "weight")


@pytest.mark.parametrize("state", ["{", "[]", '{"files": null}', '{"files": 3}', '{"files": [1, "weights.bin"]}'])
def test_a_file_beside_the_state_of_a_stranger_is_a_file(tmp_path, state):
    (tmp_path / "state.json").write_text(state)
    (tmp_path / "weights.bin").write_text("")
    assert not holds_one(tmp_path / "weights.bin")


@pytest.mark.parametrize("path", ["", "nowhere", "file"])
def test_where_there_is_none(tmp_path, path):
    (tmp_path / "file").write_text("")
    assert not holds_one(tmp_path / path)
    assert refusal(tmp_path / path).startswith(f"no checkpoint at {tmp_path / path}; name a run's folder")


def test_a_run_that_has_saved_nothing_yet(tmp_path):
    CheckpointFolder(tmp_path, 3)
    assert refusal(tmp_path).startswith(f"no checkpoint in {tmp_path / 'checkpoints'}; train first")


def test_others_may_read_a_checkpoint(tmp_path):
    save(tmp_path, 1)
    assert stat.S_IMODE((tmp_path / "checkpoints" / "step-00000001").stat().st_mode) == 0o755


# -- replaced and pruned ---------------------------------------------------------------------------------------


def test_last_and_best(tmp_path):
    save(tmp_path, 1, 2, 3, best=[2])
    assert (linked(tmp_path, "last"), linked(tmp_path, "best")) == ("step-00000003", "step-00000002")


def test_the_same_step_is_replaced(tmp_path):
    save(tmp_path, 5)
    CheckpointFolder(tmp_path, 3).save(5, weights(b"newer"), {"progress": {"step": 5}}, best=True)
    assert numbered(tmp_path) == [5]
    assert (find(tmp_path).folder / "weights.bin").read_bytes() == b"newer"
    assert linked(tmp_path, "best") == "step-00000005"
    assert not list((tmp_path / "checkpoints").glob(".*"))


@given(st.dictionaries(st.integers(0, 10**6), st.booleans(), min_size=1, max_size=8), st.integers(1, 4))
def test_the_newest_stay_and_the_best(saved, keep):
    steps = sorted(saved.items())
    best = [step for step, is_best in steps if is_best]
    with tempfile.TemporaryDirectory() as name:
        folder = save(Path(name), *[step for step, _ in steps], best=best, keep=keep)
        assert numbered(folder) == sorted({step for step, _ in steps[-keep:]} | set(best[-1:]))
        assert find(folder).state["progress"]["step"] == steps[-1][0]


@pytest.mark.parametrize("name", [".abc123_8", ".writing-abc123_8", ".step-00000001", ".step-00000001.replaced"])
def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path, name):
    save(tmp_path, 1)
    leftover = tmp_path / "checkpoints" / name
    leftover.mkdir()
    (leftover / "weights.bin").write_bytes(b"half")
    (tmp_path / "checkpoints" / ".last").write_text("")
    (tmp_path / "checkpoints" / ".last.abc123_8").write_text("")
    CheckpointFolder(tmp_path, 3)
    assert sorted(os.listdir(str(tmp_path / "checkpoints"))) == ["last", "step-00000001"]
    assert numbered(tmp_path) == [1]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", ".DS_Store", "._step-00000001"])
def test_what_is_hidden_and_somebody_elses_stays(tmp_path, name):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / name).mkdir()
    save(tmp_path, 2, 3, keep=1)
    assert (tmp_path / "checkpoints" / name).is_dir()


# -- failures --------------------------------------------------------------------------------------------------


def _full(*arguments):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["write_atomic", "sync_files", "_put", "write"])
def test_a_failed_write_leaves_the_old_checkpoint_and_no_trace(tmp_path, monkeypatch, what):
    save(tmp_path, 1)
    before = find(tmp_path)
    kept = CheckpointFolder(tmp_path, 1)
    if what != "write":
        monkeypatch.setattr(checkpoint_folder, what, _full)
    with pytest.raises(OSError, match="No space"):
        kept.save(2, _full if what == "write" else weights(), {"progress": {"step": 2}}, best=True)
    assert find(tmp_path) == before
    assert sorted(os.listdir(str(tmp_path / "checkpoints"))) == ["last", "step-00000001"]


def test_a_state_that_is_no_json_is_refused_before_anything_is_there(tmp_path):
    made = CheckpointFolder(tmp_path, 3)
    with pytest.raises(ValueError, match="JSON"):
        made.save(1, weights(), {"loss": float("nan")})
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_files_are_synced_before_they_get_their_name(tmp_path, monkeypatch):
    made, calls = CheckpointFolder(tmp_path, 3), []
    real_sync, real_put = checkpoint_folder.sync_files, checkpoint_folder._put

    def sync(folder):
        calls.append(sorted(path.name for path in folder.iterdir()))
        real_sync(folder)

    def put(temporary, target):
        calls.append(target.name)
        real_put(temporary, target)

    monkeypatch.setattr(checkpoint_folder, "sync_files", sync)
    monkeypatch.setattr(checkpoint_folder, "_put", put)
    made.save(1, weights(), {})
    assert calls == [["state.json", "weights.bin", "weights.bin.index"], "step-00000001"]


# -- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weights.bin", "weights.bin.index"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path, name, damage):
    save(tmp_path, 1, 2)
    file = tmp_path / "checkpoints" / "step-00000002" / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    found = find(tmp_path)
    assert found.state["progress"]["step"] == 1
    assert len(found.notes) == 1
    assert "step-00000002 is damaged" in found.notes[0]
    assert "step-00000002 is damaged" in refusal(file.parent)  # asked for by name, it is not replaced by another


@pytest.mark.parametrize("text", ["{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "files": []}'])
def test_a_state_that_says_nothing_is_damage(tmp_path, text):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "step-00000001" / "state.json").write_text(text)
    assert "damaged" in refusal(tmp_path)


def test_another_format_is_not_guessed_at(tmp_path):
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), format=3)))
    assert "is of format 3; this version reads format 2" in refusal(tmp_path)


def test_a_state_names_no_file_outside_its_folder(tmp_path):
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    state = json.loads(path.read_text())
    state["files"]["../../outside"] = state["files"]["weights.bin"]
    (tmp_path / "outside").write_bytes(b"of step 1")
    path.write_text(json.dumps(state))
    assert "damaged" in refusal(tmp_path)


def test_last_may_be_lost(tmp_path):
    """A file system without symbolic links, or a copy that leaves them out: the numbers say which is the newest."""
    save(tmp_path, 1, 2)
    os.unlink(str(tmp_path / "checkpoints" / "last"))
    assert find(tmp_path).state["progress"]["step"] == 2


@pytest.mark.parametrize("name", ["last", "step-00000010"])
def test_a_link_to_another_runs_checkpoint_is_passed_over(tmp_path, name):
    other = save(tmp_path / "other", 20) / "checkpoints" / "step-00000020"
    link = save(tmp_path / "run", 5, 10) / "checkpoints" / name
    if link.is_symlink():
        link.unlink()
    else:
        link.rename(tmp_path / "gone")
    link.symlink_to(other)
    found = find(tmp_path / "run")
    assert found.folder.parent == tmp_path / "run" / "checkpoints"
    assert found.state["progress"]["step"] == (10 if name == "last" else 5)
    assert any("of another run" in note for note in found.notes)
    assert "of another run; name the folder itself" in refusal(link)


def test_a_link_that_somebody_made_elsewhere_is_followed(tmp_path):
    save(tmp_path / "run", 5)
    (tmp_path / "mine").symlink_to(tmp_path / "run" / "checkpoints" / "step-00000005")
    assert find(tmp_path / "mine").state["progress"]["step"] == 5


@pytest.mark.once
def test_no_bit_of_a_state_can_change_unseen(tmp_path):
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    content, state = path.read_bytes(), find(tmp_path).state
    for position in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :])
            with contextlib.suppress(UsageError):
                assert find(tmp_path).state == state  # white space between two of its words


def test_a_checkpoint_of_before_states_had_checksums_is_read(tmp_path):
    save(tmp_path, 1)
    path = tmp_path / "checkpoints" / "step-00000001" / "state.json"
    state = json.loads(path.read_text())
    del state["checksum"]
    path.write_text(json.dumps(dict(state, format=1)))
    assert find(tmp_path).state["progress"] == {"step": 1}


# -- file systems without links, copies that follow them ---------------------------------------------------------


@pytest.fixture
def plain_disk(monkeypatch):
    """As exFAT: no links, no permissions, and no folder that can be synced."""

    def refuse(number):
        def fail(*arguments, **named):
            raise OSError(number, os.strerror(number))

        return fail

    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSYS, "not here")
        real(descriptor)

    monkeypatch.setattr(os, "symlink", refuse(errno.EPERM))
    monkeypatch.setattr(os, "chmod", refuse(errno.EPERM))
    monkeypatch.setattr(os, "fsync", fsync)


def steps_of(folder):
    """What each name means."""
    names = ["", "checkpoints", "checkpoints/last", "checkpoints/best"]
    return [find(folder / name).state["progress"]["step"] for name in names]


def test_a_run_on_a_disk_without_links(tmp_path, plain_disk):
    save(tmp_path, 1, 2, 3, 4, 5, best=[2], keep=2)
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-00000005\n"
    assert steps_of(tmp_path) == [5, 5, 5, 2]
    assert numbered(tmp_path) == [2, 4, 5]
    save(tmp_path, 6, best=[6], keep=1)
    assert steps_of(tmp_path) == [6, 6, 6, 6]
    assert sorted(os.listdir(str(tmp_path / "checkpoints"))) == ["best", "last", "step-00000006"]


def test_a_run_moves_between_disks_with_and_without_links(tmp_path, plain_disk, monkeypatch):
    save(tmp_path, 1, 2, best=[1])
    monkeypatch.undo()
    save(tmp_path, 3)
    assert (linked(tmp_path, "last"), steps_of(tmp_path)) == ("step-00000003", [3, 3, 3, 1])


def copied(tmp_path, how):
    run = save(tmp_path / "run", 1, 2, 3, 4, best=[2], keep=2)
    if how == "zip":  # what Python's zipfile, or Windows, makes of a link in an archive
        shutil.copytree(str(run), str(tmp_path / "copy"), symlinks=True)
        for name in ("last", "best"):
            path = tmp_path / "copy" / "checkpoints" / name
            target = os.readlink(str(path))
            path.unlink()
            path.write_text(target)
    else:
        shutil.copytree(str(run), str(tmp_path / "copy"), symlinks=how == "without")
    if how == "without":  # rsync without -l
        for name in ("last", "best"):
            (tmp_path / "copy" / "checkpoints" / name).unlink()
    return tmp_path / "copy"


@pytest.mark.parametrize("how", ["followed", "zip", "without"])
def test_a_copied_run_goes_on(tmp_path, how):
    copy = copied(tmp_path, how)
    assert find(copy).state["progress"]["step"] == 4
    if how != "without":
        assert steps_of(copy) == [4, 4, 4, 2]
    save(copy, 5, keep=2)
    assert steps_of(copy) == [5, 5, 5, 2]
    assert numbered(copy) == [2, 4, 5]
    assert sorted(path.name for path in (copy / "checkpoints").iterdir() if not path.name.startswith("step")) == [
        "best",
        "last",
    ]
    assert linked(copy, "last") == "step-00000005"


def test_a_copy_is_the_checkpoint_where_that_is_damaged_or_absent(tmp_path):
    copy = copied(tmp_path, "followed") / "checkpoints"
    (copy / "step-00000002" / "weights.bin").write_bytes(b"cut")
    shutil.rmtree(str(copy / "step-00000004"))
    assert steps_of(copy.parent) == [4, 4, 4, 2]
    CheckpointFolder(copy.parent, 3)
    assert (linked(copy.parent, "last"), linked(copy.parent, "best")) == ("step-00000004", "step-00000002")
    assert steps_of(copy.parent) == [4, 4, 4, 2]
    assert (copy / "step-00000002" / "weights.bin").read_bytes() == b"of step 2"


def test_a_damaged_copy_makes_room_and_stays(tmp_path):
    copy = copied(tmp_path, "followed") / "checkpoints"
    (copy / "last" / "state.json").write_text("{")
    assert find(copy.parent).state["progress"]["step"] == 4
    save(copy.parent, 5)
    assert linked(copy.parent, "last") == "step-00000005"
    assert (copy / "last-damaged" / "weights.bin").read_bytes() == b"of step 4"


@pytest.mark.parametrize("content", [b"", b"../other/step-00000009", b"step-00000009\0", b"\xff", b"step-1\nstep-2"])
def test_a_pointer_that_says_nothing_is_passed_over(tmp_path, content):
    save(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "last").unlink()
    (tmp_path / "checkpoints" / "last").write_bytes(content)
    assert find(tmp_path).state["progress"]["step"] == 2


@pytest.mark.parametrize("how", ["followed", "zip", "without"])
def test_a_copied_run_has_checkpoints(tmp_path, how):
    copy = copied(tmp_path, how)
    assert checkpoint_folder.newest(copy).resolve().name in ("step-00000004", "last")
    assert advice(copy) == f"free space and continue exactly with --resume {copy}"
    assert checkpoint_folder.newest(tmp_path) is None


@pytest.mark.once
def test_a_copied_run_loses_nothing_whenever_the_next_one_ends(tmp_path):
    for operation in range(1, 200, 2):
        folder = tmp_path / str(operation)
        folder.mkdir()
        copy = copied(folder, "followed")
        ended = killed_at(operation, save, copy, 5, keep=2)
        assert find(copy).state["progress"]["step"] in (4, 5)
        CheckpointFolder(copy, 2)
        assert find(copy / "checkpoints" / "best").state["progress"]["step"] == 2
        if not ended:
            break
    assert not ended


# -- endings at any moment -------------------------------------------------------------------------------------


def test_a_run_that_goes_back_drops_what_is_beyond(tmp_path):
    """Its numbers are to be written anew; meanwhile they are no way to go on."""
    save(tmp_path, 1, 2, 3, 4, best=[3])
    made = CheckpointFolder(tmp_path, 3)
    assert find(tmp_path).state["progress"]["step"] == 4
    made.save(2, weights(b"anew"), {"progress": {"step": 2}})
    assert numbered(tmp_path) == [2, 3]  # the best stays
    (tmp_path / "checkpoints" / "step-00000002" / "weights.bin").unlink()
    assert find(tmp_path).state["progress"]["step"] == 3


def test_what_is_named_otherwise_is_left_alone(tmp_path):
    other = tmp_path / "checkpoints" / "step-00000001-copy"
    other.mkdir(parents=True)
    save(tmp_path, 1, 2, 3, keep=1)
    assert other.is_dir()
    assert numbered_names(tmp_path) == ["step-00000001-copy", "step-00000003"]


def numbered_names(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


class Killed(BaseException):
    """No code of the process runs after this."""


OPERATIONS = ("mkdir", "chmod", "fsync", "rename", "replace", "symlink", "unlink", "rmdir")


def killed_at(number, do, *given, **named_too):
    """Do it, and stop before its `number`-th operation on the disk and forbid all that follow; whether it got there."""
    count, patch, fsync = [0], pytest.MonkeyPatch(), os.fsync

    def watched(original):
        def run(*arguments, **named):
            count[0] += 1
            if count[0] >= number:
                raise Killed
            return original(*arguments, **named) if original is not fsync else None  # nothing here has to reach a disk

        return run

    for name in OPERATIONS:
        patch.setattr(os, name, watched(getattr(os, name)))
    try:
        do(*given, **named_too)
    except Killed:
        return True
    finally:
        patch.undo()
    return False


@pytest.mark.once
@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 60)), min_size=1, max_size=8), st.integers(1, 3)
)
@settings(max_examples=80)
def test_best_and_last_never_go_whenever_a_run_ends(saves, keep):
    """Steps forward, best or not, each save ended at an operation; then the run goes on from what is found."""
    with tempfile.TemporaryDirectory() as name:
        folder, last, best = Path(name), 0, 0
        for forward, is_best, operation in saves:
            step = last + forward - 1 if last else forward  # 1: the same step once more
            ended = killed_at(operation, save, folder, step, best=[step] if is_best else [], keep=keep)
            for path in (folder / "checkpoints").glob("step-*"):
                find(path)  # whole
            found = find(folder).state["progress"]["step"] if numbered(folder) or last else 0
            CheckpointFolder(folder, keep)  # between two renames the best has another name until the run goes on
            assert found in ((step, last) if ended else (step,))
            best = step if is_best and not ended else best
            if best or (is_best and last < found):
                linked_best = int(linked(folder, "best")[5:])
                assert linked_best in ((best, step) if is_best else (best,))
                assert linked_best == step or not is_best or not last < found
                assert find(folder / "checkpoints" / "best").state["progress"]["step"] == linked_best
                best = linked_best
            elif (folder / "checkpoints" / "best").exists():
                best = step
            last = found


@pytest.mark.parametrize("before", [[], [1]])
def test_a_best_checkpoint_that_is_the_last_is_the_best_whenever_a_run_ends(tmp_path, before):
    for operation in range(1, 100):
        folder = tmp_path / str(operation)
        save(folder, *before, best=before)
        if not killed_at(operation, save, folder, 2, best=[2]):
            break
        CheckpointFolder(folder, 3)
        if numbered(folder) and find(folder).state["progress"]["step"] == 2:
            assert linked(folder, "best") == "step-00000002"
    assert operation > 10
