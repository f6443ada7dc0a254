"""No input costs more than in proportion to its size.

Every regular expression of the package is on one of two lists: of those that see what a peer sent,
which are fed with what makes such things slow, and of those that never do. So are the functions
that search, split or loop over a peer's bytes. Bounds are processor time and compare an input with
one that is sixteen times as long, so they tell linear from quadratic on any machine, however busy.
"""

import ast
import contextlib
import functools
import itertools
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import rawproxy
from rawproxy import (
    asked,
    balancer,
    body,
    bounds,
    challenge,
    client_hello,
    engine,
    fields,
    head,
    hpack,
    identity,
    journal,
    lanes,
    names,
    namesakes,
    pages,
    proxy_protocol,
    reader_h2,
    recognise,
    record,
    rewrite,
    routing,
    target,
    trace,
)
from rawproxy import forwarded as _forwarded
from rawproxy.body import ChunkedBody
from rawproxy.bounds import find_request, find_response, waits
from rawproxy.config import Limits
from rawproxy.errors import ProxyError
from rawproxy.frames import StreamFault
from rawproxy.lanes import parse_request, request_parser, response_parser
from rawproxy.routing import Entry, Routes
from rawproxy.wsframes import Tracker

PACKAGE = pathlib.Path(rawproxy.__file__).parent
LIMITS = Limits()
ALLOWED = 0.5  # seconds
LINES = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 480) for n in range(120))
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n" + LINES

SHORT, TIMES = 1024, 16  # bytes of the first look, and how much longer the second one is
# What is in proportion takes TIMES as long; what is in proportion to the square TIMES**2. Between
# the two is room for memory that is slower where there is more of it.
MORE = 4 * TIMES
NOISE = 0.004  # seconds: nothing that takes as little is looked at any further
WORST = 3  # of the first look: as many are looked at again

Work = Callable[[bytes], object]


def spent(work) -> float:
    """Processor time of `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


# ── every regular expression ────────────────────────────────────────────────────────────────────


def anywhere(match: Callable) -> Work:
    """A recogniser of heads, at the beginning and behind another request."""
    return lambda data: (match(data, 0), match(b"GET / HTTP/1.1\r\n\r\n" + data, 18))


def cut(substitute: Callable) -> Work:
    return lambda data: substitute(b"", data)


def text(work: Callable) -> Work:
    return lambda data: work(data.decode("latin-1"))


REQUEST = b"GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nX-Forwarded-For: a\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\nProxy-A: b\r\n\r\n"
ROUTES = Routes([Entry(b"/app", False, 1), Entry(b"/app/", False, 2), Entry(b"/x", True, 3)])

# What sees a peer's bytes: how it is asked, and what it is there for.
SEEN: dict[str, tuple[Work, bytes]] = {
    "asked._CONTROL": (cut(asked._CONTROL), b"a\n"),
    "asked._ESCAPED": (cut(asked._ESCAPED), b"/%61%2f"),
    "asked._NOT_OF_URLS": (cut(asked._NOT_OF_URLS), b"a \xff"),
    "asked._SLASHES": (cut(asked._SLASHES), b"/a//b"),
    "body._CHUNK_LINE": (body._CHUNK_LINE, b"5;a=b \r\n"),
    "body._CHUNK_LINE_SO_FAR": (body._CHUNK_LINE_SO_FAR, b"5;a=b\r"),
    "body._LINES_SO_FAR": (body._LINES_SO_FAR, b"A: b c\r\nD:\r\n"),
    "body._PADDED_LINE": (body._PADDED_LINE, b"5 ;a=b \r\n"),
    "body._PADDED_LINE_SO_FAR": (body._PADDED_LINE_SO_FAR, b"5 ;a=b\r"),
    "body._TRAILER": (body._TRAILER, b"A: b c \r\n"),
    "bounds.clean_so_far": (bounds.clean_so_far, REQUEST),
    "challenge._OFFERED": (challenge._OFFERED, b"\nWWW-Authenticate: Basic, ntlm\r\n"),
    "fields._CLEAN": (fields._CLEAN, b"a b"),
    "fields._LINE": (fields._LINE, b"a: b c\r\n"),
    "fields._METHOD": (fields._METHOD, b"GET"),
    "fields._PATH": (fields._PATH, b"/a?b"),
    "forwarded._PAIR": (_forwarded._PAIR, b' for="a\\b";'),
    "forwarded._QUOTABLE": (cut(_forwarded._QUOTABLE), b'a"b'),
    "forwarded._SCHEME": (_forwarded._SCHEME, b"https"),
    "forwarded._UNQUOTED": (cut(_forwarded._UNQUOTED), b"a\\b"),
    "head._NOTED_IN_REQUEST": (lambda data: list(head._NOTED_IN_REQUEST(data)), REQUEST.lower()),
    "head._NOTED_IN_RESPONSE": (lambda data: list(head._NOTED_IN_RESPONSE(data)), RESPONSE.lower()),
    "head._UNDERSCORED": (lambda data: list(head._UNDERSCORED(data)), b"\na_b-c: d\r\n"),
    "identity._ODD": (cut(identity._ODD), b"CN=a"),
    "journal._CONTROL": (text(lambda said: journal._CONTROL.sub("", said)), b"a\x1b[31m"),
    "lanes._OTHER_VERSION": (lanes._OTHER_VERSION, b"GET / HTTP/2.0\r\n"),
    "lanes._WITHOUT_BODY": (lanes._WITHOUT_BODY, b"HTTP/1.1 204 No\r\n"),
    "lanes._CLEAN": (lanes._CLEAN, REQUEST),
    "lanes._QUOTED": (text(lambda said: lanes._QUOTED("", said)), b"line: bytearray(b'a\\xff\"b')"),
    "lanes._START_LINE": (lanes._START_LINE, b"GET /a HTTP/1.1\r\n"),
    "namesakes._NAME": (namesakes._NAME, b"a.b-c."),
    "names._IDENTIFIES": (names._IDENTIFIES, b"x-client-cert-a"),
    "pages._RANGE": (text(pages._RANGE), b"text/html"),
    "pages._WEIGHT": (text(pages._WEIGHT), b"0.5"),
    "reader_h2._PATH": (reader_h2._PATH, b"/a?b"),
    "recognise.LOGGED_REQUEST": (anywhere(recognise.LOGGED_REQUEST), REQUEST),
    "recognise.REQUEST": (anywhere(recognise.REQUEST), REQUEST),
    "recognise.RESPONSE": (anywhere(recognise.RESPONSE), RESPONSE),
    "recognise._LOGGED": (recognise._LOGGED, b"\nUser-Agent: b\r\nReferer: c\r\n"),
    "record._CONTROL": (record._CONTROL, b"user"),
    "record._UNSAFE": (cut(record._UNSAFE.sub), b'a"b'),
    "routing.Routes": (ROUTES._begins, b"/app/x"),
    "routing._DOTS": (routing._DOTS, b"/a/../b/.;"),
    "routing._END": (cut(routing._END), b"/a\0b#c?d"),
    "routing._LABEL": (routing._LABEL, b"a-1"),
    "routing._ODD": (routing._ODD, b"/a//b;c%2f"),
    "routing._PARAMETER": (cut(routing._PARAMETER), b"/a;b/c"),
    "routing._SLASHES": (cut(routing._SLASHES), b"/a//b"),
    "routing._UNRESERVED": (cut(routing._UNRESERVED), b"/%61%2f"),
    "target._ABSOLUTE": (target._ABSOLUTE, b"http://h:80/a?b"),
    "target.is_host": (target.is_host, b"a%41b.[::1.2.3.4]:80"),
    "trace._ID": (trace._ID, b"a-b"),
    "trace._TRACEPARENT": (trace._TRACEPARENT, b"00-%b-%b-01-x" % (b"a" * 32, b"b" * 16)),
}
# What never does: configuration, files, and what we have written ourselves.
OURS = {
    "document._AT_LINE", "options._DIRECTIVE", "options._FIELD_VALUE", "options._LABEL",
    "options._MAX_AGE", "options._PATH", "options._REDIRECT", "options._SERVICE", "options._SIZE",
    "options._STATUS", "options._TOKEN", "options.parse_group", "options.parse_parameter",
    "options.parse_target", "options.parse_upgrade", "positions._BLANK", "positions._PART", "positions._SCALAR",
    "positions._STRING", "positions._Scan", "screen._ANSI", "settings._OPTION", "tls._CERTIFICATE", "tls._KEY", "variables._DOLLAR",
}  # fmt: skip
# Where an expression is made of what the places above are called by.
MAKERS = {"engine._compile", "recognise._recogniser"}


def test_every_expression_is_on_a_list():
    """A new one: put it on `SEEN`, with something it accepts, or on `OURS`."""
    found = {name for path in PACKAGE.glob("*.py") for name in expressions(path)}
    assert found - MAKERS == set(SEEN) | OURS
    assert not set(SEEN) & OURS


def expressions(path: pathlib.Path) -> Iterator[str]:
    """Where a module makes regular expressions: the name each gets, or the function."""
    for node in ast.parse(path.read_text()).body:
        if not any(map(is_expression, ast.walk(node))):
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield f"{path.stem}.{node.name}"
        else:
            assert isinstance(node, ast.Assign | ast.AnnAssign), ast.dump(node)
            name = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{path.stem}.{ast.unparse(name)}"


def is_expression(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    known = ("re.compile", "re.match", "re.fullmatch", "re.search", "re.findall", "re.finditer")
    more = ("re.sub", "re.subn", "re.split", "engine.compiled", "engine.all_of", "_recogniser")
    return called in (*known, *more) or "else pcre).compile" in called


# ── every function that goes over a peer's bytes ────────────────────────────────────────────────

HOP = rewrite.hop(b"192.0.2.1", b"https", True, True, b"Strict-Transport-Security: a\r\n")
HOP = rewrite.with_real_ip(rewrite.with_forwarded(HOP))._replace(
    identity=b"SSL-Client-Verify: x\r\n"
)
WIDE = Limits(start_line=1 << 20, head=1 << 20, fields=1 << 20, response_head=1 << 20)
PARSERS = [
    make(name, WIDE) for make in (request_parser, response_parser) for name in ("auto", "h11")
]
LOGGED = request_parser("auto", WIDE, True)


def forwarded(data: bytes) -> None:
    read = LOGGED(data, 0)
    if read is not None:
        rewrite.request(read, HOP, b"up")
        rewrite.client_of(read, HOP)
        recognise.told(read.block)
        pages.render(400, read.value(b"accept"), "id")
        ROUTES.find(read.target)


def answered(data: bytes) -> None:
    read = PARSERS[2](data, 0)
    if read is not None:
        rewrite.response(read, HOP)
        hpack.encode_block(read.block)


def chunked(data: bytes) -> None:
    for padded in (False, True):
        with contextlib.suppress(body.BodyError):
            one = ChunkedBody(1 << 20, 1 << 20, padded=padded)
            one.feed(data)
            while one.more:
                one.feed(b"")


def tracked(data: bytes) -> None:
    Tracker().feed(data)
    Tracker().stop(data, whole=True)


def block(name: bytes, value: bytes) -> bytes:
    """One literal that HPACK's table keeps, and references to it."""
    return b"\x40%c%b\x7f%c%b" % (len(name), name, 0, value.ljust(127, b"a")) + b"\xbe" * 9


def decoded(data: bytes) -> None:
    read = hpack.Decoder(fields.field, fields.STATIC, LIMITS.head, LIMITS.fields).decode(data)
    fields.request(read, True, LIMITS)


UNDER_WAY = b"GET / HTTP/1.1\r\nA: b\r\n"
FUNCTIONS: dict[str, tuple[Work, bytes]] = {
    **{f"parse {n}": (lambda data, parse=parse: parse(data, 0), REQUEST if n < 2 else RESPONSE)
       for n, parse in enumerate(PARSERS)},
    "forward": (forwarded, REQUEST.replace(b"80\r\n", b"80\r\nConnection: close, x-a\r\n")),
    "answer": (answered, RESPONSE),
    "find_request": (lambda data: find_request(data, WIDE), REQUEST),
    "find_response": (lambda data: find_response(data, WIDE), RESPONSE),
    "waits": (lambda data: waits(UNDER_WAY + data, 22, 1 << 20, 1 << 20), b"Accept: */*\r\n\r\n"),
    "chunks": (chunked, b"5;a\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    "frames of a WebSocket": (tracked, b"\x81\x02hi\x89\x00\x01\x7e\x01\x00"),
    "fields of HTTP/2": (decoded, block(b":path", b"/")),
    "huffman": (hpack.huffman, b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
    "a page": (lambda data: pages.render(502, data, "id"), b"text/html;q=0.5, */* , application/json"),
    "a redirect": (pages.redirect, b"https://h/<a>&b"),
    "a route": (ROUTES.find, b"/app/%2e;a//b%5c?c"),
    "a target": (lambda data: target.origin_form(b"GET", data), b"http://h:80/a?b"),
    "a log's field": (record.escape, b'a"b\\'),
    "a user": (record.basic_user, b"Basic dTpw"),
    "a cookie": (lambda data: balancer.cookie_value(data, b"a"), b"b=c; a=d"),
    "an address": (rewrite.address_of, b' "[2001:db8::1]:80" '),
    "a host": (rewrite.split_host, b"[::1]:80"),
    "a trace": (lambda data: trace.with_trace(REQUEST + data, trace.Ids(bytes)), b"traceparent: 00-a\r\n"),
    "an id": (lambda data: trace.with_id(data, b"id"), REQUEST),
    "a PROXY header": (proxy_protocol.read, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
    "a binary PROXY header": (proxy_protocol.read, proxy_protocol.SIGNATURE + b"\x21\x11\x00\x0c" + bytes(12)),
    "a ClientHello": (client_hello.server_name, b"\x16\x03\x01\x00\x80\x01" + bytes(90)),
}  # fmt: skip
PUMPS = tuple(
    b" |\t|\r\n|\r|\n|a|0|:|;|,|/|%|%25|.|..|=|q=|a=b;|,a/b| a|a |\"|'|\\|\xff|\0|-|[".split(b"|")
)
PUMPS += (b"A: A\r\n", b"A: A / HTTP/1.1\r\n", b"\r\n\r\n", b"HTTP/1.1 ", b"x-forwarded-for:a\r\n")


@pytest.mark.parametrize("name", [*SEEN, *FUNCTIONS])
def test_in_proportion(name):
    work, seed = SEEN.get(name) or FUNCTIONS[name]
    assert not excess(work, seed)


def excess(
    work: Work, seed: bytes, pumps: tuple[bytes, ...] = PUMPS, size: int = SHORT
) -> tuple[bytes, bytes, bytes] | None:
    """What takes more than in proportion: something of the seed, a pump, and how it ends."""

    def cost(case: tuple[bytes, bytes, bytes], times: int = 1) -> float:
        begin, pump, end = case
        data = begin + pump * (size * times // len(pump)) + end
        return spent(lambda: quietly(work, data))

    step = max(len(seed) // 5, 1)
    begins = [seed[:at] for at in range(0, len(seed) + 1, step)]
    ends = (b"", b"\0", seed[-len(seed) // 3 :])
    cases = list(itertools.product(begins, pumps, ends))
    first = {case: cost(case) for case in cases}
    slowest = sorted(cases, key=first.__getitem__)[-WORST:]
    for case in slowest:
        most = max(MORE * min(cost(case) for _ in range(3)), NOISE)
        if cost(case, TIMES) > most and cost(case, TIMES) > most:
            return case
    return None


def quietly(work: Work, data: bytes) -> None:
    refused = (ProxyError, StreamFault, body.BodyError, hpack.HpackError, hpack.FieldsTooLarge)
    with contextlib.suppress(*refused):
        work(data)


def test_what_is_quadratic_would_be_found():
    once = re.compile(rb";?\s*q\s*=\s*1").search  # of Accept, it once held a worker for seconds
    assert excess(once, b"text/html;q=1", (b" ",), 256)
    assert excess(re.compile(rb"[ \t]*b?[ \t]*").fullmatch, b" b ", (b"a", b" "), 256)


def test_a_recogniser_looks_at_one_place():
    """PCRE2 went on to search where the head it was given was none."""
    assert recognise.REQUEST(b"A: a\r\n" + REQUEST, 0) is None
    found = recognise.REQUEST(b"A: a\r\n" + REQUEST + REQUEST, 6)
    assert found is not None and found.end() == 6 + len(REQUEST)
    many = b"A: AAAA / HTTP/1.1\r\n" * 40_000
    for name in ("REQUEST", "LOGGED_REQUEST", "RESPONSE"):
        work, _ = SEEN[f"recognise.{name}"]
        assert spent(functools.partial(work, many)) < ALLOWED
    # What it costs does not depend on what lies behind it.
    behind = REQUEST + many
    assert spent(lambda: [recognise.REQUEST(behind, 0) for _ in range(10_000)]) < ALLOWED
    behind = b"GET /\0" + many
    assert spent(lambda: [recognise.REQUEST(behind, 0) for _ in range(10_000)]) < ALLOWED


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
    assert spent(lambda: [pages.render(400, long, "id") for _ in range(1000)]) < ALLOWED
    many = b"a/b," * 16_000
    assert spent(lambda: [pages.render(400, many, "id") for _ in range(1000)]) < ALLOWED


@pytest.mark.skipif(engine.ENGINE == "re", reason="that engine is the one of this run")
def test_the_other_engine():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "RAWPROXY_REGEX": "re"}, cwd=pathlib.Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]


# ── what comes in many pieces, or names many things ─────────────────────────────────────────────


def test_a_connection_field_that_names_thousands():
    names = b",".join(bytes(one) for one in itertools.product(range(97, 123), repeat=3))[:32000]
    read = parse_request(
        HEAD[:30000].rpartition(b"\r\n")[0] + b"\r\nConnection: " + names + b"\r\n\r\n"
    )
    hop = rewrite.hop(b"192.0.2.1", b"https", False, False, None)
    assert spent(lambda: rewrite.request(read, hop, b"up")) < ALLOWED


def test_a_connection_field_that_names_thousands_beside_many_hops():
    names = b",".join(bytes(one) for one in itertools.product(range(97, 123), repeat=3))[:60000]
    hops = b"X-Forwarded-For: 192.0.2.1\r\n" * 100
    read = parse_request(
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: " + names + b"\r\n" + hops + b"\r\n"
    )
    assert spent(lambda: [rewrite.client_of(read, HOP) for _ in range(20)]) < ALLOWED


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
