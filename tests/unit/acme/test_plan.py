"""What to do next for a name."""

import itertools

import pytest

from rawproxy.acme.plan import PATIENCE, Do, NextStep, Record, Standing, best_of, next_step
from rawproxy.acme.timing import DAY, HOUR, LONGEST, Validity

NOW = 1_000_000_000.0
FRESH = Validity(NOW - DAY, NOW + 89 * DAY, "f")
DUE = Validity(NOW - 80 * DAY, NOW + 10 * DAY, "d")
DEAD = Validity(NOW - 91 * DAY, NOW - DAY, "x")
ASKED = Record(ask_at=NOW + HOUR)


def step(*standings, linked=0, wanted=False):
    return next_step(standings, linked, NOW, wanted=wanted)


def test_without_a_certificate_one_is_ordered():
    assert step(Standing(), linked=None) == NextStep(Do.ORDER)
    assert step(Standing(DEAD), linked=0) == NextStep(Do.ORDER)


def test_a_fresh_one_is_served_and_waited_with():
    assert step(Standing(FRESH), linked=None) == NextStep(Do.LINK, 0)
    assert step(Standing(FRESH, ASKED)) == NextStep(Do.WAIT, at=NOW + HOUR)
    assert step(Standing(FRESH)) == NextStep(Do.WINDOW, 0)
    late = Record(ask_at=NOW + 900 * DAY)
    assert step(Standing(FRESH, late)).at == NOW + LONGEST, "a clock was wrong once"


def test_one_that_is_due_is_renewed_while_it_serves():
    assert step(Standing(DUE, ASKED)) == NextStep(Do.ORDER)
    assert step(Standing(DUE, ASKED), linked=None) == NextStep(Do.LINK, 0), (
        "the visitors come first"
    )


def test_the_window_decides_and_is_about_one_certificate():
    now = Record(window=(NOW - 2, NOW - 1), serial="f", ask_at=NOW + HOUR)
    assert step(Standing(FRESH, now)) == NextStep(Do.ORDER)
    later = Record(window=(NOW + DAY, NOW + 2 * DAY), serial="d", ask_at=NOW + HOUR)
    assert step(Standing(DUE, later)) == NextStep(Do.WAIT, at=NOW + HOUR)
    other = Record(window=(NOW - 2, NOW - 1), serial="d", ask_at=NOW + HOUR)
    assert step(Standing(FRESH, other)).do is Do.WAIT
    assert step(Standing(FRESH, Record(window=(1.0,), serial="f", ask_at=NOW + 5))).do is Do.WAIT


def test_the_admin_s_wish_comes_before_pauses():
    assert step(Standing(FRESH, ASKED), wanted=True) == NextStep(Do.ORDER)
    tired = Record(failures=9, retry_at=NOW + DAY)
    assert step(Standing(None, tired), linked=None, wanted=True) == NextStep(Do.ORDER)
    assert step(Standing(None, tired), linked=None) == NextStep(Do.WAIT, at=NOW + DAY)


def test_an_order_under_way_is_finished():
    assert step(Standing(FRESH, ASKED, ordering=True)) == NextStep(Do.ORDER)


def test_the_second_authority_steps_in():
    down = Record(failures=1, retry_at=NOW + 60)
    assert step(Standing(None, down), Standing(), linked=None) == NextStep(Do.ORDER, 1)
    # While visitors see no warning there is time.
    assert step(Standing(DUE, down), Standing()) == NextStep(Do.WAIT, at=NOW + 60)
    longer = Record(failures=PATIENCE, retry_at=NOW + 60)
    assert step(Standing(DUE, longer), Standing()) == NextStep(Do.ORDER, 1)
    both = [Standing(None, longer), Standing(None, Record(failures=1, retry_at=NOW + 30))]
    assert step(*both, linked=None) == NextStep(Do.WAIT, at=NOW + 30)
    assert step(*both, linked=None, wanted=True) == NextStep(Do.ORDER, 0)


def test_the_first_authority_s_certificate_is_served_once_it_is_there_again():
    assert step(Standing(FRESH, ASKED), Standing(FRESH, ASKED), linked=1) == NextStep(Do.LINK, 0)
    assert step(Standing(DUE), Standing(FRESH, ASKED), linked=0) == NextStep(Do.LINK, 1)
    assert step(Standing(DEAD), Standing(FRESH, ASKED), linked=1) == NextStep(
        Do.WAIT, at=NOW + HOUR
    )


def test_of_two_that_are_due_the_longer_one_is_served():
    short = Validity(NOW - 85 * DAY, NOW + 5 * DAY)
    assert best_of([Standing(short), Standing(DUE)], NOW) == 1
    assert best_of([Standing(DUE), Standing(short)], NOW) == 0
    assert best_of([Standing(), Standing(DEAD)], NOW) is None


CERTIFICATES = [None, FRESH, DUE, DEAD]
RECORDS = [Record(), ASKED, Record(1, NOW + 60), Record(9, NOW - 60), Record(3, NOW + 9 * DAY)]
STANDINGS = [Standing(*pair) for pair in itertools.product(CERTIFICATES, RECORDS)]


@pytest.mark.parametrize("wanted", [False, True])
def test_nobody_turns_in_circles(wanted):
    for pair in itertools.product(STANDINGS, STANDINGS):
        for linked in (None, 0, 1):
            found = next_step(pair, linked, NOW, wanted=wanted)
            if found.do is Do.WAIT:
                assert NOW < found.at <= NOW + 90 * DAY
            if found.do is Do.LINK:
                assert found.authority != linked
            if found.do is Do.ORDER and not (wanted and not found.authority):
                assert pair[found.authority].record.retry_at <= NOW
