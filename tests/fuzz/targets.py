"""The harnesses of HTTP/1 and the PROXY protocol: one input, one verdict, or an exception.

The oracle of all of them: only documented exceptions leave a module, both lanes agree, and any
split reads as the whole does. `forward` is the one that counts: what a client sent, h11's reading
of it, and what an upstream would be given have to be one and the same request.
"""

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import h11

from rawproxy.config.model import Limits
from rawproxy.errors import DETAIL, ClientError, ProxyError
from rawproxy.protocol import proxy_header
from rawproxy.protocol.http import forwarding, last_hop, rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead, response_framing
from rawproxy.protocol.http1.body import (
    BodyError,
    ChunkedBody,
    CloseBody,
    LengthBody,
    encode_chunk,
    last_chunk,
)
from rawproxy.protocol.http1.parser import (
    parse_request,
    reference_request,
    request_parser,
    response_parser,
)

from . import grammar
from .oracle import HOP_BY_HOP, Message, block, meant, one_request, tells

LIMITS = Limits()
AUTHORITY = b"upstream:81"
PEER = b"203.0.113.9"
PLAIN = rewrite.context(PEER, b"https", False, False, b"Strict-Transport-Security: max-age=1\r\n")
HOPS = (
    PLAIN,
    PLAIN._replace(append=True),
    PLAIN._replace(trusted=True),
    rewrite.with_real_ip(rewrite.with_forwarded(PLAIN)),
    PLAIN._replace(underscores=True),
    rewrite.with_forwarded(PLAIN)._replace(append=True),
    rewrite.with_forwarded(PLAIN)._replace(trusted=True),
)
LISTED = frozenset((b"x-a", b"x_a", b"content_length", b"x-real-ip"))  # by a route, all too freely
# Both lanes as the fronts use them: the head at the beginning of what has come so far.
FAST, LAW = (request_parser(name, LIMITS) for name in ("auto", "h11"))
FAST_LOGGED = request_parser("auto", LIMITS, logged=True)
FAST_RESPONSE, LAW_RESPONSE = (response_parser(name, LIMITS) for name in ("auto", "h11"))
CUTS = 160  # of one input, at most: they cost the square of its length
# What Connection cannot take away, and what is written anew whatever it says.
_NOT_NOMINABLE = frozenset((b"host", b"content-length", b"connection", b"expect"))
_OURS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")


class Target(NamedTuple):
    """How inputs are grown, and what is asked of each."""

    grow: Callable[[grammar.Rng], bytes]
    check: Callable[[bytes], str]


def outcome(parse: Callable, raw: bytes) -> object:
    """The head, or which error and status; any other exception is a bug."""
    try:
        return parse(raw)
    except ProxyError as error:
        return refusal(error)


def refusal(error: ProxyError) -> object:
    """Which one it is; what it says can stand in a page and in a line of the log."""
    assert len(error.detail) <= DETAIL + 3 and error.detail.isprintable(), error.detail
    return type(error), error.status


def judged(data: bytes) -> object:
    """What all lanes make of a request; the one that asks for the log differs in `told` alone."""
    fast, law, logged = outcome(FAST, data), outcome(LAW, data), outcome(FAST_LOGGED, data)
    assert fast == law, (fast, law)
    if isinstance(logged, RequestHead):
        said = dict(reversed(block(logged.block)))
        assert logged.told == tuple(map(said.get, (b"user-agent", b"referer", b"authorization")))
        logged = logged._replace(told=None)
    assert fast == logged, (fast, logged)
    return fast


def cuts(data: bytes) -> range:
    """Where to split: everywhere, or evenly where that is too much."""
    return range(1, len(data), max(len(data) // CUTS, 1))


# ── heads ───────────────────────────────────────────────────────────────────────────────────────


def heads(data: bytes) -> str:
    """Requests: both lanes, at every byte."""
    fast = judged(data)
    size = fast.size if isinstance(fast, RequestHead) else len(data)
    behind = b"GET / HTTP/1.1\r\n\r\n" + data  # where it stands in a buffer changes nothing
    assert outcome(lambda raw: FAST(raw, 18), behind) == fast
    for cut in cuts(data[:size]):
        early = outcome(FAST, data[:cut])
        assert early == outcome(LAW, data[:cut]), cut
        assert early is None or early == fast, (cut, early, fast)
    if not isinstance(fast, RequestHead):
        return "refused" if fast else "no head"
    again = b"%b %b HTTP/1.%d\r\n%b\r\n" % (fast.method, fast.target, fast.minor, fast.block)
    assert parse_request(again)._replace(size=0) == fast._replace(size=0)
    return "read"


def responses(data: bytes) -> str:
    """Responses: both lanes, every split, and what the client is given."""
    fast, law = outcome(FAST_RESPONSE, data), outcome(LAW_RESPONSE, data)
    assert fast == law, (fast, law)
    assert outcome(lambda raw: FAST_RESPONSE(raw, 4), b"\r\n\r\n" + data) == fast
    size = fast.size if isinstance(fast, ResponseHead) else len(data)
    for cut in cuts(data[:size]):
        early = outcome(FAST_RESPONSE, data[:cut])
        assert early == outcome(LAW_RESPONSE, data[:cut]), cut
        assert early is None or early == fast, (cut, early)
    if not isinstance(fast, ResponseHead):
        return "refused" if fast else "no head"
    for method in (b"GET", b"HEAD"):
        _answered(fast, method, data[fast.size :])
    return "read"


def _answered(head: ResponseHead, method: bytes, data: bytes) -> None:
    """The response as a client gets it is one response, of the same status and body."""
    lines = rewrite.response(head, PLAIN)
    fields = block(lines)
    names = [name for name, _ in fields]
    for name in names:
        assert name not in HOP_BY_HOP and name not in (b"connection", b"upgrade"), name
        assert not name.startswith(b"proxy-"), name
    assert b"transfer-encoding" not in names
    if head.status < 200 or head.status in (204, 304):  # RFC 9112 6.3, rule 1
        assert b"content-length" not in names
    assert names.count(b"strict-transport-security") == 1
    if head.status < 200:
        return
    framing = response_framing(head, method)
    got = _payload(framing, data, padded=True)
    if got is None or got[1] is None:
        return
    if framing < 0:
        lines += b"Transfer-Encoding: chunked\r\n"
    framed = _framed(framing, got[0], got[2])
    law = h11.Connection(h11.CLIENT)
    law.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    law.send(h11.EndOfMessage())
    law.receive_data(b"%b%b\r\n%b" % (head.line, lines, framed))
    event = law.next_event()
    assert isinstance(event, h11.Response) and event.status_code == head.status, event
    body = b""
    while isinstance(event := law.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert body == b"".join(got[0])
    assert law.trailing_data[0] == b""


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────


def _payload(
    framing: int, data: bytes, padded: bool = False
) -> tuple[list[bytes], bytes | None, bytes] | None:
    """Pieces of payload, rest and trailers, the body being fed in two parts; None: refused."""
    if not framing:
        return [], data, b""
    body: LengthBody | ChunkedBody | CloseBody
    if framing == CHUNKED:
        body = ChunkedBody(LIMITS.chunk_line, LIMITS.trailers, padded=padded)
    else:
        body = LengthBody(framing) if framing > 0 else CloseBody()
    at = zlib.crc32(data) % (len(data) + 1)
    pieces = []
    try:
        for number, part in enumerate((data[:at], data[at:])):
            payload, rest = body.feed(part)
            while body.more:
                pieces.append(payload)
                payload, rest = body.feed(b"")
            if payload:
                pieces.append(payload)
            if rest is not None:
                return pieces, rest + (b"" if number else data[at:]), body.trailers
    except BodyError:
        return None
    return pieces, b"" if framing == -2 else None, b""


def _framed(framing: int, pieces: list[bytes], trailers: bytes) -> bytes:
    """As the exchange and the responder write it."""
    if framing >= 0:
        return b"".join(pieces)
    return b"".join(map(encode_chunk, pieces)) + last_chunk(trailers)


def _fed(parts: list[bytes], padded: bool = False) -> tuple[bytes, bytes | None, bytes] | None:
    """Payload, rest and trailers of a chunked body; None: refused."""
    body = ChunkedBody(LIMITS.chunk_line, LIMITS.trailers, padded=padded)
    got = b""
    try:
        for number, part in enumerate(parts):
            payload, rest = body.feed(part)
            while body.more:
                got += payload
                payload, rest = body.feed(b"")
            got += payload
            if rest is not None:
                return got, rest + b"".join(parts[number + 1 :]), body.trailers
    except BodyError:
        return None
    return got, None, b""


def bodies(data: bytes) -> str:
    """The chunked stepper against h11, at every split and byte by byte."""
    whole = _fed([data])
    for cut in cuts(data):
        assert _fed([data[:cut], data[cut:]]) == whole, cut
    bytewise = [data[at : at + 1] for at in range(len(data))] or [b""]
    assert _fed(bytewise) == whole
    padded = _fed([data], True)
    assert _fed(bytewise, True) == padded
    assert whole is None or padded == whole  # blanks behind sizes are all that it takes besides
    if whole is None:
        return "refused"
    law = meant(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    if whole[1] is None:
        assert law is None or law.body.startswith(whole[0])
        return "to come"
    assert law is not None and (law.body, law.rest) == whole[:2], law
    block(whole[2])
    length = LengthBody(len(whole[0]))
    payload, rest = length.feed(whole[0] + whole[1])
    assert (payload, rest) == whole[:2]
    return "read"


# ── forwarding ──────────────────────────────────────────────────────────────────────────────────


def forward(data: bytes) -> str:
    """What a client sent, h11's reading of it, and what goes on: one and the same request."""
    stripped = data.lstrip(b"\r\n")  # a few empty lines are forgiven (RFC 9112 2.2)
    if len(data) - len(stripped) > 8:
        return "refused early"
    data = stripped
    head = judged(data)
    if not isinstance(head, RequestHead):
        return "refused by both lanes" if head else "no head"
    got = _payload(head.framing, data[head.size :])
    if got is None:
        return "head read, body refused"
    intent = meant(data)
    pieces, rest, trailers = got
    trailers = rewrite.request_trailers(trailers, LISTED, head, PLAIN)
    assert all(name == b"x-a" for name, _ in block(trailers))
    if rest is None:
        assert intent is None or intent.body.startswith(b"".join(pieces))
        return "head read, body to come"
    assert intent is not None, "h11 refuses what is forwarded"
    assert intent.rest == rest, "another end of the message"
    opening = rewrite.request(head, PLAIN, AUTHORITY)
    if head.method in last_hop.ASKED:
        try:
            left = last_hop.left(head, True)
        except ClientError:
            assert intent.values(b"max-forwards")
            return "refused for its Max-Forwards"
        if not left:
            assert not int(intent.values(b"max-forwards")[0])
            return "answered here"
        if left > 0:
            counted = one_request(
                last_hop.counted(opening, left - 1) + _framed(head.framing, pieces, trailers)
            )
            assert counted.values(b"max-forwards") == [b"%d" % (left - 1)]
            assert int(intent.values(b"max-forwards")[0]) >= left
    seen = one_request(opening + _framed(head.framing, pieces, trailers))
    _same(intent, seen, bool(head.upgrade))
    return "forwarded"


def _same(intent: Message, seen: Message, upgrade: bool) -> None:
    """The upstream sees the request that was meant, less what was for us alone."""
    assert seen.method == intent.method
    assert seen.body == intent.body
    target, host = _target(intent)
    assert seen.target == target
    assert seen.values(b"host") == [host]
    ours = [(_OURS[0], PEER), (_OURS[1], b"https"), (_OURS[2], host)]
    if seen.values(b"transfer-encoding"):
        ours.append((b"transfer-encoding", b"chunked"))
    elif upgrade:
        ours += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    tail = seen.fields[-len(ours) :]
    assert tail == ours
    nominated = {option.strip() for value in intent.values(b"connection")
                 for option in value.lower().split(b",")} - _NOT_NOMINABLE  # fmt: skip
    passed = [pair for pair in intent.fields if _end_to_end(pair[0], nominated)]
    given = [pair for pair in seen.fields[: -len(ours)] if pair[0] not in (b"host", b"expect")]
    if not intent.values(b"host") or intent.target[:1] not in b"/*":
        given = [pair for pair in given if pair[0] != b"host"]
    assert given == passed, (given, passed)


def _end_to_end(name: bytes, nominated: set[bytes]) -> bool:
    if name in HOP_BY_HOP or name in nominated or name == b"proxy" or name[:6] == b"proxy-":
        return False
    return name not in (b"host", b"expect") and not tells(name) and b"_" not in name


def _target(intent: Message) -> tuple[bytes, bytes]:
    """Origin form and host, of whatever form the target has (RFC 9112 3.2)."""
    hosts = intent.values(b"host")
    target = intent.target
    if target[:1] == b"/" or target == b"*":
        return target, hosts[0] if hosts else AUTHORITY
    scheme, _, rest = target.partition(b"://")
    assert scheme.lower() in (b"http", b"https"), target
    stops = [rest.index(mark) for mark in (b"/", b"?") if mark in rest]
    stop = min(stops, default=len(rest))
    path = rest[stop:]
    if not path:
        return b"*" if intent.method == b"OPTIONS" else b"/", rest
    return path if path.startswith(b"/") else b"/" + path, rest[:stop]


def rewriting(data: bytes) -> str:
    """For every kind of hop: strict, idempotent, and nothing forged."""
    head = outcome(FAST, data)
    if not isinstance(head, RequestHead):
        return "refused"
    for context in HOPS:
        raw = rewrite.request(head, context, AUTHORITY)
        once = parse_request(raw)
        assert once == reference_request(raw)
        assert (once.method, once.target, once.framing) == (head.method, head.target, head.framing)
        fields = block(once.block)
        names = [name for name, _ in fields]
        assert [names.count(name) for name in _OURS] == [1, 1, 1]
        chain = once.value(b"x-forwarded-for")
        assert chain == PEER or (
            chain.endswith(b", " + PEER) and (context.append or context.trusted)
        )
        if not context.trusted:
            assert once.value(b"x-forwarded-proto") == context.scheme
            assert names.count(b"forwarded") == bool(context.forwarded)
            assert names.count(b"x-real-ip") == context.real_ip
        for name in names:
            assert name not in HOP_BY_HOP and not name.startswith(b"proxy-"), name
            ours = (*_OURS, b"transfer-encoding", b"connection", b"upgrade")
            ours += (b"forwarded",) * bool(context.forwarded) + (b"x-real-ip",) * context.real_ip
            if name not in ours and not (context.trusted and b"_" not in name):
                assert not tells(name), name
            assert b"_" not in name or context.underscores, name
        _one_story(once)
        if not context.append and not context.trusted:
            twice = rewrite.request(once, context, AUTHORITY)
            assert sorted(twice.split(b"\r\n")) == sorted(raw.split(b"\r\n"))
    return "rewritten"


def _one_story(head: RequestHead) -> None:
    """Forwarded, where it is there, says what X-Forwarded-* do."""
    line = head.value(b"forwarded")
    if line:
        hops = head.value(b"x-forwarded-for").split(b",")[-forwarding.LISTED :]
        told = [
            re.sub(rb'(["\\])', rb"\\\1", head.value(b"x-forwarded-" + name))
            for name in (b"proto", b"host")
        ]
        assert line.count(b"for=") >= len(hops)
        ends = (b';proto=%b;host="%b"' % (*told,), b';proto="%b";host="%b"' % (*told,))
        assert line.endswith(ends), (line, told)
        for context in hops:
            address = forwarding.address_of(context)
            assert (b"unknown" if address is None else str(address).encode()) in line, context


# ── PROXY protocol ──────────────────────────────────────────────────────────────────────────────


def proxy(data: bytes) -> str:
    """The parser of PROXY headers: every prefix of a header waits, and what is read is written."""
    whole = outcome(proxy_header.read, data)
    for cut in cuts(data):
        early = outcome(proxy_header.read, data[:cut])
        header = whole if isinstance(whole, proxy_header.Header) else None
        if header is not None:
            assert early == (whole if cut >= header.size else None), (cut, early)
        elif early is not None:
            assert early == whole, (cut, early)
    if not isinstance(whole, proxy_header.Header):
        return "refused" if whole else "to come"
    assert 0 < whole.size <= min(len(data), proxy_header.LIMIT)
    assert proxy_header.read(data[: whole.size]) == whole
    if whole.route is not None:
        for version in (1, 2):
            again = proxy_header.read(proxy_header.write(version, whole.route))
            assert again is not None and again.route == whole.route, (version, again)
    return "read"


TARGETS = {
    "forward": Target(grammar.stream, forward),
    "heads": Target(grammar.stream, heads),
    "responses": Target(grammar.response, responses),
    "bodies": Target(grammar.chunked, bodies),
    "rewrite": Target(grammar.stream, rewriting),
    "proxy": Target(grammar.proxy_header, proxy),
}
