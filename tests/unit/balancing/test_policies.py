"""Every policy: whom it takes, in which proportion, and what it does when members go."""

import collections
import dataclasses
import random

import pytest

from rawproxy.balancing.policies import (
    POLICIES,
    REMEMBERED,
    Table,
    choose,
    client_hash,
    cookie_value,
    least_connections,
    prefer,
    round_robin,
    smooth,
    tag,
    two_choices,
    units,
)
from rawproxy.balancing.pool import Pool


@dataclasses.dataclass(eq=False)
class Member:
    name: bytes
    weight: int = 1
    share: float = 1.0
    pool: Pool = dataclasses.field(default_factory=lambda: Pool(100, 10, 60.0, 10))

    def __repr__(self) -> str:
        return self.name.decode()


def members(*weights: int, limit: int = 100) -> list[Member]:
    return [
        Member(b"abcdefgh"[n : n + 1], weight, float(weight), Pool(limit, 1, 60.0, 10))
        for n, weight in enumerate(weights)
    ]


def firsts(table, policy, count, key=b""):
    return [choose(table, policy, key)[0] for _ in range(count)]


def word(order) -> str:
    return "".join(map(repr, order))


def test_round_robin_takes_turns_and_fails_over_to_the_next():
    table = Table(members(1, 1, 1))
    assert [word(choose(table, round_robin, b"")) for _ in range(4)] == ["bca", "cab", "abc", "bca"]


def test_weights_come_smoothly_as_in_nginx():
    assert word(firsts(Table(members(5, 1, 1), turn=6), round_robin, 14)) == "aabacaa" * 2
    assert smooth([5, 1, 1]) == (0, 0, 1, 0, 2, 0, 0)
    assert list(smooth([1, 1, 1])) == [0, 1, 2]


def test_a_new_table_goes_on_where_the_last_one_was():
    table = Table(members(1, 1, 1))
    first = firsts(table, round_robin, 1)
    table = Table(table.members, turn=table.turn)
    assert word(first + firsts(table, round_robin, 2)) == "bca"


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([], []),
        ([4.0, 2.0], [2, 1]),
        ([1.0, 0.1], [10, 1]),
        ([0.5, 0.5], [1, 1]),
        ([256.0, 3.0, 1.0], [256, 3, 1]),
    ],
)
def test_shares_become_small_whole_numbers(shares, expected):
    assert units(shares) == expected


def test_a_schedule_does_not_grow_without_bound():
    many = units([256.0, 255.0, *[1.0] * 998])
    assert sum(many) < 1100
    assert many[0] >= many[2]


def fill(member, count: int) -> None:
    for number in range(count):
        member.pool.wait(number)


def test_least_connections_takes_the_idle_one():
    table = Table(members(1, 1, 1))
    table.members[1].pool.busy = 2
    table.members[0].pool.busy = 1
    assert word(choose(table, least_connections, b"")) == "cab"
    fill(table.members[2], 2)  # who waits counts too
    table.members[2].pool.apart = 1  # and so do tunnels
    assert word(choose(table, least_connections, b"")) == "abc"


def test_least_connections_are_alike_in_turn():
    assert word(firsts(Table(members(1, 1, 1)), least_connections, 6)) == "bcabca"


def test_least_connections_fills_by_weight():
    table = Table(members(3, 1))
    for _ in range(40):
        choose(table, least_connections, b"")[0].pool.busy += 1
    assert [member.pool.busy for member in table.members] == [30, 10]


def test_two_choices_takes_the_less_busy_of_those_drawn():
    draws = iter([0.0, 0.0, 0.99, 0.99, 0.5, 0.5])
    table = Table(members(1, 1, 1), draw=lambda: next(draws))
    assert word(choose(table, two_choices, b"")) == "abc"
    assert word(choose(table, two_choices, b"")) == "cba"
    table.members[1].pool.busy = 1
    assert word(choose(table, two_choices, b"")) == "cba"
    assert word(choose(Table(members(1)), two_choices, b"")) == "a"


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_a_rounding_error_draws_two_all_the_same(edge):
    for start in (0.0, 1.0):
        draws = iter([start, edge])
        table = Table(members(1, 1), draw=draws.__next__)
        # As if the first one's share had been lost to rounding.
        table.cumulative = [1.0, 2.0] if start else [2.0, 2.0]
        assert sorted(map(repr, choose(table, two_choices, b""))) == ["a", "b"]


def test_two_choices_respects_weights_and_load():
    table = Table(members(6, 3, 1), draw=random.Random(7).random)
    counted = collections.Counter(map(repr, firsts(table, two_choices, 6000)))
    assert counted["a"] == pytest.approx(3600, rel=0.1)
    assert counted["c"] == pytest.approx(600, rel=0.2)
    for _ in range(1000):
        choose(table, two_choices, b"")[0].pool.busy += 1
    assert table.members[0].pool.busy == pytest.approx(600, rel=0.05)


def keys(count: int) -> list[bytes]:
    return [b"10.%d.%d.%d" % (n % 7, n // 256, n % 256) for n in range(count)]


def test_a_client_stays_and_shares_are_kept():
    table = Table(members(2, 1, 1))
    took = {key: choose(table, client_hash, key)[0] for key in keys(4000)}
    assert all(choose(table, client_hash, key)[0] is member for key, member in took.items())
    counted = collections.Counter(map(repr, took.values()))
    assert counted["a"] == pytest.approx(2000, rel=0.1)
    assert counted["b"] == pytest.approx(1000, rel=0.15)


def test_who_leaves_gives_away_its_own_clients_only():
    everybody = members(1, 1, 1, 1)
    before, after = Table(everybody), Table(everybody[:2] + everybody[3:])
    for key in keys(500):
        order = choose(before, client_hash, key)
        order.remove(everybody[2])
        assert choose(after, client_hash, key) == order


def test_what_is_remembered_of_clients_is_bounded():
    table = Table(members(1, 1))
    for key in keys(REMEMBERED + 10):
        choose(table, client_hash, key)
    assert len(table.orders) <= REMEMBERED
    choose(table, client_hash, b"k").clear()  # what is given away is a copy
    assert len(choose(table, client_hash, b"k")) == 2


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_full_pool_is_passed_over_and_spare_ones_come_last(policy):
    table = Table(members(1, 1, 1, limit=4), spare=[Member(b"z")], draw=random.Random(3).random)
    table.members[1].pool.busy = 4
    for _ in range(30):
        order = choose(table, policy, b"key")
        assert sorted(map(repr, order)) == ["a", "b", "c", "z"]
        assert order[0] is not table.members[1]
        assert repr(order[-1]) == "z"
    for member in table.members:
        member.pool.busy = 4
    assert repr(choose(table, policy, b"key")[0]) != "z"  # then a request waits
    for member in table.members[:2]:
        fill(member, 10)
    assert repr(choose(table, policy, b"key")[0]) == "c"  # where it may


def test_a_cookie_beats_the_turn():
    a, b, c = members(1, 1, 1)
    order = [a, b, c]
    assert prefer(order, a) is order
    assert word(prefer(order, c)) == "cab"


def test_cookies_name_members_and_tell_nothing():
    value = tag(b"10.0.0.7:80", b"secret")
    assert value != tag(b"10.0.0.7:80", b"another") and value != tag(b"10.0.0.8:80", b"secret")
    assert len(value) == 24 and value.isalnum()
    assert cookie_value(b"a=b; route=%b; c=d" % value, b"route") == value
    assert cookie_value(b"xroute=1;route=2", b"route") == b"2"
    assert cookie_value(b"", b"route") == b""


def test_reprs():
    assert repr(Table(members(1, 1))) == "<Table a b>"
    assert repr(Table(members(1), members(1))) == "<Table a spare=1>"
