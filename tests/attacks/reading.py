"""Clients that ask and do not read."""

import socket
import time

from rawproxy.protocol.http2 import frames

from .mounts import attack, block, connect, connect_h2, pour, wait
from .stage import Target

SMALL = 4096  # bytes of a receive buffer
BATCH = 100  # streams at once, which is what everybody allows
PAUSE = 0.05  # seconds, in which they are answered


def in_batches(sock: socket.socket, requests: list[bytes], end: float) -> None:
    for at in range(0, len(requests), BATCH):
        pour(sock, b"".join(requests[at : at + BATCH]), end)
        if time.monotonic() > end:
            break
        time.sleep(PAUSE)
    wait(end)


@attack("pipeline", "400 pipelined requests for 2.5 MB each, of which nothing is read")
def pipeline(target: Target, end: float) -> None:
    sock = target.keep.enter_context(connect(target.plain, SMALL))
    ask = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # The first ones come whole in one read: the client is full behind the end of one of them.
    pour(sock, ask % 200_000 * 40 + ask % 2_500_000 * 400, end)
    wait(end)


@attack("pipeline-small", "small requests pipelined without end, of which nothing is read")
def pipeline_small(target: Target, end: float) -> None:
    sock = target.keep.enter_context(connect(target.plain, SMALL))
    pour(sock, b"GET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200_000, end)
    wait(end)


@attack("local-unread", "pipelined requests that the proxy answers itself, and nothing is read")
def local_unread(target: Target, end: float) -> None:
    sock = target.keep.enter_context(connect(target.local, SMALL))
    pour(sock, b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % target.host * 200_000, end)
    wait(end)


@attack("h2-heads-unread", "HTTP/2: heads of 8 KB are asked for, and not read")
def heads_unread(target: Target, end: float) -> None:
    sock = target.keep.enter_context(connect_h2(target.tls, SMALL))
    ask = block("/big-head")
    in_batches(sock, [frames.headers(n, ask, True) for n in range(1, 60_001, 2)], end)


@attack("h2-pings-unread", "HTTP/2: requests and PINGs whose answers are not read")
def pings_unread(target: Target, end: float) -> None:
    sock = target.keep.enter_context(connect_h2(target.tls, SMALL))
    ask = block("/2")
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    in_batches(sock, [frames.headers(n, ask, True) + ping for n in range(1, 120_001, 2)], end)
