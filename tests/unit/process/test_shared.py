"""What all workers have in common: who hears of what."""

import os

from rawproxy.process.shared import SharedByWorkers
from rawproxy.tls.fingerprints import Fingerprints


def accepted(sha: str):
    one = Fingerprints()
    one.accept(sha, "192.0.2.1:443")
    return {"https://a": one.told()}


def test_a_new_worker_hears_of_pins_and_keys():
    shared = SharedByWorkers(0)
    assert shared.greeting() == [{"pins": {}}, {"tickets": shared.ticket_keys.message()}]
    shared.learn(accepted("aa"))
    pins, _ = shared.greeting()
    assert pins["pins"]["https://a"]["seen"] == {"192.0.2.1:443": ["aa"]}


def test_of_two_that_saw_different_certificates_all_hear_the_same():
    shared = SharedByWorkers(0)
    first = shared.learn(accepted("aa"))
    second = shared.learn(accepted("bb"))
    assert first["pins"] == accepted("aa")
    assert second["pins"] == shared.greeting()[0]["pins"]
    assert "aa" in str(second) and "bb" not in str(second)


def test_the_certificate_of_self_signed_stays_as_long_as_its_names():
    shared = SharedByWorkers(0)
    assert shared.certificate(None) is None
    one = shared.certificate(("a.test",))
    assert "PRIVATE KEY" in one and "CERTIFICATE" in one
    assert shared.certificate(("a.test",)) is one
    assert shared.certificate(("b.test",)) != one


# ── what one may say of what is shared ──────────────────────────────────────────────────────────


def test_what_holds_on_all_machines_holds_here():
    shared = SharedByWorkers(0)
    keys, secret = "ab" * 80, "cd" * 64
    told = shared.settle({"tickets": keys, "age": 3600.0, "secret": secret}, 10_000)
    assert told == [{"tickets": keys}, {"secret": secret}]
    assert shared.settle({"tickets": keys, "secret": secret}, 10_001) == []
    assert shared.greeting()[1:] == told
    assert os.pread(shared.memory, 64, 0).hex() == secret
    assert not shared.ticket_keys.renewed(10_000 + 86_400 - 3_601)
    assert shared.ticket_keys.renewed(10_000 + 86_400 - 3_599), "as old as they are elsewhere"
    assert shared.settle({"tickets": "ab"}, 0) == [], "not keys"
    os.close(shared.memory)


def test_pins_of_other_machines_take_the_place_of_ours():
    shared = SharedByWorkers(0)
    ours, theirs = Fingerprints(), Fingerprints()
    ours.accept("aa", "192.0.2.1:443")
    theirs.accept("bb", "192.0.2.1:443")
    shared.learn({"u": ours.told()})
    assert shared.settle({"pins": {"u": theirs.told()}}, 0) == [{"pins": {"u": theirs.told()}}]
    assert shared.greeting()[0] == {"pins": {"u": theirs.told()}}
    os.close(shared.memory)
