"""How the time that an input costs is measured, and what the tests of it share.

Bounds are processor time and compare an input with one that is sixteen times as long, so they tell
linear from quadratic on any machine, however busy.
"""

import contextlib
import itertools
import time
from collections.abc import Callable

from rawproxy.config.model import Limits
from rawproxy.errors import ProxyError
from rawproxy.protocol.http import (
    rewrite,
)
from rawproxy.protocol.http1 import body
from rawproxy.protocol.http2 import hpack, huffman
from rawproxy.protocol.http2.frames import StreamFault
from rawproxy.routing.match import RouteEntry, Routes

LIMITS = Limits()
ALLOWED = 0.5  # seconds
LINES = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 480) for n in range(120))
HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n" + LINES

SHORT, TIMES = 1024, 16  # bytes of the first look, and how much longer the second one is
# What is in proportion takes TIMES as long; what is in proportion to the square TIMES**2. Between
# the two is room for memory that is slower where there is more of it.
MORE = 4 * TIMES
NOISE = 0.004  # seconds: nothing that takes as little is looked at any further
WORST = 3  # of the first look: as many are looked at again

Work = Callable[[bytes], object]


def spent(work) -> float:
    """Processor time of `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


REQUEST = b"GET /a?b=c HTTP/1.1\r\nHost: h:80\r\nX-Forwarded-For: a\r\nAccept: */*\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\nProxy-A: b\r\n\r\n"
ROUTES = Routes(
    [RouteEntry(b"/app", False, 1), RouteEntry(b"/app/", False, 2), RouteEntry(b"/x", True, 3)]
)

CONTEXT = rewrite.context(b"192.0.2.1", b"https", True, True, b"Strict-Transport-Security: a\r\n")
CONTEXT = rewrite.with_real_ip(rewrite.with_forwarded(CONTEXT))._replace(
    identity=b"SSL-Client-Verify: x\r\n"
)

PUMPS = tuple(
    b" |\t|\r\n|\r|\n|a|0|:|;|,|/|%|%25|.|..|=|q=|a=b;|,a/b| a|a |\"|'|\\|\xff|\0|-|[".split(b"|")
)
PUMPS += (b"A: A\r\n", b"A: A / HTTP/1.1\r\n", b"\r\n\r\n", b"HTTP/1.1 ", b"x-forwarded-for:a\r\n")


def anywhere(match: Callable) -> Work:
    """A recogniser of heads, at the beginning and behind another request."""
    return lambda data: (match(data, 0), match(b"GET / HTTP/1.1\r\n\r\n" + data, 18))


def excess(
    work: Work, seed: bytes, pumps: tuple[bytes, ...] = PUMPS, size: int = SHORT
) -> tuple[bytes, bytes, bytes] | None:
    """What takes more than in proportion: something of the seed, a pump, and how it ends."""

    def cost(case: tuple[bytes, bytes, bytes], times: int = 1) -> float:
        begin, pump, end = case
        data = begin + pump * (size * times // len(pump)) + end
        return spent(lambda: quietly(work, data))

    step = max(len(seed) // 5, 1)
    begins = [seed[:at] for at in range(0, len(seed) + 1, step)]
    ends = (b"", b"\0", seed[-len(seed) // 3 :])
    cases = list(itertools.product(begins, pumps, ends))
    first = {case: cost(case) for case in cases}
    slowest = sorted(cases, key=first.__getitem__)[-WORST:]
    for case in slowest:
        most = max(MORE * min(cost(case) for _ in range(3)), NOISE)
        if cost(case, TIMES) > most and cost(case, TIMES) > most:
            return case
    return None


def quietly(work: Work, data: bytes) -> None:
    refused = (ProxyError, StreamFault, body.BodyError, hpack.HpackError, hpack.FieldsTooLarge)
    with contextlib.suppress(*refused, huffman.HuffmanError):
        work(data)
