"""A running proxy in the test's own loop, between a scripted upstream and raw clients."""

import asyncio
import contextlib
import logging
import ssl
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace

import trustme

from rawproxy.access.wiring import install
from rawproxy.client.listener import Listener
from rawproxy.config.model import Address, Certificate, Deadlines, Group, Limits, Upstream, single
from rawproxy.net.listening import bind
from rawproxy.proxy.service import Service
from rawproxy.tls.server import server_context
from tests.process import LATER, PATIENCE

try:
    import uvloop

    LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]

CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1", "::1", "*.example.test")
# Where a test sets no deadline, none comes while it lasts: what it waits for has to happen by itself,
# and does not pass for having happened when a default ends it.
NO_DEADLINE = dict.fromkeys(Deadlines.__dataclass_fields__, float(LATER)) | {
    "wait": 0.0, "tunnel_drain": -1.0,  # as `drain`
}  # fmt: skip
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(coro, loop_factory=LOOPS[0]):
    """Run one test in a fresh loop, bounded."""

    async def bounded():
        async with asyncio.timeout(PATIENCE):
            return await coro

    runner = asyncio.Runner(loop_factory=loop_factory)
    try:
        return runner.run(bounded())
    finally:
        # uvloop leaves the socket of a cancelled `create_datagram_endpoint` to Loop.close, which
        # warns of it first. If that raises, the socket stays open, and Loop.close waits for ever.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "unclosed resource <UDPTransport", ResourceWarning)
            runner.close()


def response(body: bytes = b"", *lines: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(path: bytes = b"/", *lines: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: h", *lines]) + b"\r\n\r\n"


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a response with a Content-Length."""
    head = await read_head(reader)
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head, await reader.readexactly(length)


def always(answer: bytes) -> Script:
    """An upstream that answers every request without a body by the same bytes."""

    async def script(reader, writer):
        while True:
            await read_head(reader)
            writer.write(answer)

    return script


class Rig:
    """Proxy, upstream and what they saw."""

    def __init__(self, script: Script, tls: bool = False, **options) -> None:
        self.script = script
        self.tls = tls
        limits = Limits(**options.pop("limits", {}))
        deadlines = Deadlines(**NO_DEADLINE | options.pop("deadlines", {}))
        self.every = options.pop("every", 0.02)
        self.redirect = options.pop("redirect", 0)
        self.upstreams = options.pop("upstreams", None)
        self.group = options.pop("group", {})  # facts of the one group
        self.sites = options.pop("sites", None)
        self.others = options.pop("others", {})  # scripts of further groups, by name
        self.listen = options.pop("listen", "")  # a unix socket instead of a port
        self.options = {"limits": limits, "deadlines": deadlines, **options}
        self.upstream_context: ssl.SSLContext | None = None
        self.connections = 0
        self.other_ports: dict[str, int] = {}
        self._logged: list[bytes] = []
        self.problems: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def log(self) -> list[bytes]:
        """The lines of the access log so far."""
        self.service.recorder.flush()
        return b"".join(self._logged).splitlines(keepends=True)

    async def __aenter__(self) -> "Rig":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        context = self.upstream_context
        if self.tls and context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            LEAF.configure_cert(context)
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.upstream_port = self.server.sockets[0].getsockname()[1]
        one = Upstream("http://upstream", tls=self.tls, host="127.0.0.1", port=self.upstream_port)
        self.stack = contextlib.ExitStack()
        ca = self.stack.enter_context(CA.cert_pem.tempfile())
        pem = self.stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        self.config = single(
            upstreams=tuple(self.upstreams or [one]),
            certificates=(Certificate(pem, pem),),
            **({"upstream_verify": ca} if self.tls else {}) | self.options,
        )
        if self.group:
            (group,) = self.config.groups
            groups = (replace(group, **self.group),)
            self.config = replace(self.config, groups=groups)
        if self.sites is not None:
            pair = self.config.certificates()
            sites = (replace(site, certificates=site.certificates or pair) for site in self.sites)
            self.config = replace(self.config, sites=tuple(sites))
        for name, script in self.others.items():
            self.config = replace(
                self.config, groups=(*self.config.groups, await self._other(name, script))
            )
        self.service = Service(self.config, self._logged.append, self.every)
        self.stack.callback(install(self.service, None))
        self.service.start()
        context = server_context(self.config) if self.tls else None
        (sock,) = bind(Address(path=self.listen) if self.listen else Address("127.0.0.1", 0))
        self.port = 0 if self.listen else sock.getsockname()[1]
        self.listener = Listener(self.service, sock, context, self.redirect)
        self.listener.start()
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.problems.append(record.getMessage())
        logging.getLogger("rawproxy").addHandler(self.handler)
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        for writer in self._writers:
            if not writer.transport.is_closing():  # asyncio 3.11.2 does not like to be asked twice
                writer.transport.abort()
        self.listener.close()
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            await self.settled()
        self.service.stop()
        for client in tuple(self.service.clients):
            client.abort()
        await asyncio.sleep(0)
        logging.getLogger("rawproxy").removeHandler(self.handler)
        self.stack.close()
        if kind is None:
            assert self.problems == [p for p in self.problems if not p.startswith("internal")]

    async def _other(self, name: str, script: Script) -> Group:
        """A group of one more scripted upstream."""

        async def serve(reader, writer):
            await self._serve(reader, writer, script)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        self.other_ports[name] = port
        one = Upstream(f"http://{name}", tls=False, host="127.0.0.1", port=port)
        return Group(name, (one,))

    async def settled(self) -> None:
        """Nothing may be left: no client, no tunnel, no busy connection, no ticket."""
        while self.service.clients or any(e.pool.in_use() for e in self.service.endpoints):
            await asyncio.sleep(0.01)
        assert not self.service.parked
        for endpoint in self.service.endpoints:
            assert not endpoint.pool.waiting

    def _on_loop_error(self, loop, context) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError):
            self.problems.append(f"internal: {context}")

    async def _serve(self, reader, writer, script: Script | None = None) -> None:
        self.connections += script is None
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.append(writer)
        try:
            await (script or self.script)(reader, writer)
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def client(self, **options):
        """A raw connection to the proxy."""
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            CA.configure_trust(context)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost" if context else None,
            **options,
        )  # fmt: skip
        self._writers.append(writer)
        return reader, writer

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """One request over a connection of its own; the answer."""
        reader, writer = await self.client()
        writer.write(request)
        answer = await read_response(reader)
        writer.close()
        return answer
