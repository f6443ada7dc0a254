"""`--admin`: metrics, health and the status page, on a listener of their own.

    /              the status page
    /status.json   what it and `rawproxy top` show: state, upstreams, the last five minutes
    /metrics       for Prometheus
    /healthz       200: this process is alive
    /readyz        200: requests are taken, and there is an upstream for them; else 503 and why

It never changes anything, and never does anything for the listeners of clients. Invariants: only
GET and HEAD are answered; at most `CONNECTIONS` are served, each for at most `PATIENCE` between
two requests; bound to a loopback address, it answers only under such a name, so that no page in
a browser of this machine can read it by way of DNS.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources

import h11

from . import __version__, exposition
from .bounds import clean_so_far
from .config import Address
from .history import INTERVAL, LENGTH, History
from .meter import Tree, total
from .rewrite import split_host
from .service import log
from .sockets import bind

CONNECTIONS = 64  # Prometheus needs one, a browser six
PATIENCE = 75.0  # seconds without a request; Prometheus asks each minute at the slowest, usually
ANSWER = 5.0  # seconds for the workers to say what they have counted
HEAD = 16 * 1024  # bytes of a request's head
TEXT = "text/plain; charset=utf-8"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

# All workers' snapshots and the counters of those that are gone: {"workers": […], "retired": {…}}.
Source = Callable[[], Awaitable[Tree]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one path has to say."""

    body: bytes
    kind: str = TEXT
    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()


class Admin:
    """The server. `await start()` raises `OSError` where it cannot bind."""

    def __init__(self, address: Address, source: Source) -> None:
        self.address = address
        self.source = source
        self.history = History()
        self.port = 0
        self._page, self._policy = page()
        self._began = time.time()
        self._local = address.host in _LOOPBACK
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self._sampler: asyncio.Task[None] | None = None
        self._paths: dict[str, Callable[[str], Awaitable[Answer]]] = {
            "/": self._status_page,
            "/status.json": self._status,
            "/metrics": self._metrics,
            "/healthz": self._alive,
            "/readyz": self._ready,
        }

    async def start(self, socks: list[socket.socket] | None = None) -> None:
        """Listen, on `socks` if they are given, and begin to gather the history."""
        for sock in bind(self.address) if socks is None else socks:
            if self.address.path is None:
                self.port = sock.getsockname()[1]
            self._servers.append(await asyncio.start_server(self._connected, sock=sock))
        self._sampler = asyncio.create_task(self._sample())

    async def close(self) -> None:
        """Stop at once: nobody's request is lost here."""
        for server in self._servers:
            server.close()
        tasks = [*self._open, *([self._sampler] if self._sampler is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def exposed(self) -> bool:
        """Whether others than this machine may reach it."""
        return self.address.path is None and not self._local

    # ── connections ─────────────────────────────────────────────────────────────────────────────

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError, asyncio.CancelledError):
            pass  # the client's doing, or we stop: either way there is nobody to tell
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        while True:
            seen = b""
            async with asyncio.timeout(PATIENCE):
                event = wire.next_event()
                while event is h11.NEED_DATA:
                    data = await reader.read(HEAD)
                    seen += data
                    if not clean_so_far(seen):  # h11 would take the square of its length over it
                        return
                    wire.receive_data(data)
                    event = wire.next_event()
            if not isinstance(event, h11.Request):
                return
            answer = await self._answer(event)
            # A request with a body is answered too, but nothing waits for that body.
            whole = isinstance(wire.next_event(), h11.EndOfMessage)
            fields = [
                ("Content-Type", answer.kind),
                ("Content-Length", str(len(answer.body))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                *answer.fields,
                *(() if whole else (("Connection", "close"),)),
            ]
            response = h11.Response(status_code=answer.status, headers=fields)
            body = answer.body if event.method != b"HEAD" else b""
            parts = [wire.send(response), wire.send(h11.Data(data=body))]
            parts.append(wire.send(h11.EndOfMessage()))
            writer.write(b"".join(part or b"" for part in parts))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
            if wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                return
            wire.start_next_cycle()

    async def _answer(self, request: h11.Request) -> Answer:
        fields = dict(request.headers)
        host = split_host(fields.get(b"host", b""))[0].strip(b"[]").decode("latin-1").lower()
        if self._local and host and host not in _LOOPBACK:
            return Answer(b"type localhost as the name\n", status=421)
        if request.method not in (b"GET", b"HEAD"):
            return Answer(b"GET or HEAD\n", status=405, fields=(("Allow", "GET, HEAD"),))
        path = request.target.decode("latin-1").partition("?")[0]
        serve = self._paths.get(path)
        if serve is None:
            known = " ".join(self._paths)
            return Answer(f"There is {known}\n".encode(), status=404)
        try:
            async with asyncio.timeout(ANSWER):
                return await serve(fields.get(b"accept", b"").decode("latin-1"))
        except (TimeoutError, ConnectionError):
            return Answer(b"the workers do not answer\n", status=503)

    # ── what there is ───────────────────────────────────────────────────────────────────────────

    async def _alive(self, accept: str) -> Answer:
        return Answer(b"alive\n")

    async def _ready(self, accept: str) -> Answer:
        sums = await self.source()
        why = unready(total(sums["workers"], sums["retired"])["gauges"])
        return Answer(b"ready\n") if not why else Answer(f"{why}\n".encode(), status=503)

    async def _metrics(self, accept: str) -> Answer:
        # With hundreds of upstreams this takes a tenth of a second, which requests should not wait.
        return Answer(*await asyncio.to_thread(exposition.render, await self.source(), accept))

    async def _status(self, accept: str) -> Answer:
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
        return Answer(json.dumps(_short(status)).encode(), "application/json")

    async def _status_page(self, accept: str) -> Answer:
        fields = (("Content-Security-Policy", self._policy), ("Referrer-Policy", "no-referrer"))
        return Answer(self._page, "text/html; charset=utf-8", fields=fields)

    async def _sample(self) -> None:
        """A row of the history, each `INTERVAL`."""
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


def unready(gauges: Tree) -> str:
    """Why no request should be sent here; empty: all is well."""
    if gauges.get("workers", 0) <= gauges.get("draining", 0):
        return "draining"
    states = gauges.get("upstreams", {}).values()
    if states and all(state.get("refused", 0) == state["views"] for state in states):
        return "the certificate of every upstream is refused"
    if not any(state["up"] for state in states):
        return "no upstream is healthy"
    return ""


def page() -> tuple[bytes, str]:
    """The status page in one piece, and the policy that lets nothing else into it."""
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
    """Floats to six digits: a page is polled, and often over a phone's network."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < 1e9 else round(value, 3)
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return value
