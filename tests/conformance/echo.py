"""An echo server for ws and wss: what the verdicts are measured against.

Two of them. `strict` answers each frame as soon as it is parsed, before it looks at
the next one, so its verdicts hardly depend on how the bytes were cut into reads: the
one to compare proxies with. `websockets` is the library of that name as people use it.
"""

import argparse
import asyncio
import signal
import ssl
import sys
import zlib

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Ping, Request
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import RemoteProtocolError

LINGER = 0.1  # seconds in which a failed connection may still talk, so that no RST eats our Close


class Deflate(PerMessageDeflate):
    """The extension at zlib's highest speed: hundreds of megabytes have to pass."""

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        if self._compressor is None:
            bits = self.server_max_window_bits
            self._compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -bits)
        return super().frame_outbound(proto, opcode, rsv, data, fin)


class Strict(asyncio.Protocol):
    """A WebSocket that echoes each message inside the call that delivered its end."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.ws = WSConnection(ConnectionType.SERVER)
        self.parts: list[str] | list[bytes] = []
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        try:
            self.ws.receive_data(data)
            for event in self.ws.events():
                self.handle(event)
                if self.over:
                    return
        except RemoteProtocolError:  # not a handshake
            self.over = True
            self.transport.close()

    def handle(self, event: Event) -> None:
        match event:
            case Request():
                self.send(AcceptConnection(extensions=[Deflate()]))
            case Message():
                self.parts.append(event.data)
                if event.message_finished:
                    whole = event.data[:0].join(self.parts)
                    self.parts = []
                    self.send(type(event)(data=whole))
            case Ping():
                self.send(event.response())
            case CloseConnection():
                asked = self.ws.state is ConnectionState.REMOTE_CLOSING
                self.send(event.response() if asked else CloseConnection(code=event.code))
                self.over = True
                if asked:
                    self.transport.close()
                else:
                    asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def send(self, event: Event) -> None:
        self.transport.write(self.ws.send(event))


async def echo(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def listen(kind: str, tls: ssl.SSLContext | None) -> asyncio.Server:
    if kind == "strict":
        loop = asyncio.get_running_loop()
        return await loop.create_server(Strict, "127.0.0.1", 0, ssl=tls)
    library = await serve(
        echo,
        "127.0.0.1",
        0,
        ssl=tls,
        compression=None,
        # Whatever window bits and takeover the client asks for are granted: the cases
        # 13.* want every combination.
        extensions=[ServerPerMessageDeflateFactory(compress_settings={"level": zlib.Z_BEST_SPEED})],
        max_size=None,
        ping_interval=None,
    )
    return library.server


async def run(kind: str, cert: str, key: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    servers = [await listen(kind, None), await listen(kind, tls)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await stopped.wait()
    for server in servers:
        server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("strict", "websockets"), default="strict")
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    args = parser.parse_args()
    asyncio.run(run(args.kind, args.cert, args.key))
    return 0


if __name__ == "__main__":
    sys.exit(main())
