"""Limits and deadlines with options, and the pace that bodies have to keep."""

import asyncio
import time
from dataclasses import replace

import pytest

from rawproxy.config.model import Limits, Route, Site
from rawproxy.protocol.http2 import frames

from .rig import Rig, always, get, read_head, read_response, response, run
from .test_h2_front import ASK, echo, talk, whole

CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


async def swallow(reader, writer):
    """An upstream that takes a body, of whatever length, and answers at its end."""
    while True:
        head = await read_head(reader)
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        elif b"Content-Length: " in head:
            length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.write(response(b"ok"))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (get(b"/", b"Content-Length: 10", method=b"POST") + bytes(10), 200),
        (get(b"/", b"Content-Length: 11", method=b"POST") + bytes(11), 413),
        (CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", 200),
        (CHUNKED + b"b\r\n01234567890\r\n0\r\n\r\n", 413),
        (CHUNKED + b"6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n", 413),
    ],
)
def test_a_body_over_the_limit_is_413(sent, expected):
    async def test():
        async with Rig(swallow, limits={"body": 10}) as rig:
            assert status((await rig.ask(sent))[0]) == expected

    run(test())


def test_a_body_over_the_limit_in_http2():
    def client(h2, rig):
        h2.send(h2.headers("/", ("content-length", "11"), ended=False))
        assert whole(h2, 1)[0][0][":status"] == "413"
        h2.send(h2.headers(ended=False) + frames.data(3, bytes(11), False))
        assert whole(h2, 3)[0][0][":status"] == "413"

    talk(swallow, client, limits={"body": 10})


def test_a_trickled_upload_is_cut_and_a_long_honest_one_is_not():
    async def test():
        async with Rig(swallow, limits={"rate": 500}, deadlines={"request_body": 0.2}) as rig:

            async def upload(piece: bytes, pieces: int, pause: float) -> int:
                reader, writer = await rig.client()
                writer.write(get(b"/", b"Content-Length: 4000", method=b"POST"))
                answer = asyncio.ensure_future(read_response(reader))
                for _ in range(pieces):
                    writer.write(piece)
                    await asyncio.wait((answer,), timeout=pause)
                return status((await answer)[0])

            assert await asyncio.gather(
                upload(bytes(100), 40, 0.03),  # 3 KB/s for six deadlines: honest
                upload(bytes(1), 100, 0.02),  # never silent, 50 B/s
            ) == [200, 408]

    run(test())


def slow_devices() -> tuple[Site, ...]:
    """Two routes; on one of them bodies may be slow."""
    limits = Limits(rate=500)
    slow = Route("/device", limits=replace(limits, rate=10))
    return (Site(routes=(Route("/", limits=limits), slow)),)


@pytest.mark.parametrize(("path", "expected"), [(b"/", 408), (b"/device/1", 200)])
def test_a_route_may_allow_slow_bodies(path, expected):
    async def test():
        deadlines = {"request_body": 0.3}
        async with Rig(swallow, sites=slow_devices(), deadlines=deadlines) as rig:
            reader, writer = await rig.client()
            writer.write(get(path, b"Content-Length: 50", method=b"POST"))
            answer = asyncio.ensure_future(read_response(reader))
            for _ in range(50):
                writer.write(b"x")
                await asyncio.wait((answer,), timeout=0.02)
            assert status((await answer)[0]) == expected
            writer.close()

    run(test())


@pytest.mark.parametrize(("path", "expected"), [("/", "408"), ("/device/1", "200")])
def test_a_route_may_allow_slow_bodies_in_http2(path, expected):
    def client(h2, rig):
        h2.send(h2.headers(path, ended=False))
        for n in range(50):
            h2.send(frames.data(1, b"x", n == 49))
            time.sleep(0.02)
        assert whole(h2, 1)[0][0][":status"] == expected

    talk(swallow, client, sites=slow_devices(), deadlines={"request_body": 0.3})


def test_a_trickled_upload_in_http2():
    def client(h2, rig):
        h2.send(h2.headers(ended=False))
        for _ in range(10):
            h2.send(frames.data(1, b"x", False))
        assert whole(h2, 1)[0][0][":status"] == "408"

    talk(swallow, client, limits={"rate": 500}, deadlines={"request_body": 0.2})


def test_a_reader_that_sips_is_cut():
    async def test():
        cut = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            try:
                for _ in range(1000):
                    writer.write(bytes(100_000))
                    await writer.drain()
            finally:
                cut.set()

        async with Rig(upstream, limits={"rate": 1 << 30}, deadlines={"response_body": 0.3}) as rig:
            reader, writer = await rig.client(limit=4096)
            writer.write(get())
            while not cut.is_set():
                await reader.read(1000)
                await asyncio.sleep(0.01)
            assert any("next to nothing" in line for line in rig.problems)

    run(test())


def test_while_connections_are_scarce_a_slow_body_holds_none():
    async def test():
        async with Rig(swallow, max_upstream=3, deadlines={"queue": 0.2}) as rig:
            pool = rig.service.endpoints[0].pool
            slow = [await rig.client() for _ in range(8)]
            for _, writer in slow:
                writer.write(get(b"/", b"Content-Length: 9", method=b"POST") + b"1")
            while len(rig.service.clients) < 8 or pool.busy < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert pool.busy == 2 and not pool.waiting
            assert status((await rig.ask(get()))[0]) == 200
            for reader, writer in slow:  # each is served once its body is here
                writer.write(b"23456789")
                assert status((await read_response(reader))[0]) == 200
                writer.close()

    run(test())


def test_requests_on_one_connection():
    async def test():
        async with Rig(always(response(b"ok")), limits={"requests": 2}) as rig:
            reader, writer = await rig.client()
            for closes in (False, True):
                writer.write(get())
                head, _ = await read_response(reader)
                assert (b"Connection: close" in head) is closes
            assert await reader.read() == b""

    run(test())


def test_requests_on_one_connection_of_http2():
    def client(h2, rig):
        assert h2.get()[0] == 200
        h2.send(h2.headers())
        assert h2.until(frames.GOAWAY)[3][:4] == b"\x7f\xff\xff\xff"
        assert h2.until(frames.DATA)[3] == b"ok"
        assert h2.until(frames.GOAWAY)[3] == b"\0\0\0\3\0\0\0\0"

    talk(always(response(b"ok")), client, limits={"requests": 2})


@pytest.mark.parametrize("limit", ["connections", "per_client"])
def test_connections(limit):
    async def test():
        async with Rig(always(response(b"ok")), limits={limit: 2}) as rig:
            clients = [await rig.client() for _ in range(2)]
            for reader, writer in clients:
                writer.write(get())
                assert status((await read_response(reader))[0]) == 200
            head, _ = await rig.ask(get())
            assert status(head) == 503 and b"Connection: close" in head
            clients[0][1].close()
            while rig.service.admission.open > 1:
                await asyncio.sleep(0.01)
            assert status((await rig.ask(get()))[0]) == 200
            while not any("1 connections refused" in line for line in rig.problems):
                await asyncio.sleep(0.01)

    run(test())


@pytest.mark.parametrize("limit", ["connections", "per_client"])
def test_connections_over_tls_are_closed_before_the_handshake(limit):
    async def test():
        async with Rig(always(response(b"ok")), True, limits={limit: 1}) as rig:
            _, first = await rig.client()
            with pytest.raises(OSError):
                await rig.client()
            first.close()

    run(test())


def test_a_trusted_proxy_speaks_for_many():
    import ipaddress

    async def test():
        trusted = (ipaddress.ip_network("127.0.0.0/8"),)
        async with Rig(
            always(response(b"ok")), limits={"per_client": 1}, trusted_proxies=trusted
        ) as rig:
            clients = [await rig.client() for _ in range(3)]
            for reader, writer in clients:
                writer.write(get())
                assert status((await read_response(reader))[0]) == 200

    run(test())


UPGRADE = get(
    b"/ws", b"Connection: Upgrade", b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13",
)  # fmt: skip


def test_tunnels():
    async def test():
        async with Rig(echo, limits={"tunnels": 1}) as rig:
            reader, writer = await rig.client()
            writer.write(UPGRADE)
            assert status(await read_head(reader)) == 101
            assert rig.service.admission.open == 1
            assert status((await rig.ask(UPGRADE))[0]) == 503
            writer.close()
            while rig.service.admission.open:
                await asyncio.sleep(0.01)

    run(test())


def test_an_http2_tunnel_may_be_silent_longer_than_a_body():
    def client(h2, rig):
        h2.send(frames.headers(1, h2.encoder.encode(ASK), False))
        h2.send(frames.data(1, b"one", False))
        got = b""
        while got != b"hione":
            got += h2.until(frames.DATA)[3]
        asyncio.run(asyncio.sleep(0.5))
        h2.send(frames.data(1, b"two", False))
        assert h2.until(frames.DATA, frames.RST_STREAM)[3] == b"two"
        h2.send(frames.data(1, b"", True))

    talk(echo, client, deadlines={"request_body": 0.1, "response_body": 0.1})
