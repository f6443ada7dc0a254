"""Clients that hold what all others need: the pool of upstream connections, the error log."""

import contextlib
import time

from rawproxy.protocol.http2 import frames

from .mounts import attack, block, connect, connect_h2, wait
from .stage import Target

TABS = 1100
BEGINNING = 128 * 1024  # of a body: more than anybody holds back
AT_ONCE = 50  # requests


@attack("expect", "8 connections of HTTP/2 with 128 uploads each that wait for a 100, and stop")
def expect(target: Target, end: float) -> None:
    ask = block("/2", "POST", ("content-length", "9"), ("expect", "100-continue"))
    for _ in range(8):
        sock = target.keep.enter_context(connect_h2(target.tls))
        sock.sendall(b"".join(frames.headers(n, ask, False) for n in range(1, 257, 2)))
    wait(end)


@attack("tabs", f"{TABS:,} WebSockets that say nothing")
def tabs(target: Target, end: float) -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for _ in range(TABS):
        if time.monotonic() > end:
            break
        with contextlib.suppress(OSError):
            target.keep.enter_context(connect(target.plain)).sendall(upgrade)
    wait(end)


@attack("sip", f"{TABS:,} responses without end, of which 512 bytes a second are read")
def sip(target: Target, end: float) -> None:
    socks = []
    for _ in range(TABS):
        with contextlib.suppress(OSError):
            sock = target.keep.enter_context(connect(target.plain, 4096))
            sock.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.setblocking(False)
            socks.append(sock)
    while time.monotonic() < end:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.recv(512)
        wait(min(end, time.monotonic() + 1))


@attack("drip", f"{TABS:,} uploads that bring 512 bytes a second, behind the first 128 KB")
def drip(target: Target, end: float) -> None:
    ask = b"POST /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"
    socks = []
    for _ in range(TABS):
        with contextlib.suppress(OSError):
            sock = target.keep.enter_context(connect(target.plain))
            sock.setblocking(False)
            sock.send(ask + bytes(BEGINNING))
            socks.append(sock)
    while time.monotonic() < end:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.send(bytes(512))
        wait(min(end, time.monotonic() + 1))


@attack("full-pipe", "standard error is a full pipe that nobody reads, and errors are provoked")
def full_pipe(target: Target, end: float) -> None:
    target.deafen()
    while time.monotonic() < end:
        with contextlib.suppress(OSError), connect(target.plain) as sock:
            sock.sendall(target.refused * AT_ONCE)
            got = b""
            while got.count(b"HTTP/1.1 ") < AT_ONCE and (data := sock.recv(65536)):
                got += data
