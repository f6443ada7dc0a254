"""What all workers have in common: who hears of what."""

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
