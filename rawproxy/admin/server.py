"""`--admin`: metrics, health and the status page, on a listener of their own.

    /              the status page
    /status.json   what it and `rawproxy top` show: state, upstreams, the last five minutes
    /metrics       for Prometheus
    /healthz       200: this process is alive
    /readyz        200: requests are taken, and there is an upstream for them; else 503 and why

The server never changes anything, and never uses the listeners of clients. Invariants: it answers
only GET and HEAD, and only under a name that `host_names` allows. `h11_server` bounds its
connections and their waits.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib import resources

import h11

from rawproxy import __version__
from rawproxy.admin import prometheus
from rawproxy.admin.h11_server import Bounds, H11Server, H11ServerConnection
from rawproxy.admin.host_names import AdminHostNames
from rawproxy.config.model import Address
from rawproxy.errors import ConfigError
from rawproxy.net.listening import bind
from rawproxy.protocol.http.target import split_host
from rawproxy.telemetry.counters import Tree, total
from rawproxy.telemetry.error_log import log
from rawproxy.telemetry.history import INTERVAL, LENGTH, History

BOUNDS = Bounds()
LARGEST = 8 << 20  # bytes of a configuration: thousands of sites
ANSWER = 5.0  # seconds for the workers to say what they have counted
TEXT = "text/plain; charset=utf-8"
ELSEWHERE = (
    b"This name is not known here. Ask by the address, or write the name into the configuration:"
    b" --admin NAME:PORT, or --server-name\n"
)

# All workers' snapshots and the counters of those that are gone: {"workers": […], "retired": {…}}.
CounterSource = Callable[[], Awaitable[Tree]]


@dataclass(frozen=True, slots=True)
class AdminResponse:
    """The response to one path."""

    body: bytes
    kind: str = TEXT
    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()


class Admin:
    """The server.

    `known` are names that the administrator has written down, beside that of `address`.
    """

    def __init__(
        self,
        address: Address,
        source: CounterSource,
        known: Iterable[str] = (),
        bounds: Bounds = BOUNDS,
    ) -> None:
        self.address = address
        self._known = (*known, address.host or "", socket.gethostname())
        self.names = AdminHostNames((), ())
        self._bound: list[str] = []  # the hosts of its sockets
        self.source = source
        self.history = History()
        self.port = 0
        # What is other in a configuration than in the one that is served; set by whoever knows.
        self.compare: Callable[[bytes], Tree] = _nothing
        self._page, self._policy = page()
        self._began = time.time()
        self.server = H11Server(self._serve, bounds)
        self._sampler: asyncio.Task[None] | None = None
        self._paths: dict[str, Callable[[str], Awaitable[AdminResponse]]] = {
            "/": self._status_page,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/healthz": self._alive,
            "/readyz": self._ready,
        }

    async def start(self, socks: list[socket.socket] | None = None) -> None:
        """Listen, on `socks` if given, and begin to gather the history. Raises `OSError`."""
        socks = bind(self.address) if socks is None else socks
        bound = self._bound
        for sock in socks if self.address.path is None else ():
            bound.append(sock.getsockname()[0])
            self.port = sock.getsockname()[1]
        self.names = AdminHostNames(bound, self._known)
        await self.server.start(socks)
        self._sampler = asyncio.create_task(self._sample())

    def called(self, known: Iterable[str]) -> None:
        """From now on these are the names that the administrator has written down."""
        self._known = (*known, self.address.host or "", socket.gethostname())
        self.names = AdminHostNames(self._bound, self._known)

    async def close(self) -> None:
        """Stop now: no client's request is lost by that."""
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.gather(self._sampler, return_exceptions=True)
        await self.server.close()

    def exposed(self) -> bool:
        """Whether other machines may reach it."""
        return not self.names.local

    # ── connections ─────────────────────────────────────────────────────────────────────────────

    async def _serve(self, visit: H11ServerConnection, request: h11.Request) -> None:
        answer = await self._answer(visit, request)
        # A request with a body is answered too, but nothing waits for that body.
        whole = isinstance(visit.http.next_event(), h11.EndOfMessage)
        await visit.send(*_events(request, answer, whole))

    async def _answer(self, visit: H11ServerConnection, request: h11.Request) -> AdminResponse:
        fields = dict(request.headers)
        host = split_host(fields.get(b"host", b""))[0].decode("latin-1")
        if not self.names.answers(host):
            why = b"type localhost as the name\n" if self.names.local else ELSEWHERE
            return AdminResponse(why, status=421)
        path = request.target.decode("latin-1").partition("?")[0]
        if request.method == b"POST" and path == "/change":
            return await self._change(visit, fields.get(b"content-type", b""))
        if request.method not in (b"GET", b"HEAD"):
            return AdminResponse(b"GET or HEAD\n", status=405, fields=(("Allow", "GET, HEAD"),))
        serve = self._paths.get(path)
        if serve is None:
            known = " ".join(self._paths)
            return AdminResponse(f"There is {known}\n".encode(), status=404)
        try:
            async with asyncio.timeout(ANSWER):
                return await serve(fields.get(b"accept", b"").decode("latin-1"))
        except (TimeoutError, ConnectionError):
            return AdminResponse(b"the workers do not answer\n", status=503)

    async def _change(self, visit: H11ServerConnection, kind: bytes) -> AdminResponse:
        """What a configuration would change: `rawproxy check --against`. Nothing is done."""
        # Pages of other hosts could send this kind only if we allowed it (CORS), and we do not.
        if kind != b"application/json":
            return AdminResponse(b"application/json\n", status=415)
        body = b""
        while piece := await visit.body():
            body += piece
            if len(body) > LARGEST:
                return AdminResponse(b"too large\n", status=413)
        try:
            # Thousands of sites take half a second, which requests should not wait.
            told = await asyncio.to_thread(self.compare, body)
        except ConfigError as error:
            return AdminResponse(f"{error}\n".encode(), status=400)
        sums = await self.source()
        gauges = total(sums["workers"], sums["retired"])["gauges"]
        known = {name: value for name, value in gauges.items() if name != "upstreams"}
        text = json.dumps({"change": told, "gauges": known})
        return AdminResponse(text.encode(), "application/json")

    # ── what there is ───────────────────────────────────────────────────────────────────────────

    async def _alive(self, accept: str) -> AdminResponse:
        return AdminResponse(b"alive\n")

    async def _ready(self, accept: str) -> AdminResponse:
        sums = await self.source()
        why = unready(total(sums["workers"], sums["retired"])["gauges"])
        return (
            AdminResponse(b"ready\n") if not why else AdminResponse(f"{why}\n".encode(), status=503)
        )

    async def _metrics(self, accept: str) -> AdminResponse:
        # With hundreds of upstreams this takes a tenth of a second, which requests should not wait.
        return AdminResponse(
            *await asyncio.to_thread(prometheus.render, await self.source(), accept)
        )

    async def _status(self, accept: str) -> AdminResponse:
        sums = await self.source()
        both = total(sums["workers"], sums["retired"])
        status = {
            "version": __version__,
            "began": self._began,
            "now": time.time(),
            "interval": INTERVAL,
            "length": LENGTH,
            "unready": unready(both["gauges"]),
            "counters": {k: v for k, v in both["counters"].items() if k != "upstreams"},
            "gauges": {k: v for k, v in both["gauges"].items() if k != "upstreams"},
            "workers": [one["worker"] for one in sums["workers"]],
            "upstreams": self.history.upstreams(),
            "series": self.history.series(),
        }
        return AdminResponse(json.dumps(_short(status)).encode(), "application/json")

    async def _status_page(self, accept: str) -> AdminResponse:
        fields = (("Content-Security-Policy", self._policy), ("Referrer-Policy", "no-referrer"))
        return AdminResponse(self._page, "text/html; charset=utf-8", fields=fields)

    async def _sample(self) -> None:
        """Add a row to the history, every `INTERVAL` seconds."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                async with asyncio.timeout(ANSWER):
                    sums = await self.source()
                self.history.add(loop.time(), total(sums["workers"], sums["retired"]))
            except (TimeoutError, ConnectionError) as error:
                log.debug("no counters: %r", error)
            due = max(due + INTERVAL, loop.time())
            await asyncio.sleep(due - loop.time())


def _nothing(body: bytes) -> Tree:
    raise ConfigError("nobody here knows the configuration")


def _events(request: h11.Request, answer: AdminResponse, whole: bool) -> list[h11.Event]:
    """The response as h11's events. The connection goes on if the request was read to its end."""
    fields = [
        ("Content-Type", answer.kind),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *answer.fields,
        *(() if whole else (("Connection", "close"),)),
    ]
    response = h11.Response(status_code=answer.status, headers=fields)
    body = answer.body if request.method != b"HEAD" else b""
    return [response, h11.Data(data=body), h11.EndOfMessage()]


def unready(gauges: Tree) -> str:
    """Why no request should be sent to this proxy now; empty if it is ready."""
    if gauges.get("workers", 0) <= gauges.get("draining", 0):
        return "draining"
    states = gauges.get("upstreams", {}).values()
    if states and all(state.get("refused", 0) == state.get("views", 1) for state in states):
        return "the certificate of every upstream is refused"
    if states and not any(state["up"] for state in states):
        return "no upstream is healthy"
    return ""


def page() -> tuple[bytes, str]:
    """The status page in one piece, and a Content-Security-Policy that lets nothing else in."""
    folder = resources.files(__package__) / "status"
    style = (folder / "status.css").read_bytes()
    script = (folder / "status.js").read_bytes()
    html = (folder / "status.html").read_bytes()
    html = html.replace(b"/*style*/", style).replace(b"/*script*/", script)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _hash(text: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


def _short(value: object) -> object:
    """The value with floats cut to six digits: the page is polled, often over a phone's network."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < 1e9 else round(value, 3)
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return value
