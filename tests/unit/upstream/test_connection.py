"""What an upstream connection remembers of the heads it has read."""

from rawproxy.config.model import Upstream, single
from rawproxy.protocol.http.last_head import AGAIN, TRIES
from rawproxy.protocol.http1.parser import parse_request, response_parser
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import UpstreamConnection
from tests.fakes import FakeClient, FakeTransport

HEAD = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")


class Served:
    """One exchange after the other over one connection; it counts how often a head is parsed."""

    def __init__(self) -> None:
        upstream = Upstream("unix:/u", tls=False, host="", port=0, path="/u")
        self.service = Service(single((upstream,)), None, 1.0)
        (self.endpoint,) = self.service.endpoints
        self.parsed = 0
        self._parse = response_parser("auto", self.endpoint.limits)
        self.endpoint.parse = self.parse
        self.connection = UpstreamConnection(self.endpoint)
        self.connection.connection_made(FakeTransport())
        self.endpoint.welcome(self.connection)
        self.bodies: list[bytes] = []

    def parse(self, data, at):
        self.parsed += 1
        return self._parse(data, at)

    def answer(self, number: int) -> None:
        client = FakeClient(self.service.route_target)
        Exchange(self.service, client, HEAD).start()
        self.connection.data_received(
            b"HTTP/1.1 200 OK\r\nX-A: %d\r\nContent-Length: 3\r\n\r\n%03d" % (number, number)
        )
        assert client.done and client.ended
        ((head,), (framing,), (payload,)) = client.heads, client.framings, client.payloads
        assert head.status == 200 and framing == len(payload)
        assert head.value(b"x-a") == b"%d" % number
        self.bodies.append(payload)


def test_heads_that_repeat_are_read_once_and_others_are_not_kept_for_ever():
    served = Served()

    def parsed(numbers: list[int]) -> int:
        before = served.parsed
        for number in numbers:
            served.answer(number)
        return served.parsed - before

    assert parsed([7] * 5) == 1
    assert parsed([1, 1, 2, 2]) == 2, "a change is none of the others' business"
    assert parsed(list(range(100, 100 + TRIES))) == TRIES
    assert served.connection.last_head.head is None, "nothing repeats here"
    assert parsed([5, 5, 5]) == 3
    left = AGAIN - TRIES - 3
    assert parsed([*range(200, 200 + left), 9, 9, 9]) == left + 1, "but now and then it is tried"
    assert served.bodies[-1] == b"009"
    assert len(served.bodies) == 5 + 4 + TRIES + 3 + left + 3
