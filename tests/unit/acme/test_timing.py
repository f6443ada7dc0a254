"""When certificates are renewed and tries repeated."""

import pytest

from rawproxy.acme import timing
from rawproxy.acme.timing import DAY, HOUR, LONGEST, Trouble, Validity, pause, renewal, sane

NINETY = Validity(0.0, 90 * DAY)


def test_a_third_of_its_life_is_left_at_most_and_it_is_spread():
    assert renewal(NINETY, 0.0) == pytest.approx(60 * DAY)
    assert renewal(NINETY, 1.0) == pytest.approx(57 * DAY)
    assert renewal(Validity(0.0, 6 * DAY), 0.0) == pytest.approx(4 * DAY)


def test_the_authority_s_window_is_kept():
    for chance in (0.0, 0.25, 1.0):
        assert 10.0 <= renewal(NINETY, chance, (10.0, 20.0)) <= 20.0
    assert renewal(NINETY, 0.5, (10.0, 20.0)) == 15.0
    assert renewal(NINETY, 0.7, (20.0, 10.0)) == 20.0, "a window that ends before it begins"


def test_holds_is_kind_to_a_clock_that_is_a_little_behind():
    one = Validity(1000.0, 2000.0)
    assert one.holds(1000.0 - HOUR) and one.holds(1999.0)
    assert not one.holds(999.0 - HOUR) and not one.holds(2000.0)


@pytest.mark.parametrize("fault", list(Trouble))
def test_pauses_grow_to_an_end(fault):
    waits = [pause(fault, failures, 0.5) for failures in range(12)]
    assert waits == sorted(waits)
    assert waits[0] == waits[1] == pytest.approx(timing.PAUSES[fault][0])
    assert waits[-1] == pytest.approx(timing.PAUSES[fault][-1])
    assert max(pause(fault, 99, 1.0), pause(fault, 1, 1.0)) <= LONGEST


def test_five_refusals_take_more_than_an_hour():
    """As many as Let's Encrypt allows for a name within one."""
    assert sum(pause(Trouble.REFUSED, failures, 0.0) for failures in range(1, 6)) > HOUR


def test_names_that_failed_together_do_not_come_back_together():
    assert pause(Trouble.AWAY, 1, 0.0) < pause(Trouble.AWAY, 1, 1.0)


def test_what_an_authority_asks_for_is_waited_for_within_reason():
    assert pause(Trouble.LIMITED, 1, 0.0, 5 * HOUR) == 5 * HOUR
    assert pause(Trouble.LIMITED, 1, 0.5, 1.0) == pytest.approx(HOUR)
    assert pause(Trouble.LIMITED, 1, 0.0, 400 * DAY) == LONGEST


def test_a_time_far_ahead_heals():
    assert sane(50.0, 0.0) == 50.0
    assert sane(400 * DAY, 0.0) == LONGEST
