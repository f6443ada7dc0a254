"""What machines agree upon: the first one decides, and nobody undoes it."""

import json

import pytest

from rawproxy.errors import StoreError
from rawproxy.process.ticket_keys import LIFE
from rawproxy.store import agreement
from rawproxy.store.agreement import AgedKeys
from rawproxy.store.verbs import VALUE
from rawproxy.tls.fingerprints import Fingerprints
from tests.unit.store.doubles import MemoryStore

NOW = 1_800_000_000.0


def accepted(*shas: str, address: str = "192.0.2.1:443"):
    one = Fingerprints()
    for sha in shas:
        one.accept(sha, address)
    return one.told()


def test_the_first_secret_is_everybodys():
    store = MemoryStore()
    one = agreement.secret(store)
    assert len(one) == 64
    assert agreement.secret(store) == one
    store.values["secret"] = b"too short"
    assert len(agreement.secret(store)) == 64


def test_who_is_slower_takes_over_what_the_other_has_put():
    store = MemoryStore()
    theirs = b"t" * 64
    store.faster = [theirs]
    assert agreement.secret(store) == theirs
    assert store.values["secret"] == theirs


def test_if_others_are_always_faster_something_is_wrong():
    store = MemoryStore()
    store.faster = [b"%d" % n for n in range(100)]
    with pytest.raises(StoreError, match="others change secret all the time"):
        agreement.secret(store)


def test_keys_of_tickets_last_a_day():
    store = MemoryStore()
    keys, born = agreement.tickets(store, NOW)
    assert (len(keys), born) == (80, NOW)
    assert agreement.tickets(store, NOW + 3600) == (keys, NOW)
    assert agreement.tickets(store, NOW - 100) == (keys, NOW), "a clock that is behind"
    end = NOW + LIFE - agreement.EARLY
    others, born = agreement.tickets(store, end, AgedKeys(keys, NOW))
    assert others != keys
    assert born == end


def test_a_store_that_lost_everything_gets_back_what_is_known():
    store = MemoryStore()
    secret, keys = agreement.secret(store), agreement.tickets(store, NOW)
    store.values.clear()
    assert agreement.secret(store, secret) == secret
    assert agreement.tickets(store, NOW + 60, keys) == keys
    assert agreement.tickets(MemoryStore(), NOW + LIFE, keys) != keys, "but for keys that are old"
    theirs = b"t" * 64
    store.values["secret"] = theirs
    assert agreement.secret(store, secret) == theirs, "what is there goes before what was known"


@pytest.mark.parametrize(
    "found", [b"", b"nonsense", b"[]", b"{}", b'{"keys": "00", "born": 1}', b'{"keys": 1}']
)
def test_keys_that_cannot_be_are_replaced(found):
    store = MemoryStore({"tickets": found})
    keys, _ = agreement.tickets(store, NOW)
    assert len(keys) == 80


def test_keys_that_nobody_can_read_are_an_error(monkeypatch):
    monkeypatch.setattr(agreement, "settle", lambda *_: b"nonsense")
    with pytest.raises(StoreError, match="cannot be read"):
        agreement.tickets(MemoryStore(), NOW)


def test_of_two_machines_the_first_pin_holds():
    store = MemoryStore()
    first = agreement.pins(store, {"u": accepted("aa")})
    assert first == {"u": accepted("aa")}
    before = store.values["pins"]
    assert agreement.pins(store, {"u": accepted("bb")}) == first, "another one is refused there"
    assert store.values["pins"] == before, "and nothing is written for nothing"
    assert agreement.pins(store, {}) == first


def test_at_a_private_address_both_stand_beside_each_other():
    store = MemoryStore()
    agreement.pins(store, {"u": accepted("aa", address="10.0.0.1:443")})
    both = agreement.pins(store, {"u": accepted("bb", address="10.0.0.1:443")})
    assert both["u"]["seen"] == {"10.0.0.1:443": ["aa", "bb"]}
    assert agreement.pins(store, both) == both


@pytest.mark.parametrize(
    "found",
    [
        b"nonsense",
        b"[]",
        b'{"u": 1}',
        b'{"u": {"strict": false, "verified": [], "seen": []}}',
        b'{"u": {"strict": false, "verified": [1], "seen": {}}}',
        b'{"u": {"strict": 1, "verified": [], "seen": {}}}',
        b'{"u": {"strict": false, "verified": "aa", "seen": {}}}',
        b'{"u": {"strict": false, "verified": [], "seen": {"a": null}}}',
    ],
)
def test_pins_that_cannot_be_are_left_out(found):
    store = MemoryStore({"pins": found})
    assert agreement.pins(store, {"v": accepted("aa")}) == {"v": accepted("aa")}


def test_pins_do_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(agreement, "UPSTREAMS", 3)
    store = MemoryStore()
    for number in range(5):
        agreement.pins(store, {f"u{number}": accepted("aa")})
    assert list(json.loads(store.values["pins"])) == ["u2", "u3", "u4"]
    big = {"verified": ["a" * 64] * 100_000, "seen": {}, "strict": True}
    monkeypatch.setattr(Fingerprints, "told", lambda self: big)
    agreement.pins(store, {"w": accepted("aa"), "x": accepted("aa")})
    assert len(store.values["pins"]) <= VALUE
