"""What a client of HTTP/1 gets of an upstream's response that came in one piece."""

import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.config.model import Upstream, single
from rawproxy.protocol.http.rewrite import HeadEdits, cuts_only
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import WHOLE, UpstreamConnection
from tests.fakes import FakeTransport

ANSWER = b"HTTP/1.1 200 OK\r\nServer: a\r\nConnection: keep-alive\r\nDate: d\r\nContent-Length: %d\r\n\r\n"
REQUEST = b"%b /a HTTP/1.%d\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
KEPT = b"Connection: keep-alive\r\n"
CLOSED = b"Connection: close\r\n"
HSTS = b"Strict-Transport-Security: max-age=1\r\n"
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
        answer = ANSWER % size
        if not minor:  # ours, behind all others
            answer = answer.replace(KEPT, b"")[:-2] + KEPT + b"\r\n"
        assert got == answer + body
        assert pair.lines.pop().split(b'" ')[1].startswith(b"200 %d " % size)
    assert not pair.client.closed and not pair.upstream.closed


def test_what_stands_behind_a_whole_body_is_no_part_of_it():
    pair = Pair()
    _, got = pair.exchange(REQUEST % (b"GET", 1), ANSWER % WHOLE + b"a" * WHOLE + b"HTTP/1.1 ")
    assert got.endswith(b"\r\n\r\n" + b"a" * WHOLE)
    assert pair.upstream.closed and not pair.client.closed


@pytest.mark.parametrize("size", [5, WHOLE])
@pytest.mark.parametrize(
    ("start", "added"),
    [
        (b"HTTP/1.1 200 OK\r\nDate: d\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nDate: d\r\n" + KEPT, b""),
        (b"HTTP/1.1 404 Not Found\r\n" + KEPT.lower() + b"Date: d\r\nA_b:\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: Keep-Alive\r\n", HSTS),
        (b"HTTP/1.1 200 OK\r\nDate: d\r\n", HSTS),
    ],
)
def test_an_answer_in_which_nothing_changes_is_passed_on_as_it_came(start, added, size):
    pair = Pair()
    pair.asks.context = pair.asks.context._replace(hsts=added)
    head = b"%bContent-Length: %d\r\n" % (start.replace(b"A_b:", b"A_b: "), size)
    for _ in range(3):
        _, got = pair.exchange(REQUEST % (b"GET", 1), head + b"\r\n" + b"a" * size)
        assert got == head + added + b"\r\n" + b"a" * size
        assert pair.lines.pop().split(b'" ')[1].split()[1] == b"%d" % size


@pytest.mark.parametrize("size", [5, WHOLE])
def test_an_answer_behind_an_interim_one_has_none_of_it(size):
    pair = Pair()
    interim = b"HTTP/1.1 103 Early Hints\r\nDate: d\r\n\r\n"
    answer = ANSWER % size + b"a" * size
    _, got = pair.exchange(REQUEST % (b"GET", 1), interim + answer)
    assert got == interim + answer.replace(KEPT, b"")


@pytest.mark.parametrize("size", [5, WHOLE])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: close\r\n",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: keep-alive, A\r\nA: b\r\n",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nKeep-Alive: timeout=5\r\n",
        b"HTTP/1.1 200 OK\r\nDate: d\r\nStrict-Transport-Security: a\r\n",
        b"HTTP/1.0 200 OK\r\nDate: d\r\nConnection: keep-alive\r\n",
        b"HTTP/1.1 200 OK\r\nDate:d\r\nConnection: keep-alive\r\n",
    ],
)
def test_what_is_another_connections_is_cut_out_of_an_answer(head, size):
    pair = Pair()
    pair.asks.context = pair.asks.context._replace(hsts=b"")
    _, got = pair.exchange(
        REQUEST % (b"GET", 1), b"%bContent-Length: %d\r\n\r\n" % (head, size) + b"a" * size
    )
    length = b"Content-Length: %d\r\n" % size
    assert got == b"HTTP/1.1 200 OK\r\nDate: d\r\n" + length + b"\r\n" + b"a" * size


def test_an_answer_without_a_date_gets_one():
    pair = Pair()
    pair.asks.service.date_line = b"Date: now\r\n"
    answer = ANSWER.replace(b"Date: d\r\n", b"") % 5
    _, got = pair.exchange(REQUEST % (b"GET", 1), answer + b"aaaaa")
    assert got.count(b"Date: ") == 1 and KEPT not in got


@pytest.mark.parametrize("size", [5, WHOLE])
def test_the_last_answer_of_a_connection_says_so_and_nothing_else(size):
    pair = Pair()
    request = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    _, got = pair.exchange(request, ANSWER % size + b"a" * size)
    assert got == (ANSWER % size).replace(KEPT, b"")[:-2] + CLOSED + b"\r\n" + b"a" * size


def test_a_route_that_changes_answers_changes_this_one():
    pair = Pair()
    edits = HeadEdits(frozenset(), b"", frozenset((b"server",)), b"X-Mine: 1\r\n")
    pair.asks.context = pair.asks.context._replace(edits=edits)
    _, got = pair.exchange(REQUEST % (b"GET", 1), ANSWER % 5 + b"aaaaa")
    assert b"Server" not in got and b"X-Mine: 1\r\n" in got and KEPT not in got


def test_a_route_that_changes_requests_only_leaves_it():
    pair = Pair()
    edits = cuts_only(HeadEdits(frozenset(), b"X-Mine: 1\r\n", frozenset(), b""))
    pair.asks.context = pair.asks.context._replace(edits=edits)
    sent, got = pair.exchange(REQUEST % (b"GET", 1), ANSWER % 5 + b"aaaaa")
    assert b"X-Mine: 1\r\n" in sent and got == ANSWER % 5 + b"aaaaa"
