"""The states of one address: every arrow of the table, and the shares."""

import pytest

from rawproxy.balancing.health import (
    DOWN,
    DUE,
    EJECTED,
    RAMP_FROM,
    TRIAL,
    TRIAL_PATIENCE,
    UP,
    Health,
)
from rawproxy.config.model import Active, Passive

PASSIVE = Passive(max_fails=3, window=10.0, back_off=1.0, back_off_max=60.0)


def health(passive=PASSIVE, active=None, slow_start=0.0) -> Health:
    return Health(passive, active, slow_start)


def ejected(now: float = 100.0, **options) -> Health:
    made = health(**options)
    assert [made.failed(now) for _ in range(3)] == [False, False, True]
    assert made.state is EJECTED
    return made


def test_failures_within_the_window_take_it_out():
    h = ejected()
    assert h.share(100.0) == 0.0
    assert h.ejections == 1
    assert repr(h) == "<Health ejected fails=0 level=1>"
    assert not h.failed(100.1)  # one that was under way


def test_failures_far_apart_do_not():
    h = health()
    for now in (100.0, 105.0, 111.0, 116.0, 122.0):
        assert not h.failed(now)
    assert h.share(122.0) == 1.0


def test_a_success_between_shows_that_it_lives():
    h = health()
    for now in range(100, 120):
        assert not h.failed(now)
        assert not h.failed(now)
        assert not h.succeeded(now)
    assert h.state is UP


def test_failures_may_count_for_nothing():
    h = health(Passive(max_fails=0))
    assert not any(h.failed(100.0) for _ in range(50))


def test_the_way_back_is_one_trial():
    h = ejected(100.0)
    assert not h.tick(100.9)
    assert h.tick(101.0)
    assert h.state is DUE
    h.begin_trial(101.0)
    assert h.state is TRIAL and h.share(101.0) == 0.0
    assert h.succeeded(101.2)
    assert h.state is UP and h.share(101.2) == 1.0


def test_an_answer_that_cannot_be_passed_on_shows_that_it_lives_and_forgives_nothing():
    h = health()
    for _ in range(2):
        assert not h.failed(100.0)
    assert not h.alive(100.0)
    assert h.failed(100.0) and h.state is EJECTED
    assert not h.alive(100.5)  # one that was under way
    h.tick(101.0)
    h.begin_trial(101.0)
    assert h.alive(101.1) and h.state is UP


def test_back_off_doubles_up_to_a_limit():
    h = ejected(100.0)
    now, waits = 100.0, []
    for _ in range(9):
        waits.append(h.until - now)
        now = h.until
        assert h.tick(now)
        h.begin_trial(now)
        assert h.failed(now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_back_off_never_overflows():
    h = ejected(100.0)
    for _ in range(1100):
        assert h.tick(h.until)
        assert h.failed(h.until)
    assert h.until < 1e6


def test_a_trial_without_an_outcome_is_followed_by_another():
    h = ejected(100.0)
    h.tick(101.0)
    h.begin_trial(101.0)
    assert not h.tick(101.0 + TRIAL_PATIENCE - 0.1)
    assert h.tick(101.0 + TRIAL_PATIENCE)
    assert h.state is DUE


def test_a_lapse_soon_after_waits_longer_and_one_long_after_begins_anew():
    h = ejected(100.0)
    h.tick(101.0)
    h.succeeded(101.0)
    for _ in range(3):
        h.failed(105.0)
    assert h.until == 107.0  # the second one: 2 s
    h.tick(107.0)
    h.succeeded(107.0)
    for _ in range(3):
        h.failed(200.0)
    assert h.until == 201.0


ACTIVE = Active(rise=2, fall=3)


def test_probes_take_it_out_and_bring_it_back():
    h = health(active=ACTIVE)
    assert [h.probed(False, 100.0) for _ in range(4)] == [False, False, True, False]
    assert h.state is DOWN and h.share(100.0) == 0.0
    assert not h.probed(True, 101.0)
    assert not h.probed(False, 102.0)
    assert [h.probed(True, 103.0) for _ in range(3)] == [False, True, False]
    assert h.state is UP
    assert (h.ejections, h.probes_failed) == (1, 5)


def test_one_good_probe_between_bad_ones_keeps_it_in():
    h = health(active=ACTIVE)
    for _ in range(5):
        assert not h.probed(False, 100.0)
        assert not h.probed(False, 100.0)
        assert not h.probed(True, 100.0)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_bad_probes_count_in_every_state(steps):
    h = ejected(100.0, active=ACTIVE)
    if steps > 0:
        h.tick(101.0)
    if steps > 1:
        h.begin_trial(101.0)
    assert [h.probed(False, 102.0) for _ in range(3)] == [False, False, True]
    assert h.state is DOWN
    assert not h.failed(102.0)
    assert not h.succeeded(102.0)
    assert not h.tick(1000.0)


def test_good_probes_do_not_end_an_ejection():
    # An application that fails at its work may well say that it is fine.
    h = ejected(100.0, active=ACTIVE)
    assert not any(h.probed(True, 100.5) for _ in range(9))
    assert h.state is EJECTED


def test_slow_start_is_a_ramp():
    h = ejected(100.0, slow_start=10.0)
    h.tick(101.0)
    h.succeeded(101.0)
    assert h.share(101.0) == RAMP_FROM
    assert h.share(106.0) == 0.5 and h.ramping(106.0)
    assert h.share(111.0) == 1.0 and not h.ramping(111.0)
    assert not health(slow_start=10.0).ramping(100.0)  # one that was there from the start


def test_a_slow_start_may_begin_with_its_life():
    h = Health(PASSIVE, None, 10.0, since=100.0)
    assert h.share(105.0) == 0.5
