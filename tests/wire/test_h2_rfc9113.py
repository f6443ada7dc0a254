"""RFC 9113, section by section: what binds a server, with the error code and its scope.

Each case sends bytes on a fresh connection and says what must come back: a GOAWAY, a RST_STREAM of
stream 1, or business as usual, which a PING and a whole request prove.
"""

import struct

import pytest

from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    frame,
)

from .h2raw import GET, H2Client, running

PROTOCOL, SIZE, CLOSED = Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.STREAM_CLOSED
FLOW, COMPRESSION = Code.FLOW_CONTROL_ERROR, Code.COMPRESSION_ERROR
FINE = None
POST = [(":method", "POST"), *GET[1:]]


@pytest.fixture(scope="module")
def proxy():
    with running() as one:
        yield one


def block(c: H2Client, *fields: tuple[str, str]) -> bytes:
    return c.encoder.encode([*(fields or [*GET, (":path", "/2")])])


def opened(c: H2Client, *more: tuple[str, str]) -> bytes:
    """Stream 1, half of it open: a POST whose body has not come yet."""
    return frames.headers(1, block(c, *POST, (":path", "/2"), *more), False)


def whole(c: H2Client) -> bytes:
    """Stream 1, a GET."""
    return frames.headers(1, block(c), True)


def done(c: H2Client) -> bytes:
    """Stream 1, over and closed on both sides."""
    c.send(whole(c))
    rest(c)
    return b""


def rest(c: H2Client) -> bytes:
    """What is left of the body: END_STREAM may come in an empty DATA frame of its own."""
    body = b""
    while True:
        _, flags, _, payload = c.until(DATA)
        body += payload
        if flags & END_STREAM:
            return body


def setting(name: int, value: int) -> bytes:
    return frames.settings({name: value})


def raw(length: int, kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return frames.HEADER.pack(length >> 8, length & 255, kind, flags, number) + payload


CONNECTION = [  # section, what, bytes, the code of the GOAWAY
    ("4.2", "DATA over the maximum", lambda c: opened(c) + frame(DATA, 0, 1, bytes(16385)), SIZE),
    ("4.2", "HEADERS over the maximum", lambda c: frame(HEADERS, 4, 1, bytes(16385)), SIZE),
    ("4.2", "SETTINGS over the maximum", lambda c: frame(SETTINGS, 0, 0, bytes(16386)), SIZE),
    ("4.3", "a block that is no HPACK", lambda c: frame(HEADERS, 5, 1, b"\xff\xff"), COMPRESSION),
    ("4.3", "another frame within a block",
     lambda c: frame(HEADERS, 1, 1, b"\x82") + frame(PRIORITY, 0, 1, bytes(5)), PROTOCOL),
    ("4.3", "HEADERS of another stream within a block",
     lambda c: frame(HEADERS, 1, 1, b"\x82") + frame(HEADERS, 5, 3, b"\x82"), PROTOCOL),
    ("5.1", "idle: DATA", lambda c: frames.data(1, b"x", True), PROTOCOL),
    ("5.1", "idle: RST_STREAM", lambda c: frames.rst_stream(1, Code.CANCEL), PROTOCOL),
    ("5.1", "idle: WINDOW_UPDATE", lambda c: frames.window_update(1, 1), PROTOCOL),
    ("5.1", "idle: CONTINUATION", lambda c: frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL),
    ("5.1", "closed: DATA", lambda c: done(c) + frames.data(1, b"x", True), CLOSED),
    ("5.1", "closed: HEADERS", lambda c: done(c) + whole(c), CLOSED),
    ("5.1", "closed: CONTINUATION", lambda c: done(c) + frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    ("5.1", "reset by the client: DATA",
     lambda c: opened(c) + frames.rst_stream(1, Code.CANCEL) + frames.data(1, b"x", True), CLOSED),
    ("5.1", "reset by the client: HEADERS",
     lambda c: opened(c) + frames.rst_stream(1, Code.CANCEL) + whole(c), CLOSED),
    ("5.1.1", "an even number", lambda c: frames.headers(2, block(c), True), PROTOCOL),
    ("5.1.1", "a number below the last", lambda c: frames.headers(5, block(c), True)
     + frames.headers(3, block(c), True), PROTOCOL),
    ("5.5", "an unknown frame within a block",
     lambda c: frame(HEADERS, 1, 1, b"\x82") + frame(0x16, 0, 0, b"x"), PROTOCOL),
    ("6.1", "DATA on stream 0", lambda c: frames.data(0, b"x", False), PROTOCOL),
    ("6.1", "DATA with too much padding",
     lambda c: opened(c) + frame(DATA, PADDED, 1, b"\x06abcde"), PROTOCOL),
    ("6.2", "HEADERS on stream 0", lambda c: frames.headers(0, block(c), True), PROTOCOL),
    ("6.2", "HEADERS with too much padding",
     lambda c: frame(HEADERS, PADDED | 5, 1, b"\x09\x82"), PROTOCOL),
    ("6.2", "HEADERS without the priority it announces",
     lambda c: frame(HEADERS, HAS_PRIORITY | 5, 1, b"abc"), SIZE),
    ("6.3", "PRIORITY on stream 0", lambda c: frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.4", "RST_STREAM on stream 0", lambda c: frames.rst_stream(0, Code.CANCEL), PROTOCOL),
    ("6.4", "RST_STREAM of three bytes",
     lambda c: opened(c) + frame(RST_STREAM, 0, 1, bytes(3)), SIZE),
    ("6.5", "SETTINGS ACK with a payload", lambda c: frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    ("6.5", "SETTINGS on a stream", lambda c: frame(SETTINGS, 0, 1, bytes(6)), PROTOCOL),
    ("6.5", "SETTINGS of five bytes", lambda c: frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    ("6.5.2", "ENABLE_PUSH of 2", lambda c: setting(2, 2), PROTOCOL),
    ("6.5.2", "INITIAL_WINDOW_SIZE over 2^31-1", lambda c: setting(4, 2**31), FLOW),
    ("6.5.2", "MAX_FRAME_SIZE too small", lambda c: setting(5, 16383), PROTOCOL),
    ("6.5.2", "MAX_FRAME_SIZE too large", lambda c: setting(5, 2**24), PROTOCOL),
    ("6.6, 8.4", "PUSH_PROMISE", lambda c: frame(PUSH_PROMISE, 4, 1, bytes(4)), PROTOCOL),
    ("6.7", "PING on a stream", lambda c: frame(PING, 0, 1, bytes(8)), PROTOCOL),
    ("6.7", "PING of six bytes", lambda c: frame(PING, 0, 0, bytes(6)), SIZE),
    ("6.8", "GOAWAY on a stream", lambda c: frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("6.8", "GOAWAY of four bytes", lambda c: frame(GOAWAY, 0, 0, bytes(4)), SIZE),
    ("6.9", "WINDOW_UPDATE of nothing", lambda c: frames.window_update(0, 0), PROTOCOL),
    ("6.9", "WINDOW_UPDATE of three bytes", lambda c: frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9.1", "a window over 2^31-1", lambda c: frames.window_update(0, 2**31 - 1) * 2, FLOW),
    ("6.9.2", "a window over 2^31-1 by SETTINGS", lambda c: opened(c)
     + frames.window_update(1, 2**31 - 1 - 65535) + setting(4, 65536), FLOW),
    ("6.10", "CONTINUATION behind END_HEADERS",
     lambda c: opened(c) + frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL),
    ("6.10", "CONTINUATION behind DATA",
     lambda c: opened(c) + frames.data(1, b"x", False) + frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    ("6.10", "CONTINUATION on stream 0",
     lambda c: frame(HEADERS, 1, 1, b"\x82") + frame(CONTINUATION, 4, 0, b""), PROTOCOL),
]  # fmt: skip

STREAM = [  # section, what, bytes, the code of the RST_STREAM
    ("5.1", "half-closed: DATA", lambda c: slow(c) + frames.data(1, b"x", True), CLOSED),
    ("5.1", "half-closed: HEADERS", lambda c: slow(c) + whole(c), CLOSED),
    ("5.3", "HEADERS that depends on itself", lambda c: frame(
        HEADERS, HAS_PRIORITY | 5, 1, b"\0\0\0\1\0" + block(c)), PROTOCOL),
    ("6.3", "PRIORITY that depends on itself",
     lambda c: frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), PROTOCOL),
    ("6.3", "PRIORITY of four bytes", lambda c: opened(c) + frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    ("6.9", "WINDOW_UPDATE of nothing", lambda c: opened(c) + frames.window_update(1, 0), PROTOCOL),
    ("6.9.1", "a window over 2^31-1",
     lambda c: opened(c) + frames.window_update(1, 2**31 - 1), FLOW),
    ("8.1", "trailers without END_STREAM",
     lambda c: opened(c) + frames.headers(1, block(c, ("x-sum", "1")), False), PROTOCOL),
    ("8.1", "trailers with a pseudo-field",
     lambda c: opened(c) + frames.headers(1, block(c, (":path", "/")), True), PROTOCOL),
    ("8.1.1", "more DATA than Content-Length",
     lambda c: opened(c, ("content-length", "1")) + frames.data(1, b"xy", True), PROTOCOL),
    ("8.1.1", "less DATA than Content-Length, in pieces",
     lambda c: opened(c, ("content-length", "9")) + frames.data(1, b"x", False)
     + frames.data(1, b"x", True), PROTOCOL),
    ("8.1.1", "a Content-Length and no DATA", lambda c: frames.headers(
        1, block(c, *POST, (":path", "/"), ("content-length", "1")), True), PROTOCOL),
]  # fmt: skip

MALFORMED = [  # section, the fields
    ("8.2.1", [*GET, (":path", "/"), ("X-Upper", "x")]),
    ("8.2.1", [*GET, (":path", "/"), ("x y", "x")]),
    ("8.2.1", [*GET, (":path", "/"), ("x", "a\r\nb: c")]),
    ("8.2.1", [*GET, (":path", "/"), ("x", "a\0")]),
    ("8.2.1", [*GET, (":path", "/"), ("x", " a")]),
    ("8.2.2", [*GET, (":path", "/"), ("connection", "keep-alive")]),
    ("8.2.2", [*GET, (":path", "/"), ("transfer-encoding", "chunked")]),
    ("8.2.2", [*GET, (":path", "/"), ("te", "trailers, gzip")]),
    ("8.3", [*GET, (":path", "/"), (":unknown", "x")]),
    ("8.3", [*GET, (":path", "/"), (":status", "200")]),
    ("8.3", [*GET, ("accept", "x"), (":path", "/")]),
    ("8.3.1", [*GET]),
    ("8.3.1", [*GET, (":path", "")]),
    ("8.3.1", [*GET[1:], (":path", "/")]),
    ("8.3.1", [GET[0], GET[2], (":path", "/")]),
    ("8.3.1", [*GET, (":path", "/"), (":path", "/")]),
    ("8.3.1", [*GET, GET[0], (":path", "/")]),
    ("8.3.1", [*GET, GET[1], (":path", "/")]),
    ("8.5", [(":method", "CONNECT"), *GET[1:], (":path", "/")]),
]

USUAL = [  # section, what, bytes: nothing may come of it
    ("4.1", "a frame of unknown type", lambda c: frame(0x16, 0xFF, 9, b"x")),
    ("4.1", "flags that mean nothing", lambda c: raw(8, PING, 0x16, 0, bytes(8))),
    ("4.1", "the reserved bit", lambda c: raw(8, PING, 0, 1 << 31, bytes(8))),
    ("5.1", "closed: WINDOW_UPDATE", lambda c: done(c) + frames.window_update(1, 1)),
    ("5.1", "closed: RST_STREAM", lambda c: done(c) + frames.rst_stream(1, Code.CANCEL)),
    ("5.1", "closed: PRIORITY", lambda c: done(c) + frame(PRIORITY, 0, 1, bytes(5))),
    ("5.1", "idle: PRIORITY", lambda c: frame(PRIORITY, 0, 7, bytes(5))),
    ("6.5.2", "an unknown setting", lambda c: setting(0x7777, 1)),
    ("6.5.3", "the same setting twice", lambda c: frame(
        SETTINGS, 0, 0, struct.pack(">HLHL", 4, 1, 4, 65535))),
    ("6.7", "an answer to a PING we never sent", lambda c: frame(PING, ACK, 0, bytes(8))),
    ("7", "RST_STREAM with an unknown code",
     lambda c: opened(c) + frame(RST_STREAM, 0, 1, b"\xff\0\0\0")),
]  # fmt: skip


def slow(c: H2Client) -> bytes:
    """Stream 1, half-closed by the client, its response held back by the window."""
    c.send(setting(4, 0) + frames.headers(1, block(c, *GET, (":path", "/9000")), True))
    c.until(HEADERS)
    return b""


def ids(rows):
    return [f"{row[0]} {row[1]}" for row in rows]


@pytest.mark.parametrize(("section", "what", "make", "code"), CONNECTION, ids=ids(CONNECTION))
def test_connection_errors(proxy, section, what, make, code):  # 5.4.1
    with H2Client(proxy.https) as c:
        c.send(make(c))
        assert c.goaway() is code
        with pytest.raises(EOFError):
            c.until(-1)


@pytest.mark.parametrize(("section", "what", "make", "code"), STREAM, ids=ids(STREAM))
def test_stream_errors(proxy, section, what, make, code):  # 5.4.2
    with H2Client(proxy.https) as c:
        c.send(make(c))
        kind, _, number, payload = c.until(RST_STREAM, GOAWAY)
        assert (kind, number, int.from_bytes(payload, "big")) == (RST_STREAM, 1, code)
        c.send(setting(4, 65535))
        c.next_id = 3
        assert c.get("/5") == (200, bytes(5))


@pytest.mark.parametrize(("section", "fields"), MALFORMED)
def test_malformed_requests(proxy, section, fields):
    with H2Client(proxy.https) as c:
        c.send(frames.headers(1, block(c, *fields), True))
        kind, _, number, payload = c.until(RST_STREAM, GOAWAY, HEADERS)
        assert (kind, number, int.from_bytes(payload, "big")) == (RST_STREAM, 1, PROTOCOL)
        c.next_id = 3
        assert c.get("/5") == (200, bytes(5))


@pytest.mark.parametrize(("section", "what", "make"), USUAL, ids=ids(USUAL))
def test_nothing_comes_of_it(proxy, section, what, make):
    with H2Client(proxy.https) as c:
        c.send(make(c) + frame(PING, 0, 0, b"12345678"))
        while c.until(PING, GOAWAY, RST_STREAM)[3] != b"12345678":
            pass
        c.next_id = 9
        assert c.get("/5") == (200, bytes(5))


@pytest.mark.parametrize(
    "preface", [b"GET / HTTP/1.1\r\n\r\n", frames.PREFACE[:20] + b"XXXX", b"PRI * HTTP/2.1\r\n"]
)
def test_3_4_a_wrong_preface(proxy, preface):
    with H2Client(proxy.https, preface=preface) as c:
        assert c.goaway() is PROTOCOL


def test_3_4_settings_come_first(proxy):
    with H2Client(proxy.https, preface=frames.PREFACE + frame(PING, 0, 0, bytes(8))) as c:
        assert c.frame()[:3] == (SETTINGS, 0, 0)
        assert c.goaway() is PROTOCOL


def test_3_4_a_preface_in_single_bytes(proxy):
    with H2Client(proxy.https, preface=b"P") as c:
        for byte in frames.PREFACE[1:] + frames.settings({}) + whole(c):
            c.send(bytes((byte,)))
        assert c.until(HEADERS)[2] == 1


def test_5_2_a_window_of_one_byte(proxy):  # and 6.9.2
    with H2Client(proxy.https, {4: 1}) as c:
        c.send(whole(c))
        assert c.until(DATA)[3] == b"\0"
        c.send(frames.window_update(1, 1))
        assert rest(c) == b"\0"


def test_6_9_2_a_negative_window(proxy):
    with H2Client(proxy.https, {4: 3}) as c:
        c.send(frames.headers(1, block(c, *GET, (":path", "/9")), True))
        assert len(c.until(DATA)[3]) == 3
        c.send(setting(4, 1))  # now 2 below zero
        c.send(frames.window_update(1, 2) + frame(PING, 0, 0, bytes(8)))
        assert c.until(PING, DATA)[0] == PING
        c.send(frames.window_update(1, 6))
        assert len(c.until(DATA)[3]) == 6


def test_6_5_3_settings_are_acknowledged(proxy):
    with H2Client(proxy.https) as c:
        assert c.frame()[:2] == (SETTINGS, 0)
        assert c.until(SETTINGS)[1:] == (ACK, 0, b"")


def test_6_7_a_ping_comes_back(proxy):
    with H2Client(proxy.https) as c:
        c.send(frame(PING, 0, 0, b"12345678"))
        assert c.until(PING)[1:] == (ACK, 0, b"12345678")


def test_6_8_a_client_that_goes_gets_its_answers(proxy):
    with H2Client(proxy.https) as c:
        c.send(whole(c) + frames.goaway(0, Code.NO_ERROR))
        assert rest(c) == bytes(2)
        assert c.goaway() is Code.NO_ERROR


def test_8_2_a_table_made_smaller_is_confirmed(proxy):  # RFC 7541 4.2
    with H2Client(proxy.https, {1: 0}) as c:
        c.send(whole(c))
        assert c.until(HEADERS)[3][:1] == b"\x20"


def test_8_3_1_what_can_be_answered_is_answered(proxy):
    cases = [
        ([*GET[:2], (":authority", "a@localhost"), (":path", "/")], "400"),
        ([*GET, (":path", "/"), ("host", "other")], "400"),
        ([*GET, (":path", "x")], "400"),
        ([*GET, (":path", "/" + "a" * 17_000)], "414"),
        ([*GET, (":path", "/"), *[(f"x-{n}", "y") for n in range(130)]], "431"),
        ([(":method", "CONNECT"), (":authority", "h:1")], "501"),
    ]
    with H2Client(proxy.https) as c:
        for number, (fields, status) in enumerate(cases):
            c.send(frames.headers(2 * number + 1, block(c, *fields), True))
            assert dict(c.decoder.decode(c.until(HEADERS)[3]))[":status"] == status


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_6_10_long_blocks_both_ways(proxy, size):
    with H2Client(proxy.https) as c:
        many = [(f"x-{n}", "v" * 2000) for n in range(size // 2000)]
        c.send(frames.headers(1, block(c, *GET, (":path", "/7"), *many), True))
        assert c.until(HEADERS, GOAWAY)[0] == HEADERS
        assert len(c.until(DATA)[3]) == 7
