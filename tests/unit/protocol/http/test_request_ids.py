"""Request ids and trace context."""

import os

import pytest

from rawproxy.protocol.http import request_ids
from rawproxy.protocol.http.request_ids import Ids, peers_id, with_id, with_trace

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n"
PARENT = b"00-%b-%b-01" % (b"a" * 32, b"b" * 16)


def test_ids_are_asked_for_in_batches_and_never_twice():
    asked = []

    def random(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    ids = Ids(random)
    some = [ids.next() for _ in range(3 * request_ids.BATCH)]
    assert len(set(some)) == len(some)
    assert asked == [request_ids.SIZE * request_ids.BATCH] * 3
    assert all(len(one) == 32 and peers_id(one) for one in some)


def test_which_ids_of_peers_are_believed():
    for good in b"f47ac10b-58cc-4372-a567-0e02b2c3d479", b"Root=1-67891233-abcdef", b"x" * 128:
        assert peers_id(good) == good
    for bad in b"", b"a b", b'"', b"\\", b"<b>", b"\xff", b"x" * 129:
        assert peers_id(bad) == b""


def test_an_id_replaces_the_clients():
    assert with_id(HEAD + b"\r\n", b"1") == HEAD + b"X-Request-ID: 1\r\n\r\n"
    forged = HEAD + b"X-REQUEST-id: forged\r\nA: b\r\nx-request-id: 2\r\n\r\n"
    assert with_id(forged, b"1") == HEAD + b"A: b\r\nX-Request-ID: 1\r\n\r\n"


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent"])
@pytest.mark.parametrize("value", [PARENT, b"01-" + PARENT[3:] + b"-more"])
def test_a_trace_that_has_begun_goes_on(name, value):
    opening = HEAD + b"%b: %b\r\ntracestate: a=1\r\n\r\n" % (name, value)
    assert with_trace(opening, Ids(os.urandom)) == opening


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"traceparent: \r\ntracestate: a=1\r\n",
        b"traceparent: ff%b\r\n" % PARENT[2:],
        b"traceparent: 00-%b-%b-01\r\n" % (b"0" * 32, b"b" * 16),
        b"traceparent: 00-%b-%b-01\r\n" % (b"a" * 32, b"0" * 16),
        b"traceparent: %b\r\n" % PARENT.upper(),
    ],
)
def test_else_one_begins(lines):
    opening = with_trace(HEAD + lines + b"\r\n", Ids(lambda size: b"\x12" * size))
    assert opening == (HEAD + b"traceparent: 00-%b-%b-01\r\n\r\n" % (b"12" * 16, b"12" * 8))
