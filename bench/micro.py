"""The hot functions under pyperf. What h11 takes for the same work stands beside them.

`python -m bench micro --fast` (with pyperf's own options; `--tracemalloc` measures memory instead).
Request heads come from the browser mix, a different one in each call, so that no row profits from
seeing the same bytes twice. The response rows repeat the one head of the origin.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter
from typing import Any

import h11
import pyperf

from bench import payloads
from rawproxy.balancing import pool
from rawproxy.config.model import Address, Config, Edits, Limits, Route, Site
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.protocol.http1 import body, head_limits, parser
from rawproxy.proxy.recorder import BATCH, Recorder
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.routing.site_routes import RouteTargets
from rawproxy.telemetry import access_log, counters
from rawproxy.telemetry.facts import Facts

RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 03:29:00 GMT\r\n"
    b"Content-Type: text/html\r\nContent-Length: 69\r\nConnection: keep-alive\r\n"
    b"Cache-Control: no-cache\r\nVary: Accept-Encoding, Cookie\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n\r\n"
)
CHUNKS = payloads.chunked(payloads.body(payloads.KIB16), 4096)
BLOCK = payloads.body(payloads.KIB16)
LINE_LIMIT, TRAILER_LIMIT = Limits().chunk_line, Limits().trailers


class Later:
    """A call that takes seconds to make ready: only the process that times it does so."""

    def __init__(self, make: Callable[[], Callable[[Any], object]]) -> None:
        self.make = make


Call = Callable[[Any], object] | Later


def each(call: Call, inputs: Sequence[object]) -> Callable[[int], float]:
    """A pyperf timer that calls `call` with each of the inputs in turn, `loops` times over."""

    def timer(loops: int) -> float:
        ready = call.make() if isinstance(call, Later) else call
        start = perf_counter()
        for _ in range(loops):
            for item in inputs:
                ready(item)
        return perf_counter() - start

    return timer


def h11_request(raw: bytes) -> None:
    """What a server built on h11 does to read one head."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(raw)
    connection.next_event()


def h11_cycle(raw: bytes) -> None:
    """A whole h11 exchange on one side: request in, small response out."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    connection.receive_data(raw)
    connection.next_event()
    connection.next_event()
    fields = [("Content-Type", "text/html"), ("Content-Length", "69")]
    connection.send(h11.Response(status_code=200, headers=fields))
    connection.send(h11.Data(data=b"x" * 69))
    connection.send(h11.EndOfMessage())


def h11_chunks(raw: bytes) -> None:
    """h11 reading a chunked body."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + raw
    )
    while type(connection.next_event()) is not h11.EndOfMessage:
        pass


def pool_cycle() -> Callable[[object], None]:
    """Checkout and release on a pool that holds some."""
    some: Any = pool.Pool(limit=1024, keepalive=64, idle_timeout=60.0, queue=16)
    for _ in range(8):
        some.checkout()
    for _ in range(8):
        some.release(pool.Poolable(), 1.0)

    def cycle(_item: object) -> None:
        some.release(some.checkout(), 1.0)

    return cycle


def add_rows(runner: pyperf.Runner) -> None:
    """Every row; the name before the colon is the module."""
    heads = payloads.browser_heads()
    raws = [payloads.browser_request(number, heads) for number in range(len(heads))]
    parsed = [parser.parse_request(raw) for raw in raws]
    answer = parser.parse_response(RESPONSE)
    context = rewrite.context(b"192.0.2.7", b"https", False, False, b"max-age=63072000")
    limits = Limits()
    stamp = access_log.stamp(1_795_491_317.0, 0)

    def row(name: str, call: Call, inputs: Sequence[object]) -> None:
        runner.bench_time_func(name, each(call, inputs), inner_loops=len(inputs))

    row("bounds: find request", lambda raw: head_limits.find_request(raw, limits), raws)
    row("head: fast lane, request", parser.parse_request, raws)
    row("head: fast lane, response", parser.parse_response, [RESPONSE] * 64)
    row("head: reference lane, request", parser.reference_request, raws)
    row("head: reference lane, response", parser.reference_response, [RESPONSE] * 64)
    row("reference: h11 reads a head", h11_request, raws)
    row("reference: h11, a whole cycle", h11_cycle, raws)
    row("rewrite: request", lambda one: rewrite.request(one, context, b""), parsed)
    row("rewrite: response", lambda one: rewrite.response(one, context), [answer] * 64)
    row("body: length, 16 KiB", lambda data: body.LengthBody(len(data)).feed(data), [BLOCK] * 64)
    row(
        "body: chunked, 16 KiB in 4",
        lambda data: body.ChunkedBody(LINE_LIMIT, TRAILER_LIMIT).feed(data),
        [CHUNKS] * 64,
    )
    row("reference: h11, chunked, 16 KiB in 4", h11_chunks, [CHUNKS] * 64)
    row("pool: checkout and release", pool_cycle(), [None] * 64)
    add_notes_rows(row, parsed, context, stamp)
    add_routing_rows(row, parsed[0], context)
    row("record: the time stamp", lambda now: access_log.stamp(now, 3600), [1_795_491_317.0] * 64)


SITES = 3_000
MANY = [f"s{number}.example.test" for number in range(SITES)]
REGEXES = ("^/user/([0-9]+)/(.*)$", r"\.(?:php|cgi)$", "^/(?:css|js)/", "(?i)^/API/", "^/v[0-9]+/")
FORWARDED = Edits((), (("Host", "$host"), ("X-Real-IP", "$remote_addr"), ("X-At", "$scheme $uri")))


@functools.cache
def _many_sites() -> Any:
    shared = (Route("/"), Route("/api/"), Route(path_regex=REGEXES[1]))
    config = Config(sites=tuple(Site((name,), shared) for name in MANY))
    return RouteTargets(config).for_listener(None)


def _found_in_many(path: bytes) -> Callable[[bytes], object]:
    sites = _many_sites()
    return lambda host: sites.find(host, path)


def add_routing_rows(
    row: Callable[[str, Call, Sequence[object]], None],
    head: RequestHead,
    context: rewrite.ClientContext,
) -> None:
    """Finding the route, and what a route with variables or another path makes of a request."""
    hosts = [name.encode() for name in MANY[:: SITES // 64]]
    row(f"route: of {SITES} sites, by path", Later(lambda: _found_in_many(b"/api/x?y=1")), hosts)
    row(f"route: of {SITES} sites, by regex", Later(lambda: _found_in_many(b"/index.php")), hosts)
    regexes = tuple(Route(path_regex=one) for one in REGEXES)
    one_site = RouteTargets(Config(sites=(Site((), (*regexes, Route("/"))),)))
    routes: Any = one_site.for_listener(None)
    paths = [b"/user/%d/x" % number for number in range(32)] + [b"/v1/%d" % n for n in range(32)]
    row(f"route: by the first of {len(REGEXES)} regexes", lambda x: routes.find(b"h", x), paths)
    row("route: a path with an escape", lambda path: routes.find(b"h", path), [b"/a%20b"] * 64)

    def made(name: str, route: Route, target: bytes) -> None:
        ready: Any = RouteTarget(Config(), Site(), route)
        heads = [head._replace(target=target)] * 64

        def one(request: RequestHead) -> None:
            asked = Asked(request, context, b"h", 443, 1)
            ready.plan.of(ready.edits, asked.matched(ready.captures(asked)))

        row(f"route: {name}", one, heads)

    made("three values with variables", Route(request_headers=FORWARDED), b"/a/b?c=1")
    made("a prefix replaced", Route("/app", replace_prefix="/v1"), b"/app/a/b?c=1")
    made("the same as nginx", Route("/app/", replace_prefix="/v1/", as_nginx=True), b"/app/a%20b?c")
    made(
        "a rewrite with two groups", Route(path_regex=REGEXES[0], rewrite="/u/$1/$2"), b"/user/7/x"
    )


UPSTREAM = b"http://127.0.0.1:8081"


def observed(
    config: Config, log: bool, context: rewrite.ClientContext
) -> Callable[[RequestHead], None]:
    """All that the exchange and its end do for logs and metrics, as `exchange` does it."""
    notes = Recorder(config, collections.deque(maxlen=64).append if log else None)
    notes.gather(lambda wait, flush: None)
    tally = counters.Tally()

    def one(request: RequestHead) -> None:
        facts = notes.begin(request, context) if notes.on else None
        if facts is not None and facts.began:
            facts.first = monotonic()
        if facts is not None:
            facts.tally, facts.label, facts.received, facts.retries = tally, UPSTREAM, 0, 0
        notes.record(request, context, 200, 69, facts)

    return one


def add_notes_rows(
    row: Callable[[str, Call, Sequence[object]], None],
    parsed: Sequence[RequestHead],
    context: rewrite.ClientContext,
    stamp: bytes,
) -> None:
    """The access log and the metrics; the rows "of a request" hold everything they cost it."""
    facts = Facts(b"0" * 32, 1.0, counters.Tally(), UPSTREAM)
    facts.status, facts.sent, facts.first, facts.ended = 200, 69, 1.0008, 1.0009
    for name, form in access_log.FORMATS.items():
        ended = [[(one, context, facts)] * BATCH for one in parsed]
        row(
            f"record: {BATCH} {name} lines",
            lambda batch, form=form: access_log.lines(form, batch, stamp),
            ended,
        )
    off = Config()
    on = dataclasses.replace(off, admin=Address("127.0.0.1", 9900))
    as_json = dataclasses.replace(on, log_format="json")
    row("notes: of a request, all off", observed(off, False, context), parsed)
    row("notes: of a request, metrics", observed(on, False, context), parsed)
    row("notes: of a request, access log", observed(off, True, context), parsed)
    row("notes: of a request, both", observed(on, True, context), parsed)
    row("notes: of a request, both, json", observed(as_json, True, context), parsed)


def add_route_rows(runner: pyperf.Runner) -> None:
    """Those of routes alone."""

    def row(name: str, call: Call, inputs: Sequence[object]) -> None:
        runner.bench_time_func(name, each(call, inputs), inner_loops=len(inputs))

    raw = payloads.browser_request(0, payloads.browser_heads())
    context = rewrite.context(b"192.0.2.7", b"https", False, False, b"max-age=63072000")
    add_routing_rows(row, parser.parse_request(raw), context)


def main() -> None:
    routes = "--routes" in sys.argv
    sys.argv = [one for one in sys.argv if one != "--routes"]
    program = ("-m", "bench.micro", *(["--routes"] if routes else []))
    runner = pyperf.Runner(program_args=program)
    if routes:
        add_route_rows(runner)
        return
    runner.metadata["description"] = "rawproxy's hot functions beside h11"
    add_rows(runner)


if __name__ == "__main__":
    main()
