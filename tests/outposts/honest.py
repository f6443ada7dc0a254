"""`python -m tests.outposts.honest PORT`: a client from 127.0.0.3 that asks 50 times a second.

What it met is a line of JSON, once its standard input ends.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

PAUSE = 0.02  # seconds between two requests
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def main() -> None:
    took: list[float] = []
    refused = 0
    with socket.create_connection(
        ("127.0.0.1", int(sys.argv[1])), 10, source_address=("127.0.0.3", 0)
    ) as sock:
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            began = time.perf_counter()
            sock.sendall(REQUEST)
            data = b""
            while not data.endswith(b"ok") and not data.startswith(b"HTTP/1.1 4"):
                data += sock.recv(65536)
            refused += not data.startswith(b"HTTP/1.1 200 ")
            took.append(1000 * (time.perf_counter() - began))
    took.sort()
    met = {"requests": len(took), "refused": refused, "p50": took[len(took) // 2]}
    print(json.dumps(met | {"p99": took[len(took) * 99 // 100], "most": took[-1]}))


if __name__ == "__main__":
    main()
