"""The admin server: what it answers, to whom, and what it survives."""

import asyncio
import contextlib
import errno
import json
import socket
import struct

import pytest

from rawproxy.admin import server as module
from rawproxy.admin.h11_server import Bounds
from rawproxy.admin.server import Admin, page, unready
from rawproxy.config.model import Address
from tests.wire.rig import Rig, always, get, response, run

HOST = b"Host: localhost\r\n"


HERE = Address("127.0.0.1", 0)


@contextlib.asynccontextmanager
async def serving(source=None, address=HERE, known=(), **bounds):
    async def nothing() -> dict:
        return {"workers": [], "retired": {}}

    server = Admin(address, source or nothing, known, Bounds(**bounds))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def of(rig: Rig):
    async def source() -> dict:
        return {"workers": [rig.service.snapshot()], "retired": {}}

    return source


async def ask(
    port: int, path: bytes, *lines: bytes, method=b"GET", host: bytes = HOST, where="127.0.0.1"
):
    reader, writer = await asyncio.open_connection(where, port)
    writer.write(method + b" " + path + b" HTTP/1.1\r\n" + host + b"".join(lines) + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    body = b"" if method == b"HEAD" else await reader.readexactly(length)
    writer.close()
    return int(head.split()[1]), head, body


def test_a_client_that_resets_within_its_request_is_no_error_of_ours():
    async def main():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: errors.append(told))
        async with serving() as admin:
            _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHo")
            await asyncio.sleep(0.1)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await asyncio.sleep(0.1)
            assert (await ask(admin.port, b"/healthz"))[0] == 200
        assert not errors

    run(main())


def test_health_and_readiness():
    async def main():
        async with (
            Rig(always(response()), admin=Address("127.0.0.1", 0)) as rig,
            serving(of(rig)) as admin,
        ):
            assert (await ask(admin.port, b"/healthz"))[::2] == (200, b"alive\n")
            assert (await ask(admin.port, b"/readyz"))[::2] == (200, b"ready\n")
            rig.service.drain()
            assert (await ask(admin.port, b"/readyz"))[::2] == (503, b"draining\n")
            assert (await ask(admin.port, b"/healthz"))[0] == 200

    run(main())


@pytest.mark.parametrize(
    ("gauges", "why"),
    [
        ({}, "draining"),
        ({"workers": 2, "draining": 2}, "draining"),
        ({"workers": 2, "draining": 1, "upstreams": {"u": {"up": 1}}}, ""),
        ({"workers": 1, "draining": 0, "upstreams": {"u": {"up": 0}}}, "no upstream is healthy"),
    ],
)
def test_why_it_is_not_ready(gauges, why):
    assert unready(gauges) == why


def test_metrics_and_status():
    async def main():
        async with (
            Rig(always(response(b"hello")), admin=Address("127.0.0.1", 0)) as rig,
            serving(of(rig)) as admin,
        ):
            await rig.ask(get())
            _, head, text = await ask(admin.port, b"/metrics")
            assert b"Content-Type: text/plain; version=0.0.4" in head
            assert b'rawproxy_requests_total{status="2xx",upstream="http://upstream"} 1.0' in text
            accept = b"Accept: application/openmetrics-text; version=1.0.0\r\n"
            _, head, text = await ask(admin.port, b"/metrics", accept)
            assert b"Content-Type: application/openmetrics-text" in head
            assert text.endswith(b"# EOF\n")
            _, _, text = await ask(admin.port, b"/status.json?x")
            status = json.loads(text)
            assert status["counters"]["requests"] == 1
            assert status["upstreams"][0]["name"] == "http://upstream"
            assert status["unready"] == ""

    run(main())


def test_the_history_grows(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.01)

    async def main():
        async with (
            Rig(always(response()), admin=Address("127.0.0.1", 0)) as rig,
            serving(of(rig)) as admin,
        ):
            while len(admin.history.rows) < 3:
                await asyncio.sleep(0.01)
            _, _, text = await ask(admin.port, b"/status.json")
            assert len(json.loads(text)["series"]["requests"]) >= 3

    run(main())


def test_the_page_brings_its_own_policy():
    async def main():
        async with serving() as admin:
            status, head, body = await ask(admin.port, b"/")
            assert status == 200
            assert b"default-src 'none'" in head and b"unsafe" not in head
            assert body.startswith(b"<!doctype html>") and b"/*s" not in body
            for outside in b"http://", b"https://", b"@import", b"url(":
                assert outside not in body.replace(b"http://www.w3.org/2000/svg", b"")

    run(main())


def test_the_policy_names_what_is_in_the_page():
    html, policy = page()
    style = html.partition(b"<style>")[2].partition(b"</style>")[0]
    script = html.partition(b"<script>")[2].partition(b"</script>")[0]
    for part in style, script:
        assert module._hash(part) in policy


def test_other_paths_and_methods():
    async def main():
        async with serving() as admin:
            assert (await ask(admin.port, b"/nope"))[0] == 404
            status, head, _ = await ask(admin.port, b"/metrics", method=b"DELETE")
            assert status == 405 and b"Allow: GET, HEAD" in head
            status, head, body = await ask(admin.port, b"/healthz", method=b"HEAD")
            assert (status, body) == (200, b"") and b"Content-Length: 6" in head
            body = b"Content-Length: 5\r\n"
            assert b"Connection: close" in (await ask(admin.port, b"/healthz", body))[1]

    run(main())


LOOPBACK = ["127.0.0.1", "127.0.0.9", "::1"]
ELSEWHERE = ["0.0.0.0", "::"]


@pytest.mark.parametrize("where", [*LOOPBACK, *ELSEWHERE])
@pytest.mark.parametrize(
    ("host", "on_loopback", "elsewhere"),
    [
        (b"localhost:9900", 200, 200),
        (b"127.0.0.1", 200, 200),
        (b"127.9.9.9:80", 200, 200),
        (b"[::1]:9900", 200, 200),
        (b"192.0.2.1:9900", 200, 200),
        (b"metrics:9900", 421, 200),
        (b"rawproxy.monitoring.svc.cluster.local", 421, 200),
        (b"site.example.org", 421, 200),
        (b"evil.example", 421, 421),
        (b"127.0.0.1.evil.example:9900", 421, 421),
        (b"localhost.evil.example", 421, 421),
    ],
)
def test_no_page_reads_it_under_a_name_of_its_own(where, host, on_loopback, elsewhere):
    async def main():
        async with serving(address=Address(where, 0), known=["site.example.org"]) as admin:
            assert admin.exposed() == (where in ELSEWHERE)
            line = b"Host: " + host + b"\r\n"
            status, _, body = await ask(admin.port, b"/metrics", host=line, where=where)
            assert status == (elsewhere if where in ELSEWHERE else on_loopback)
            if status == 421:
                assert b"localhost" in body or b"--server-name" in body

    try:
        run(main())
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        pytest.skip("no IPv6 here")


def test_one_connection_serves_many_requests_and_a_socket_file_serves_too(tmp_path):
    async def main():
        path = str(tmp_path / "admin.sock")
        async with serving(address=Address(path=path)) as admin:
            assert not admin.exposed()
            reader, writer = await asyncio.open_unix_connection(path)
            for _ in range(3):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: any\r\n\r\n")
                assert (await reader.readuntil(b"alive\n")).startswith(b"HTTP/1.1 200")
            writer.close()

    run(main())


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError()])
def test_workers_that_do_not_answer(error):
    async def main():
        async def source() -> dict:
            raise error

        async with serving(source) as admin:
            for path in b"/metrics", b"/readyz", b"/status.json":
                assert (await ask(admin.port, path))[0] == 503
            assert (await ask(admin.port, b"/healthz"))[0] == 200

    run(main())


def test_what_is_no_http_is_cut():
    async def main():
        async with serving() as admin:
            for nonsense in b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, b"":
                reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
                writer.write(nonsense)
                writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
            assert (await ask(admin.port, b"/healthz"))[0] == 200

    run(main())


def test_patience_is_bounded():
    async def main():
        async with serving(idle=0.2, head=0.05) as admin:
            for opening in b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
                reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
                writer.write(opening)
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
                writer.close()
            assert not admin.server.visits

    run(main())


@pytest.mark.parametrize("opening", [b"", b"GET /metrics HTTP/1.1\r\nHost: loc"])
def test_silent_connections_lock_nobody_out(opening):
    async def main():
        async with serving() as admin:
            prometheus = await asyncio.open_connection("127.0.0.1", admin.port)

            async def scrape():
                prometheus[1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await prometheus[0].readuntil(b"alive\n")).startswith(b"HTTP/1.1 200")

            await scrape()
            silent = []
            for _ in range(3 * Bounds().connections):
                silent.append(await asyncio.open_connection("127.0.0.1", admin.port))
                silent[-1][1].write(opening)
            for _ in range(3):
                assert (await ask(admin.port, b"/healthz"))[0] == 200
            await scrape()  # who asks now and then is not the one who makes room
            assert len(admin.server.visits) <= Bounds().connections
            gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in silent)
            assert gone >= 2 * Bounds().connections
            for _, writer in [*silent, prometheus]:
                writer.close()

    run(main())


def test_those_that_are_being_answered_make_no_room():
    async def main():
        asked, go = asyncio.Event(), asyncio.Event()

        async def source() -> dict:
            asked.set()
            await go.wait()
            return {"workers": [], "retired": {}}

        async with serving(source, connections=2) as admin:
            busy = [asyncio.create_task(ask(admin.port, b"/readyz")) for _ in range(2)]
            while sum(not visit.waits for visit in admin.server.visits) < 2:
                await asyncio.sleep(0.001)
            reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            go.set()
            assert [(await one)[0] for one in busy] == [503, 503]

    run(main())


def read_all(sock):
    while sock.recv(1 << 20):
        pass


def test_who_does_not_read_keeps_nothing():
    async def main():
        async with serving(take=0.3) as admin:
            admin._page = b"x" * (16 << 20)
            sock = socket.create_connection(("127.0.0.1", admin.port))
            sock.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
            while not admin.server.visits:
                await asyncio.sleep(0.01)
            while admin.server.visits:
                await asyncio.sleep(0.01)
            with pytest.raises(ConnectionResetError):
                await asyncio.to_thread(read_all, sock)
            sock.close()

    run(main())
