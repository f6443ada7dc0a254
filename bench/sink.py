"""The second origin: WebSocket echo, and a sink that reads uploads and chunked bodies to the end.

`python -m bench.sink PLAIN TLS CERT KEY` serves WebSocket echo (picows) on each port, and the sink
on the next two ports. It is never measured. It trusts its peers and only looks for the end of a
body.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench import payloads

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n" + payloads.chunked(payloads.body(payloads.KIB16), 4096)
)
LAST_CHUNK = b"0\r\n\r\n"  # the bench's bodies hold no line ends, so these bytes are the end
READ = 256 * 1024


class Sink(asyncio.BufferedProtocol):
    """Reads a request to its end, then answers. One request in flight on each connection."""

    buffer = memoryview(bytearray(READ))  # shared: it is emptied before the loop goes on

    def __init__(self) -> None:
        self.head = b""
        self.left = 0  # bytes of the body still to come; -1: chunked
        self.tail = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.left > 0:
            self.left -= nbytes
            if self.left <= 0:
                self.left = 0
                self.answer(ANSWER)
        elif self.left < 0:
            self._chunks(bytes(self.buffer[max(0, nbytes - 8) : nbytes]))
        else:
            self._start(bytes(self.buffer[:nbytes]))

    def _start(self, data: bytes) -> None:
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return
        head, rest, self.head = self.head[:end].lower(), self.head[end + 4 :], b""
        if b"\r\ntransfer-encoding:" in head:
            self.left, self.tail = -1, b""
            self._chunks(rest)
            return
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        self.left = length - len(rest)
        if self.left <= 0:
            self.left = 0
            self.answer(ANSWER)

    def _chunks(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-8:]
        if self.tail.endswith(LAST_CHUNK):
            self.left = 0
            self.answer(CHUNKED)

    def answer(self, data: bytes) -> None:
        """The request has been read to its end."""
        self.transport.write(data)


class Echo(WSListener):
    """Sends every message back."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


def echo(_request: WSUpgradeRequest) -> Echo:
    return Echo()


async def serve(plain: int, tls: int, cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()
    for port, wrap in ((plain, None), (tls, context)):
        server = await ws_create_server(
            echo, "127.0.0.1", port, ssl=wrap, backlog=4096, websocket_handshake_timeout=60
        )
        await server.start_serving()
        sink = await _create_server(loop, port + 1, wrap)
        await sink.start_serving()
    await asyncio.Event().wait()


async def _create_server(
    loop: asyncio.AbstractEventLoop, port: int, wrap: ssl.SSLContext | None
) -> asyncio.Server:
    """A server on aiofastnet's transports (picows brings them): its TLS costs less."""
    import aiofastnet

    return await aiofastnet.create_server(loop, Sink, "127.0.0.1", port, ssl=wrap, backlog=4096)


def main() -> None:
    plain, tls, cert, key = sys.argv[1:]
    uvloop.run(serve(int(plain), int(tls), cert, key))


if __name__ == "__main__":
    main()
