"""Which lines of the error log are said, and which are counted."""

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.telemetry import repeats
from rawproxy.telemetry.repeats import KINDS, PER_KIND, PER_REASON, WINDOW, Repeats


def test_one_reason_is_said_ten_times_and_then_counted():
    some = Repeats[int]()
    assert some.settle(1.0) == []
    assert some.ends == 1.0 + WINDOW
    said = [some.admit("kind", "reason", number) for number in range(1000)]
    assert said == [True] * PER_REASON + [False] * (1000 - PER_REASON)
    assert some.over == 1000 - PER_REASON
    assert some.settle(2.0) == [(999, 1000 - PER_REASON - 1)]
    assert some.over == 0
    assert some.admit("kind", "reason", 0)


def test_a_line_that_would_only_be_counted_need_not_be_made():
    some = Repeats[int]()
    for number in range(PER_REASON + 1):
        assert not some.again("kind", "reason"), "it may have to be said, or told of"
        some.admit("kind", "reason", number)
    assert not some.again("kind", "another") and not some.again("other", "reason")
    assert [some.again("kind", "reason") for _ in range(5)] == [True] * 5
    assert some.over == 6
    assert some.settle(1.0) == [(PER_REASON, 5)]
    assert not some.again("kind", "reason") and some.over == 0


def test_another_reason_has_lines_of_its_own():
    some = Repeats[int]()
    for number in range(1000):
        some.admit("kind", "one", number)
    assert some.admit("kind", "two", 0)


def test_made_up_reasons_use_up_no_other_kind_and_no_memory():
    some = Repeats[int]()
    said = sum(some.admit("kind", f"reason {number}", number) for number in range(10_000))
    assert said == PER_KIND
    assert some.admit("other", "reason", 0)
    assert len(some._heard) <= PER_KIND + 2
    assert some.settle(1.0) == [(9999, 10_000 - PER_KIND - 1)]


def test_a_reason_that_is_known_keeps_its_own_count():
    some = Repeats[str]()
    for number in range(PER_KIND):
        some.admit("kind", number, "")
    assert not some.admit("kind", 3, "three")
    assert not some.admit("kind", "new", "new")
    assert sorted(some.settle(1.0)) == [("new", 0), ("three", 0)]


def test_kinds_are_bounded_too():
    some = Repeats[int]()
    for number in range(10 * KINDS):
        some.admit(f"kind {number}", "reason", number)
    assert len(some._of_kind) <= KINDS + 1
    assert some.over == 10 * KINDS - KINDS - PER_REASON


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=300))
def test_every_line_is_said_or_counted_once(lines):
    some = Repeats[int]()
    said = sum(some.admit(kind, reason, 0) for kind, reason in lines)
    assert said + sum(1 + more for _, more in some.settle(0.0)) == len(lines)
    assert said <= 3 * repeats.PER_KIND
