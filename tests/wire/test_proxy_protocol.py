"""The PROXY protocol in, from trusted peers only, and out; Forwarded and X-Real-IP."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl

import pytest

from rawproxy.config.model import Upstream
from rawproxy.protocol.proxy_header import AnnouncedAddresses, read, write

from .rig import CA, LEAF, Rig, get, read_head, read_response, response, run

ROUTE = AnnouncedAddresses("192.0.2.7", 50000, "203.0.113.1", 443)
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
TRUSTING = {"accept_proxy": True, "trusted_proxies": LOOPBACK}


async def mirror(reader, writer):
    """An upstream whose answer is what it was asked."""
    while True:
        writer.write(response(await read_head(reader)))


async def told(rig, header: bytes, pause: int = 0, request: bytes = b"") -> bytes:
    """What the upstream saw of a request behind `header`; the client speaks TLS if the rig does."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    rig._writers.append(writer)
    if pause:
        for byte in header:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.001)
    else:
        writer.write(header)
    if rig.tls:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        await writer.start_tls(context, server_hostname="localhost")
    assert loop.is_running()
    writer.write(request or get())
    return (await read_response(reader))[1]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pause", [0, 1])
def test_in(tls, version, pause):
    async def test():
        async with Rig(mirror, tls, **TRUSTING) as rig:
            seen = await told(rig, write(version, ROUTE), pause)
            assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in seen
            seen = await told(rig, write(version, None))
            assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in seen
        assert rig.log[0].startswith(b"192.0.2.7 ")

    run(test())


@pytest.mark.parametrize("sent", [get(), b"PROXY TCP4 x\r\n", b"\r\n\r\n\0\r\nQUIT\n" + bytes(9)])
def test_a_trusted_peer_without_a_header_is_closed(sent):
    async def test():
        async with Rig(mirror, **TRUSTING) as rig:
            reader, writer = await rig.client()
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            while rig.service.admission.open:
                await asyncio.sleep(0.01)
            assert any(line.startswith("127.0.0.1: ") for line in rig.problems)

    run(test())


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 1"])
def test_a_header_that_does_not_come_or_end(sent):
    async def test():
        async with Rig(mirror, deadlines={"tls_handshake": 0.1}, **TRUSTING) as rig:
            reader, writer = await rig.client()
            writer.write(sent)
            assert await reader.read() == b""
            _, writer = await rig.client()
            writer.close()  # one that goes at once
            while rig.service.admission.open:
                await asyncio.sleep(0.01)

    run(test())


def test_from_anybody_else_it_is_no_request():
    async def test():
        async with Rig(
            mirror, accept_proxy=True, trusted_proxies=(ipaddress.ip_network("10.0.0.0/8"),)
        ) as rig:
            head, _ = await rig.ask(write(1, ROUTE) + get())
            assert head.startswith(b"HTTP/1.1 400 ")
            assert rig.connections == 0

    run(test())


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_out(tls, version):
    """Before TLS, and one for each request: no connection is shared between clients."""

    async def test():
        seen = []

        async def upstream(sock):
            # The ClientHello may come right behind the header: byte by byte from the socket itself.
            loop = asyncio.get_running_loop()
            data = b""
            while read(data) is None:
                data += await loop.sock_recv(sock, 1)
            seen.append(read(data).route)
            context = None
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                LEAF.configure_cert(context)
            reader = asyncio.StreamReader()
            transport, protocol = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader), sock, ssl=context
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                await mirror(reader, writer)
            writer.close()

        async def accept(listener):
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    sock, _ = await asyncio.get_running_loop().sock_accept(listener)
                    group.create_task(upstream(sock))

        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]
        upstreams = [Upstream("u", tls, "127.0.0.1", port)]
        async with Rig(mirror, tls, send_proxy=version, upstreams=upstreams) as rig:
            accepting = asyncio.create_task(accept(listener))
            endpoint = rig.service.endpoints[0]
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get())
                assert (await read_response(reader))[1].startswith(b"GET / HTTP/1.1\r\n")
            here = writer.get_extra_info("sockname")
            assert seen == [AnnouncedAddresses("127.0.0.1", here[1], "127.0.0.1", rig.port)] * 2
            assert not endpoint.pool.idle
            await accepting
            listener.close()

    run(test())


def test_forwarded_and_real_ip():
    async def test():
        async with Rig(mirror, send_forwarded=True, send_real_ip=True) as rig:
            _, seen = await rig.ask(get(b"/", b"X-Real-IP: 6.6.6.6", b"Forwarded: for=6.6.6.6"))
            assert b"6.6.6.6" not in seen
            assert b'\r\nForwarded: for=127.0.0.1;proto=http;host="h"\r\n' in seen
            assert b"\r\nX-Real-IP: 127.0.0.1\r\n" in seen

    run(test())
