"""Long bodies, which are read into one place: whole, whatever comes behind; and memory for slow clients."""

import asyncio
import hashlib
import socket
import time

import pytest

from rawproxy.net.backpressure import AHEAD, AHEAD_UNPROVEN, PROOFS, QUEUED
from rawproxy.protocol.http2 import frames
from rawproxy.proxy.worker_groups import CROWD
from rawproxy.upstream.bulk_reader import FEW, LITTLE, MOST, BulkReader

from .h2raw import H2Client
from .rig import LOOPS, Rig, get, read_head, read_response, response, run
from .test_h2_front import talk
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
@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_while_many_clients_are_slow_every_response_is_read_little_at_a_time(framed, loop_factory):
    async def upstream(reader, writer):
        while b"Upgrade: websocket" not in (head := await read_head(reader)):
            writer.write(ANSWERS[framed] if b" /long " in head else response(b"short"))
        writer.write(GRANT)
        while data := await reader.read(65536):
            writer.write(data)

    async def test():
        async with Rig(upstream) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            reader, writer = await rig.client()

            async def served(path: bytes, body: bytes) -> type:
                writer.write(get(path))
                assert await read_body(reader) == body
                await until(lambda: pool.idle)
                return type(pool.idle[0].transport.get_protocol())

            pool.lent = FEW
            assert len(endpoint.where_to_read()) == LITTLE
            for path, body in ((b"/", b"short"), (b"/long", BODY), (b"/", b"short")):
                assert await served(path, body) is BulkReader
            pool.lent = 0
            assert await served(b"/long", BODY) is type(pool.idle[0])
            pool.lent = FEW  # the connection is made again: a tunnel wants one of its own
            writer.write(ASK)
            await read_head(reader)
            assert rig.connections == 2
            writer.write(BODY[:300_000])
            assert await reader.readexactly(300_000) == BODY[:300_000]
            pool.lent = 0
            writer.close()

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
            assert held[-1] <= MOST
            assert held[count - FEW - 1] <= LITTLE
            # Of each the kernel took as much as it may, what the window let go, and one piece more.
            taken = [
                one.sent - one.transport.get_write_buffer_size() for one in rig.service.clients
            ]
            print(sorted(taken), held)
            assert max(taken) <= AHEAD_UNPROVEN + 2 * LITTLE
            for _, writer in kept:
                writer.transport.abort()

    run(test())


def test_in_a_crowd_the_kernel_takes_less_ahead():
    async def newest(rig: Rig, count: int) -> int:
        await rig.client()
        await until(lambda: len(rig.service.clients) == count)
        return ahead(max(rig.service.clients, key=lambda one: one.slot.port))

    async def test():
        async with Rig(lambda reader, writer: read_head(reader), max_upstream=8) as rig:
            assert rig.service.crowd == 2
            found = [await newest(rig, count) for count in range(1, 5)]
            assert found == [0, 0, AHEAD_UNPROVEN, AHEAD_UNPROVEN]  # 0: as the system has it

    run(test())


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_from_a_client_that_takes_what_there_is_the_kernel_may_take_more_ahead(tls):
    async def test():
        async with Rig(short_or_long, tls) as rig:
            rig.service.crowd = 0
            reader, writer = await rig.client()
            small(writer.get_extra_info("socket"))
            writer.write(get(b"/"))
            assert await read_body(reader) == b"short"
            (one,) = rig.service.clients
            usual = one.transport.get_write_buffer_limits()[1]
            assert usual == 0 or tls  # TLS counts whole records, and has its own bound
            assert one.slot.unproven == PROOFS and ahead(one) == AHEAD_UNPROVEN
            for times in range(PROOFS):
                assert one.slot.unproven <= PROOFS - times
                assert not one.slot.unproven or ahead(one) == AHEAD_UNPROVEN
                reader._transport.pause_reading()
                writer.write(get(b"/long"))
                await until(lambda: one.blocked)
                reader._transport.resume_reading()
                assert await read_body(reader) == BODY
            assert not one.slot.unproven and ahead(one) == AHEAD
            assert one.transport.get_write_buffer_limits()[1] == (usual if tls else QUEUED)

    run(test())


def test_the_same_over_http2():
    def client(_, rig):
        rig.service.crowd = 0
        window = 3 * len(BODY)
        with H2Client(rig.port, {frames.INITIAL_WINDOW_SIZE: window}) as h2:
            small(h2.sock)
            h2.send(frames.window_update(0, window))
            assert h2.get("/") == (200, b"short")
            (one,) = (one for one in rig.service.clients if one.slot.unproven)
            assert ahead(one) == AHEAD_UNPROVEN
            for times in range(PROOFS):
                assert one.slot.unproven <= PROOFS - times
                assert not one.slot.unproven or ahead(one) == AHEAD_UNPROVEN
                h2.send(h2.headers("/long"))
                while not one.blocked:
                    time.sleep(0.01)
                h2.send(frames.window_update(0, len(BODY)))
                assert h2.answer(h2.next_id - 2) == (200, BODY)
            assert not one.slot.unproven and ahead(one) == AHEAD

    talk(short_or_long, client)


async def short_or_long(reader, writer):
    while True:
        head = await read_head(reader)
        writer.write(response(BODY) if b" /long " in head else response(b"short"))


def small(sock: socket.socket) -> None:
    """Or the kernel would soon take a whole body by itself."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def ahead(one) -> int:
    """How far the kernel may be ahead of this client."""
    sock = one.transport.get_extra_info("socket")
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


def test_a_tunnel_of_a_crowd_may_be_ahead_as_far_as_any():
    async def upstream(reader, writer):
        await read_head(reader)
        writer.write(GRANT)
        await reader.read()

    async def test():
        async with Rig(upstream) as rig:
            rig.service.crowd = 0
            reader, writer = await rig.client()
            await until(lambda: rig.service.clients)
            (one,) = rig.service.clients
            transport = one.transport
            writer.write(ASK)
            await read_head(reader)
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == AHEAD
            assert transport.get_write_buffer_limits()[1] == QUEUED
            writer.close()

    run(test())


def test_few_connections_are_no_crowd():
    async def test():
        async with Rig(lambda reader, writer: read_head(reader)) as rig:
            assert rig.service.crowd == CROWD

    run(test())
