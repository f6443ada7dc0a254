"""Long bodies, which are read into one place: whole, whatever comes behind; and memory for slow clients."""

import asyncio
import hashlib
import socket

import pytest

from rawproxy.client.arrival import QUEUED
from rawproxy.client.listener import AHEAD
from rawproxy.proxy.worker_groups import CROWD
from rawproxy.upstream.bulk_reader import FEW, LITTLE, MOST

from .rig import LOOPS, Rig, get, read_head, read_response, response, run
from .test_shares import narrow, until
from .test_tunnel import ASK, GRANT

BODY = bytes(range(256)) * 8192  # two megabytes that repeat nowhere within a read
CHUNK = 100_000


def chunked(body: bytes) -> bytes:
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


ANSWERS = {
    "length": response(BODY),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY),
    "until the end": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
}


async def read_body(reader: asyncio.StreamReader) -> bytes:
    head, body = await read_response(reader)
    while b"transfer-encoding: chunked" in head.lower():
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if not size:
            break
    return body


@pytest.mark.parametrize("loop_factory", LOOPS)
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("framed", ANSWERS)
def test_a_long_body_is_whole_and_the_next_response_too(framed, tls, loop_factory):
    """A short one, another long one, and a tunnel, over the same connection."""

    async def upstream(reader, writer):
        while True:
            head = await read_head(reader)
            if b"Upgrade: websocket" in head:
                writer.write(GRANT)
                while data := await reader.read(65536):
                    writer.write(data)
                return
            if b" /long " not in head:
                writer.write(response(b"short"))
                continue
            writer.write(ANSWERS[framed])
            if framed == "until the end":
                await writer.drain()
                writer.close()
                return

    async def test():
        async with Rig(upstream, tls, max_upstream=1) as rig:
            (endpoint,) = rig.service.endpoints
            reader, writer = await rig.client()
            digest = hashlib.sha256(BODY).digest()
            for path in (b"/long", b"/short", b"/long", b"/long", b"/short"):
                writer.write(get(path))
                body = await read_body(reader)
                if path == b"/short":
                    assert body == b"short"
                else:
                    assert hashlib.sha256(body).digest() == digest
            for idle in endpoint.pool.idle:  # short ones do not pay for what long ones need
                assert idle.transport.get_protocol() is idle
            writer.write(ASK)
            await read_head(reader)
            for size in (10, 300_000):
                writer.write(BODY[:size])
                assert await reader.readexactly(size) == BODY[:size]
            assert rig.connections == (4 if framed == "until the end" else 1)
            assert not rig.problems

    run(test(), loop_factory)


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_what_passes_in_one_place_is_nobody_elses(loop_factory):
    """From TLS to TLS: several bodies at once, to clients some of which read in fits."""
    size = 1_500_000

    def body(number: int) -> bytes:
        """No eight bytes of any of them stand anywhere else."""
        return b"".join(b"%02d%06d" % (number, at) for at in range(size // 8))

    async def upstream(reader, writer):
        while True:
            number = int((await read_head(reader)).split(b" ", 2)[1][1:])
            writer.write(response(body(number)))

    async def ask(rig: Rig, number: int, rest: float) -> bytes:
        reader, writer = await rig.client()
        got = b""
        for _ in range(2):
            writer.write(get(b"/%d" % number))
            await read_head(reader)
            if rest:
                reader._transport.pause_reading()
                await asyncio.sleep(rest)
                reader._transport.resume_reading()
            got = await reader.readexactly(size)
            assert got == body(number)
        writer.close()
        return got

    async def test():
        async with Rig(upstream, True) as rig:
            rests = (0, 0.05, 0, 0.1, 0, 0.02)
            await asyncio.gather(*(ask(rig, at, rest) for at, rest in enumerate(rests)))
            assert not rig.problems

    run(test(), loop_factory)


def test_what_slow_readers_leave_in_memory_is_bounded():
    async def upstream(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(BODY)
            await writer.drain()

    async def test():
        count = 2 * FEW
        async with Rig(upstream) as rig:
            (endpoint,) = rig.service.endpoints
            rig.service.crowd = 0
            kept = []
            for number in range(count):
                reader, writer = await asyncio.open_connection(sock=narrow(rig), limit=1024)
                writer.write(get(b"/"))
                kept.append((reader, writer))
                await until(lambda at_least=number: len(endpoint.pool.stalled) > at_least)
            transports = [one.transport for one in rig.service.clients]
            held = sorted(one.get_write_buffer_size() for one in transports)
            assert len(held) == count
            assert held[-1] <= QUEUED + MOST
            assert held[count - FEW - 1] <= QUEUED + LITTLE
            # Of each the kernel took as much as it may, and one piece more.
            sent = [one.client_has() for one in rig.service.clients]
            assert max(sent) <= 2 * AHEAD
            for _, writer in kept:
                writer.transport.abort()

    run(test())


def test_in_a_crowd_the_kernel_takes_less_ahead():
    async def ahead(rig: Rig, count: int) -> int:
        await rig.client()
        await until(lambda: len(rig.service.clients) == count)
        newest = max(rig.service.clients, key=lambda one: one.slot.port)
        sock = newest.transport.get_extra_info("socket")
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    async def test():
        async with Rig(lambda reader, writer: read_head(reader), max_upstream=8) as rig:
            assert rig.service.crowd == 2
            found = [await ahead(rig, count) for count in range(1, 5)]
            assert found == [0, 0, AHEAD, AHEAD]  # 0: as the system has it

    run(test())


def test_few_connections_are_no_crowd():
    async def test():
        async with Rig(lambda reader, writer: read_head(reader)) as rig:
            assert rig.service.crowd == CROWD

    run(test())
