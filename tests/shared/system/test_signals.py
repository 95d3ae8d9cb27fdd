"""Ctrl-C and SIGTERM are requests; a second one is an order."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time

import pytest

from shared.system.signals import Interrupts, Stopped, interruptible, reader_gone

BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs between two instructions of this thread


@pytest.fixture(autouse=True)
def _harmless():
    """Should a test fail, its signal must not end the test run."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number, _ in BOTH}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_the_first_signal_is_noted_and_raised_when_asked(number, status):
    with Interrupts() as interrupts:
        interrupts.raise_if_requested()
        assert interrupts.requested is None
        send(number)
        assert interrupts.requested == number
        with pytest.raises(Stopped) as caught:
            interrupts.raise_if_requested()
        assert caught.value.exit_status == status
        assert str(caught.value) == signal.Signals(number).name


@pytest.mark.parametrize(("number", "status"), BOTH)
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_on_the_spot(first, number, status):
    with Interrupts() as interrupts:
        send(first)
        with pytest.raises(Stopped) as caught:
            send(number)
        assert caught.value.exit_status == status
        assert interrupts.requested == first


def test_signals_are_forwarded_with_the_one_that_came_before():
    received = []
    with Interrupts() as interrupts:
        send(signal.SIGTERM)
        with interrupts.forwarded(received.append):
            send(signal.SIGINT)
            send(signal.SIGINT)
        assert received == [signal.SIGTERM, signal.SIGINT, signal.SIGINT]
        with pytest.raises(Stopped):
            send(signal.SIGINT)


def test_the_request_lasts_until_it_is_served():
    with Interrupts() as interrupts:
        send(signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(Stopped):
                interrupts.raise_if_requested()


@pytest.mark.parametrize("fails", [False, True])
def test_the_handlers_of_before_are_put_back(fails):
    def handler(number, frame):
        pass

    for number, _ in BOTH:
        signal.signal(number, handler)
    try:
        with Interrupts():
            assert all(signal.getsignal(number) is not handler for number, _ in BOTH)
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert all(signal.getsignal(number) is handler for number, _ in BOTH)


def test_a_reader_that_is_gone_is_sigpipe_and_is_written_to_no_more():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            print("text", file=stream, flush=True)
        stopped = reader_gone(stream)
        print("more", file=stream, flush=True)  # and what the first one has left in the buffer
    assert stopped.exit_status == 141
    assert str(stopped) == "SIGPIPE"


def test_a_stream_in_memory_may_lose_its_reader_too():
    assert reader_gone(io.StringIO()).exit_status == 141


def _careless(number):
    with contextlib.suppress(Exception):  # as some library does around a request
        send(number)
    raise AssertionError("went on")


@pytest.mark.parametrize(("number", "status"), BOTH)
def test_what_is_interruptible_ends_at_the_first_signal(number, status):
    with Interrupts() as interrupts:
        with pytest.raises(Stopped) as caught, interruptible():
            _careless(number)
        assert caught.value.exit_status == status
        send(number)  # afterwards the first is stored again
        assert interrupts.requested == number
        with pytest.raises(Stopped), interruptible():
            raise AssertionError("the request of before was forgotten")


def test_other_handlers_stay_where_something_is_interruptible():
    with interruptible():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
