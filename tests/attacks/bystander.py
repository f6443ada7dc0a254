"""`python -m tests.attacks.bystander PORT`: an honest client; what it met, as a line of JSON.

It asks every five milliseconds over one connection, and every tenth time over a new one, until its
standard input ends. An answer other than 200, a connection that is cut, and `PATIENCE` without an
answer count as refused; the wait counts too.
"""

import json
import select
import socket
import sys
import time
from typing import Any, NamedTuple

REQUEST = b"GET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 5.0
PAUSE = 0.005
FRESH = 10


class Met(NamedTuple):
    """What a bystander met."""

    requests: int
    refused: int
    p50: float  # milliseconds
    most: float


def ask(sock: socket.socket) -> bool:
    """Whether the answer is a 200."""
    sock.sendall(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    low = head.lower()
    left = int(low.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0) - len(rest)
    while left > 0:
        more = sock.recv(left)
        if not more:
            raise ConnectionResetError
        left -= len(more)
    if b"connection: close" in low:
        sock.close()
    return head.startswith(b"HTTP/1.1 200 ")


def watch(port: int, over: Any) -> Met:
    """Ask until `over` can be read."""
    took: list[float] = []
    refused = 0
    sock: socket.socket | None = None
    while not select.select([over], [], [], PAUSE)[0]:
        if sock is not None and (len(took) % FRESH == 0 or sock.fileno() < 0):
            sock.close()
            sock = None
        began = time.perf_counter()
        try:
            if sock is None:
                sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
            refused += not ask(sock)
        except OSError:
            refused += 1
            if sock is not None:
                sock.close()
            sock = None
        took.append(1000 * (time.perf_counter() - began))
    took.sort()
    return Met(len(took), refused, took[len(took) // 2], took[-1])


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), sys.stdin)))
