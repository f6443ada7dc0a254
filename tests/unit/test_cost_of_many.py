"""What comes in many pieces, or names many things, costs no more than in proportion to its size."""

import functools
import itertools

import pytest

from rawproxy.protocol.http import (
    error_pages,
    rewrite,
)
from rawproxy.protocol.http1 import recogniser
from rawproxy.protocol.http1.body import ChunkedBody
from rawproxy.protocol.http1.head_limits import find_request, waits
from rawproxy.protocol.http1.parser import parse_request, request_parser
from tests.unit.cost import (
    ALLOWED,
    CONTEXT,
    HEAD,
    LIMITS,
    REQUEST,
    anywhere,
    spent,
)


def test_a_recogniser_looks_at_one_place():
    """PCRE2 went on to search where the head it was given was none."""
    assert recogniser.REQUEST(b"A: a\r\n" + REQUEST, 0) is None
    found = recogniser.REQUEST(b"A: a\r\n" + REQUEST + REQUEST, 6)
    assert found is not None and found[0] == 6 + len(REQUEST)
    many = b"A: AAAA / HTTP/1.1\r\n" * 40_000
    for name in ("REQUEST", "LOGGED_REQUEST", "RESPONSE"):
        work = anywhere(getattr(recogniser, name))
        assert spent(functools.partial(work, many)) < ALLOWED
    # What it costs does not depend on what lies behind it.
    behind = REQUEST + many
    assert spent(lambda: [recogniser.REQUEST(behind, 0) for _ in range(10_000)]) < ALLOWED
    behind = b"GET /\0" + many
    assert spent(lambda: [recogniser.REQUEST(behind, 0) for _ in range(10_000)]) < ALLOWED


@pytest.mark.parametrize("name", ["auto", "h11"])
def test_pipelined_requests_are_read_where_they_stand(name):
    """24,000 of them in one buffer: to cut each off would copy 4 GB."""
    parse = request_parser(name, LIMITS)
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    many = raw * 24_000
    used = spent(lambda: [parse(many, at) for at in range(0, len(many), len(raw) * 12)])
    assert used < 4 * ALLOWED


def test_accept_is_read_up_to_a_limit():
    """By references to HPACK's table such a field costs a client fourteen bytes."""
    long = b"text/html;" + b" " * 24_000 + b"q=0.5"
    assert spent(lambda: [error_pages.render(400, long, "id") for _ in range(1000)]) < ALLOWED
    many = b"a/b," * 16_000
    assert spent(lambda: [error_pages.render(400, many, "id") for _ in range(1000)]) < ALLOWED


def test_a_connection_field_that_names_thousands():
    field_names = b",".join(bytes(one) for one in itertools.product(range(97, 123), repeat=3))[
        :32000
    ]
    read = parse_request(
        HEAD[:30000].rpartition(b"\r\n")[0] + b"\r\nConnection: " + field_names + b"\r\n\r\n"
    )
    context = rewrite.context(b"192.0.2.1", b"https", False, False, None)
    assert spent(lambda: rewrite.request(read, context, b"up")) < ALLOWED


def test_a_connection_field_that_names_thousands_beside_many_hops():
    field_names = b",".join(bytes(one) for one in itertools.product(range(97, 123), repeat=3))[
        :60000
    ]
    hops = b"X-Forwarded-For: 192.0.2.1\r\n" * 100
    read = parse_request(
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: " + field_names + b"\r\n" + hops + b"\r\n"
    )
    assert spent(lambda: [rewrite.client_of(read, CONTEXT) for _ in range(20)]) < ALLOWED


def test_long_heads_that_are_not_whole():
    assert spent(lambda: [find_request(HEAD + b"X" * n, LIMITS) for n in range(200)]) < ALLOWED


def test_a_head_byte_by_byte():
    def feed():
        for size in range(101, len(HEAD)):
            assert waits(HEAD[:size], size - 1, LIMITS.head, LIMITS.start_line)

    assert spent(feed) < 4 * ALLOWED  # most of it is the copying


def test_trailers_byte_by_byte():
    lines = b"0\r\n" + b"a:\r\n" * 4000

    def feed():
        body = ChunkedBody(LIMITS.chunk_line, LIMITS.trailers)
        for at in range(len(lines)):
            assert body.feed(lines[at : at + 1]) == (b"", None)
        assert body.feed(b"\r\n") == (b"", b"")
        assert len(body.trailers) == 4000 * 5

    assert spent(feed) < ALLOWED
