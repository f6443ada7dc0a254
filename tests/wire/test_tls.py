"""What TLS adds to the ways a connection can begin and end."""

import asyncio
import contextlib
import socket

import pytest

from .rig import LOOPS, Rig, get, read_head, run

loops = pytest.mark.parametrize("loop", LOOPS)


@loops
@pytest.mark.parametrize("clean", [True, False])
def test_a_body_that_ends_with_the_connection_needs_a_close_notify(loop, clean):
    """RFC 9112 9.8: without one it is incomplete, and the client has to see that."""

    async def test():
        go = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await go.wait()
            if clean:
                writer.close()
            else:
                writer.transport.abort()

        async with Rig(upstream, tls=True) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await reader.readuntil(b"5\r\nhello\r\n")
            go.set()
            if clean:
                assert await reader.readexactly(5) == b"0\r\n\r\n"
            else:
                rest = b""
                with contextlib.suppress(OSError):
                    rest = await reader.read()
                assert rest == b""

    run(test(), loop)


@loops
@pytest.mark.parametrize("gone", [True, False])
def test_a_handshake_that_does_not_end(loop, gone):
    async def test():
        deadlines = {"tls_handshake": 0.1 if not gone else 60.0}
        async with Rig(read_head, tls=True, deadlines=deadlines) as rig:
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello
            while not any(getattr(c, "handshake", None) for c in rig.service.clients):
                await asyncio.sleep(0)
            rig.service.drain()
            assert rig.service.clients  # it may have come to ask one thing yet
            if gone:
                writer.close()
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            await rig.settled()
            writer.close()
            assert rig.service.counters.handshakes_failed == 1
            assert rig.service.admission.open == 0

    run(test(), loop)


@loops
def test_an_accepted_socket_does_not_wait_for_acknowledgements(loop):
    async def test():
        async with Rig(read_head, tls=True) as rig:
            await rig.client()
            while not rig.service.counters.handshakes:
                await asyncio.sleep(0)
            (front,) = rig.service.clients
            sock = front.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            front.abort()

    run(test(), loop)
