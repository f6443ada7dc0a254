"""`python -m tests.slowloris`: slow-loris in its three forms, and what honest clients notice.

    head    a request head, one field a second, never its end
    body    an upload, one byte a second
    read    a response of five megabytes, of which ten bytes a second are read

For each form the attackers connect, honest clients are measured beside them, and then the deadlines
have to cut every attacker. It prints a table and writes tests/SLOWLORIS.md; `attack` is what the
small test of the default run calls. The load, the upstream and the proxy share the machine, so the
figures without attackers are the ones to hold the others against.
"""

import argparse
import asyncio
import collections
import contextlib
import pathlib
import resource
import socket
import statistics
import sys
import time
from typing import NamedTuple

from .process import RawProxy

SIZE = 5_000_000  # of the response that is sipped; a whole number of blocks
OPENINGS = {
    "head": b"GET / HTTP/1.1\r\nHost: h\r\n",
    "body": b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n",
    "read": b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % SIZE,
}
DRIPS = {"head": b"X-A: b\r\n", "body": b"x", "read": b""}
HONEST = b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
CLIENTS = 8
BLOCK = bytes(50_000)
BACKLOG = 4096


class Figures(NamedTuple):
    """What one form did."""

    form: str
    attackers: int
    ends: dict[str, int]  # how the attackers ended, and how many did
    requests: int  # honest ones beside them
    refused: int  # of them, answered by anything but 200
    p50: float  # milliseconds
    p99: float
    grown: float  # MB of the proxy's resident memory, at the worst moment


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/<n>` is answered by n bytes; a body is read to its end."""
    # Cancelled at the end of a form: attackers of it may still be served.
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            size = int(head.split(b" ", 2)[1].strip(b"/") or 0)
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + BLOCK[: size % len(BLOCK)]
            )
            for _ in range(size // len(BLOCK)):  # never more at once: 2,000 times 5 MB is a lot
                await writer.drain()
                writer.write(BLOCK)
    writer.close()


async def honest(port: int, until: asyncio.Event, least: int) -> list[tuple[float, bool]]:
    """Seconds that each request of one connection took, and whether it was refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took: list[tuple[float, bool]] = []
    while len(took) < least or not until.is_set():
        began = time.perf_counter()
        writer.write(HONEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        refused = not head.startswith(b"HTTP/1.1 200 ")
        took.append((time.perf_counter() - began, refused))
        await asyncio.sleep(0.005)
    writer.close()
    return took


async def attacker(form: str, port: int, patience: float) -> str:
    """How one attacker ends: `408`, `closed` or `cut`; after `patience` a reader takes the rest."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    if form == "read":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    got = b""
    try:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, OPENINGS[form])
        if form == "read":
            count, end = 0, loop.time() + patience
            while data := await loop.sock_recv(sock, 10 if loop.time() < end else 1 << 20):
                count += len(data)
                if loop.time() < end:
                    await asyncio.sleep(1)
                else:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            return "whole" if count > SIZE else "cut"
        answer = asyncio.ensure_future(loop.sock_recv(sock, 1000))
        while not answer.done():
            await asyncio.wait((answer,), timeout=1)
            with contextlib.suppress(OSError):
                if not answer.done():
                    await loop.sock_sendall(sock, DRIPS[form])
        got = answer.result()
    except ConnectionError:
        return "cut"
    finally:
        sock.close()
    return got[9:12].decode() or "closed"


async def attack(
    form: str, attackers: int, seconds: float, timeout: float = 5.0, most_upstream: int = 1024
) -> Figures:
    """Mount one form of it against a proxy of its own. `form` `none`: honest clients alone."""
    server = await asyncio.start_server(upstream, "127.0.0.1", 0, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    options = ["--upstream", f"http://127.0.0.1:{port}", "--access-log", "off"]
    options += ["--max-upstream", f"{most_upstream}"]
    for name in ("request-head", "request-body", "response-body"):
        options += ["--timeout", f"{name}={timeout:g}"]
    proxy = await asyncio.to_thread(RawProxy, *options, https=False)
    over = asyncio.Event()
    try:
        before = most = proxy.rss()
        clients = [asyncio.ensure_future(honest(proxy.http, over, 20)) for _ in range(CLIENTS)]
        attacks = [
            asyncio.ensure_future(attacker(form, proxy.http, 2 * timeout + 5))
            for _ in range(attackers)
        ]
        end = time.monotonic() + seconds
        while not all(attack.done() for attack in attacks) or time.monotonic() < end:
            most = max(most, proxy.rss())
            await asyncio.sleep(0.1)
        over.set()
        requests = [one for several in await asyncio.gather(*clients) for one in several]
        ends = collections.Counter(await asyncio.gather(*attacks))
        server.close()
    finally:
        over.set()
        with contextlib.suppress(ProcessLookupError):
            await asyncio.to_thread(proxy.__exit__, None, None, None)
    cuts = statistics.quantiles(sorted(took for took, _ in requests), n=100)
    refused = sum(refused for _, refused in requests)
    return Figures(
        form, attackers, dict(ends), len(requests), refused, 1000 * cuts[49], 1000 * cuts[98],
        (most - before) / 1e6,
    )  # fmt: skip


def descriptors() -> int:
    """As many as there may be; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slowloris")
    parser.add_argument("--attackers", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each form, at least")
    options = parser.parse_args()
    need = 4 * options.attackers + 200
    if descriptors() < need:
        print(f"{need} file descriptors are needed: see ulimit -Hn", file=sys.stderr)
        return 1
    rows = []
    for form, upstreams in (
        ("none", 1024), ("head", 1024), ("body", 1024), ("read", 4096), ("read", 1024),
        ("none", 1024),
    ):  # fmt: skip
        count = options.attackers if form != "none" else 0
        figures = asyncio.run(attack(form, count, options.seconds, most_upstream=upstreams))
        ends = ", ".join(f"{how} {n:,}" for how, n in sorted(figures.ends.items())) or "-"
        rows.append(
            f"| {figures.form} | {upstreams} | {count:,} | {ends} | {figures.requests:,}"
            f" | {figures.refused:,} | {figures.p50:.2f} | {figures.p99:.2f}"
            f" | {figures.grown:.1f} |"
        )
        print(rows[-1], flush=True)
    path = pathlib.Path(__file__).with_name("SLOWLORIS.md")
    path.write_text(
        "# Slow-loris\n\n"
        "`make slowloris` writes this: so many attackers at once, and honest clients beside them.\n"
        "Load, upstream and proxy shared one machine, and other work with them: hold the figures\n"
        "against the rows without attackers. Timeouts were 5 s instead of 30 and 60.\n\n"
        "Slow readers hold an upstream connection each, as nothing is buffered on disk. While one\n"
        "waits for its client, it lends its place in the pool to the next request. So honest ones\n"
        "dial at once even where there are more slow readers than `--max-upstream` (the row of\n"
        "1024). While there are more connections than that, slow clients may have a quarter of the\n"
        "pool, and of those beyond it the slowest are cut at each sweep, about once a second;\n"
        "the others when they have read too little for `response-body`. `--limit per-client` keeps\n"
        "one address from being that many. `whole`: readers that were not cut before they gave the\n"
        "attack up and took the rest.\n\n"
        f"{time.strftime('%Y-%m-%d')}\n\n"
        "| form | max-upstream | attackers | how they ended | honest requests | refused | p50 ms"
        " | p99 ms | grown by MB |\n"
        "|---|--:|--:|---|--:|--:|--:|--:|--:|\n" + "\n".join(rows) + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
