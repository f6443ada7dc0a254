"""What an upstream connection remembers of the heads it has read."""

from rawproxy.config.model import Limits
from rawproxy.protocol.http.last_head import AGAIN, TRIES
from rawproxy.protocol.http1.parser import response_parser
from rawproxy.upstream.connection import ConnectionOwner, UpstreamConnection
from tests.fakes import FakeTransport


class Endpoint(ConnectionOwner):
    """Counts how often a head is parsed."""

    title = "somewhere"

    def __init__(self) -> None:
        self.limits = Limits()
        self.parsed = 0
        self._parse = response_parser("auto", self.limits)

    def parse(self, data, at):
        self.parsed += 1
        return self._parse(data, at)

    def remember(self, connection):
        pass

    settle = evict = babbled = complaint = wanted = stalled = flows = (
        None  # nothing of theirs happens here
    )


class ResponseHandler:
    """Takes one response after the other."""

    method = b"GET"

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def on_response(self, head, framing, payload, ended):
        assert head.status == 200 and framing == len(payload) and ended
        self.bodies.append(payload)


def test_heads_that_repeat_are_read_once_and_others_are_not_kept_for_ever():
    endpoint, handler = Endpoint(), ResponseHandler()
    connection = UpstreamConnection(endpoint)
    connection.connection_made(FakeTransport())

    def answer(number: int) -> None:
        connection.handler = handler
        connection.data_received(
            b"HTTP/1.1 200 OK\r\nX-A: %d\r\nContent-Length: 3\r\n\r\n%03d" % (number, number)
        )

    def parsed(numbers: list[int]) -> int:
        before = endpoint.parsed
        for number in numbers:
            answer(number)
        return endpoint.parsed - before

    assert parsed([7] * 5) == 1
    assert parsed([1, 1, 2, 2]) == 2, "a change is none of the others' business"
    assert parsed(list(range(100, 100 + TRIES))) == TRIES
    assert connection.last_head.head is None, "nothing repeats here"
    assert parsed([5, 5, 5]) == 3
    left = AGAIN - TRIES - 3
    assert parsed([*range(200, 200 + left), 9, 9, 9]) == left + 1, "but now and then it is tried"
    assert handler.bodies[-1] == b"009" and len(handler.bodies) == 5 + 4 + TRIES + 3 + left + 3
