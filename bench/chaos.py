"""The soak's origin: pages, files, uploads and WebSocket echo on one port, and resets when told.

`python -m bench.chaos PLAIN TLS CERT KEY PERMILLE` serves both ports. SIGUSR1 begins the chaos,
SIGUSR2 ends it: of a thousand requests PERMILLE are then answered with a reset before the answer,
within it, or right behind it. Never measured; it trusts its peer as `sink` does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import random
import signal
import socket
import ssl
import struct
import sys

import aiofastnet
import uvloop

from bench import payloads
from bench.sink import Sink

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
PAGE = b"<!doctype html><title>ok</title><p>A small page of a fixed text.</p>\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: chaos\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    b"Cache-Control: no-cache\r\nVary: Accept-Encoding, Cookie\r\nX-Authentik-Id: %032x\r\n"
    b"Set-Cookie: authentik_session=%032x; HttpOnly; Path=/; SameSite=None; Secure\r\n\r\n"
)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE, PING, PONG = 8, 9, 10
FILES = {f"/files/{name}".encode(): payloads.body(size) for name, size in payloads.FILES.items()}

_numbers = itertools.count(1)


class Chaos(Sink):
    """One connection from the proxy."""

    permille = 0  # of all connections, now

    def __init__(self) -> None:
        super().__init__()
        self.target = b""
        self.socket_mode = False
        self.frames = bytearray()

    def buffer_updated(self, nbytes: int) -> None:
        if self.socket_mode:
            self.frames += self.buffer[:nbytes]
            self._echo()
        else:
            super().buffer_updated(nbytes)

    def _start(self, data: bytes) -> None:
        whole = self.head + data
        if b"\r\n\r\n" in whole:
            self.target = whole.split(b" ", 2)[1]
            lower = whole.lower()
            if b"\r\nupgrade: websocket" in lower:
                self._upgrade(lower, whole)
                return
        super()._start(data)

    def answer(self, data: bytes) -> None:
        if self.target.startswith((b"/small/", b"/files/")):
            number = next(_numbers)
            body = FILES.get(self.target, PAGE)
            data = HEAD % (len(body), number, number) + body
        if not Chaos.permille or random.randrange(1000) >= Chaos.permille:
            self.transport.write(data)
            return
        stop = random.choice((0, random.randrange(len(data)), len(data)))
        self.transport.write(data[:stop])
        self._reset()

    def _reset(self) -> None:
        plain = self.transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _upgrade(self, lower: bytes, whole: bytes) -> None:
        at = lower.index(b"\r\nsec-websocket-key:") + 20
        key = whole[at:].split(b"\r\n", 1)[0].strip()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.socket_mode = True
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def _echo(self) -> None:
        """Whole masked frames of up to 64 KiB, as the soak's client sends them."""
        while len(self.frames) >= 6:
            size, at = self.frames[1] & 127, 2
            if size == 126:
                size, at = int.from_bytes(self.frames[2:4], "big"), 4
            if len(self.frames) < at + 4 + size:
                return
            mask = bytes(self.frames[at : at + 4]) * (size // 4 + 1)
            data = bytes(self.frames[at + 4 : at + 4 + size])
            text = int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")
            opcode = self.frames[0] & 15
            del self.frames[: at + 4 + size]
            first = bytes((0x80 | (PONG if opcode == PING else opcode),))
            length = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
            self.transport.write(first + length + text.to_bytes(size, "big"))
            if opcode == CLOSE:
                self.transport.close()
                return
            if Chaos.permille and random.randrange(100_000) < Chaos.permille:
                self._reset()
                return


async def serve(plain: int, tls: int, cert: str, key: str, permille: int) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, setattr, Chaos, "permille", permille)
    loop.add_signal_handler(signal.SIGUSR2, setattr, Chaos, "permille", 0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    servers = [
        await aiofastnet.create_server(loop, Chaos, "127.0.0.1", port, ssl=wrap, backlog=4096)
        for port, wrap in ((plain, None), (tls, context))
    ]
    for server in servers:
        await server.start_serving()
    await asyncio.Event().wait()


def main() -> None:
    plain, tls, cert, key, permille = sys.argv[1:]
    uvloop.run(serve(int(plain), int(tls), cert, key, int(permille)))


if __name__ == "__main__":
    main()
