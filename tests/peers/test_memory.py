"""A gigabyte against a peer that stops, and five thousand tunnels: memory stays where it was."""

import asyncio
import contextlib
import pathlib
import resource
import socket
import ssl
import threading
import time

import pytest

from tests.process import CA, LEAF, RawProxy

GIGABYTE = 1_000_000_000
ALLOWED = 64 * 1024 * 1024  # bytes above idle
STALL = 1.0  # seconds during which one side does not read: far more than filling the buffers takes
TUNNELS = 5000
BLOCK = bytes(1 << 20)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def peak(proxy: RawProxy) -> int:
    """The most memory the process ever had resident, in bytes."""
    status = pathlib.Path(f"/proc/{proxy.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def read_head(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1)
    return data


def read_all(sock: socket.socket, amount: int) -> int:
    buffer = bytearray(1 << 20)
    got = 0
    while got < amount and (size := sock.recv_into(buffer)):
        got += size
    return got


def send_all(sock: socket.socket, amount: int) -> None:
    while amount > 0:
        sock.sendall(BLOCK[: min(amount, len(BLOCK))])
        amount -= len(BLOCK)


@contextlib.contextmanager
def upstream(tls: bool, serve):
    """An upstream in a thread that serves one connection by `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        LEAF.configure_cert(context)

        def run():
            server.settimeout(60)
            sock, _ = server.accept()
            sock.settimeout(60)
            with context.wrap_socket(sock, server_side=True) if tls else sock as connection:
                serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        scheme = "https" if tls else "http"
        yield f"{scheme}://localhost:{server.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()


def options(url: str) -> list[str]:
    """The upstream serves one connection only, so there is no trying to verify it first."""
    verify = ["--upstream-verify", "off"] if url.startswith("https") else []
    return ["--upstream", url, *verify]


@contextlib.contextmanager
def client(proxy: RawProxy, tls: bool):
    sock = socket.create_connection(("localhost", proxy.https if tls else proxy.http), 60)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        sock = context.wrap_socket(sock, server_hostname="localhost")
    with sock:
        yield sock


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_slow_reader_of_a_gigabyte(tls):
    def serve(sock):
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        send_all(sock, GIGABYTE)

    with upstream(tls, serve) as url, RawProxy(*options(url), https=tls) as proxy:
        idle = peak(proxy)
        with client(proxy, tls) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_head(sock)
            time.sleep(STALL)
            assert read_all(sock, GIGABYTE) == GIGABYTE
        print(f"peak {(peak(proxy) - idle) / 1e6:.1f} MB above idle")
        assert peak(proxy) - idle < ALLOWED


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_slow_upstream_under_a_gigabyte(tls):
    def serve(sock):
        read_head(sock)
        time.sleep(STALL)
        assert read_all(sock, GIGABYTE) == GIGABYTE
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with upstream(tls, serve) as url, RawProxy(*options(url), https=tls) as proxy:
        idle = peak(proxy)
        with client(proxy, tls) as sock:
            sock.sendall(
                b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % GIGABYTE
            )
            send_all(sock, GIGABYTE)
            assert read_head(sock).startswith(b"HTTP/1.1 200 OK")
        print(f"peak {(peak(proxy) - idle) / 1e6:.1f} MB above idle")
        assert peak(proxy) - idle < ALLOWED


def test_five_thousand_tunnels():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * TUNNELS:
        pytest.skip(f"needs {4 * TUNNELS} file descriptors, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def echo(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    async def open_one(port, number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2048)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        return reader, writer, b"%06d" % number

    async def test():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, limit=2048, backlog=1000)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = ["--upstream", url, "--max-upstream", str(TUNNELS + 10), "--access-log", "off"]
        with RawProxy(*options, https=False) as proxy:
            idle = proxy.rss()
            tunnels = []
            for first in range(0, TUNNELS, 100):
                batch = [open_one(proxy.http, first + step) for step in range(100)]
                tunnels += await asyncio.gather(*batch)
            for _, writer, word in tunnels:
                writer.write(word)
            for reader, _, word in tunnels:
                assert await reader.readexactly(len(word)) == word
            each = (proxy.rss() - idle) / TUNNELS
            print(f"{each / 1024:.1f} KiB for each of {TUNNELS} tunnels")
            assert each < 32 * 1024
            for _, writer, _ in tunnels:
                writer.close()
            await asyncio.gather(*[writer.wait_closed() for _, writer, _ in tunnels])
        server.close()

    try:
        asyncio.run(asyncio.wait_for(test(), 120))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
