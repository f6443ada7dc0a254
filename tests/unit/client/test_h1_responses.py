"""What a client of HTTP/1 gets of an upstream's response that came in one piece."""

import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.config.model import Upstream, single
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import WHOLE, UpstreamConnection
from tests.fakes import FakeTransport

ANSWER = b"HTTP/1.1 200 OK\r\nServer: a\r\nConnection: keep-alive\r\nDate: d\r\nContent-Length: %d\r\n\r\n"
REQUEST = b"%b /a HTTP/1.%d\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
FORWARDED = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"


class Pair:
    """A client's connection, and one to the upstream."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        upstream = Upstream("unix:/u", tls=False, host="", port=0, path="/u")
        service = Service(single((upstream,)), self.lines.append, 1.0)
        slot = service.admission.enter()
        slot.peer, slot.sites = "192.0.2.1", service.route_targets.for_listener(None)
        self.client, self.upstream = FakeTransport(), FakeTransport()
        self.asks = H1Connection(service, slot, False)
        self.asks.connection_made(self.client)
        self.answers = UpstreamConnection(service.endpoints[0])
        self.answers.connection_made(self.upstream)
        service.endpoints[0].welcome(self.answers)

    def exchange(self, request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        """What the upstream gets, and what the client gets."""
        self.asks.data_received(request)
        self.answers.data_received(answer)
        return self.upstream.take(), self.client.take()


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("size", [0, 5, WHOLE - 1, WHOLE, WHOLE + 1, 16 * 1024])
def test_a_body_of_any_size_is_whole_and_the_next_one_too(size, minor):
    pair = Pair()
    for number in range(3):  # the second head is one that came again
        body = bytes((number + at) % 251 for at in range(size))
        sent, got = pair.exchange(REQUEST % (b"GET", minor), ANSWER % size + body)
        assert sent == b"GET /a HTTP/1.1\r\nHost: h\r\n" + FORWARDED + b"\r\n"
        stays = b"" if minor else b"Connection: keep-alive\r\n"
        answer = (ANSWER % size).replace(b"Connection: keep-alive\r\n", b"")
        assert got == answer[:-2] + stays + b"\r\n" + body
        assert pair.lines.pop().split(b'" ')[1].startswith(b"200 %d " % size)
    assert not pair.client.closed and not pair.upstream.closed


def test_what_stands_behind_a_whole_body_is_no_part_of_it():
    pair = Pair()
    _, got = pair.exchange(REQUEST % (b"GET", 1), ANSWER % WHOLE + b"a" * WHOLE + b"HTTP/1.1 ")
    assert got.endswith(b"\r\n\r\n" + b"a" * WHOLE)
    assert pair.upstream.closed and not pair.client.closed
