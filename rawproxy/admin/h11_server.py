"""A small HTTP/1.1 server for pages of our own: those of `--admin` and those of the demo.

    H11Server ──► a Visit for each connection ──► answer(visit, request) for each request

h11 reads and writes the messages, and asyncio's streams carry them. Clients of the proxy are never
served here: `client/` serves them. The server stands in this room because the admin's pages need
its bounds. The demo stands on this room and uses the same server.

It never knows what a page holds. Invariants: at most `Bounds.connections` connections are open. If
there are as many, one that only waits for its client is closed to make room, so that nobody can
lock others out by silence. `close` ends all that `start` began.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import h11

from rawproxy.net.backpressure import reset_on_close
from rawproxy.protocol.http1.head_limits import clean_so_far

HEAD = 16 * 1024  # bytes of a request's head
READ = 64 * 1024  # bytes of a body in one read


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections may be open, and how long each may wait."""

    connections: int = 64  # Prometheus needs one, a browser six
    idle: float = 75.0  # seconds between two requests; Prometheus asks each minute at the slowest
    head: float = 10.0  # seconds for a connection's first request, and for the rest of a head
    take: float | None = 10.0  # seconds to take what we send; None: as long as it takes


class H11ServerConnection:
    """One connection. Its requests are read here, and their responses are sent here."""

    __slots__ = ("_bounds", "http", "reader", "served", "since", "task", "waits", "writer")

    def __init__(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        bounds: Bounds,
    ) -> None:
        self.task = task
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        self.served = 0  # requests that were answered
        self.waits = True  # for its client: to say something, or to take what we say
        self.since = asyncio.get_running_loop().time()
        self._bounds = bounds

    async def request(self) -> h11.Request | None:
        """The next request; None if the client has gone, or if its bytes cannot be a head.

        Raises `TimeoutError`, and `h11.RemoteProtocolError` for bytes that are not HTTP.
        """
        loop = asyncio.get_running_loop()
        seen = b""
        self._wait()
        async with asyncio.timeout(self._bounds.idle if self.served else self._bounds.head) as end:
            event = self.http.next_event()
            while event is h11.NEED_DATA:
                data = await self.reader.read(HEAD)
                if not seen:
                    end.reschedule(loop.time() + self._bounds.head)
                seen += data
                # h11 would take the square of its length over a head that is none.
                if not clean_so_far(seen.partition(b"\r\n\r\n")[0]):
                    return None
                self.http.receive_data(data)
                event = self.http.next_event()
        self.waits = False
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> bytes:
        """The next piece of the request's body; empty at its end.

        Raises the same errors as `request`.
        """
        self._wait()
        event = self.http.next_event()
        while event is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(READ))
            event = self.http.next_event()
        self.waits = False
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def send(self, *events: h11.Event) -> None:
        """Send the events, and wait until the client has taken their bytes.

        Raises `TimeoutError`.
        """
        self.writer.write(b"".join(self.http.send(event) or b"" for event in events))
        self._wait()
        async with asyncio.timeout(self._bounds.take):
            await self.writer.drain()
        self.waits = False

    def goes_on(self) -> bool:
        """Whether the connection can serve another request; it is prepared for that."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    def _wait(self) -> None:
        self.waits, self.since = True, asyncio.get_running_loop().time()


class H11Server:
    """The server. It calls `answer` for each request, which sends by `H11ServerConnection.send`."""

    def __init__(
        self, answer: Callable[[H11ServerConnection, h11.Request], Awaitable[None]], bounds: Bounds
    ) -> None:
        self.visits: set[H11ServerConnection] = set()
        self._answer = answer
        self._bounds = bounds
        self._servers: list[asyncio.Server] = []

    async def start(
        self, socks: Iterable[socket.socket], context: ssl.SSLContext | None = None
    ) -> None:
        """Accept connections on these sockets; over TLS if there is a context."""
        for sock in socks:
            self._servers.append(
                await asyncio.start_server(self._connected, sock=sock, ssl=context)
            )

    async def close(self) -> None:
        """Stop now: accept nobody, and end every connection."""
        for server in self._servers:
            server.close()
        tasks = [visit.task for visit in self.visits]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or not self._has_room():
            writer.transport.abort()
            return
        visit = H11ServerConnection(task, reader, writer, self._bounds)
        self.visits.add(visit)
        # What has been answered has left: nothing of it is kept for one that does not read. The
        # limit is not nought: uvloop's TLS transports would then never ask for more.
        writer.transport.set_write_buffer_limits(high=1, low=0)
        try:
            await self._serve(visit)
        except (OSError, TimeoutError, h11.RemoteProtocolError, asyncio.CancelledError):
            # The client's doing, or we stop: either way there is nobody to tell.
            reset_on_close(writer.get_extra_info("socket"))
            writer.transport.abort()
        finally:
            self.visits.discard(visit)
            writer.close()

    async def _serve(self, visit: H11ServerConnection) -> None:
        while (request := await visit.request()) is not None:
            await self._answer(visit, request)
            visit.served += 1
            if not visit.goes_on():
                return

    def _has_room(self) -> bool:
        """Whether one more connection may come; the one that has waited longest is closed for it.

        A connection that was answered before, as that of Prometheus, stays longer than others.
        """
        if len(self.visits) < self._bounds.connections:
            return True
        waiting = [visit for visit in self.visits if visit.waits]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda visit: (visit.served > 0, visit.since))
        self.visits.discard(oldest)
        oldest.task.cancel()
        return True
