"""No input costs more than in proportion to its size.

Bounds are processor time, a hundred times what the work takes: they tell linear from quadratic, on
any machine, however busy.
"""

import itertools
import time

from rawproxy import rewrite
from rawproxy.body import ChunkedBody
from rawproxy.bounds import find_request, waits
from rawproxy.config import Limits
from rawproxy.lanes import parse_request

LIMITS = Limits()
ALLOWED = 0.5  # seconds
LINES = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 480) for n in range(120))
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n" + LINES


def spent(work) -> float:
    """Processor time of `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


def test_a_connection_field_that_names_thousands():
    names = b",".join(bytes(one) for one in itertools.product(range(97, 123), repeat=3))[:32000]
    head = parse_request(
        HEAD[:30000].rpartition(b"\r\n")[0] + b"\r\nConnection: " + names + b"\r\n\r\n"
    )
    hop = rewrite.hop(b"192.0.2.1", b"https", False, False, None)
    assert spent(lambda: rewrite.request(head, hop, b"up")) < ALLOWED


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
