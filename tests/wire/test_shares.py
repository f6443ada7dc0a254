"""What one kind of client may hold of the upstream's connections, so that others get theirs.

WebSockets and streams of events are beside the pool, with a limit of their own; uploads that do not
come hold nothing while connections are scarce; who waits for its own client lends its place, and slow
clients hold a quarter while there are too many; and a queue goes round by client.
"""

import asyncio
import ipaddress
import socket
import time

import pytest

from rawproxy.balancing.pool import SLOW
from rawproxy.client.listener import PACE
from rawproxy.config.model import PARKED, Upstream
from rawproxy.protocol.http2 import frames
from rawproxy.proxy.holding import MOST_WAITING, SPARED
from rawproxy.upstream.dialling import DIALS
from tests.process import PATIENCE

from .h2raw import H2Client
from .rig import Rig, get, read_head, read_response, response, run
from .test_h2_front import talk
from .test_limits import status
from .test_tunnel import ASK, GRANT

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
# Chunked, and it only speaks of events.
OTHER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Asked: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LARGE = 8 << 20  # more than all buffers between an upstream and its client
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def site(reader, writer):
    """An upstream with a WebSocket, a stream of events, endless bytes and uploads."""
    while True:
        head = await read_head(reader)
        if b"Upgrade: websocket" in head:
            writer.write(GRANT)
            await reader.read()
            return
        if head.startswith(b"GET /events "):
            writer.write(STREAM + b"6\r\ndata:\n\r\n")
            await reader.read()
            return
        if head.startswith(b"GET /other "):
            writer.write(OTHER + b"6\r\ndata:\n\r\n")
            await reader.read()
            return
        if head.startswith(b"GET /large "):
            writer.write(response(bytes(LARGE)))
            continue
        if head.startswith(b"GET /endless "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while not reader.at_eof():
                writer.write(bytes(65536))
                await writer.drain()
            return
        if b"Content-Length: " in head:
            if b"Expect: 100-continue" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
        if b" /held " in head:
            await reader.read()
        writer.write(response(b"ok"))


async def served(rig, count: int = 10) -> float:
    """So many requests are answered, each over a connection of its own; the longest wait."""
    longest = 0.0
    for _ in range(count):
        began = time.monotonic()
        assert status((await rig.ask(get()))[0]) == 200
        longest = max(longest, time.monotonic() - began)
    return longest


def test_uploads_that_wait_for_a_100_hold_nothing_while_connections_are_scarce():
    """Eight connections of HTTP/2 with 128 uploads each, of which no byte comes."""

    def client(h2, rig):
        (endpoint,) = rig.service.endpoints
        attackers = [H2Client(rig.port) for _ in range(8)]
        for one in attackers:
            fields = (("content-length", "9"), ("expect", "100-continue"))
            one.send(b"".join(one.headers("/", *fields, ended=False) for _ in range(128)))
        end = time.monotonic() + PATIENCE
        while len(rig.service.clients) < 9 or endpoint.pool.busy < 500:
            assert time.monotonic() < end
            time.sleep(0.02)
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert h2.get()[0] == 200
            longest = max(longest, time.monotonic() - began)
        assert endpoint.pool.busy <= 514 and not endpoint.pool.waiting.size
        print(f"{endpoint.pool!r}; others waited {1000 * longest:.0f} ms at the most")
        for one in attackers:
            one.sock.close()

    talk(site, client, deadlines={"connect": PATIENCE})


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
def test_an_honest_upload_that_waits_for_a_100_gets_one_from_us(method):
    async def test():
        seen = []

        async def upstream(reader, writer):
            while True:
                head = await read_head(reader)
                seen.append(head)
                if b"Content-Length: 3" in head:
                    seen.append(await reader.readexactly(3))
                if b"/held" in head:
                    await reader.read()
                writer.write(response(b"ok"))

        async with Rig(upstream, max_upstream=3) as rig:
            (endpoint,) = rig.service.endpoints
            held = [await rig.client() for _ in range(2)]
            for _, writer in held:
                writer.write(get(b"/held"))
            while endpoint.pool.busy < 2 or len(seen) < 2:  # their connections, and their heads
                await asyncio.sleep(0.01)
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 3", b"Expect: 100-continue", method=method))
            assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert endpoint.pool.busy == 2
            writer.write(b"abc")
            assert status((await read_response(reader))[0]) == 200
            assert b"Expect" not in seen[-2] and seen[-1] == b"abc"
            for _, writer in held:
                writer.close()

    run(test())


def test_bodies_that_come_before_their_connections_are_bounded_in_sum():
    async def test():
        async with Rig(site, max_upstream=3) as rig:
            (endpoint,) = rig.service.endpoints
            slow = []
            for _ in range(340):  # of 60 KB each: 20 MB
                _, writer = await rig.client()
                writer.write(get(b"/", b"Content-Length: 70000", method=b"POST") + bytes(60_000))
                slow.append(writer)
            while not endpoint.pool.waiting.size:
                await asyncio.sleep(0.01)
            assert PARKED <= rig.service.parked < PARKED + 100_000
            assert endpoint.pool.busy == 3
            for writer in slow:
                writer.transport.abort()
            while rig.service.parked:
                await asyncio.sleep(0.01)

    run(test())


async def open_tabs(rig, count: int, ask: bytes, begin: bytes) -> list:
    """So many WebSockets, or streams of events."""
    tabs = []
    for _ in range(count):
        reader, writer = await rig.client()
        writer.write(ask)
        tabs.append((reader, writer))
        if len(tabs) % 64 == 0:
            await asyncio.sleep(0)
    for reader, _ in tabs:
        assert (await read_head(reader)).startswith(begin)
    return tabs


@pytest.mark.parametrize(
    ("ask", "begin", "count", "pool"),
    [
        (ASK, b"HTTP/1.1 101 ", 1025, 1024),
        (ASK, b"HTTP/1.1 101 ", 30, 4),
        (get(b"/events"), b"HTTP/1.1 200 ", 30, 4),
    ],
)
def test_open_tabs_take_nobodys_connection(ask, begin, count, pool):
    async def test():
        async with Rig(site, max_upstream=pool, keepalive=pool, deadlines={"linger": 0.1}) as rig:
            (endpoint,) = rig.service.endpoints
            tabs = await open_tabs(rig, count, ask, begin)
            assert endpoint.pool.busy == 0 and endpoint.pool.apart == count
            print(f"{count} tabs: {1000 * await served(rig):.0f} ms at the most")
            for _, writer in tabs:
                writer.transport.abort()
            while endpoint.pool.apart:
                await asyncio.sleep(0.01)

    run(test())


def test_tabs_have_a_limit_of_their_own():
    async def test():
        async with Rig(site, limits={"tunnels": 3}, deadlines={"linger": 0.1}) as rig:
            (endpoint,) = rig.service.endpoints
            tabs = await open_tabs(rig, 2, ASK, b"HTTP/1.1 101 ")
            tabs += await open_tabs(rig, 2, get(b"/events"), b"HTTP/1.1 200 ")
            # A stream of events beyond the limit is a request like any other.
            assert endpoint.pool.apart == 3 and endpoint.pool.busy == 1
            head, _ = await rig.ask(ASK)
            assert status(head) == 503
            assert any("--limit tunnels" in line for line in rig.problems)
            await served(rig)
            for _, writer in tabs:
                writer.transport.abort()
            while endpoint.pool.apart:
                await asyncio.sleep(0.01)

    run(test())


def test_a_stream_of_events_that_ends_leaves_nothing():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(STREAM + b"6\r\ndata:\n\r\n")
            await reader.readexactly(0)
            await asyncio.sleep(0.05)
            writer.write(b"0\r\n\r\n")

        async with Rig(upstream) as rig:
            (endpoint,) = rig.service.endpoints
            reader, writer = await rig.client()
            writer.write(get(b"/events"))
            await reader.readuntil(b"0\r\n\r\n")
            assert (endpoint.pool.apart, endpoint.pool.busy, endpoint.pool.idle) == (0, 0, [])
            writer.close()

    run(test())


async def sip(rig, reader, writer) -> bool:
    """Read 2 KB a second: more than `--limit rate` wants. Whether it was cut."""
    try:
        while True:
            await asyncio.sleep(0.1)
            if not await reader.read(200):
                return True
    except OSError:
        return True


def narrow(rig) -> socket.socket:
    """A connection whose window holds next to nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", rig.port))
    return sock


def slow(line: str) -> bool:
    """Whether this line of the log says that somebody was cut for being slow."""
    return f"slower than {SLOW // 1024} KiB/s" in line and "hold a quarter" in line


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_nobody_waits_for_slow_readers_and_the_slowest_pay():
    async def test():
        async with Rig(site, max_upstream=8, keepalive=8) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            sippers = []

            async def begin(count: int):
                for _ in range(count):
                    reader, writer = await asyncio.open_connection(sock=narrow(rig), limit=1024)
                    writer.write(get(b"/endless"))
                    sippers.append((asyncio.ensure_future(sip(rig, reader, writer)), writer))
                    await until(lambda: pool.busy + pool.lent == len(sippers))

            await begin(8)
            await until(lambda: len(pool.stalled) == 8)
            assert await served(rig) < 0.5
            assert (pool.busy, pool.lent, len(pool.idle)) == (7, 1, 1)  # lent, and given back
            await asyncio.sleep(1.2)
            assert not any(map(slow, rig.problems))  # there are not too many: nobody is cut
            await begin(4)
            assert await served(rig) < 0.5
            while pool.busy + pool.lent > 8:
                assert await served(rig, 1) < 0.5
            assert len(list(filter(slow, rig.problems))) in (4, 5)  # a request of ours may count
            for task, writer in sippers:
                task.cancel()
                writer.transport.abort()
            await until(lambda: not pool.busy + pool.lent)

    run(test())


def test_a_reader_that_has_lent_its_place_gives_its_connection_back():
    """To the pool, where there is room by then."""

    async def test():
        async with Rig(site, max_upstream=1, keepalive=1) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            reader, writer = await asyncio.open_connection(sock=narrow(rig))
            writer.write(get(b"/large"))
            await until(lambda: pool.stalled)
            assert await served(rig, 1) < 0.5
            assert (pool.busy, pool.lent, len(pool.idle)) == (0, 1, 1)
            (idle,) = pool.clear()
            idle.transport.close()
            head, body = await read_response(reader)
            assert status(head) == 200 and len(body) == LARGE
            assert (pool.busy, pool.lent, len(pool.idle)) == (0, 0, 1)
            assert pool.idle != [idle] and not pool.idle[0].lent
            writer.close()

    run(test())


def test_nobody_waits_for_slow_uploads_either():
    async def test():
        limits = {"replay": 1000}  # what is held before a connection is taken: not for long
        async with Rig(site, max_upstream=8, keepalive=8, limits=limits) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            uploads = []

            async def begin(count: int):
                for _ in range(count):
                    reader, writer = await rig.client()
                    header = b"Content-Length: 9000000"
                    writer.write(get(b"/", header, method=b"POST") + bytes(2000))
                    uploads.append((reader, writer))
                await until(lambda: pool.busy + pool.lent == len(uploads))

            await begin(8)
            assert await served(rig) < 0.5
            await begin(3)
            while pool.busy + pool.lent > 8:
                assert await served(rig, 1) < 0.5

            def answered() -> list[asyncio.StreamReader]:
                return [one for one, _ in uploads if one._buffer]

            await until(lambda: len(answered()) >= 3)  # what was written has to arrive, too
            assert len(answered()) in (3, 4)
            for reader in answered():
                assert (await read_head(reader)).startswith(b"HTTP/1.1 408 ")
            for _, writer in uploads:
                writer.transport.abort()

    run(test())


def test_an_upload_that_is_all_here_lends_nothing():
    """It waits for the upstream, which is to have no more than so many requests at once."""

    async def test():
        async with Rig(site, max_upstream=1, limits={"replay": 1000}) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            _, writer = await rig.client()
            header = b"Content-Length: 2001"
            writer.write(get(b"/held", header, method=b"POST") + bytes(2000))
            await until(lambda: pool.stalled)
            writer.write(b"x")
            await until(lambda: not pool.stalled)
            asked = asyncio.ensure_future(rig.ask(get()))
            await until(lambda: pool.waiting.size)
            writer.close()  # of who holds it
            assert status((await asked)[0]) == 200
            assert (pool.busy, pool.lent) == (0, 0)

    run(test())


def test_slow_readers_over_http2():
    def client(h2, rig):
        (endpoint,) = rig.service.endpoints
        pool = endpoint.pool
        # Their windows are never opened again.
        for _ in range(11):
            h2.send(h2.headers("/endless"))
        while pool.busy + pool.lent < 11:
            time.sleep(0.01)
        with H2Client(rig.port) as other:
            while pool.busy + pool.lent > 8:
                began = time.monotonic()
                assert other.get()[0] == 200
                assert time.monotonic() - began < 0.5
        assert any(map(slow, rig.problems))

    talk(site, client, max_upstream=8, keepalive=8)


def test_a_burst_dials_a_few_at_a_time():
    async def test():
        async def deaf(reader, writer):
            await reader.read()  # no handshake ever comes of it

        async with Rig(deaf, deadlines={"connect": 0.5}) as rig:
            upstream = Upstream("https://u", tls=True, host="127.0.0.1", port=rig.upstream_port)
            # Long enough for a busy machine to have all of them under way at the same time.
            async with Rig(deaf, upstreams=[upstream], deadlines={"connect": 2.0}) as front:
                (endpoint,) = front.service.endpoints
                asks = [asyncio.ensure_future(front.ask(get())) for _ in range(DIALS + 20)]
                while endpoint.pool.busy < DIALS + 20 or endpoint.dialling < DIALS:
                    await asyncio.sleep(0.01)
                assert endpoint.dialling == DIALS and endpoint.turns.size == 20
                assert {status(head) for head, _ in await asyncio.gather(*asks)} == {504}
                assert endpoint.dialling == endpoint.turns.size == 0

    run(test())


def test_newcomers_wait_while_many_bodies_have_no_connection_yet():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(response(b"ok"))

        async with Rig(upstream) as rig:
            service = rig.service
            service.waiting = PARKED
            answer = asyncio.ensure_future(rig.ask(get()))
            await until(lambda: service.admission.open)
            await asyncio.sleep(PACE)
            assert not service.clients
            service.waiting = 0
            head, _ = await answer
            assert status(head) == 200
            service.waiting = PARKED  # and it stays so: an upstream that takes no connections
            head, _ = await rig.ask(get())
            assert status(head) == 200
            service.waiting = 0

    run(test())


def test_bodies_that_have_no_connection_are_counted_until_they_have():
    async def test():
        async def deaf(reader, writer):
            await reader.read()

        async with Rig(deaf, deadlines={"connect": 0.3}) as rig:
            upstream = Upstream("https://u", tls=True, host="127.0.0.1", port=rig.upstream_port)
            async with Rig(deaf, upstreams=[upstream], deadlines={"connect": 0.3}) as front:
                body = bytes(10_000)
                ask = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n" + body
                clients = [await front.client() for _ in range(3)]
                for _, writer in clients:
                    writer.write(ask)
                await until(lambda: front.service.waiting == 3 * len(body))
                for reader, _ in clients:
                    assert status(await read_head(reader)) == 504
                assert front.service.waiting == 0
        async with Rig(echo_length) as rig:
            for _ in range(2):
                head, _ = await rig.ask(ask + body)
                assert status(head) == 200
                assert rig.service.waiting == 0

    async def echo_length(reader, writer):
        while True:
            await read_head(reader)
            await reader.readexactly(20_000)
            writer.write(response(b"ok"))

    run(test())


def test_bodies_that_wait_for_connections_are_bounded_in_sum():
    """Clients that are here already may all send at once; who sends little may go on."""

    async def test():
        async def deaf(reader, writer):
            await reader.read()

        async with Rig(deaf) as rig:
            upstream = Upstream("https://u", tls=True, host="127.0.0.1", port=rig.upstream_port)
            async with Rig(deaf, upstreams=[upstream], deadlines={"connect": 0.3}) as front:
                service = front.service
                service.waiting = MOST_WAITING
                ask = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
                many, few = await front.client(), await front.client()
                many[1].write(ask + bytes(SPARED + 1))
                assert status(await read_head(many[0])) == 503
                assert front.problems[-1].endswith("bytes of bodies wait for connections as may")
                assert service.waiting == MOST_WAITING
                few[1].write(ask + bytes(SPARED))
                await until(lambda: service.waiting == MOST_WAITING + SPARED)
                assert status(await read_head(few[0])) == 504
                assert service.waiting == MOST_WAITING
                service.waiting = 0
                again = await front.client()
                again[1].write(ask + bytes(SPARED + 1))
                await until(lambda: service.waiting == SPARED + 1)
                assert status(await read_head(again[0])) == 504

    run(test())


def test_a_queue_goes_round_by_client_and_a_flood_gives_way():
    async def test():
        order = []
        go_on = asyncio.Event()

        async def upstream(reader, writer):
            while True:
                head = await read_head(reader)
                order.append(head.split(b" ", 2)[1].decode())
                await go_on.wait()
                writer.write(response(b"ok"))

        options = {"trusted_proxies": LOOPBACK, "limits": {"queue": 4}}
        async with Rig(upstream, max_upstream=1, keepalive=1, **options) as rig:
            (endpoint,) = rig.service.endpoints

            async def ask(path: str, client: str):
                head, _ = await rig.ask(get(path.encode(), b"X-Forwarded-For: " + client.encode()))
                return status(head)

            async def queued(*pairs):
                tasks = []
                for path, client in pairs:
                    tasks.append(asyncio.ensure_future(ask(path, client)))
                    await asyncio.sleep(0.05)
                return tasks

            flood = await queued(*[(f"/a{n}", f"2001:db8::{n}") for n in range(6)])
            assert await flood[5] == 503  # one is served, four wait
            others = await queued(("/b", "192.0.2.1"), ("/c", "192.0.2.2"))
            assert [await flood[4], await flood[3]] == [503, 503]  # the newest go
            assert endpoint.pool.waiting.size == 4
            go_on.set()
            assert await asyncio.gather(*flood[:3], *others) == [200] * 5
            assert order == ["/a0", "/a1", "/b", "/c", "/a2"]

    run(test())


def test_one_client_is_a_whole_ipv6_network():
    async def test():
        options = {"accept_proxy": True, "trusted_proxies": LOOPBACK, "limits": {"per_client": 2}}
        async with Rig(site, **options) as rig:

            async def ask(address: bytes):
                reader, writer = await rig.client()
                writer.write(b"PROXY TCP6 %b 2001:db8:9::1 4711 443\r\n" % address + get())
                return status((await read_response(reader))[0])

            assert [await ask(b"2001:db8::%d" % n) for n in (1, 2, 3)] == [200, 200, 503]
            assert await ask(b"2001:db8:0:1::1") == 200

    run(test())


def test_requests_over_http2_count_for_their_client():
    async def upstream(reader, writer):
        while True:
            head = await read_head(reader)
            if b" /held " in head:
                await reader.read()
            writer.write(response(b"ok"))

    def client(h2, rig):
        settings = h2.until(frames.SETTINGS)[3]
        assert frames.MAX_CONCURRENT_STREAMS.to_bytes(2) + (4).to_bytes(4) in settings
        with H2Client(rig.port) as other:
            h2.send(h2.headers("/held") + h2.headers("/held"))
            other.send(other.headers("/held"))
            assert h2.get()[0] == 200  # the fourth
            h2.send(h2.headers("/held"))
            while rig.service.admission.streams != {b"127.0.0.1": 4}:
                time.sleep(0.01)
            other.send(other.headers())
            _, _, number, payload = other.until(frames.RST_STREAM)
            assert number == 3 and payload == frames.Code.REFUSED_STREAM.to_bytes(4)
            h2.send(frames.rst_stream(1, frames.Code.CANCEL))
            while rig.service.admission.streams != {b"127.0.0.1": 3}:
                time.sleep(0.01)
            assert other.get()[0] == 200
        while rig.service.admission.streams != {b"127.0.0.1": 2}:
            time.sleep(0.01)
        assert any("1 requests over HTTP/2 refused" in line for line in rig.problems)
        h2.sock.close()
        while rig.service.admission.streams:
            time.sleep(0.01)

    talk(upstream, client, limits={"per_client": 4})


def test_only_streams_of_events_are_beside_the_pool():
    """Not what names their type elsewhere: a visitor may be able to have that said."""

    async def main():
        async with Rig(site) as rig:
            pool, kept = rig.service.endpoints[0].pool, []
            for path, where in ((b"/other", (1, 0)), (b"/events", (1, 1))):
                reader, writer = await rig.client()
                writer.write(get(path))
                await reader.readuntil(b"data:")
                assert (pool.busy, pool.apart) == where
                kept.append(writer)

    run(main())
