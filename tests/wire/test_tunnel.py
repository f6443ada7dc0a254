"""After a 101: bytes, both ways, to the end."""

import asyncio
import contextlib
import gc
import hashlib
import os
import socket
import struct

import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.tunnel import Splice, Tunnel

from .rig import LOOPS, Rig, get, read_head, read_response, response, run

KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASK = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY)
GRANT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)

pytestmark = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


async def echo(reader, writer):
    head = await read_head(reader)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
    writer.write(GRANT + b"hi")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.mark.parametrize("loop", LOOPS)
def test_leftovers_first_then_everything(tls, loop):
    blob = os.urandom(3_000_000)

    async def test():
        async with Rig(echo, tls) as rig:
            reader, writer = await rig.client()
            writer.write(ASK + b"early")
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            for line in (
                b"Upgrade: websocket",
                b"Connection: Upgrade",
                b"Sec-WebSocket-Protocol: chat",
            ):
                assert line in head
            assert await reader.readexactly(7) == b"hiearly"
            assert rig.service.counters.tunnels == 1

            async def push():
                for at in range(0, len(blob), 100_000):
                    writer.write(blob[at : at + 100_000])
                    await writer.drain()

            pushing = asyncio.ensure_future(push())
            got = await reader.readexactly(len(blob))
            await pushing
            assert hashlib.sha256(got).digest() == hashlib.sha256(blob).digest()
            writer.close()
            await rig.settled()
            assert rig.service.counters.tunnels == 0
            assert rig.service.endpoints[0].pool.idle == []
            assert rig.log[0].endswith(b' 101 3000007 "-" "-"\n')

    run(test(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_ended_tunnel_leaves_nothing_for_the_collector(tls, loop):
    """Cycles would hold sockets and buffers until it looks at old objects: hundreds of tunnels."""

    async def test():
        async with Rig(echo, tls) as rig:
            kinds = (Splice, Tunnel, H1Connection, Exchange, TlsTransport)
            gc.collect()
            before = {id(one) for one in gc.get_objects() if isinstance(one, kinds)}
            gc.disable()
            try:
                for _ in range(3):
                    reader, writer = await rig.client()
                    writer.write(ASK)
                    await read_head(reader)
                    writer.close()
                    await rig.settled()
                await asyncio.sleep(0)
                left = [one for one in gc.get_objects() if isinstance(one, kinds)]
                assert [one for one in left if id(one) not in before] == []
            finally:
                gc.enable()

    run(test(), loop)


def test_rule_34_a_refusal_is_an_ordinary_response(tls):
    async def test():
        async def upstream(reader, writer):
            while True:
                head = await read_head(reader)
                status = b"403 Forbidden" if b"Upgrade" in head else b"200 OK"
                writer.write(response(b"no", status=status))

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            head, _ = await read_response(reader)
            assert head.startswith(b"HTTP/1.1 403")
            writer.write(get())
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 200")
            assert rig.connections == 1

    run(test())


@pytest.mark.parametrize(
    "grant",
    [GRANT.replace(ACCEPT, b"x" * 28), GRANT.replace(b"Upgrade: websocket", b"Upgrade: h2c")],
)
def test_rule_34_a_101_that_is_not_ours_is_502(tls, grant):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(grant)
            await reader.read()

        async with Rig(upstream, tls) as rig:
            assert (await rig.ask(ASK))[0].startswith(b"HTTP/1.1 502")

    run(test())


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding: chunked", b"Content-Length: 0", b"Content-Length: 9"]
)
def test_rule_42_a_101_that_is_framed_becomes_a_tunnel(tls, line):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(GRANT[:-2] + line + b"\r\n\r\nhi")
            writer.write(await reader.readexactly(5))
            await reader.read()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 101 ") and line.partition(b":")[0] not in head
            assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in head
            writer.write(b"bytes")
            assert await reader.readexactly(7) == b"hibytes"

    run(test())


def test_rule_33_426_keeps_its_upgrade(tls):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(
                response(
                    b"",
                    b"Upgrade: websocket",
                    b"Connection: upgrade",
                    status=b"426 Upgrade Required",
                )
            )
            await reader.read()

        async with Rig(upstream, tls) as rig:
            head, _ = await rig.ask(get())
            assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head

    run(test())


def test_rule_35_half_close_passes_both_ways(tls):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(GRANT)
            got = await reader.read()
            if not tls:  # TLS has no half-close here: the tunnel ends as a whole
                writer.write(b"after your end: " + got)

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            await read_head(reader)
            writer.write(b"bye")
            if tls:
                await asyncio.sleep(0.05)
                writer.close()
            else:
                writer.write_eof()
                assert await reader.read() == b"after your end: bye"
            await rig.settled()

    run(test())


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_a_cut_is_passed_on(tls, side):
    async def test():
        over = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(GRANT)
            if side == "upstream":
                await reader.readexactly(1)
                writer.transport.abort()
            try:
                await reader.read()
            finally:
                over.set()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            await read_head(reader)
            writer.write(b"x")
            if side == "client":
                writer.transport.abort()
            else:
                with contextlib.suppress(OSError):
                    assert await reader.read() == b""
                writer.close()
            await over.wait()
            await rig.settled()

    run(test())


def test_an_idle_tunnel_ends(tls):
    async def test():
        async with Rig(echo, tls, deadlines={"tunnel_idle": 0.05}) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            await read_head(reader)
            with contextlib.suppress(OSError):
                assert await reader.read() == b"hi"
            await rig.settled()

    run(test())


def test_backpressure_in_a_tunnel(tls):
    """A client that does not read stops the upstream; nothing is lost once it reads again."""

    async def test():
        sent = 0
        go = asyncio.Event()

        async def upstream(reader, writer):
            nonlocal sent
            await read_head(reader)
            writer.write(GRANT)
            while sent < 40_000_000:
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
                go.set()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client(limit=1000)
            writer.write(ASK)
            await read_head(reader)
            await go.wait()
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 40_000_000
            size = 0
            while data := await reader.read(1_000_000):
                size += len(data)
            assert size == 40_000_000
            writer.close()

    run(test())


@pytest.mark.parametrize("loop", LOOPS)
def test_the_last_frame_of_an_upstream_that_takes_no_more(tls, loop):
    """A message too big: it says Close and resets, while the client still sends."""
    if not tls:
        return  # a plain reset is passed on as one, and may overtake what came before it
    close = b"\x88\x02\x03\xf1"

    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(GRANT)
            await reader.readexactly(100_000)
            writer.write(close)
            await asyncio.sleep(0.01)  # TLS of asyncio's has it in a buffer
            sock = writer.get_extra_info("socket")
            if sock is not None:  # the proxy was not faster
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with Rig(upstream, tls) as rig:
            for _ in range(5):  # it is chance in which order the proxy notices
                reader, writer = await rig.client()
                writer.write(ASK)
                await read_head(reader)
                for _ in range(30):
                    writer.write(bytes(10_000))
                    await asyncio.sleep(0)
                assert await reader.readexactly(4) == close
                writer.transport.abort()
                await rig.settled()

    run(test(), loop)
