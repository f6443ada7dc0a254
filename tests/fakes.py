"""What stands in for a loop, a transport and a client where a test wants none: no sockets, no clock.

They fit the compiled build too: each is handed in, and none replaces a method of a compiled class.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from rawproxy.protocol.http import rewrite
from rawproxy.proxy.client_side import ClientSide
from rawproxy.routing.route_targets import RouteTarget

CONTEXT = rewrite.context(b"192.0.2.1", b"https", False, False, b"")


class FakeLoop:
    """Keeps what is to be called soon; `turn` calls it."""

    def __init__(self) -> None:
        self.ready: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self.ready.append((call, args))

    def turn(self) -> None:
        while self.ready:
            ready, self.ready = self.ready, []
            for call, args in ready:
                call(*args)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """For as long, it is the running loop."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


class FakeTransport:
    """Records what is written, and whether it was closed or cut."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.reading = True
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        if data:
            self.written.append(bytes(data))

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


class DiallingLoop(asyncio.SelectorEventLoop):
    """A loop whose connections to sockets in the file system are `dial`'s: a transport each."""

    def __init__(self, dial: Callable[[], Awaitable[FakeTransport]]) -> None:
        super().__init__()
        self.dial = dial

    async def create_unix_connection(self, factory: Any, path: Any = None, **_: Any) -> Any:
        transport = await self.dial()
        protocol = factory()
        transport.protocol = protocol
        protocol.connection_made(transport)
        return transport, protocol


class FakeClient(ClientSide):
    """A client side that keeps what it was told, and takes no call out of its turn."""

    def __init__(self, route_target: RouteTarget) -> None:
        self.context = CONTEXT
        self.bound = None
        self.route_target = route_target
        self.done = 0
        self.responded = False
        self.ended = False
        self.failed = False
        self.heads: list[Any] = []
        self.framings: list[int] = []
        self.payloads: list[bytes] = []

    def exchange_done(self) -> None:
        self.done += 1

    def send_interim(self, head: object) -> None:
        assert not self.done and not self.responded

    def send_response(self, head: object, framing: int, payload: bytes, ended: bool) -> None:
        assert not self.done and not self.responded
        self.responded = True
        self.ended = ended
        self.heads.append(head)
        self.framings.append(framing)
        self.payloads.append(payload)

    def send_payload(self, payload: bytes) -> None:
        assert not self.done and self.responded and not self.ended
        self.payloads.append(payload)

    def send_end(self, trailers: bytes) -> None:
        assert not self.done and self.responded and not self.ended
        self.ended = True

    def send_error(self, error: object) -> None:
        assert not self.done and not self.responded and not self.failed
        self.failed = True

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        raise AssertionError("nobody asked what the proxy itself answers")

    def switch(self, head: object, connection: object, rest: bytes) -> None:
        raise AssertionError("nobody asked for a tunnel")

    def abort(self) -> None:
        assert not self.done and self.responded and not self.ended
        self.failed = True

    def throttle(self, reason: int, full: bool) -> None:
        assert not (full and self.done), "who is done with it would wait for ever"

    def client_has(self) -> int:
        return 0

    def client_took(self) -> int:
        return 0
