"""Exit status and output of a command line, whatever its mode does."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from shared.cli.entry_point import run
from shared.errors import DataError, UsageError
from shared.system.signals import Stopped


def _raises(error):
    def mode(options, interrupts):
        raise error

    return mode


def _status(mode):
    return run(lambda: SimpleNamespace(mode="it"), {"it": mode})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("bad; mend it"), 2),
        (DataError("bad; mend it"), 2),
        (Stopped(signal.SIGTERM), 143),
        (Stopped(signal.SIGINT), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_end_has_its_status(error, status, capsys):
    assert _status(_raises(error)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("error: bad; mend it\n" if status == 2 else "")


def test_a_mistake_in_the_options_is_the_users_too(capsys):
    def parse():
        raise UsageError("unknown; see --help")

    assert run(parse, {}) == 2
    assert capsys.readouterr().err == "error: unknown; see --help\n"


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        _status(lambda options, interrupts: 1 / 0)


def test_a_signal_is_a_request_while_a_mode_runs():
    seen = []

    def mode(options, interrupts):
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(interrupts.requested)
        interrupts.raise_if_requested()

    before = signal.getsignal(signal.SIGTERM)
    assert _status(mode) == 143
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


def test_nothing_to_say_is_status_0(capsys):
    assert _status(lambda options, interrupts: None) == 0
    assert capsys.readouterr().err == ""
