"""Rates: how many pass in which time, and what a full table forgets."""

import random

import pytest

from rawproxy.access.rates import HEAD, SIZE, SLOTS, RateTable, rate, retry_after

NOW = 1_000_000.0


def table(secret: bytes = bytes(range(64))) -> RateTable:
    memory = bytearray(SIZE)
    memory[:HEAD] = secret
    return RateTable(memoryview(memory))


@pytest.fixture(scope="module")
def shared() -> RateTable:
    return table()


def test_a_burst_then_one_each_interval(shared):
    six = rate(10, 60, 5)
    name = shared.name(b"route", b"192.0.2.1")
    answers = [shared.take(name, six, NOW + at / 10) for at in range(8)]
    assert [answer == 0 for answer in answers] == [True] * 6 + [False] * 2
    assert answers[6] == pytest.approx(5.4)
    assert answers[7] == pytest.approx(5.3)
    assert shared.wait(name, six, NOW + 0.8) == pytest.approx(5.2)
    assert shared.wait(name, six, NOW + 6) == 0
    assert shared.take(name, six, NOW + 6) == 0
    assert shared.take(name, six, NOW + 6) == pytest.approx(6)


@pytest.mark.parametrize(
    ("requests", "per", "burst"), [(10, 60, 9), (100, 1, 0), (3, 7, 20), (1000, 1, 50)]
)
def test_over_a_long_time_the_rate_is_kept(shared, requests, per, burst):
    wanted = rate(requests, per, burst)
    name = shared.name(b"long", b"%d-%d-%d" % (requests, per, burst))
    tries = 4000
    step = per / requests / 3  # three times as many as may pass
    passed = sum(shared.take(name, wanted, NOW + at * step) == 0 for at in range(tries))
    may = 1 + burst + int(tries * step / (per / requests))
    assert may - 2 <= passed <= may


def test_what_should_not_have_counted_is_given_back(shared):
    one = rate(1, 60, 1)
    name = shared.name(b"back", b"k")
    for _ in range(5):
        assert shared.take(name, one, NOW) == 0
        shared.give_back(name, one)
    assert shared.take(name, one, NOW) == shared.take(name, one, NOW) == 0
    assert shared.take(name, one, NOW) > 0
    shared.give_back(shared.name(b"back", b"unknown"), one)


def test_who_asks_seldom_never_waits(shared):
    one = rate(1, 10, 0)
    name = shared.name(b"seldom", b"192.0.2.1")
    assert all(shared.take(name, one, NOW + 10 * at) == 0 for at in range(100))


def test_routes_and_keys_do_not_touch_each_other(shared):
    one = rate(1, 60, 0)
    names = {
        shared.name(zone, key)
        for zone, key in [(b"a", b"bc"), (b"ab", b"c"), (b"a", b"b"), (b"b", b"b")]
    }
    assert len(names) == 4
    assert all(shared.take(name, one, NOW) == 0 for name in names)
    assert all(shared.take(name, one, NOW) > 0 for name in names)


def test_nobody_can_aim_without_the_secret():
    assert table(b"1" * 64).name(b"a", b"b") != table(b"2" * 64).name(b"a", b"b")


def test_more_clients_than_slots_take_no_more_memory_and_the_worst_are_not_forgotten():
    made = table()
    slow = rate(1, 600, 50)
    worst = [made.name(b"z", b"worst %d" % number) for number in range(100)]
    for name in worst:
        while made.take(name, slow, NOW) == 0:
            pass
    for number in range(400_000):
        made.take(number * 0x9E3779B97F4A7C15 % 2**64 or 1, slow, NOW)
    assert all(made.wait(name, slow, NOW) > 0 for name in worst)
    assert len(made._words) == SLOTS * 2, "as it was"


def test_what_is_due_again_is_the_first_to_go():
    """Keys of one bucket: eight in debt, and one of them whose time has come."""
    made = table()
    slow = rate(1, 100, 1)
    bucket = SLOTS // 8
    names = [5 + bucket * number for number in range(1, 10)]
    for at, name in enumerate(names[:8]):
        assert made.take(name, slow, NOW + at) == 0
        assert made.take(name, slow, NOW + at) == 0
    later = NOW + 200.5  # the first one's debt is paid
    assert made.take(names[8], slow, later) == 0
    assert [made.wait(name, slow, later) > 0 for name in names[1:8]] == [False] * 7
    assert made.take(names[8], slow, later) == 0
    assert made.wait(names[8], slow, later) > 0, "it has its place"


def test_two_workers_share_the_count_in_turn(shared):
    memory = bytearray(SIZE)
    one, other = RateTable(memoryview(memory)), RateTable(memoryview(memory))
    ten = rate(10, 60, 9)
    name = one.name(b"r", b"k")
    assert name == other.name(b"r", b"k")
    passed = sum(
        random.Random(at).choice((one, other)).take(name, ten, NOW) == 0 for at in range(100)
    )
    assert passed == 10


@pytest.mark.parametrize(("wait", "seconds"), [(0.01, 1), (1.0, 1), (1.01, 2), (59.5, 60)])
def test_retry_after_is_whole_seconds_upwards(wait, seconds):
    assert retry_after(wait) == b"Retry-After: %d\r\n" % seconds
