"""Clients that ask at a steady pace and count what they do not get."""

import asyncio
import collections
import contextlib
import time

CLIENTS = 30
PAUSE = 0.1  # seconds from one request of a client to its next: 300 a second in all
PATIENCE = 5.0  # seconds after which a client gives up
GET = b"GET /page HTTP/1.1\r\nHost: failover.test\r\n\r\n"
POST = b"POST /form HTTP/1.1\r\nHost: failover.test\r\nContent-Length: 20\r\n\r\n" + b"x" * 20


class Count:
    """What came of the requests."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.by: collections.Counter[str] = collections.Counter()  # who answered
        self.slow = 0.0


async def load(port: int, seconds: float) -> Count:
    """Ask for so long."""
    count = Count()
    end = time.monotonic() + seconds
    await asyncio.gather(*(_client(port, end, n, count) for n in range(CLIENTS)))
    return count


async def _client(port: int, end: float, number: int, count: Count) -> None:
    await asyncio.sleep(PAUSE * number / CLIENTS)
    streams = None
    turn = number
    while (began := time.monotonic()) < end:
        turn += 1
        count.sent += 1
        try:
            async with asyncio.timeout(PATIENCE):
                if streams is None or streams[0].at_eof():
                    streams = await asyncio.open_connection("127.0.0.1", port)
                status, body = await _ask(*streams, POST if turn % 10 == 0 else GET)
        except TimeoutError:
            count.failed["no answer"] += 1
            status = 0
        except (OSError, asyncio.IncompleteReadError):
            count.failed["cut"] += 1
            status = 0
        if not status and streams is not None:
            streams[1].close()
            streams = None
        elif status == 200 and body in (b"a", b"b", b"c"):
            count.by[body.decode()] += 1
        elif status:
            count.failed[str(status)] += 1  # a 200 too, if it came from nowhere
        count.slow = max(count.slow, time.monotonic() - began)
        await asyncio.sleep(max(began + PAUSE - time.monotonic(), 0))
    if streams is not None:
        streams[1].close()
        with contextlib.suppress(OSError):
            await streams[1].wait_closed()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        body = await reader.readexactly(int(head[at + 15 : head.index(b"\r", at)]))
    else:  # an error page of a proxy: chunked, or until the end
        body = b""
        writer.close()
        reader.feed_eof()
    return int(head[9:12]), body
