"""Python's collector is paused inside, and runs again afterwards, also after an error."""

from __future__ import annotations

import gc
import weakref

import pytest

from shared.system.garbage import collection_paused


class _Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_it_is_paused_inside_and_runs_again_afterwards():
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_runs_again_after_an_error():
    with pytest.raises(ValueError, match="inside"), collection_paused():
        raise ValueError("inside")
    assert gc.isenabled()


def test_a_collector_that_the_user_has_turned_off_stays_off():
    gc.disable()
    with collection_paused():
        pass
    assert not gc.isenabled()


def test_what_becomes_garbage_later_is_still_collected():
    with collection_paused():
        pass
    cycle = _Cycle()
    alive = weakref.ref(cycle)
    del cycle
    gc.collect()
    assert alive() is None
