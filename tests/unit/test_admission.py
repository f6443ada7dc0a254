"""Places are counted, and given back once."""

import pytest

from rawproxy.admission import Admission, one_client


def entered(admission, peer):
    place = admission.enter()
    place.peer = peer
    return place


def test_in_total():
    admission = Admission(2, 0)
    one, two = admission.enter(), admission.enter()
    assert admission.enter() is None and admission.refused == 1
    one.leave()
    one.leave()
    assert admission.open == 1
    assert admission.enter() is not None and two.claim(False)


def test_for_each_client():
    admission = Admission(0, 1)
    one = entered(admission, "192.0.2.1")
    assert one.claim(False) and one.claim(False)
    two = entered(admission, "192.0.2.1")
    assert not two.claim(False) and admission.refused == 1
    assert two.claim(True)  # a trusted proxy speaks for many
    assert entered(admission, None).claim(False)  # so does a socket file
    other = entered(admission, "192.0.2.2")
    assert other.claim(False)
    two.leave()
    assert admission.by_client == {"192.0.2.1": 1, "192.0.2.2": 1}
    one.leave()
    assert admission.by_client == {"192.0.2.2": 1}


def test_two_of_one_client():
    admission = Admission(0, 2)
    places = [entered(admission, "::1") for _ in range(2)]
    assert all(place.claim(False) for place in places)
    places[0].leave()
    assert admission.by_client == {"::1": 1} and admission.open == 1
    assert places[0].claim(False)  # it has left: nothing is counted


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::/64"),
        (b"2001:db8:1:2::ffff", b"2001:db8:1:2::/64"),
        (b"2001:db8:1:3::1", b"2001:db8:1:3::/64"),
        (b"fe80::1%eth0", b"fe80::/64"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"unix:", b"unix:"),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_network(address, client):
    assert one_client(address) == client
