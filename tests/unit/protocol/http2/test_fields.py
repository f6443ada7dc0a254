"""Fields of HTTP/2: RFC 9113 8, and nothing gets into a block that HTTP/1 would not let in."""

import hypothesis
import pytest
from hypothesis import strategies as st

from rawproxy.config.model import Limits
from rawproxy.errors import ClientError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import CHUNKED
from rawproxy.protocol.http1.parser import reference_request
from rawproxy.protocol.http2 import fields
from rawproxy.protocol.http2.fields import COOKIE, HOST, MALFORMED, PSEUDO, REGULAR, field
from rawproxy.protocol.http2.frames import StreamFault

LIMITS = Limits(start_line=100)
GET = {b":method": b"GET", b":scheme": b"https", b":path": b"/", b":authority": b"h"}


def request(*more: tuple[bytes, bytes], ended: bool = True, **pseudo: bytes | None):
    given = GET | {b":" + name.encode(): value for name, value in pseudo.items()}
    pairs = [(n, v) for n, v in given.items() if v is not None] + list(more)
    return fields.request([field(*one) for one in pairs], ended, LIMITS)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        (b"accept", b"*/*", REGULAR),
        (b"x-empty", b"", REGULAR),
        (b"x-high", b"\xe4 \t\xff", REGULAR),
        (b"te", b"trailers", REGULAR),
        (b":path", b"/", PSEUDO),
        (b":authority", b"", PSEUDO),
        (b"cookie", b"a=b", COOKIE),
        (b"host", b"h", HOST),
        (b"Accept", b"x", MALFORMED),
        (b"", b"x", MALFORMED),
        (b"a b", b"x", MALFORMED),
        (b"a: b", b"x", MALFORMED),
        (b"a\r\nb", b"x", MALFORMED),
        (b"a", b"x\r\nb: y", MALFORMED),
        (b"a", b"x\0", MALFORMED),
        (b"a", b"x\n", MALFORMED),
        (b"a", b" x", MALFORMED),
        (b"a", b"x\t", MALFORMED),
        (b"te", b"gzip", MALFORMED),
        (b":status", b"200", MALFORMED),
        (b":path", b"/\r\nx", MALFORMED),
        (b"connection", b"close", MALFORMED),
        (b"proxy-connection", b"x", MALFORMED),
        (b"keep-alive", b"x", MALFORMED),
        (b"transfer-encoding", b"chunked", MALFORMED),
        (b"upgrade", b"websocket", MALFORMED),
    ],
)
def test_kinds(name, value, kind):
    assert field(name, value)[0] == kind


@hypothesis.given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_line_is_one_line(name, value):
    kind, _, _, line = field(name, value)
    if kind in (REGULAR, COOKIE, HOST):
        assert line == name + b": " + value + b"\r\n"
        assert line.count(b"\n") == line.count(b"\r") == 1
        assert b":" not in name


def test_a_plain_request():
    head = request((b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2"))
    assert (head.method, head.target, head.minor, head.framing) == (b"GET", b"/", 2, 0)
    assert head.block == b"Host: h\r\naccept: */*\r\ncookie: a=1; b=2\r\n"
    assert head.host == b"h"
    context = rewrite.context(b"::1", b"https", False, False, None)._replace(via=True)
    assert b"\r\nVia: 2.0 rawproxy\r\n" in rewrite.request(head, context, b"")


NAMES = st.from_regex(rb"[a-z][a-z0-9-]{0,8}", fullmatch=True)
VALUES = st.from_regex(rb"[!-~\x80-\xff]([ -~\x80-\xff]{0,9}[!-~\x80-\xff])?", fullmatch=True)


@hypothesis.given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_http_1_reads_the_same_request(pairs):
    """What is made of an accepted list is what the same lines of HTTP/1 would have come to."""
    try:
        head = request(*pairs)
    except (ClientError, StreamFault):
        return
    raw = b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, head.target, head.block)
    again = reference_request(raw)
    assert again._replace(minor=2, size=0) == head


def test_bodies():
    assert request(ended=False).framing == CHUNKED
    assert request((b"content-length", b"5"), ended=False).framing == 5
    assert request((b"content-length", b"0"), ended=False).framing == 0
    assert request((b"content-length", b"0")).framing == 0
    assert request((b"expect", b"100-continue"), ended=False).expect


@pytest.mark.parametrize(
    ("pseudo", "more"),
    [
        ({"method": None}, ()),
        ({"method": b"G T"}, ()),
        ({"scheme": None}, ()),
        ({"path": None}, ()),
        ({"path": b""}, ()),
        ({"status": b"200"}, ()),
        ({"protocol": b"websocket"}, ()),
        ({}, ((b":path", b"/again"),)),
        ({"path": None}, ((b"accept", b"x"), (b":path", b"/"))),
        ({"path": None}, ((b"cookie", b"x"), (b":path", b"/"))),
        ({"path": None}, ((b"host", b"h"), (b":path", b"/"))),
        ({}, ((b"connection", b"close"),)),
        ({}, ((b"content-length", b"5"),)),
        ({}, ((b"content-length", b"x"),)),
        ({}, ((b"content-length", b"0"), (b"content-length", b"1"))),
        ({"method": b"CONNECT"}, ()),
        ({"method": b"CONNECT", "path": None}, ()),
        ({"method": b"CONNECT", "path": None, "scheme": None, "authority": None}, ()),
    ],
)
def test_malformed(pseudo, more):
    with pytest.raises(StreamFault):
        request(*more, **pseudo)


@pytest.mark.parametrize(
    ("pseudo", "more", "status"),
    [
        ({"authority": None}, (), 400),
        ({"authority": b""}, (), 400),
        ({"authority": b"user@h"}, (), 400),
        ({}, ((b"host", b"other"),), 400),
        ({"authority": None}, ((b"host", b"a"), (b"host", b"b")), 400),
        ({"scheme": b"ftp"}, (), 400),
        ({"path": b"x"}, (), 400),
        ({"path": b"*"}, (), 400),
        ({"path": b"/a b"}, (), 400),
        ({"path": b"/a#b"}, (), 400),
        ({"path": b"/" + b"a" * 100}, (), 414),
        ({"method": b"CONNECT", "path": None, "scheme": None}, (), 501),
        ({"method": b"CONNECT", "protocol": b"connect-udp"}, (), 501),
        ({"method": b"CONNECT", "protocol": b"websocket"}, (), 501),  # it has ended already
        ({}, ((b"expect", b"wonders"),), 417),
    ],
)
def test_refused(pseudo, more, status):
    with pytest.raises(ClientError) as caught:
        request(*more, **pseudo)
    assert caught.value.status == status


def test_allowed_oddities():
    assert request(path=b"*", method=b"OPTIONS").target == b"*"
    assert request((b"host", b"H")).host == b"h"
    assert request((b"host", b"x"), authority=None).host == b"x"


def test_a_websocket():
    ask = {"method": b"CONNECT", "protocol": b"websocket", "path": b"/ws"}
    mine = ((b"sec-websocket-key", b"theirs"), (b"sec-websocket-version", b"13"))
    head = request(*mine, ended=False, **ask)
    assert (head.method, head.upgrade, head.framing) == (b"GET", b"websocket", 0)
    assert len(head.value(b"sec-websocket-key")) == 24
    assert head.value(b"sec-websocket-version") == b"13"
    for length in (b"0", b"5"):  # of a body that the upstream would wait for
        with pytest.raises(StreamFault):
            request(*mine, (b"content-length", length), ended=False, **ask)


def test_trailers():
    given = [field(b"x-sum", b"1"), field(b"content-length", b"1"), field(b"host", b"h")]
    assert fields.trailers(given) == b"x-sum: 1\r\n"
    for wrong in (field(b":path", b"/"), field(b"Bad", b"x")):
        with pytest.raises(StreamFault):
            fields.trailers([wrong])
