"""Places are counted, and given back once."""

import pytest

from rawproxy.protocol.http.forwarding import one_client
from rawproxy.proxy.admission import Admission


def entered(admission, peer):
    slot = admission.enter()
    slot.peer = peer
    return slot


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
    assert admission.by_client == {b"192.0.2.1": 1, b"192.0.2.2": 1}
    one.leave()
    assert admission.by_client == {b"192.0.2.2": 1}


def test_two_of_one_client():
    admission = Admission(0, 2)
    places = [entered(admission, "::1") for _ in range(2)]
    assert all(slot.claim(False) for slot in places)
    places[0].leave()
    assert admission.by_client == {b"::/64": 1} and admission.open == 1
    assert places[0].claim(False)  # it has left: nothing is counted


def test_a_tunnel_takes_the_count_of_its_slot():
    admission = Admission(2, 1)
    slot = entered(admission, "192.0.2.1")
    assert slot.claim(False)
    seat = slot.handed_over()
    slot.leave()
    assert admission.open == 1 and admission.by_client == {b"192.0.2.1": 1}
    seat.leave()
    seat.leave()
    assert admission.open == 0 and admission.by_client == {}


def test_requests_over_http2_count_for_the_client():
    admission = Admission(0, 3)
    one, two = entered(admission, "2001:db8::1"), entered(admission, "2001:db8::2")
    assert one.claim(False) and two.claim(False)
    assert one.most_streams(128) == 3 and two.most_streams(2) == 2
    assert one.begin() and one.begin() and two.begin()
    assert not two.begin() and admission.refused_streams == 1
    one.finish(0)
    one.finish(1)
    assert two.begin()
    one.finish(1)
    one.leave()
    assert admission.streams == {b"2001:db8::/64": 2}
    two.finish(2)
    assert admission.streams == {}
    two.leave()
    assert admission.by_client == {}
    two.finish(1)  # it has left: nothing is counted
    assert two.begin() and two.most_streams(128) == 128


def test_requests_of_who_is_not_counted():
    slot = entered(Admission(0, 1), "192.0.2.1")
    assert slot.claim(True) and slot.begin() and slot.begin()
    slot.finish(2)
    assert slot.most_streams(128) == 128


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
