"""The upstream of the reload test, a process of its own: HTTP over kept connections, WebSocket echo.

It echoes WebSocket messages fragment by fragment, compressed where the client can do that.
`/closes` tells with which codes it was said goodbye to.
"""

import asyncio
import collections
import json
import sys

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

closes: collections.Counter[str] = collections.Counter()


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.buffer = b""
        self.ws: WSConnection | None = None
        self.said_goodbye = False

    def data_received(self, data: bytes) -> None:
        if self.ws is not None:
            self.feed(data)
            return
        self.buffer += data
        while self.ws is None and b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            lower = head.lower()
            length = int((lower.partition(b"content-length: ")[2].split(b"\r\n")[0]) or 0)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            if b"\r\nupgrade: websocket" in lower:
                self.ws = WSConnection(ConnectionType.SERVER)
                self.feed(head + b"\r\n\r\n" + rest)
            else:
                self.answer(head.split(b" ", 2)[1])

    def answer(self, path: bytes) -> None:
        body = json.dumps(closes).encode() if path == b"/closes" else path
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def feed(self, data: bytes) -> None:
        try:
            self.ws.receive_data(data)
            for event in self.ws.events():
                self.on_event(event)
        except (RemoteProtocolError, LocalProtocolError) as error:
            closes[f"error: {error}"] += 1
            self.transport.abort()

    def on_event(self, event) -> None:
        if isinstance(event, Request):
            reply = AcceptConnection(extensions=[PerMessageDeflate()])
        elif isinstance(event, Message):
            if not event.data and not event.message_finished:
                return
            reply = type(event)(event.data, message_finished=event.message_finished)
        elif isinstance(event, CloseConnection):
            closes[str(int(event.code))] += 1
            self.said_goodbye = True
            reply = event.response()
        elif isinstance(event, Ping):
            reply = event.response()
        else:
            return
        self.transport.write(self.ws.send(reply))
        if self.said_goodbye:
            self.transport.close()

    def connection_lost(self, exc) -> None:
        if self.ws is not None and not self.said_goodbye:
            closes["without a word"] += 1


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)  # until the test lets go


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
