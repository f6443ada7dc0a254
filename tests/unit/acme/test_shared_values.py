"""What of an archive stands in a store: what is not of its form is not used."""

import json

import pytest
import trustme

from rawproxy.acme import shared_values
from rawproxy.acme.on_demand import is_name
from rawproxy.acme.settings import Authority
from rawproxy.acme.shared_archive import merged
from rawproxy.acme.shared_values import Entry, Seal, SealError, packed, unpacked
from rawproxy.store.verbs import checked

PEM = trustme.CA().issue_cert("a.test").private_key_and_cert_chain_pem.bytes().decode()
ONE = Authority("https://one.test/dir")


def test_an_entry_and_back():
    one = Entry(
        7, "me", {"certificate.pem": PEM, "order.json": '{"url": "x"}', "order-key.pem": "k"}
    )
    assert unpacked(packed(one)) == one
    assert one.digest() == Entry(8, "", dict(reversed(one.files.items()))).digest()
    assert one.digest() != Entry(7, "me", {}).digest()


@pytest.mark.parametrize(
    "told",
    [
        None, b"", b"{", b"[]", b"\xff", b"[" * 100_000, {"version": 0, "files": {}}, {"version": 1},
        {"version": "1", "files": {}}, {"version": 1 << 60, "files": {}}, {"version": 1, "files": []},
        {"version": 1, "files": {"../x": "y"}}, {"version": 1, "files": {"order.json": 5}},
        {"version": 1, "files": {"order.json": "{"}}, {"version": 1, "files": {"order-key.pem": ""}},
        {"version": 1, "files": {"certificate.pem": PEM[:400]}},
        {"version": 1, "files": {"order-key.pem": "x" * (2 << 20)}},
    ],
)  # fmt: skip
def test_what_is_no_entry(told):
    data = json.dumps(told).encode() if isinstance(told, dict) else told
    assert unpacked(data) == Entry()


def test_names_are_those_that_a_store_takes():
    other = Authority("https://one.test/dir2")
    keys = {
        checked(shared_values.entry_name(authority, name))
        for authority in (ONE, other)
        for name in ("a.test", "*.a.test", "_account", "x" * 200 + ".test")
    } | {checked(shared_values.lock_name("a.test"))}
    assert len(keys) == 9


def test_sealed_values_need_the_secret_and_their_own_name():
    seal, same, other, none = Seal(b"s" * 40), Seal(b"s" * 40), Seal(b"t" * 40), Seal()
    closed = seal.closed("acme/1", b"secret")
    assert b"secret" not in closed and closed != seal.closed("acme/1", b"secret")
    assert same.opened("acme/1", closed) == b"secret"
    assert none.opened("acme/1", none.closed("acme/1", b"{}")) == b"{}"
    for who, name, data in (
        (other, "acme/1", closed), (seal, "acme/2", closed), (seal, "acme/1", closed[:-1]),
        (seal, "acme/1", closed[:12]), (seal, "acme/1", b"{}"),
    ):  # fmt: skip
        with pytest.raises(SealError, match="the same one, or the store another"):
            who.opened(name, data)
    with pytest.raises(SealError, match="type store-key"):
        none.opened("acme/1", closed)


def test_answers_whose_time_is_over_or_which_are_none_are_left_out():
    told = {
        "tok-en_1": [20, "x"], "a.test.alpn": [20.5, "y"], "old": [9, "x"], "../x": [20, "x"],
        ".alpn": [20, "x"], "..alpn": [20, "x"], "a.b": [20, "x"], "odd": 5, "short": [20], "number": [20, 5], "word": ["20", "x"],
    }  # fmt: skip
    found = shared_values.answers_of(json.dumps(told).encode(), 10)
    assert found == {"tok-en_1": (20.0, "x"), "a.test.alpn": (20.5, "y")}
    many = json.dumps({f"t{at}": [20, "x"] for at in range(2000)}).encode()
    assert len(shared_values.answers_of(many, 10)) == shared_values.MOST_ANSWERS
    assert shared_values.answers_of(b"nonsense", 10) == {}


def test_names_that_cannot_be_are_left_out():
    data = json.dumps({"names": ["a.test", "../x", 5, "10.0.0.1"]}).encode()
    assert shared_values.names_of(data, is_name) == {"a.test"}
    assert shared_values.names_of(b'{"names": 5}', is_name) == set()


def entry(version, **files):
    return Entry(version, "", {f"{name}.json": text for name, text in files.items()})


def test_the_newer_version_wins_and_what_was_changed_becomes_one():
    old, new = entry(3, record="{}"), entry(5, record='{"a": 1}')
    assert merged(old, new, dirty=False, account=False) is new
    assert merged(old, new, dirty=True, account=False) is new, "who has lost it gives way"
    assert merged(new, old, dirty=False, account=False) == new, "the store has an older one"
    assert merged(new, Entry(), dirty=False, account=False) == new, "or has forgotten it"
    assert merged(new, new, dirty=False, account=False) is None
    changed = merged(new, new, dirty=True, account=False)
    assert (changed.version, changed.files) == (6, new.files)
    assert merged(Entry(), Entry(), dirty=False, account=False) is None
    assert merged(entry(0, record="{}"), Entry(), dirty=True, account=False).version == 1
    twin = entry(5, record='{"b": 1}')
    assert merged(new, twin, dirty=False, account=False) is twin, "the store decides"


def test_an_account_that_two_write_keeps_what_both_know():
    ours = entry(1, account='{"key": "k", "uri": "u", "email": "me"}')
    theirs = entry(2, account='{"key": "k", "uri": "u"}')
    found = merged(ours, theirs, dirty=True, account=True)
    assert (found.version, found.files) == (3, ours.files)
    other = entry(2, account='{"key": "other"}')
    assert merged(ours, other, dirty=True, account=True) is other, "one account, the first"


def test_a_certificate_from_before_the_store_is_kept():
    ours = Entry(0, "", {"certificate.pem": PEM, "record.json": "{}"})
    theirs = entry(2, order='{"url": "x"}')
    found = merged(ours, theirs, dirty=True, account=False)
    assert found.version == 3 and found.files == theirs.files | {"certificate.pem": PEM}
    whole = Entry(2, "", {"certificate.pem": PEM})
    assert merged(ours, whole, dirty=True, account=False) is whole
