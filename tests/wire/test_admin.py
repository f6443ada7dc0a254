"""The admin server: what it answers, to whom, and what it survives."""

import asyncio
import contextlib
import json

import pytest

from rawproxy import admin as module
from rawproxy.admin import Admin, page, unready
from rawproxy.config import Address
from tests.wire.rig import Rig, always, get, response, run

HOST = b"Host: localhost\r\n"


@contextlib.asynccontextmanager
async def serving(source=None, address=Address("127.0.0.1", 0)):  # noqa: B008
    async def nothing() -> dict:
        return {"workers": [], "retired": {}}

    server = Admin(address, source or nothing)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def of(rig: Rig):
    async def source() -> dict:
        return {"workers": [rig.service.snapshot()], "retired": {}}

    return source


async def ask(port: int, path: bytes, *lines: bytes, method: bytes = b"GET", host: bytes = HOST):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(method + b" " + path + b" HTTP/1.1\r\n" + host + b"".join(lines) + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    body = b"" if method == b"HEAD" else await reader.readexactly(length)
    writer.close()
    return int(head.split()[1]), head, body


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


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"Host: localhost:9900\r\n", 200),
        (b"Host: 127.0.0.1\r\n", 200),
        (b"Host: [::1]:9900\r\n", 200),
        (b"Host: rebound.example\r\n", 421),
        (b"Host: 127.0.0.1.example:9900\r\n", 421),
    ],
)
def test_on_loopback_only_a_loopback_name_is_served(host, status):
    async def main():
        async with serving() as admin:
            assert (await ask(admin.port, b"/metrics", host=host))[0] == status

    run(main())


def test_elsewhere_any_name_is_served_and_it_says_that_it_is_exposed():
    async def main():
        async with serving(address=Address("0.0.0.0", 0)) as admin:
            assert admin.exposed()
            assert (await ask(admin.port, b"/metrics", host=b"Host: metrics\r\n"))[0] == 200

    run(main())


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


def test_patience_and_connections_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "CONNECTIONS", 1)

    async def main():
        async with serving() as admin:
            reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
            while not admin._open:
                await asyncio.sleep(0.001)
            second, other = await asyncio.open_connection("127.0.0.1", admin.port)
            with contextlib.suppress(ConnectionResetError):
                assert await second.read() == b""
            assert await reader.read() == b"", "it said nothing"
            writer.close()
            other.close()

    run(main())
