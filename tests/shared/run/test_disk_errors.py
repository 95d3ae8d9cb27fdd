"""What a run says of a disk that takes nothing, and when it ends."""

from __future__ import annotations

import errno
import io

import pytest

from shared.cli.entry_point import run
from shared.errors import UsageError
from shared.run import disk_errors
from shared.run.log import RunLog

FULL = OSError(errno.ENOSPC, "No space left on device", "name")


def fails():
    raise FULL


@pytest.fixture
def log():
    console = io.StringIO()
    with RunLog(None, console=console) as made:
        made.said = console
        yield made


def test_a_checkpoint_in_the_middle_of_a_run_is_tried_again_with_the_next(log, tmp_path):
    disk_errors.save_checkpoint(fails, 4, log, tmp_path, best=False, last=False)
    disk_errors.save_checkpoint(lambda: None, 6, log, tmp_path, best=False, last=True)
    assert log.said.getvalue() == (
        f"note: the checkpoint of step 4 cannot be written to {tmp_path}/checkpoints (No space left on device); the run"
        " goes on, and tries again with the next one\n"
    )


def test_that_the_best_weights_are_lost_is_said(log, tmp_path):
    disk_errors.save_checkpoint(fails, 4, log, tmp_path, best=True, last=False)
    assert "and with it the best weights so far; the run goes on" in log.said.getvalue()


@pytest.mark.parametrize("there", [True, False])
def test_the_last_checkpoint_ends_the_run(log, tmp_path, there):
    if there:
        (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        disk_errors.save_checkpoint(fails, 4, log, tmp_path, best=True, last=True)
    then = f"continue exactly with --resume {tmp_path}" if there else "start again: the run has no checkpoint yet"
    assert str(caught.value) == (
        f"cannot write the checkpoint of step 4 to {tmp_path}/checkpoints (No space left on device); free space and"
        f" {then}"
    )


def test_what_nothing_depends_on_is_left_out_and_what_a_run_must_leave_is_not(log, tmp_path):
    path = tmp_path / "file"
    disk_errors.optional(fails, path, log)
    assert log.said.getvalue() == (
        f"note: {path} cannot be written (No space left on device); the run goes on without it\n"
    )
    with pytest.raises(UsageError, match=r"cannot write .*file \(No space left on device\); free space"):
        disk_errors.required(fails, path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_whatever_was_to_be_written_a_disk_is_the_users_to_mend(capsys, number):
    def mode(options, interrupts):
        raise OSError(number, "reason", "some\nfile")

    assert run(Options, {"train": mode}) == 2
    assert capsys.readouterr().err == ("error: cannot write some?file (reason); free space, or write to another disk\n")


def test_another_refusal_of_the_system_is_a_defect(capsys):
    def mode(options, interrupts):
        raise OSError(errno.EBADF, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file descriptor"):
        run(Options, {"train": mode})


class Options:
    mode = "train"
