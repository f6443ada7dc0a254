"""The collector rests while a configuration is read, and works again afterwards."""

import gc

import pytest

from rawproxy.config.collector import lasting, paused


def test_it_runs_again_afterwards():
    assert gc.isenabled()
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), paused():
        raise KeyError
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_lasts_is_not_gone_through_again():
    gc.collect()
    with lasting():
        before = gc.get_freeze_count()
        made = [{} for _ in range(1000)]
    try:
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_what_failed_does_not_last():
    before = gc.get_freeze_count()
    with pytest.raises(KeyError), lasting():
        raise KeyError
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
