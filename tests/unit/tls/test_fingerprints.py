"""Which certificates an upstream may show, and how workers agree on it."""

import itertools

import pytest

from rawproxy.tls.fingerprints import (
    ADDRESSES,
    CHANGED,
    EACH,
    EXPIRED,
    FIRST,
    KNOWN,
    REFUSED,
    Fingerprints,
    is_local,
    place,
)

HERE, THERE, PUBLIC, OTHER = "10.0.0.5:9443", "10.0.0.6:9443", "203.0.113.7:443", "203.0.113.8:443"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("10.255.0.1", True),
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("192.168.1.1", True),
        ("169.254.1.1", True),
        ("100.64.0.1", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("172.32.0.1", False),
        ("100.128.0.1", False),
        ("192.0.2.1", False),  # for Python's `is_private` these three are
        ("203.0.113.7", False),
        ("198.18.0.1", False),
        ("2001:db8::1", False),
        ("8.8.8.8", False),
        ("somewhere", False),
    ],
)
def test_which_addresses_are_local(host, local):
    address = place((host, 9443, 0, 0) if ":" in host else (host, 9443))
    assert address == (f"[{host}]:9443" if ":" in host else f"{host}:9443")
    assert is_local(address) is local


def test_at_a_private_address_any_is_accepted():
    known = Fingerprints()
    assert not known.any_accepted()
    assert known.accept("a", HERE) is FIRST
    assert known.before(HERE) == "a"
    assert known.accept("a", HERE) is KNOWN
    assert known.look("b", HERE) is CHANGED
    assert known.accept("b", HERE) is CHANGED
    assert [known.accept(sha, HERE) for sha in "abab"] == [KNOWN] * 4, "two behind one address"
    assert known.accept("c", THERE) is FIRST, "another address is another one's"
    assert known.before(THERE) == "c" and known.before(HERE) == "b"
    assert known.any_accepted()
    assert repr(known) == "<Fingerprints verified=0 seen=2>"


@pytest.mark.parametrize(("strict", "one", "two"), [(False, PUBLIC, OTHER), (True, HERE, THERE)])
def test_elsewhere_and_with_pin_only_the_first(strict, one, two):
    known = Fingerprints(strict)
    assert known.before(one) == ""
    assert known.accept("a", one) is FIRST
    assert known.accept("b", one) is REFUSED
    assert known.accept("a", two) is KNOWN, "the same machine by another way"
    assert known.accept("b", two) is REFUSED, "whoever forges a DNS answer has another address"
    assert known.before(two) == "a"


def test_who_was_first_at_a_private_address_is_not_replaced_from_outside():
    known = Fingerprints()
    assert known.accept("a", HERE) is FIRST
    assert known.accept("b", PUBLIC) is REFUSED
    assert known.accept("a", PUBLIC) is KNOWN


def test_what_verified_once_must_go_on_verifying():
    known = Fingerprints()
    known.accept("self-signed", HERE)
    known.verify("good")
    assert known.look("self-signed", HERE) is REFUSED
    assert known.accept("another", HERE) is REFUSED
    assert known.before(HERE) == "good"
    assert not known.any_accepted()
    known.verify("better")
    assert known.accept("good", HERE) is EXPIRED
    assert known.accept("good", THERE) is KNOWN
    assert known.any_accepted()


def test_what_is_remembered_is_bounded():
    known = Fingerprints()
    for number in range(ADDRESSES + 10):
        known.accept("a", f"10.0.{number // 256}.{number % 256}:443")
    assert len(known.seen) == ADDRESSES
    assert "10.0.0.9:443" not in known.seen
    for number in range(EACH + 1):
        known.accept(str(number), HERE)
        known.verify(str(number)) if number == EACH else None
    assert known.seen == {}
    for number in range(3 * EACH):
        known.verify(f"v{number}")
        known.accept(f"v{number}", HERE)
    assert len(known.verified) == len(known.expired) == EACH
    many = Fingerprints()
    for number in range(EACH + 3):
        many.accept(str(number), HERE)
    assert len(many.seen[HERE]) == EACH


# ── between workers ─────────────────────────────────────────────────────────────────────────────


class Workers:
    """Two workers and their master; what is said is heard when `settle` is called."""

    def __init__(self, strict=False) -> None:
        self.master = Fingerprints(strict)
        self.all = [Fingerprints(strict), Fingerprints(strict)]

    def settle(self, order=(0, 1)) -> list[bool]:
        """Both say their news in that order; both hear it all. Whether either lost."""
        told = []
        for number in order:
            worker = self.all[number]
            if worker.news:
                worker.news = False
                self.master.merge(worker.told())
                told.append(self.master.told())
        lost = [False, False]
        for one in told:
            for number, worker in enumerate(self.all):
                lost[number] |= worker.obey(one)
                assert not worker.news, "what was heard is no news"
        return lost


def test_what_one_accepted_is_known_to_all():
    both = Workers()
    one, two = both.all
    one.accept("a", HERE)
    assert one.news and not two.news
    assert both.settle() == [False, False]
    assert two.accept("a", HERE) is KNOWN
    assert both.settle() == [False, False]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("strict", "address"), [(True, HERE), (False, PUBLIC)])
def test_two_see_different_ones_at_the_same_moment_and_agree_on_one(order, strict, address):
    both = Workers(strict)
    assert [worker.accept(sha, address) for worker, sha in zip(both.all, "ab", strict=True)] == [
        FIRST, FIRST,
    ]  # fmt: skip
    lost = both.settle(order)
    winner, loser = "ab"[order[0]], "ab"[order[1]]
    assert lost[order[1]] and not lost[order[0]]
    for worker in both.all:
        assert worker.accept(winner, address) is KNOWN
        assert worker.accept(loser, address) is REFUSED


def test_at_a_private_address_both_are_accepted():
    both = Workers()
    for worker, sha in zip(both.all, "ab", strict=True):
        worker.accept(sha, HERE)
    assert both.settle() == [False, False]
    for worker, sha in itertools.product(both.all, "ab"):
        assert worker.accept(sha, HERE) is KNOWN


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_verifies_while_another_accepts_what_does_not(order):
    both = Workers()
    one, two = both.all
    one.verify("good")
    two.accept("bad", HERE)
    assert both.settle(order) == [False, True]
    for worker in both.all:
        assert worker.look("bad", HERE) is REFUSED
        assert worker.verified == ["good"]
    assert both.master.seen == {}


def test_what_the_master_has_not_heard_of_yet_is_not_lost():
    worker, master = Fingerprints(), Fingerprints()
    worker.accept("a", HERE)
    worker.verify("good")
    master.accept("b", THERE)
    worker.obey(master.told())
    assert worker.verified == ["good"] and worker.seen == {}
    assert worker.news
