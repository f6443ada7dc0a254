"""The upstream of the demo: a small https site that shows what rawproxy did to each request.

    /             a page that tries everything below      /events        server-sent events
    /echo         the request as JSON                     /ws            WebSocket echo
    /upload       size and SHA-256 of a body              /early         103, then 200
    /bytes/N      N bytes                                 /chunked/N     N bytes in chunks
    /status/CODE  that status                             /slow/SECONDS  an answer that takes time

The small server of `admin/h11_server` speaks HTTP, and wsproto speaks WebSocket. The site has a
certificate of its own. It stands in for a real upstream and is never meant for other use.
Invariant: `close` ends everything that `start` began.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError

from rawproxy.admin.h11_server import Bounds, H11Server, H11ServerConnection
from rawproxy.config.model import Address
from rawproxy.demo.page import PAGE
from rawproxy.net.listening import bind
from rawproxy.tls.self_signed import load_self_signed

READ = 64 * 1024  # bytes in one read
MOST_BYTES = 10 * 1024**3  # what /bytes and /chunked give at the most
MOST_SECONDS = 300.0
TICK = 1.0  # seconds between two events
_BLOCK = b"rawproxy demo 16" * 4096

Headers = list[tuple[str, str]]
DemoResponse = tuple[int, Headers, bytes]
_EVENT_STREAM: tuple[int, Headers] = (200, [("Content-Type", "text/event-stream")])
# Browsers pause what they do not need yet, so nobody is hurried to take it.
BOUNDS = Bounds(connections=1024, take=None)


class DemoServer:
    """The demo's upstream, running."""

    def __init__(self) -> None:
        self.port = 0
        self._server = H11Server(_answer, BOUNDS)

    async def listen(self, address: Address) -> None:
        """Bind the address and accept connections. Raises `OSError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        load_self_signed(context, ())
        socks = bind(address)
        self.port = socks[0].getsockname()[1]
        await self._server.start(socks, context)

    async def close(self) -> None:
        """Stop accepting, and end every connection."""
        await self._server.close()


async def _answer(visit: H11ServerConnection, request: h11.Request) -> None:
    if visit.http.they_are_waiting_for_100_continue:
        await visit.send(h11.InformationalResponse(status_code=100, headers=[]))
    if dict(request.headers).get(b"upgrade", b"").lower() == b"websocket":
        await _Echo(visit).run(request)
        return
    size, digest = 0, hashlib.sha256()
    while data := await visit.body():
        size += len(data)
        digest.update(data)
    path, _, argument = request.target.decode("ascii").partition("?")[0][1:].partition("/")
    if path == "events":
        await _respond(visit, request, _EVENT_STREAM, _events())
        return
    if path in ("bytes", "chunked") and argument.isdigit():
        amount = min(int(argument), MOST_BYTES)
        length = [("Content-Length", str(amount))] if path == "bytes" else []
        headers = [("Content-Type", "application/octet-stream"), *length]
        await _respond(visit, request, (200, headers), _repeat(amount))
        return
    if path == "early":
        link = [("Link", "</style.css>; rel=preload; as=style")]
        await visit.send(h11.InformationalResponse(status_code=103, headers=link))
    if path == "slow":
        with contextlib.suppress(ValueError):
            await asyncio.sleep(min(max(float(argument), 0.0), MOST_SECONDS))
    status, headers, body = page(request, path, argument, size, digest.hexdigest())
    headers = [*headers, ("Content-Length", str(len(body)))]
    await _respond(visit, request, (status, headers), _once(body))


async def _respond(
    visit: H11ServerConnection,
    request: h11.Request,
    head: tuple[int, Headers],
    body: AsyncIterator[bytes],
) -> None:
    status, headers = head
    if status in (204, 304):
        headers = [pair for pair in headers if pair[0] != "Content-Length"]
    reason = HTTPStatus(status).phrase
    await visit.send(h11.Response(status_code=status, headers=headers, reason=reason))
    if status not in (204, 304) and request.method != b"HEAD":
        async for part in body:
            await visit.send(h11.Data(data=part))
    await visit.send(h11.EndOfMessage())


class _Echo:
    """A WebSocket that sends back each message that it receives."""

    def __init__(self, visit: H11ServerConnection) -> None:
        self.reader, self.writer = visit.reader, visit.writer
        self.early = visit.http.trailing_data[0]

    async def run(self, request: h11.Request) -> None:
        """Send messages back until one side closes."""
        ws = WSConnection(ConnectionType.SERVER)
        pairs = [(bytes(name), bytes(value)) for name, value in request.headers]
        try:
            ws.initiate_upgrade_connection(pairs, request.target.decode("ascii"))
        except RemoteProtocolError:
            self.writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await self.writer.drain()
            return
        early = bytes(self.early)
        while True:
            for event in ws.events():
                if not await self._reply(ws, event):
                    return
            data, early = early or await self.reader.read(READ), b""
            if not data:
                return
            ws.receive_data(data)

    async def _reply(self, ws: WSConnection, event: object) -> bool:
        """Answer one event of the WebSocket; False once the connection has ended."""
        reply: object = None
        if isinstance(event, Request):
            if event.target.partition("?")[0] == "/ws":
                chosen = event.subprotocols[0] if event.subprotocols else None
                reply = AcceptConnection(subprotocol=chosen, extensions=[PerMessageDeflate()])
            else:
                reply = RejectConnection(status_code=404)
        elif isinstance(event, TextMessage):
            reply = TextMessage(data=event.data, message_finished=event.message_finished)
        elif isinstance(event, BytesMessage):
            reply = BytesMessage(data=event.data, message_finished=event.message_finished)
        elif isinstance(event, Ping | CloseConnection):
            reply = event.response()
        if reply is not None:
            # `response` is declared to give any event; it gives one that can be sent.
            self.writer.write(ws.send(reply))  # type: ignore[arg-type]
            await self.writer.drain()
        return not isinstance(event, CloseConnection) and not isinstance(reply, RejectConnection)


def page(request: h11.Request, path: str, argument: str, size: int, digest: str) -> DemoResponse:
    """Status, headers and body of a page with a known length."""
    pairs = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.headers.raw_items()
    ]
    facts = {
        "method": request.method.decode("ascii"),
        "target": request.target.decode("ascii"),
        "http_version": request.http_version.decode("ascii"),
        "headers": pairs,
        "body": {"length": size, "sha256": digest},
    }
    json_type = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    if path in ("", "index.html"):
        shown = json.dumps(facts).replace("<", "\\u003c")
        body = PAGE.replace("__REQUEST__", shown).encode()
        return 200, [("Content-Type", "text/html; charset=utf-8")], body
    if path in ("echo", "early", "slow"):
        return 200, json_type, json.dumps(facts, indent=1).encode() + b"\n"
    if path == "upload":
        return 200, json_type, json.dumps(facts["body"]).encode() + b"\n"
    if path == "status" and argument.isdigit() and int(argument) in set(HTTPStatus):
        status = int(argument)
        if status >= 200:
            return status, json_type, json.dumps({"status": status}).encode() + b"\n"
    return 404, [("Content-Type", "text/plain")], b"there is no such page in the demo\n"


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _repeat(amount: int) -> AsyncIterator[bytes]:
    while amount > 0:
        yield _BLOCK[:amount]
        amount -= len(_BLOCK)


async def _events() -> AsyncIterator[bytes]:
    number = 0
    while True:
        number += 1
        yield b"id: %d\ndata: event number %d\n\n" % (number, number)
        await asyncio.sleep(TICK)


async def start(address: Address) -> DemoServer:
    """Start the demo's upstream at `address`. Raises `OSError` if that address is taken."""
    server = DemoServer()
    await server.listen(address)
    return server
