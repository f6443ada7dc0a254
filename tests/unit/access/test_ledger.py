"""What is told to other machines, and that all together let pass what one would."""

import random

import pytest

from rawproxy.access.ledger import open_ledger
from rawproxy.access.rates import HEAD, SIZE, SLOTS, RateTable, rate

NOW = 1_000_000.0
SECRET = bytes(range(64))


class Machine:
    """A table, and what tells of it."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(SIZE))
        self.table = RateTable(self.memory)
        self.ledger = open_ledger(self.memory)
        self.table.share(SECRET)


@pytest.fixture
def one():
    return Machine()


def test_without_a_store_nothing_is_summed():
    memory = memoryview(bytearray(SIZE))
    table, ledger = RateTable(memory), open_ledger(memory)
    table.take(5, rate(1, 1, 5), NOW)
    table.charge(6, 1.0, NOW)
    table.give_back(5, rate(1, 1, 5))
    assert ledger.news(10) == []


def test_what_was_spent_is_told_once(one):
    ten = rate(10, 1, 100)
    name, other = one.table.name(b"z", b"a"), one.table.name(b"z", b"b")
    for _ in range(5):
        assert one.table.take(name, ten, NOW) == 0
    one.table.take(other, ten, NOW)
    assert sorted(one.ledger.news(10)) == sorted([(name, pytest.approx(0.5)), (other, 0.1)])
    assert one.ledger.news(10) == []
    one.table.take(name, ten, NOW)
    assert one.ledger.news(10) == [(name, pytest.approx(0.1))]


def test_what_was_given_back_is_told_too(one):
    slow = rate(1, 6.0, 9)
    one.table.take(5, slow, NOW)
    assert one.ledger.news(10) == [(5, 6.0)]
    one.table.give_back(5, slow)
    assert one.ledger.news(10) == [(5, -6.0)]


def test_what_others_spent_counts_here_and_is_not_told_again(one):
    five = rate(1, 10, 4)
    one.ledger.charge([(77, 30.0)], NOW)
    assert [one.table.take(77, five, NOW) == 0 for _ in range(3)] == [True, True, False]
    assert one.ledger.news(10) == [(77, 20.0)]
    one.ledger.charge([(77, -10.0)], NOW)
    assert one.table.take(77, five, NOW) == 0


def test_a_slot_that_goes_to_another_key_begins_anew(one):
    slow = rate(1, 10, 100)
    bucket = SLOTS // 8
    names = [5 + bucket * number for number in range(1, 10)]
    for name in names[:8]:
        one.table.take(name, slow, NOW)
        one.table.take(name, slow, NOW)
    assert dict(one.ledger.news(100)) == dict.fromkeys(names[:8], 20.0)
    one.table.take(names[8], slow, NOW + 100)
    assert one.ledger.news(100) == [(names[8], 10.0)]
    one.table.charge(names[0], 1.0, NOW + 100)
    told = [name for name, _ in one.ledger.news(100)]
    assert names[0] not in told, "what a charge has taken the place of is nobody's news"


def test_of_too_many_those_that_spent_most_are_told(one):
    for number in range(1, 50):
        one.table.take(number * 8, rate(1, number, 0), NOW)
    assert [s for _, s in one.ledger.news(3)] == [49.0, 48.0, 47.0]
    assert one.ledger.news(3) == [], "the others are let go"


def test_what_was_there_before_is_no_news():
    memory = memoryview(bytearray(SIZE))
    table = RateTable(memory)
    table.share(SECRET)
    table.take(5, rate(1, 1, 9), NOW)
    ledger = open_ledger(memory)
    assert ledger.news(10) == []
    table.take(5, rate(1, 1, 9), NOW)
    assert ledger.news(10) == [(5, 1.0)]


def test_machines_with_one_secret_call_a_client_the_same():
    one, other = Machine(), Machine()
    assert bytes(one.memory[:HEAD]) == bytes(HEAD), "the table's own secret is another"
    assert one.table.name(b"z", b"k") == other.table.name(b"z", b"k")


def passed(machines, wanted, times):
    """How many of the requests at these times pass, each at one of the machines.

    They exchange what was spent ten times a second.
    """
    by = random.Random(machines)
    all_of_them = [Machine() for _ in range(machines)]
    name = all_of_them[0].table.name(b"z", b"client")
    found = 0
    for tick, offsets in enumerate(times):
        for offset in offsets:
            machine = by.choice(all_of_them)
            found += machine.table.take(name, wanted, NOW + tick / 10 + offset) == 0
        told = [machine.ledger.news(10) for machine in all_of_them]
        for at, machine in enumerate(all_of_them):
            for from_, spent in enumerate(told):
                if from_ != at:
                    machine.ledger.charge(spent, NOW + (tick + 1) / 10)
    return found


def evenly(many, seconds):
    """Tenths of a second, with the moments of `many` requests in each."""
    return [[step / many / 10 for step in range(many)] for _ in range(seconds * 10)]


@pytest.mark.parametrize(("requests", "per", "burst"), [(100, 1, 100), (50, 1, 5), (600, 60, 20)])
@pytest.mark.parametrize("machines", [2, 5])
def test_together_they_let_pass_what_one_would(machines, requests, per, burst):
    """Half a minute of four times what may pass."""
    times = evenly(int(requests / per * 4 / 10), 30)
    may = requests / per * 30 + burst
    assert 0.9 * may <= passed(machines, rate(requests, per, burst), times) <= 1.1 * may


@pytest.mark.parametrize(("machines", "least"), [(1, 1.0), (2, 0.9), (5, 0.88)])
def test_without_a_burst_little_is_lost_by_the_exchange(machines, least):
    """It was a sixth on five machines when all that was told counted from the moment of telling."""
    assert least * 750 <= passed(machines, rate(50, 1, 0), evenly(20, 15)) <= 1.1 * 750


def test_without_a_burst_many_let_pass_what_one_would_of_requests_at_random():
    draw = random.Random(7)
    times = [sorted(draw.uniform(0, 0.1) for _ in range(20)) for _ in range(150)]
    alone, two, five = (passed(many, rate(50, 1, 0), times) for many in (1, 2, 5))
    assert alone < 0.85 * 750, "nobody's fault: each that comes too early has to come again"
    assert alone <= two <= five <= 1.1 * alone
