"""What one client sends costs others next to nothing: by the processor time of the proxy."""

import contextlib
import socket
import threading

import pytest

from rawproxy.protocol.http2 import frames
from tests.process import PATIENCE

from .h2raw import H2Client, running

ALLOWED = 0.5  # seconds of processor time for what once took several, on either build
BLANKS = "text/html;" + " " * 24_000 + "x"


@pytest.fixture(scope="module")
def proxy():
    with running("--limit", "head=128k", "--limit", "body=9") as one, H2Client(one.https) as client:
        assert client.get()[0] == 200
        yield one


def said(port: int, *parts: bytes) -> tuple[bytes, int]:
    """What comes back for `parts`, which are sent while it is read: its beginning and its size."""
    with socket.create_connection(("127.0.0.1", port), 15) as sock:
        sock.settimeout(PATIENCE)

        def send() -> None:
            with contextlib.suppress(OSError):
                for part in parts:
                    sock.sendall(part)
                sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        data, size = b"", 0
        with contextlib.suppress(ConnectionResetError):
            while more := sock.recv(65536):
                data, size = data or more, size + len(more)
        sender.join()
    return data, size


@contextlib.contextmanager
def cheap(proxy, allowed: float = ALLOWED):
    before = proxy.cpu()
    yield
    used = proxy.cpu() - before
    print(f"{used:.2f} s of CPU")
    assert used < allowed


def test_lines_that_all_but_begin_a_head(proxy):
    """To look for a request at each of them took seconds."""
    lines = b"A: AAAA / HTTP/1.1\r\n" * 6000
    with cheap(proxy):
        data, _ = said(proxy.http, lines + b"X\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 4")
        data, _ = said(proxy.http, b"GET /\xff HTTP/1.1\r\n" + lines)
        assert data == b"" or data.startswith(b"HTTP/1.1 4")


def test_requests_that_the_fast_lane_declines_pipelined(proxy):
    """At the redirect port, which answers each by itself: one look at all that follow, for each."""
    one = b"GET / HTTP/1.1\r\nHost: h\r\nX: a \r\n\r\n"
    count = 4000
    with cheap(proxy, 2.0):  # h11 reads them, each in a tenth of a millisecond
        data, size = said(proxy.http, one * count)
        assert data.startswith(b"HTTP/1.1 301 ") and size > count * 200


def test_accept_of_blanks(proxy):
    accept = BLANKS.encode()
    with cheap(proxy):
        # Without a Host there is nowhere to redirect to.
        raw = b"GET / HTTP/1.0\r\nAccept: %b\r\n\r\n" % accept
        for _ in range(10):
            assert said(proxy.http, raw)[0].startswith(b"HTTP/1.1 400 ")


def test_accept_of_blanks_in_the_table_of_http2(proxy):
    """A hundred requests of some 14 bytes, each of which refers to the field."""
    with H2Client(proxy.https) as client:
        accept = BLANKS[:10] + " " * 3000 + "x"  # a table has 4096 bytes
        with cheap(proxy, 1.0):
            for _ in range(100):
                more = (("content-length", "99"), ("accept", accept))
                client.send(client.headers("/", *more, ended=False))
            for _ in range(100):
                assert client.until(frames.HEADERS)[3][:5] == b"\x08\x03413"
