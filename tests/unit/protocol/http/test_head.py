"""Heads: the rules of the protocol, over both lanes. Rule numbers are those of the threat table."""

import pytest

from rawproxy.config.model import Limits
from rawproxy.errors import ClientError, ProxyError, UpstreamError
from rawproxy.protocol.http.head import CHUNKED, CONNECTION, UNTIL_CLOSE, response_framing
from rawproxy.protocol.http1 import parser
from rawproxy.protocol.http1.head_limits import find_request, find_response, waits

LIMITS = Limits()
LANES = [
    parser.parse_request,
    parser.request_parser("auto", LIMITS),
    parser.request_parser("h11", LIMITS),
]
RESPONSE_LANES = [
    parser.parse_response,
    parser.response_parser("auto", LIMITS),
    parser.response_parser("h11", LIMITS),
]


def req(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: h") -> bytes:
    fields = ([host] if host is not None else []) + list(lines)
    return b"\r\n".join([start, *fields]) + b"\r\n\r\n"


def res(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *lines]) + b"\r\n\r\n"


REFUSED = [
    # rule, raw head, status
    ("1", req(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    ("2", req(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"), 400),
    ("3 xchunked", req(b"Transfer-Encoding: xchunked"), 501),
    ("3 identity", req(b"Transfer-Encoding: identity"), 501),
    ("3 comma", req(b"Transfer-Encoding: chunked,"), 501),
    ("3 list", req(b"Transfer-Encoding: gzip, chunked"), 501),
    ("3 doubled", req(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 501),
    ("3 control", req(b"Transfer-Encoding: \x0bchunked"), 400),
    ("4 plus", req(b"Content-Length: +5"), 400),
    ("4 minus", req(b"Content-Length: -5"), 400),
    ("4 hex", req(b"Content-Length: 0x5"), 400),
    ("4 underscore", req(b"Content-Length: 5_0"), 400),
    ("4 empty", req(b"Content-Length: "), 400),
    ("4 blank", req(b"Content-Length: 5 5"), 400),
    ("4 list", req(b"Content-Length: 5, 6"), 400),
    ("4 twice", req(b"Content-Length: 5", b"Content-Length: 6"), 400),
    ("4 long", req(b"Content-Length: " + b"9" * 19), 400),
    ("8 bare LF", b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    ("8 bare LF in fields", b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
    ("9 NUL", req(b"X: a\x00b"), 400),
    ("9 bare CR", req(b"X: a\rb"), 400),
    ("9 control", req(b"X: a\x01b"), 400),
    ("9 DEL", req(b"X: a\x7fb"), 400),
    ("10 space before colon", req(b"X : a"), 400),
    ("10 leading space", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    ("11 obs-fold", req(b"X: a", b" b"), 400),
    ("12 missing", req(host=None), 400),
    ("12 repeated", req(b"Host: h"), 400),
    ("12 empty", req(host=b"Host: "), 400),
    ("12 path", req(host=b"Host: h/x"), 400),
    ("12 userinfo", req(host=b"Host: u@h"), 400),
    ("12 port", req(host=b"Host: h:8o"), 400),
    ("12 list", req(host=b"Host: a, b"), 400),
    ("12 open bracket", req(host=b"Host: [::1"), 400),
    ("13 userinfo", req(start=b"GET http://u@h/ HTTP/1.1"), 400),
    ("13 no host", req(start=b"GET http:/// HTTP/1.1"), 400),
    ("13 scheme", req(start=b"GET ftp://h/ HTTP/1.1"), 400),
    ("14 no slash", req(start=b"GET index HTTP/1.1"), 400),
    ("14 asterisk", req(start=b"GET * HTTP/1.1"), 400),
    ("14 fragment", req(start=b"GET /a#b HTTP/1.1"), 400),
    ("14 non-ASCII", req(start=b"GET /\xe4 HTTP/1.1"), 400),
    ("15 CONNECT", req(start=b"CONNECT h:443 HTTP/1.1"), 501),
    ("16 preface", b"PRI * HTTP/2.0\r\n\r\n", 505),
    ("16 0.9", req(start=b"GET / HTTP/0.9"), 505),
    ("16 1.2", req(start=b"GET / HTTP/1.2"), 505),
    ("16 2", req(start=b"GET / HTTP/2"), 505),
    ("16 one digit", req(start=b"GET / HTTP/1"), 400),
    ("16 two and two digits", req(start=b"GET / HTTP/01.01"), 400),
    ("16 three digits", req(start=b"GET / HTTP/1.10"), 400),
    ("47 port 0", req(host=b"Host: h:0"), 400),
    ("47 port 65536", req(host=b"Host: h:65536"), 400),
    ("47 port 99999", req(host=b"Host: h:99999"), 400),
    ("47 port 99999, IPv6", req(host=b"Host: [::1]:99999"), 400),
    ("47 port of the absolute form", req(start=b"GET http://h:99999/ HTTP/1.1"), 400),
    ("1 with a coding nobody knows", req(b"Content-Length: 5", b"Transfer-Encoding: x"), 400),
    ("1 with no coding", req(b"Transfer-Encoding: ", b"Content-Length: 5"), 400),
    ("1 with codings", req(b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked"), 400),
    ("1 twice", req(b"Transfer-Encoding: a", b"Transfer-Encoding: b", b"Content-Length: 5"), 400),
    ("3 chunked is not last", req(b"Transfer-Encoding: chunked, gzip"), 400),
    (
        "3 chunked is not last, in two",
        req(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"),
        400,
    ),
    ("16 no version", req(start=b"GET /"), 400),
    ("method", req(start=b"G(T / HTTP/1.1"), 400),
    ("two blanks", req(start=b"GET  / HTTP/1.1"), 400),
    ("no colon", req(b"nonsense"), 400),
    ("expect", req(b"Expect: 200-maybe"), 417),
    ("expect twice", req(b"Expect: 100-continue", b"Expect: 100-continue"), 400),
]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(("rule", "raw", "status"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(rule, raw, status, lane):
    with pytest.raises(ClientError) as caught:
        lane(raw)
    assert caught.value.status == status


@pytest.mark.parametrize("sign", [bytes((sign,)) for sign in (*range(32), 127) if sign != 9])
@pytest.mark.parametrize("name", [b"X", b"Date", b"Cookie", b"User-Agent", b"Authorization"])
@pytest.mark.parametrize("value", [b"a%bb", b"%bb", b"a%b", b"%b"])
def test_no_lane_takes_a_control_character(name, sign, value):
    """Also the one for which the fast lane has to look behind its match."""
    line = name + b": " + value % sign
    for lane in (*LANES, parser.request_parser("auto", LIMITS, logged=True)):
        with pytest.raises(ClientError):
            lane(req(line))
    for lane in RESPONSE_LANES:
        with pytest.raises(UpstreamError):
            lane(res(b"Content-Length: 0", line))


def test_h11_refuses_what_it_alone_can_see():
    # A blank line where h11 wants a request line; our own look at the line lets it by.
    with pytest.raises(ClientError):
        parser.reference_request(b"GET /\x80 HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("lane", LANES)
def test_a_browser_request(lane):
    raw = req(b"User-Agent: x y", b"Connection: keep-alive", b"Empty: ", host=b"Host: a.b:8443")
    head = lane(raw)
    assert (head.method, head.target, head.minor, head.host) == (b"GET", b"/", 1, b"a.b:8443")
    assert head.framing == 0
    assert not head.close
    assert not head.expect
    assert head.nominated == ()
    block = b"Host: a.b:8443\r\nUser-Agent: x y\r\nConnection: keep-alive\r\nEmpty: \r\n"
    assert head.block == block
    assert head.value(b"user-agent") == b"x y"
    assert head.value(b"user") == b""


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("line", "framing"),
    [
        (b"Content-Length: 5", 5),
        (b"Content-Length:5", 5),
        (b"Content-Length: 5, 5", 5),
        (b"Transfer-Encoding: chunked", CHUNKED),
        (b"Transfer-Encoding: Chunked", CHUNKED),
        (b"Transfer-Encoding:\tchunked ", CHUNKED),
    ],
)
def test_framing(lane, line, framing):
    assert lane(req(line)).framing == framing


@pytest.mark.parametrize("lane", LANES)
def test_equal_lengths_collapse(lane):
    head = lane(req(b"Content-Length: 5", b"content-length: 5"))
    assert head.framing == 5
    assert head.block == b"Host: h\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("start", "line", "close", "nominated"),
    [
        (b"GET / HTTP/1.1", b"Connection: close", True, ()),
        (b"GET / HTTP/1.1", b"Connection: Keep-Alive, X-Secret,, cookie", False, (b"cookie", b"x-secret")),
        (b"GET / HTTP/1.1", b"Connection: host, content-length", False, ()),
        (b"GET / HTTP/1.0", b"X: y", True, ()),
        (b"GET / HTTP/1.0", b"Connection: keep-alive", False, ()),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive", False, ()),
    ],
)  # fmt: skip
def test_connection(lane, start, line, close, nominated):
    head = lane(req(line, start=start))
    assert head.close is close
    assert head.nominated == nominated


@pytest.mark.parametrize("lane", LANES)
def test_connection_fields_add_up(lane):
    assert lane(req(b"Connection: keep-alive", b"Connection: close")).close


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("raw", "token"),
    [
        (req(b"Connection: Upgrade", b"Upgrade: websocket"), b"websocket"),
        (req(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"), b"websocket"),
        (req(b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket"), b"websocket"),
        (req(b"Connection: Upgrade", b"Upgrade: h2c"), b""),
        (req(b"Upgrade: websocket"), b""),
        (req(b"Connection: close", b"Upgrade: websocket"), b""),
        (req(b"Connection: Upgrade"), b""),
        (req(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3"), b""),
        (req(b"Connection: Upgrade", b"Upgrade: websocket", start=b"POST / HTTP/1.1"), b""),
        (req(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0"), b""),
    ],
)
def test_rule_33_upgrade(lane, raw, token):
    assert lane(raw).upgrade == token


@pytest.mark.parametrize("lane", LANES)
def test_expect(lane):
    assert lane(req(b"Expect: 100-Continue")).expect
    assert not lane(req(b"Expect: 100-continue", start=b"POST / HTTP/1.0")).expect


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("start", "target", "host"),
    [
        (b"GET http://other:81/a?b HTTP/1.1", b"/a?b", b"other:81"),
        (b"GET HTTPS://other HTTP/1.1", b"/", b"other"),
        (b"GET http://other?q HTTP/1.1", b"/?q", b"other"),
        (b"GET http://[::1]:81/ HTTP/1.1", b"/", b"[::1]:81"),
        (b"OPTIONS http://other HTTP/1.1", b"*", b"other"),
        (b"OPTIONS * HTTP/1.1", b"*", b"h"),
        (b"X-ODD /a%2fb/../c//d;e|f HTTP/1.1", b"/a%2fb/../c//d;e|f", b"h"),
    ],
)
def test_rule_13_and_23_targets(lane, start, target, host):
    head = lane(req(b"X: y", start=start))
    assert (head.target, head.host) == (target, host)
    assert head.value(b"host") == host
    assert head.value(b"x") == b"y"


@pytest.mark.parametrize("lane", LANES)
def test_http_1_0_without_host(lane):
    assert lane(req(start=b"GET / HTTP/1.0", host=None)).host == b""
    assert lane(req(start=b"GET http://a/ HTTP/1.0", host=None)).host == b"a"


# ── where a head ends, and its limits ───────────────────────────────────────────────────────────


def test_find_request():
    raw = req(b"X: y")
    assert find_request(raw, LIMITS) == len(raw)
    assert find_request(raw + b"more", LIMITS) == len(raw)
    for cut in range(len(raw)):
        assert find_request(raw[:cut], LIMITS) == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /" + b"a" * LIMITS.start_line, 414),
        (b"GET /" + b"a" * LIMITS.start_line + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (req(b"X: " + b"a" * LIMITS.head), 431),
        (req(b"X: " + b"a" * LIMITS.head)[:-2], 431),
        (req(*[b"X: y"] * (LIMITS.fields + 1)), 431),
    ],
)
def test_rule_18_limits_of_a_request(data, status):
    with pytest.raises(ClientError) as caught:
        find_request(data, LIMITS)
    assert caught.value.status == status


def test_as_many_fields_as_allowed():
    raw = req(*[b"X: y"] * (LIMITS.fields - 1))
    assert find_request(raw, LIMITS) == len(raw)
    big = req(b"X: " + b"a" * (LIMITS.start_line + 1))
    assert find_request(big, LIMITS) == len(big)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: y\rz\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: \0y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\n\r\n",
        b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100 + b"\r\n\r\n",
        b"\r",
    ],
)
def test_a_head_that_waits_is_neither_whole_nor_wrong(raw):
    """Whatever was seen before, what is new is judged as the whole would be."""
    limits = Limits(start_line=50, head=100)

    def waiting(data: bytes) -> bool:
        try:
            return find_request(data, limits) == 0
        except ClientError:
            return False

    for seen in range(1, len(raw)):
        for size in range(seen + 1, len(raw) + 1):
            if waiting(raw[:seen]):
                data = raw[:size]
                assert waits(data, seen, limits.head, limits.start_line) is waiting(data)


def test_find_response():
    raw = res(b"X: y")
    assert find_response(raw + b"more", LIMITS) == len(raw)
    for cut in range(len(raw)):
        assert find_response(raw[:cut], LIMITS) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * LIMITS.response_head,
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * LIMITS.response_head + b"\r\n\r\n",
    ],
)
def test_find_response_refuses(data):
    with pytest.raises(UpstreamError):
        find_response(data, LIMITS)


def test_rule_32_large_response_heads_pass():
    raw = res(b"X: " + b"a" * 65536)
    assert find_response(raw, LIMITS) == len(raw)
    assert parser.parse_response(raw).status == 200


# ── responses ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("port", [b"1", b"80", b"080", b"59999", b"60000", b"65535", b""])
def test_rule_47_ports(lane, port):
    assert lane(req(host=b"Host: h:" + port)).host == b"h:" + port
    assert lane(req(start=b"GET http://h:%b/ HTTP/1.1" % port)).host == b"h:" + port


@pytest.mark.parametrize("lane", RESPONSE_LANES)
@pytest.mark.parametrize(
    "status", [b"100 C", b"103 Early Hints", b"101 S", b"204 No Content", b"304 N", b"304"]
)
@pytest.mark.parametrize(
    ("lines", "close"),
    [
        ([b"Transfer-Encoding: chunked"], True),
        ([b"Transfer-Encoding: gzip, chunked"], True),
        ([b"Transfer-Encoding: identity"], True),
        ([b"Transfer-Encoding:"], True),
        ([b"Content-Length: 5"], True),
        ([b"content-length: nonsense"], True),
        ([b"Content-Length:"], True),
        ([b"Content-Length: 5", b"Content-Length: 6"], True),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], True),
        ([b"Transfer-Encoding: a", b"Transfer-Encoding: b"], True),
        ([b"Connection: close", b"Content-Length: 0"], True),
        ([b"Content-Length: 0"], False),  # no body either way, and many say it of a 204
        ([b"Content-Length: 00", b"Content-Length: 0"], False),
        ([b"Content-Length-X: 5"], False),
        ([], False),
    ],
)  # fmt: skip
def test_rule_42_what_has_no_body_ends_with_its_head(lane, status, lines, close):
    head = lane(res(b"X: y", *lines, b"Z: 1", start=b"HTTP/1.1 " + status))
    assert head.close is close
    assert response_framing(head, b"GET") == 0
    names = [line.partition(b":")[0].lower() for line in head.block.split(b"\r\n")[:-1]]
    assert names[0] == b"x" and names[-1] == b"z"
    assert not {b"transfer-encoding", b"content-length"} & set(names)
    for kind, start, stop in head.notes:
        assert kind == CONNECTION and head.block[start:stop] == b"Connection: close\r\n"


@pytest.mark.parametrize("lane", RESPONSE_LANES)
def test_rule_42_is_for_those_alone(lane):
    head = lane(res(b"Content-Length: 5", start=b"HTTP/1.1 205 Reset Content"))
    assert (head.framing, head.block) == (5, b"Content-Length: 5\r\n")
    with pytest.raises(UpstreamError):
        lane(res(b"Transfer-Encoding: gzip", start=b"HTTP/1.1 2040 X"))


@pytest.mark.parametrize("lane", RESPONSE_LANES)
@pytest.mark.parametrize(
    "raw",
    [
        res(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        res(b"Content-Length: 5", b"Content-Length: 6"),
        res(b"Content-Length: +5"),
        res(b"Content-Length: " + b"9" * 19),
        res(b"Transfer-Encoding: gzip"),
        res(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        res(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK"),
        res(b"X: a", b" folded"),
        res(b"X: a\x00"),
        res(b"X : a"),
        res(start=b"HTTP/1.1 099 Low"),
        res(start=b"HTTP/1.1 2000 OK"),
        res(start=b"HTTP/1.1 OK"),
        res(start=b"HTTP/3.0 200 OK"),
        res(start=b"ICY 200 OK"),
    ],
)
def test_rule_29_refused_responses(lane, raw):
    with pytest.raises(UpstreamError) as caught:
        lane(raw)
    assert caught.value.status == 502


@pytest.mark.parametrize("lane", RESPONSE_LANES)
@pytest.mark.parametrize(
    ("raw", "framing", "close"),
    [
        (res(b"Content-Length: 5"), 5, False),
        (res(b"Content-Length: 5", b"content-length: 5"), 5, False),
        (res(b"Transfer-Encoding: chunked"), CHUNKED, False),
        (res(b"Transfer-Encoding: CHUNKED"), CHUNKED, False),
        (res(), UNTIL_CLOSE, False),
        (res(b"Connection: close"), UNTIL_CLOSE, True),
        (res(b"Content-Length: 5", start=b"HTTP/1.0 200 OK"), 5, True),
        (res(b"Connection: keep-alive", start=b"HTTP/1.0 200 OK"), UNTIL_CLOSE, False),
    ],
)
def test_response_framing(lane, raw, framing, close):
    head = lane(raw)
    assert (head.framing, head.close) == (framing, close)


@pytest.mark.parametrize("lane", RESPONSE_LANES)
def test_response_facts(lane):
    head = lane(res(b"Date: today", b"Connection: X-Hop", b"Set-Cookie: a=\xff"))
    assert (head.status, head.line, head.dated) == (200, b"HTTP/1.1 200 OK\r\n", True)
    assert head.nominated == (b"x-hop",)
    assert head.value(b"set-cookie") == b"a=\xff"
    switch = lane(res(b"Upgrade: WebSocket", start=b"HTTP/1.1 101 Switching Protocols"))
    assert (switch.status, switch.upgrade, switch.dated) == (101, b"websocket", False)
    assert lane(res(start=b"HTTP/1.1 200 ")).line == b"HTTP/1.1 200 \r\n"
    assert lane(res(start=b"HTTP/1.1 404 Not  Found")).line == b"HTTP/1.1 404 Not  Found\r\n"


@pytest.mark.parametrize(
    ("status", "method", "framing"),
    [
        (b"200 OK", b"GET", 5),
        (b"200 OK", b"HEAD", 0),
        (b"304 Not Modified", b"GET", 0),
        (b"204 No Content", b"GET", 0),
        (b"103 Early Hints", b"GET", 0),
    ],
)
def test_bodyless_responses(status, method, framing):
    head = parser.parse_response(res(b"Content-Length: 5", start=b"HTTP/1.1 " + status))
    assert response_framing(head, method) == framing


@pytest.mark.parametrize("name", ["auto", "h11"])
def test_parsers_take_what_the_head_is_of_the_data(name):
    raw = req(b"X: y")
    read = parser.request_parser(name, LIMITS)
    head = read(raw + b"GET / HTTP/1.1\r\n")
    assert head is not None and head.size == len(raw) and head.block == b"Host: h\r\nX: y\r\n"
    assert read(raw[:-1]) is None
    raw = res(b"Content-Length: 5")
    answer = parser.response_parser(name, LIMITS)(raw + b"hello")
    assert answer is not None and answer.size == len(raw) and answer.framing == 5
    assert parser.response_parser(name, LIMITS)(raw[:-1]) is None


@pytest.mark.parametrize("name", ["auto", "h11"])
@pytest.mark.parametrize(
    ("limit", "raw", "status"),
    [
        ({"fields": 8}, req(*[b"X-%d: y" % n for n in range(8)]), 431),
        ({"head": 1024}, req(*[b"X: " + b"y" * 300] * 4), 431),
        ({"start_line": 64}, req(start=b"GET /" + b"a" * 64 + b" HTTP/1.1"), 414),
        ({"fields": 4, "head": 1024}, req(b"X: " + b"y" * 1024), 431),
        ({"fields": 8}, req(*[b"a: "] * 8), 431),
        ({"fields": 8}, req(*[b"a: "] * 8, start=b"GET /" + b"a" * 300 + b" HTTP/1.1"), 431),
        ({"head": 128}, req(start=b"GET /" + b"a" * 128 + b" HTTP/1.1"), 431),
    ],
)
def test_parsers_keep_the_limits(name, limit, raw, status):
    with pytest.raises(ClientError) as caught:
        parser.request_parser(name, Limits(**limit))(raw)
    assert caught.value.status == status
    assert parser.request_parser(name, LIMITS)(raw) is not None


@pytest.mark.parametrize("name", ["auto", "h11"])
def test_parsers_keep_the_limit_of_responses(name):
    raw = res(b"X: " + b"y" * 2000)
    with pytest.raises(UpstreamError):
        parser.response_parser(name, Limits(response_head=1024))(raw)
    assert parser.response_parser(name, LIMITS)(raw) is not None


@pytest.mark.parametrize("line", [b"X: y", b"Accept: y", b"Host: h", b"Expect: y", b"Cookie: y"])
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"HTTP/1.1 200 OK"])
def test_a_head_that_fails_at_its_end_takes_no_time(line, start):
    """If a line could match in two ways, this would not end before the universe does."""
    raw = b"\r\n".join([start, *[line] * 500, b"no field"]) + b"\r\n\r\n"
    parse = parser.parse_request if start[:1] == b"G" else parser.parse_response
    with pytest.raises(ProxyError):
        parse(raw)


def test_a_response_that_says_its_length_twice_alike():
    for name in (b"Content-Length", b"CONTENT-LENGTH"):
        raw = b"HTTP/1.1 200 OK\r\n%b: 5\r\n%b: 5\r\n\r\n" % (name, name)
        assert parser.parse_response(raw).framing == 5
