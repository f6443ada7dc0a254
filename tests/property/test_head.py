"""The two lanes: whatever the fast one accepts, h11 accepts as the same head."""

import string

from hypothesis import example, given
from hypothesis import strategies as st

from rawproxy.config.model import Limits
from rawproxy.errors import ProxyError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http1 import parser
from rawproxy.protocol.http1.head_limits import find_request

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
NAMES = (
    "Host|Connection|Content-Length|Transfer-Encoding|Upgrade|Expect|TE|Keep-Alive|Cookie|Via|Date"
    "|Proxy-Authorization|X-Forwarded-For|X-Forwarded-Proto|x_forwarded_for|X-Real-IP|HOST"
    "|Strict-Transport-Security|cONTENT-lENGTH|User-Agent|user-agent|Referer|Authorization|REFERER"
    "|SSL-Client-Verify|Sec-Fetch-Mode|Client-Cert|X_Real_IP|Content_Length|X-Client-Cert|_"
).split("|")
VALUES = (
    "h|a.b:80|5|0|5, 5|+5|chunked|Chunked|gzip, chunked|close||keep-alive|Upgrade, X-A|websocket"
    "|h2c|100-continue|[::1]:8| x|y |\tz|NTLM x|negotiate|Negotiates|nTLM"
).split("|")
names = st.one_of(
    st.sampled_from(NAMES),
    st.text(TOKEN, min_size=1, max_size=12),
)
values = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(max_codepoint=255), max_size=24),
)
separators = st.sampled_from([": ", ": ", ": ", ":", ":  ", " : ", ":\t"])
ends = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\n ", "\r\n\r\n"])
fields = st.lists(st.tuples(names, separators, values, ends).map("".join), max_size=6).map("".join)
targets = st.one_of(
    st.sampled_from(
        ["/", "*", "/a?b#c", "http://h/", "https://h:1", "h:443", "//", "/\xe4", "/a b"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map("/".__add__),
)
methods = st.sampled_from(
    ["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "get", "PRI", "M-SEARCH", "G(T", ""]
)
versions = st.sampled_from(["1.1"] * 8 + ["1.0", "1.2", "2.0", "1", "1.11"])
request_lines = st.tuples(methods, targets, versions).map(
    lambda p: f"{p[0]} {p[1]} HTTP/{p[2]}\r\n"
)
requests = st.tuples(request_lines, st.sampled_from(["", "Host: h\r\n"]), fields).map(
    lambda parts: ("".join(parts) + "\r\n").encode("latin-1")
)
statuses = st.one_of(
    st.integers(90, 1010).map(str), st.sampled_from(["200", "101", "204", "304", "20", "2 0"])
)
reasons = st.one_of(
    st.sampled_from([" OK", " ", "", "  OK", " OK ", " Not Found"]), st.text(TOKEN).map(" ".__add__)
)
responses = st.tuples(versions, statuses, reasons, fields).map(
    lambda p: f"HTTP/{p[0]} {p[1]}{p[2]}\r\n{p[3]}\r\n".encode("latin-1")
)


def outcome(parse, raw):
    """The head, or which error and status; any other exception is a bug."""
    try:
        return parse(raw)
    except ProxyError as error:
        return type(error), error.status


def first_head(raw: bytes) -> bytes:
    raw += b"\r\n\r\n"
    return raw[: raw.index(b"\r\n\r\n") + 4]


@given(requests)
@example(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nX: a \r\n\r\n")
@example(b"\r\n\r\n")
def test_requests_fast_lane_agrees_with_h11(raw):
    raw = first_head(raw)
    assert outcome(parser.parse_request, raw) == outcome(parser.reference_request, raw)


LANES = [
    [parser.request_parser(name, Limits(), logged) for name in ("auto", "h11")]
    for logged in (False, True)
]


@given(requests)
@example(b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a\r\nuser-agent: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nReferer: \r\nAUTHORIZATION: b\r\n\r\n")
def test_a_log_changes_nothing_but_what_is_told(raw):
    raw = first_head(raw)
    (plain, _), (fast, law) = ([outcome(lane, raw) for lane in parser] for parser in LANES)
    assert fast == law
    if isinstance(fast, RequestHead):
        first: dict[bytes, bytes] = {}
        for line in fast.block.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            first.setdefault(name.lower(), value)
        assert fast.told == tuple(map(first.get, (b"user-agent", b"referer", b"authorization")))
        fast = fast._replace(told=None)
    assert fast == plain


@given(responses)
@example(b"HTTP/1.1 200 \r\n\r\n")
@example(b"HTTP/1.1 200\r\n\r\n")
@example(b"\r\n\r\n")
def test_responses_fast_lane_agrees_with_h11(raw):
    raw = first_head(raw)
    assert outcome(parser.parse_response, raw) == outcome(parser.reference_response, raw)


bare = st.sampled_from(["101", "103", "204", "304"])
FRAMINGS = (
    "Content-Length: 5|content-length:0|Transfer-Encoding: chunked|X: y|transfer-encoding: x"
    "|Content-Length: 1, 2|Date: x|Connection: close"
).split("|")
framings = st.lists(st.sampled_from(FRAMINGS), max_size=4)


@given(bare, framings)
def test_rule_42_what_has_no_body_is_read_alike_and_without_its_framing(status, lines):
    raw = "".join(line + "\r\n" for line in [f"HTTP/1.1 {status} X", *lines, ""]).encode()
    head = parser.parse_response(raw)
    assert head == parser.reference_response(raw)
    kept = [line for line in lines if line[:2] in ("X:", "Da", "Co") and "ength" not in line]
    assert head.block == "".join(line + "\r\n" for line in kept).encode()
    says_body = any("oding" in line or ("ength" in line and line[-1] != "0") for line in lines)
    assert head.close == (says_body or "Connection: close" in lines)


@given(st.sampled_from(["h", "[::1]", "a.b"]), st.integers(0, 10**6), st.integers(0, 3))
def test_rule_47_the_port_of_a_host(host, port, zeros):
    digits = "0" * zeros + str(port)
    expected = 1 <= port <= 65535 and len(digits) <= 5
    for raw in (
        f"GET / HTTP/1.1\r\nHost: {host}:{digits}\r\n\r\n",
        f"GET http://{host}:{digits}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        read = outcome(parser.parse_request, raw.encode())
        assert read == outcome(parser.reference_request, raw.encode())
        assert isinstance(read, RequestHead) is expected


@given(requests)
def test_an_accepted_block_reads_as_itself(raw):
    head = outcome(parser.parse_request, first_head(raw))
    if isinstance(head, RequestHead):
        again = b"%b %b HTTP/1.%d\r\n%b\r\n" % (head.method, head.target, head.minor, head.block)
        assert parser.parse_request(again)._replace(size=head.size) == head


CONTEXTS = [
    rewrite.context(b"192.0.2.1", b"https", trusted, append, hsts)
    for trusted, append, hsts in (
        (False, False, b"Strict-Transport-Security: a\r\n"), (True, False, None), (False, True, b"")
    )
]  # fmt: skip
CONTEXTS += [rewrite.with_forwarded(CONTEXTS[0]), CONTEXTS[0]._replace(via=True)]
CONTEXTS += [CONTEXTS[0]._replace(identity=b"SSL-Client-Verify: NONE\r\n")]
CONTEXTS += [
    CONTEXTS[0]._replace(edits=rewrite.HeadEdits(frozenset(), b"a: b\r\n", frozenset(), b""))
]


@given(requests, st.sampled_from(CONTEXTS))
@example(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nA: b\r\n\r\n", CONTEXTS[0])
@example(b"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n", CONTEXTS[0])
@example(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: a\r\nA: b\r\n\r\n", CONTEXTS[0])
@example(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", CONTEXTS[0])
def test_the_short_way_to_rewrite_a_request_makes_what_the_long_one_does(raw, context):
    head = outcome(parser.parse_request, first_head(raw))
    if isinstance(head, RequestHead):
        for one in (head, head._replace(upgrade=b"websocket", notes=[])):
            for more in (b"", b"A: b\r\n"):
                made = rewrite.request(one, context, b"up", more)
                assert made == rewrite._any_request(one, context, b"up", more, False)


@given(responses, st.sampled_from(CONTEXTS))
@example(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nA: b\r\n\r\n", CONTEXTS[0])
@example(b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: a\r\nA: b\r\n\r\n", CONTEXTS[1])
@example(b"HTTP/1.1 200 OK\r\nConnection: a\r\nA: b\r\n\r\n", CONTEXTS[0])
def test_the_parts_of_a_response_are_its_line_and_its_block(raw, context):
    head = outcome(parser.parse_response, first_head(raw))
    if isinstance(head, ResponseHead):
        parts = rewrite.response_parts(head, context)
        made = head.line + rewrite.response(head, context)
        assert b"".join(parts) == made
        head.repeated = True  # what was made once for a context is made again for another one
        for other in (context, context, CONTEXTS[1], context):
            made = head.line + rewrite.response(head, other)
            assert b"".join(rewrite.response_parts(head, other)) == made


@given(requests, st.data())
def test_a_head_may_come_in_any_pieces(raw, data):
    """Until the blank line, `find_request` says 0 or refuses; it never finds a shorter head."""
    whole = first_head(raw)
    cut = data.draw(st.integers(0, len(whole) - 1))
    early = outcome(lambda part: find_request(part, Limits()), whole[:cut])
    if early == 0:
        assert find_request(whole + b"rest", Limits()) == len(whole)
    else:
        assert early == outcome(parser.parse_request, whole)
