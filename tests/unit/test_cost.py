"""No input costs more than in proportion to its size.

Every regular expression of the package is on one of two lists: of those that see what a peer sent,
which are fed with what makes such things slow, and of those that never do. So are the functions
that search, split or loop over a peer's bytes. How it is measured says `cost`.
"""

import ast
import contextlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import rawproxy
from rawproxy.access import verdicts
from rawproxy.access.htpasswd import credentials
from rawproxy.access.questions import QuestionForm
from rawproxy.access.rules import AUTHENTIK, AuthRule
from rawproxy.access.verdicts import AnswerForm, navigates
from rawproxy.acme import answers
from rawproxy.balancing import policies
from rawproxy.config import addresses, field_names
from rawproxy.config.model import Limits
from rawproxy.discovery import docker_labels
from rawproxy.protocol import client_hello, proxy_header, regex
from rawproxy.protocol.http import (
    connection_auth,
    error_pages,
    head,
    log_fields,
    path_change,
    request_ids,
    response_map,
    rewrite,
    target,
    variable_values,
)
from rawproxy.protocol.http import forwarding as _forwarded
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.protocol.http1 import body, head_limits, parser, recogniser
from rawproxy.protocol.http1.body import ChunkedBody
from rawproxy.protocol.http1.head_limits import find_request, find_response, waits
from rawproxy.protocol.http1.parser import parse_request, request_parser, response_parser
from rawproxy.protocol.http2 import fields, header_reader, hpack, huffman
from rawproxy.protocol.websocket.frames import Tracker
from rawproxy.routing import match as routing_match
from rawproxy.store import verbs
from rawproxy.telemetry import access_log, error_log
from rawproxy.tls import client_identity
from rawproxy.upstream import endpoints_by_name
from tests.unit.cost import (
    CONTEXT,
    LIMITS,
    REQUEST,
    RESPONSE,
    ROUTES,
    Work,
    anywhere,
    excess,
)

PACKAGE = pathlib.Path(rawproxy.__file__).parent
# ── every regular expression ────────────────────────────────────────────────────────────────────


def cut(substitute: Callable) -> Work:
    return lambda data: substitute(b"", data)


def text(work: Callable) -> Work:
    return lambda data: work(data.decode("latin-1"))


# What sees a peer's bytes: how it is asked, and what it is there for.
SEEN: dict[str, tuple[Work, bytes]] = {
    "discovery.docker_labels._ILL": (
        lambda data: docker_labels._ILL(data.decode("latin-1")),
        b"Up 1 second (health: starting)",
    ),
    "discovery.docker_labels._NOT_IN_NAMES": (
        lambda data: docker_labels._NOT_IN_NAMES.sub("-", data.decode("latin-1")),
        b"a b",
    ),
    "discovery.docker_labels._NUMBER": (
        lambda data: docker_labels._NUMBER(data.decode("latin-1")),
        b"12.5",
    ),
    "store.verbs._NAME": (lambda data: verbs._NAME(data.decode("latin-1")), b"acme/a.test"),
    "protocol.http.variable_values._CONTROL": (cut(variable_values._CONTROL), b"a\n"),
    "protocol.http.variable_values._ESCAPED": (cut(variable_values._ESCAPED), b"/%61%2f"),
    "protocol.http.variable_values._NOT_OF_URLS": (cut(variable_values._NOT_OF_URLS), b"a \xff"),
    "protocol.http.variable_values._SLASHES": (cut(variable_values._SLASHES), b"/a//b"),
    # Of the name in a ClientHello, which was found to be no longer than names are.
    "config.addresses._LABEL": (lambda data: addresses._LABEL(data.decode("latin-1")), b"label"),
    "acme.answers._TOKEN": (lambda data: answers._TOKEN.fullmatch(data.decode("latin-1")), b"tok"),
    "protocol.http1.body._CHUNK_LINE": (body._CHUNK_LINE, b"5;a=b \r\n"),
    "protocol.http1.body._CHUNK_LINE_SO_FAR": (body._CHUNK_LINE_SO_FAR, b"5;a=b\r"),
    "protocol.http1.body._LINES_SO_FAR": (body._LINES_SO_FAR, b"A: b c\r\nD:\r\n"),
    "protocol.http1.body._PADDED_LINE": (body._PADDED_LINE, b"5 ;a=b \r\n"),
    "protocol.http1.body._PADDED_LINE_SO_FAR": (body._PADDED_LINE_SO_FAR, b"5 ;a=b\r"),
    "protocol.http1.body._TRAILER": (body._TRAILER, b"A: b c \r\n"),
    "protocol.http1.head_limits.clean_so_far": (head_limits.clean_so_far, REQUEST),
    "protocol.http.connection_auth._OFFERED": (
        connection_auth._OFFERED,
        b"\nWWW-Authenticate: Basic, ntlm\r\n",
    ),
    "protocol.http.rewrite.finder": (
        rewrite.finder(frozenset((b"range", b"x-a")), (b"x-id-",)),
        b"\nRange: b\r\nX_Id_c: d\r\n",
    ),
    "access.verdicts.AnswerLines": (
        verdicts.AnswerLines(("X-Id-*", "Authorization")).of,
        b"X-Id-a: b\r\nauthorization: c\r\nSet-Cookie: d\r\nE: f\r\n",
    ),
    "routing.match._SIGN": (lambda data: routing_match._SIGN(data, 0), b"/a/.b?c"),
    "protocol.http2.fields._CLEAN": (fields._CLEAN, b"a b"),
    "protocol.http2.fields._LINE": (fields._LINE, b"a: b c\r\n"),
    "protocol.http2.fields._METHOD": (fields._METHOD, b"GET"),
    "protocol.http2.fields._PATH": (fields._PATH, b"/a?b"),
    "protocol.http.forwarding._PAIR": (_forwarded._PAIR, b' for="a\\b";'),
    "protocol.http.forwarding._QUOTABLE": (cut(_forwarded._QUOTABLE), b'a"b'),
    "protocol.http.forwarding._SCHEME": (_forwarded._SCHEME, b"https"),
    "protocol.http.forwarding._UNQUOTED": (cut(_forwarded._UNQUOTED), b"a\\b"),
    "protocol.http.head._NOTED_IN_REQUEST": (
        lambda data: list(head._NOTED_IN_REQUEST(data)),
        REQUEST.lower(),
    ),
    "protocol.http.head._NOTED_IN_RESPONSE": (
        lambda data: list(head._NOTED_IN_RESPONSE(data)),
        RESPONSE.lower(),
    ),
    "protocol.http.head._UNDERSCORED": (
        lambda data: list(head._UNDERSCORED(data)),
        b"\na_b-c: d\r\n",
    ),
    "tls.client_identity._ODD": (cut(client_identity._ODD), b"CN=a"),
    "telemetry.error_log._CONTROL": (
        text(lambda said: error_log._CONTROL.sub("", said)),
        b"a\x1b[31m",
    ),
    "protocol.http1.parser._OTHER_VERSION": (parser._OTHER_VERSION, b"GET / HTTP/2.0\r\n"),
    "protocol.http1.parser._WITHOUT_BODY": (parser._WITHOUT_BODY, b"HTTP/1.1 204 No\r\n"),
    "protocol.http1.parser._CLEAN": (parser._CLEAN, REQUEST),
    "protocol.http1.parser._QUOTED": (
        text(lambda said: parser._QUOTED("", said)),
        b"line: bytearray(b'a\\xff\"b')",
    ),
    "protocol.http1.parser._START_LINE": (parser._START_LINE, b"GET /a HTTP/1.1\r\n"),
    "upstream.endpoints_by_name._NAME": (endpoints_by_name._NAME, b"a.b-c."),
    "config.field_names._IDENTIFIES": (field_names._IDENTIFIES, b"x-client-cert-a"),
    "protocol.http.error_pages._RANGE": (text(error_pages._RANGE), b"text/html"),
    "protocol.http.error_pages._WEIGHT": (text(error_pages._WEIGHT), b"0.5"),
    "protocol.http2.header_reader._PATH": (header_reader._PATH, b"/a?b"),
    "protocol.http1.recogniser.LOGGED_REQUEST": (anywhere(recogniser.LOGGED_REQUEST), REQUEST),
    "protocol.http1.recogniser.REQUEST": (anywhere(recogniser.REQUEST), REQUEST),
    "protocol.http1.recogniser.RESPONSE": (anywhere(recogniser.RESPONSE), RESPONSE),
    "protocol.http.log_fields._LOGGED": (log_fields._LOGGED, b"\nUser-Agent: b\r\nReferer: c\r\n"),
    "telemetry.access_log._CONTROL": (access_log._CONTROL, b"user"),
    "telemetry.access_log._UNSAFE": (cut(access_log._UNSAFE.sub), b'a"b'),
    "protocol.http.path_change._PREFIX": (path_change._PREFIX, b"/a.b/c-d"),
    "protocol.http.path_change._SLASHES": (cut(path_change._SLASHES), b"/a//b"),
    "protocol.http.path_change._UNSAFE": (
        lambda data: path_change._UNSAFE(path_change._percent, data),
        b"/a<b",
    ),
    "protocol.http.path_change._BARE": (
        lambda data: path_change._BARE(path_change._percent, data),
        b"/a<b",
    ),
    "protocol.http.path_change._SAID": (path_change._SAID, b"A: b\r\nX-Forwarded-Prefix: /a\r\n"),
    "protocol.http.response_map._ABSOLUTE": (response_map._ABSOLUTE, b"http://a:80/b?c"),
    "protocol.http.response_map._FIELDS": (response_map._FIELDS, b"A: b\r\nLocation: /a\r\n"),
    "protocol.http.response_map._REFRESH": (response_map._REFRESH, b"5; url=/a"),
    "routing.match.Routes": (ROUTES._begins, b"/app/x"),
    "routing.match._DOTS": (routing_match._DOTS, b"/a/../b/.;"),
    "routing.match._END": (cut(routing_match._END), b"/a\0b#c?d"),
    "routing.match._LABEL": (routing_match._LABEL, b"a-1"),
    "routing.match._LABELS": (routing_match._LABELS, b"a-1.b"),
    "routing.match._NO_ESCAPE": (routing_match._NO_ESCAPE, b"/%61%2"),
    "routing.match._PARAMETER": (cut(routing_match._PARAMETER), b"/a;b/c"),
    "routing.match._SLASHES": (cut(routing_match._SLASHES), b"/a//b"),
    "routing.match._UNRESERVED": (cut(routing_match._UNRESERVED), b"/%61%2f"),
    "protocol.http.target._ABSOLUTE": (target._ABSOLUTE, b"http://h:80/a?b"),
    "protocol.http.target.is_host": (target.is_host, b"a%41b.[::1.2.3.4]:80"),
    "protocol.http.request_ids._ID": (request_ids._ID, b"a-b"),
    "protocol.http.request_ids._TRACEPARENT": (
        request_ids._TRACEPARENT,
        b"00-%b-%b-01-x" % (b"a" * 32, b"b" * 16),
    ),
}
# What never does: configuration, files, and what we have written ourselves.
OURS = {
    "acme.reading._MAIL", "acme.reading._parse_ask", "acme.reading._parse_url",
    "access.htpasswd._APR1", "admin.explain._METHOD", "access.htpasswd._BCRYPT", "access.htpasswd._SHA", "access.reading._PATH", "access.reading._RATE_KEY", "access.reading._SIGN_IN", "access.reading._ZONE",
    "config.toml_file._AT_LINE", "config.option_values._DIRECTIVE", "config.option_values._FIELD_VALUE",
    "config.option_values._MAX_AGE", "config.option_values._PATH", "config.option_values._REDIRECT", "config.addresses._SERVICE", "config.option_values._SIZE",
    "config.option_values._STATUS", "config.option_values._TOKEN", "config.option_values.parse_group", "config.option_values.parse_parameter",
    "config.option_values.parse_target", "config.option_values.parse_upgrade", "config.toml_lines._BLANK", "config.toml_lines._PART", "config.toml_lines._SCALAR",
    "config.toml_lines._STRING", "config.toml_lines._Scan", "admin.top_screen._ANSI", "config.sources._OPTION", "tls.server._CERTIFICATE", "tls.server._KEY", "config.variables._DOLLAR",
    "config.build_route._KEPT_HOST", "config.route_values._CACHE", "config.route_values._NAMED", "config.route_values._PAIR",
    "config.route_values._PREFIX", "config.route_values._PRINTABLE", "config.route_values._REWRITE", "config.route_values._TYPE",
    "config.route_values.parse_mapping",
    "nginx.guards.Guards", "nginx.guards._KEY", "nginx.guards._RATE", "nginx.maps.Choice", "nginx.maps._LETTERS", "nginx.matching._groups", "nginx.matching.found_by", "nginx.looked_up._for_get",
    "nginx.rewriting.Rewriting", "nginx.rewriting.BY_NUMBER", "nginx.rewriting._NAMES", "nginx.rewriting._captured", "nginx.rewriting._without_groups",
    "nginx.lexing._ESCAPED", "nginx.rewriting.CHANGED", "nginx.lexing._TOKEN", "nginx.toml_text._BARE", "nginx.toml_text._ESCAPED",
    "nginx.upstreams._NAME", "nginx.upstreams._TARGET", "nginx.values._BARE", "nginx.values._SIZE", "nginx.values._TIME", "nginx.values._VARIABLE",
    "nginx.values._shortened", "nginx.values.named_groups", "discovery.sources._ADDRESS", "store.address._DATABASE", "store.address._PREFIX",
}  # fmt: skip
# Where an expression is made of what the places above are called by.
MAKERS = {
    "protocol.regex._compile", "protocol.regex.first_of", "protocol.regex.reader", "protocol.http1.recogniser._recogniser",
}  # fmt: skip


def test_every_expression_is_on_a_list():
    """A new one: put it on `SEEN`, with something it accepts, or on `OURS`."""
    found = {name for path in PACKAGE.rglob("*.py") for name in expressions(path)}
    assert found - MAKERS == set(SEEN) | OURS
    assert not set(SEEN) & OURS


def expressions(path: pathlib.Path) -> Iterator[str]:
    """Where a module makes regular expressions: the name each gets, or the function."""
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.parse(path.read_text()).body:
        if not any(map(is_expression, ast.walk(node))):
            continue
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield f"{module}.{node.name}"
        else:
            assert isinstance(node, ast.Assign | ast.AnnAssign), ast.dump(node)
            name = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{module}.{ast.unparse(name)}"


def is_expression(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    known = ("re.compile", "re.match", "re.fullmatch", "re.search", "re.findall", "re.finditer")
    more = (
        "re.sub",
        "re.subn",
        "re.split",
        "regex.reader",
        "regex.all_of",
        "regex.in_lines",
        "regex.first_of",
        "_recogniser",
    )
    return called in (*known, *more) or "else pcre2).compile" in called


# ── every function that goes over a peer's bytes ────────────────────────────────────────────────

WIDE = Limits(start_line=1 << 20, head=1 << 20, fields=1 << 20, response_head=1 << 20)
PARSERS = [
    make(name, WIDE) for make in (request_parser, response_parser) for name in ("auto", "h11")
]
LOGGED = request_parser("auto", WIDE, True)


def forwarded(data: bytes) -> None:
    read = LOGGED(data, 0)
    if read is not None:
        rewrite.request(read, CONTEXT, b"up")
        rewrite.client_of(read, CONTEXT)
        log_fields.told(read.block)
        error_pages.render(400, read.value(b"accept"), "id")
        ROUTES.find(read.target)


def answered(data: bytes) -> None:
    read = PARSERS[2](data, 0)
    if read is not None:
        rewrite.response(read, CONTEXT)
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


SSO = AuthRule("sso", AUTHENTIK, "sso", "/auth", copied=("X-authentik-*",), sign_in="/login")
QUESTION, ANSWER = QuestionForm(SSO, SSO.copied), AnswerForm(SSO)


def questioned(data: bytes) -> None:
    read = LOGGED(data, 0)
    if read is not None:
        asked = Asked(read, CONTEXT, b"h", 443, 1)
        QUESTION.opening(QUESTION.head(read, asked), asked)
        navigates(read)


def ruled(data: bytes) -> None:
    read = PARSERS[2](data, 0)
    if read is not None:
        ANSWER.for_client(ANSWER.verdict_of(read, b""), UNASKED, b"https://h/" + data)


UNASKED = parse_request(REQUEST)
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
    "huffman": (huffman.decode, b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
    "a page": (lambda data: error_pages.render(502, data, "id"), b"text/html;q=0.5, */* , application/json"),
    "a redirect": (error_pages.redirect, b"https://h/<a>&b"),
    "a route": (ROUTES.find, b"/app/%2e;a//b%5c?c"),
    "a path of nginx": (routing_match.unreadable, b"/a/%2e./b"),
    "a target": (lambda data: target.origin_form(b"GET", data), b"http://h:80/a?b"),
    "a log's field": (access_log.escape, b'a"b\\'),
    "a user": (access_log.basic_user, b"Basic dTpw"),
    "a cookie": (lambda data: policies.cookie_value(data, b"a"), b"b=c; a=d"),
    "an address": (rewrite.address_of, b' "[2001:db8::1]:80" '),
    "a host": (target.split_host, b"[::1]:80"),
    "a trace": (lambda data: request_ids.with_trace(REQUEST + data, request_ids.Ids(bytes)), b"traceparent: 00-a\r\n"),
    "an id": (lambda data: request_ids.with_id(data, b"id"), REQUEST),
    "a PROXY header": (proxy_header.read, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
    "a binary PROXY header": (proxy_header.read, proxy_header.SIGNATURE + b"\x21\x11\x00\x0c" + bytes(12)),
    "a password": (credentials, b"Basic dTpw"),
    "a question": (questioned, REQUEST),
    "an answer of a guard": (ruled, RESPONSE),
    "a ClientHello": (client_hello.server_name, b"\x16\x03\x01\x00\x80\x01" + bytes(90)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SEEN, *FUNCTIONS])
def test_in_proportion(name):
    work, seed = SEEN.get(name) or FUNCTIONS[name]
    assert not excess(work, seed)


def test_what_is_quadratic_would_be_found():
    once = re.compile(rb";?\s*q\s*=\s*1").search  # of Accept, it once held a worker for seconds
    assert excess(once, b"text/html;q=1", (b" ",), 256)
    assert excess(re.compile(rb"[ \t]*b?[ \t]*").fullmatch, b" b ", (b"a", b" "), 256)


FILES = [str(path) for path in sorted(pathlib.Path(__file__).parent.glob("test_cost*.py"))]


@pytest.mark.skipif(regex.ENGINE == "re", reason="that engine is the one of this run")
def test_the_other_engine():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FILES],
        env={**os.environ, "RAWPROXY_REGEX": "re"}, cwd=pathlib.Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:]
