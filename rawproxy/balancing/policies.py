"""Which upstream comes first, and which next: the policies, as functions.

    round-robin        in turn, smoothly by weight, as in nginx
    least-connections  the one that has least to do for its weight
    two-choices        two are drawn by weight, and the one with less to do comes first: nearly as
                       good, and right for several workers, which see only their own load
    client-hash        by the client's address: rendezvous hashing (Thaler and Ravishankar 1996),
                       so that a member that leaves gives away its own clients and no others
    cookie             the one that the client's cookie names; a new client in turn

Each policy gives all candidates in an order, so failover is to take the next one. A table is made
again when members come, go or change their share. To choose is cheap then.

This module never dials, never waits and never judges health. Invariant: an order names every member
of the table once, and the spare ones behind all others.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from rawproxy.balancing.pool import Pool

REMEMBERED: Final = 4096  # orders by client address; hashing costs about 1 µs for each member
STEPS: Final = 200_000  # members times turns of a schedule: at most a tenth of a second's work


class Member(Protocol):
    """What a policy looks at."""

    name: bytes  # the same in every worker, and after every restart: what hashes are made of
    weight: int  # as configured, 1 or more
    share: float  # of it, what may be given just now; less than `weight` in slow start
    pool: Pool[Any, Any]


M = TypeVar("M", bound=Member)


class Table(Generic[M]):
    """The members to choose from, as they are now."""

    __slots__ = (
        "cumulative", "draw", "even", "members", "orders", "schedule", "spare", "turn",
    )  # fmt: skip

    def __init__(
        self,
        members: Sequence[M],
        spare: Sequence[M] = (),
        turn: int = 0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.members = list(members)
        self.spare = list(spare)  # tried when every other one has failed
        self.turn = turn  # goes on from the table before: else the first one would get more
        self.draw = draw
        self.schedule = smooth(units([member.share for member in self.members]))
        self.cumulative = list(itertools.accumulate(member.share for member in self.members))
        self.even = len({member.share for member in self.members}) == 1
        self.orders: dict[bytes, list[M]] = {}

    def __repr__(self) -> str:
        names = " ".join(member.name.decode("latin-1") for member in self.members)
        return f"<Table {names}{f' spare={len(self.spare)}' if self.spare else ''}>"


def units(shares: Sequence[float]) -> list[int]:
    """The shares as small whole numbers, in about the same proportion, for a schedule."""
    if not shares:
        return []
    if any(share != int(share) for share in shares):
        least = min(shares)
        shares = [share / least * 4 for share in shares]  # the least of them in steps of a quarter
    whole = [max(round(share), 1) for share in shares]
    divisor = math.gcd(*whole)
    whole = [number // divisor for number in whole]
    while sum(whole) * len(whole) > STEPS and max(whole) > 1:
        whole = [max(number // 2, 1) for number in whole]
    return whole


def smooth(weights: Sequence[int]) -> Sequence[int]:
    """One period of nginx's smooth weighted round robin: 5, 1, 1 gives a a b a c a a."""
    count, total = len(weights), sum(weights)
    if count == total:
        return range(count)
    current = [0] * count
    turns = []
    for _ in range(total):
        best = 0
        for index, weight in enumerate(weights):
            current[index] += weight
            if current[index] > current[best]:
                best = index
        current[best] -= total
        turns.append(best)
    return tuple(turns)


def round_robin(table: Table[M], key: bytes) -> list[M]:
    """The member whose turn it is, and then the others in their order."""
    table.turn = turn = (table.turn + 1) % len(table.schedule)
    first = table.schedule[turn]
    members = table.members
    return members[first:] + members[:first]


def _after_one_more(member: Member) -> float:
    # With the request to come, or all weights would be alike while nothing is going on.
    return (_load(member) + 1) / member.share


def _load(member: Member) -> int:
    pool = member.pool
    return pool.busy + pool.lent + pool.apart + pool.waiting.size


def least_connections(table: Table[M], key: bytes) -> list[M]:
    """Sorted by what each has to do for its share. Equal ones take turns."""
    order = round_robin(table, key)
    order.sort(key=_load if table.even else _after_one_more)
    return order


def two_choices(table: Table[M], key: bytes) -> list[M]:
    """Two members drawn by share, the less busy one first (Mitzenmacher 2001)."""
    members, cumulative = table.members, table.cumulative
    last = len(members) - 1
    if not last:
        return members[:]
    total = cumulative[-1]
    one = min(bisect.bisect_right(cumulative, table.draw() * total), last)
    # The second as if the first were not there.
    share = members[one].share
    before = cumulative[one] - share
    at = table.draw() * (total - share)
    other = min(bisect.bisect_right(cumulative, at + share if at >= before else at), last)
    if other == one:  # a rounding error at the very edge
        other = one - 1 if one else 1
    first, second = members[one], members[other]
    if _load(second) / second.share < _load(first) / first.share:
        first, second = second, first
    rest = members[one + 1 :] + members[:one]
    rest.remove(members[other])
    return [first, second, *rest]


def client_hash(table: Table[M], key: bytes) -> list[M]:
    """Sorted by rank for this key. Slow start does not count: it would move clients twice."""
    order = table.orders.get(key)
    if order is None:
        if len(table.orders) >= REMEMBERED:
            table.orders.clear()
        order = table.orders[key] = sorted(table.members, key=lambda member: _rank(member, key))
    return order[:]


def _rank(member: Member, key: bytes) -> float:
    # -ln(u) / w: the least of such numbers is this one's with a probability of w / sum of all.
    digest = hashlib.blake2b(b"%b %b" % (key, member.name), digest_size=7).digest()
    return -math.log((int.from_bytes(digest) + 1) / 2**56) / member.weight


Policy = Callable[[Table[Any], bytes], list[Any]]
POLICIES: Final[dict[str, Policy]] = {
    "round-robin": round_robin,
    "least-connections": least_connections,
    "two-choices": two_choices,
    "client-hash": client_hash,
    "cookie": round_robin,
}


def pressure(member: Member) -> int:
    """0: there is room. 1: a request would have to wait. 2: it could not even wait."""
    pool = member.pool
    if pool.busy < pool.limit:
        return 0
    return 1 if pool.waiting.size < pool.waiting.limit else 2


def choose(table: Table[M], policy: Policy, key: bytes) -> list[M]:
    """All candidates, in the order in which to try them.

    One whose pool is full comes behind those that have room. So a request waits only if all are
    full, and then where the policy wanted it.
    """
    order = policy(table, key)
    if pressure(order[0]):
        order.sort(key=pressure)
    if table.spare:
        order += table.spare
    return order


def prefer(order: list[M], first: M) -> list[M]:
    """`first` before all others, full or not: its sessions are nowhere else."""
    if order[0] is first:
        return order
    return [first, *(member for member in order if member is not first)]


def tag(name: bytes, secret: bytes) -> bytes:
    """The value of a cookie that names a member and tells a client nothing about it."""
    return hashlib.blake2b(name, digest_size=12, key=secret[:64]).hexdigest().encode()


def cookie_value(field: bytes, name: bytes) -> bytes:
    """The value of the cookie `name` in a Cookie field (RFC 6265 4.2.1); empty if none."""
    for pair in field.split(b";"):
        key, _, value = pair.strip(b" ").partition(b"=")
        if key == name:
            return value
    return b""
