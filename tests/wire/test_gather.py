"""Bodies of unknown length that a route gathers: rule 50."""

import asyncio
import os
import sys

import pytest

from rawproxy.config.model import PARKED, Deadlines, Limits, Route, Site
from rawproxy.protocol.http2 import frames

from ..process import Program, RawProxy, free_port, wait_for_port
from .rig import Rig, get, read_head, read_response, response, run
from .test_h2_front import talk

CHUNKED = b"Transfer-Encoding: chunked"


def sites(gather=1000, over="refuse", **facts):
    return (Site(routes=(Route(gather=gather, gather_over=over, **facts),)),)


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    body = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts])
    return body + b"0\r\n" + trailers + b"\r\n"


async def read_request(reader) -> tuple[bytes, bytes]:
    """Head and body, as the upstream gets them: the body framed as it came."""
    head = await read_head(reader)
    if b"\r\nTransfer-Encoding: chunked\r\n" in head:
        assert b"content-length" not in head.lower()
        return head, await reader.readuntil(b"\r\n0\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.startswith(b"Content-Length: "):
            length = int(line[16:])
    return head, await reader.readexactly(length)


def recording(seen):
    async def script(reader, writer):
        while True:
            seen.append(await read_request(reader))
            writer.write(response(b"ok"))

    return script


def post(*lines: bytes, method: bytes = b"POST") -> bytes:
    return get(b"/", CHUNKED, *lines, method=method)


@pytest.mark.parametrize("parts", [(), (b"a",), (b"x" * 400, b"y" * 600)])
@pytest.mark.parametrize("slow", [False, True])
def test_a_body_within_the_bound_has_a_length(parts, slow):
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        async with Rig(recording(seen), sites=sites()) as rig:
            reader, writer = await rig.client()
            whole = post(b"X: y") + chunks(*parts, trailers=b"X-Sum: 1\r\n")
            for _ in range(2):
                if slow:
                    for at in range(0, len(whole), 60):
                        writer.write(whole[at : at + 60])
                        await asyncio.sleep(0.002)
                        assert not rig.service.endpoints[0].pool.busy or at + 60 >= len(whole)
                else:
                    writer.write(whole)
                assert (await read_response(reader))[1] == b"ok"
            assert not rig.service.parked
            writer.close()
        body = b"".join(parts)
        for head, got in seen:
            assert got == body and b"\r\nX: y\r\n" in head
            assert head.count(b"\r\nContent-Length: %d\r\n" % len(body)) == 1
            assert b"ransfer-" not in head and b"chunked" not in head and b"Sum" not in head
        assert len(seen) == 2

    run(test())


@pytest.mark.parametrize("slow", [False, True])
def test_a_longer_body_is_refused(slow):
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        async with Rig(recording(seen), sites=sites()) as rig:
            reader, writer = await rig.client()
            writer.write(post() + b"3e8\r\n" + bytes(1000) + b"\r\n")
            if slow:
                while rig.service.parked < 1000:
                    await asyncio.sleep(0.002)
            writer.write(b"1\r\nx\r\n")
            head, _ = await read_response(reader)
            assert head.startswith(b"HTTP/1.1 413 ") and not rig.connections
            writer.close()
        assert not seen

    run(test())


@pytest.mark.parametrize("slow", [False, True])
def test_a_longer_body_goes_on_in_chunks(slow):
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        async with Rig(recording(seen), sites=sites(over="pass")) as rig:
            reader, writer = await rig.client()
            writer.write(post() + b"3e8\r\n" + bytes(1000) + b"\r\n")
            if slow:
                while rig.service.parked < 1000:
                    await asyncio.sleep(0.002)
            writer.write(chunks(b"more"))
            assert (await read_response(reader))[1] == b"ok"
            if slow:
                writer.write(post() + b"3e8\r\n" + bytes(1000) + b"\r\n1\r\nx\r\n")
                while not rig.service.endpoints[0].pool.busy:
                    await asyncio.sleep(0.002)
                writer.write(chunks(b"late"))
                assert (await read_response(reader))[1] == b"ok"
            writer.close()
        for (head, body), last in zip(seen, (b"more", b"late"), strict=False):
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert body.endswith(last + b"\r\n0\r\n\r\n") and bytes(1000) in body
        assert len(seen) == 1 + slow

    run(test())


def test_other_requests_are_not_gathered():
    """A known length streams, and so does what comes before a tunnel."""

    async def test():
        heads = []

        async def script(reader, writer):
            while True:
                heads.append(await read_head(reader))
                writer.write(response(b"early"))
                if b"pgrade" not in heads[-1]:
                    await reader.readexactly(5)

        async with Rig(script, sites=sites(upgrades=("tcp",))) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 5", method=b"POST") + b"a")
            assert (await read_response(reader))[1] == b"early"
            writer.close()
            reader, writer = await rig.client()
            lines = (b"Connection: Upgrade", b"Upgrade: tcp")
            writer.write(get(b"/", CHUNKED, *lines, method=b"POST") + b"1\r\na\r\n")
            assert (await read_response(reader))[1] == b"early"
            writer.close()
        assert b"\r\nTransfer-Encoding: chunked\r\n" in heads[1]

    run(test())


def test_who_waits_for_a_100_gets_it_from_us():
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        async with Rig(recording(seen), sites=sites()) as rig:
            reader, writer = await rig.client()
            writer.write(post(b"Expect: 100-continue"))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 100 ")
            assert not rig.connections
            writer.write(chunks(b"hello"))
            assert (await read_response(reader))[1] == b"ok"
            # Who does not wait needs none, and the upstream is not asked for one.
            writer.write(post(b"Expect: 100-continue") + chunks(b"again"))
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert [body for _, body in seen] == [b"hello", b"again"]
        assert not any(b"xpect" in head for head, _ in seen)

    run(test())


def test_a_gathered_body_is_sent_again_where_its_connection_died():
    async def test():
        seen: list[tuple[bytes, bytes]] = []

        async def script(reader, writer):
            seen.append(await read_request(reader))
            writer.write(response(b"ok"))
            seen.append(await read_request(reader))  # and goes

        async with Rig(script, sites=sites()) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(post(method=b"PUT") + chunks(b"he", b"llo"))
                assert (await read_response(reader))[1] == b"ok"
            assert rig.service.counters.retries == 1
            writer.close()
        assert [body for _, body in seen] == [b"hello"] * 3
        assert all(b"\r\nContent-Length: 5\r\n" in head for head, _ in seen)

    run(test())


def test_a_client_that_stops_within_its_body():
    async def test():
        facts = {"limits": Limits(), "deadlines": Deadlines(request_body=0.2)}
        async with Rig(recording([]), sites=sites(**facts)) as rig:
            reader, writer = await rig.client()
            writer.write(post() + b"5\r\nhe")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 408 ")
            assert not rig.service.parked
            writer.close()
            _, writer = await rig.client()
            writer.write(post() + b"5\r\nhe")
            while not rig.service.parked:
                await asyncio.sleep(0.002)
            writer.transport.abort()
            while rig.service.parked:
                await asyncio.sleep(0.002)
            assert not rig.connections

    run(test())


@pytest.mark.parametrize("over", ["refuse", "pass"])
def test_what_is_gathered_is_bounded_in_sum(over):
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        route = sites(gather=PARKED, over=over)
        async with Rig(recording(seen), sites=route) as rig:
            answer, hog = await rig.client()
            hog.write(post() + b"%x\r\n" % PARKED + bytes(PARKED))
            while rig.service.parked < PARKED:
                await asyncio.sleep(0.01)
            reader, writer = await rig.client()
            writer.write(post() + chunks(b"whole"))  # one read: it waits for nothing
            assert (await read_response(reader))[1] == b"ok"
            writer.write(post())
            await asyncio.sleep(0.05)
            writer.write(b"1;x=y")  # nothing of the body is here yet
            if over == "refuse":
                assert (await read_response(reader))[0].startswith(b"HTTP/1.1 503 ")
            else:
                await asyncio.sleep(0.05)
                writer.write(b"\r\na\r\n" + chunks(b"bc"))
                assert (await read_response(reader))[1] == b"ok"
            writer.close()
            hog.write(b"\r\n0\r\n\r\n")
            assert (await read_response(answer))[1] == b"ok"
            assert not rig.service.parked
            hog.close()
        assert seen[0][1] == b"whole" and len(seen[-1][1]) == PARKED
        if over == "pass":
            assert seen[1][1] == b"3\r\nabc\r\n0\r\n\r\n"

    run(test())


def test_it_counts_until_an_upstream_has_taken_it():
    size = 12 * 1024 * 1024

    async def test():
        go = asyncio.Event()

        async def script(reader, writer):
            await go.wait()
            assert len((await read_request(reader))[1]) == size
            writer.write(response(b"ok"))

        async with Rig(script, sites=sites(gather=PARKED), max_upstream=1) as rig:
            clients = [await rig.client() for _ in range(2)]
            for _, writer in clients:
                writer.write(post() + b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n")
            (endpoint,) = rig.service.endpoints
            while not endpoint.pool.busy:
                await asyncio.sleep(0.01)
            assert rig.service.parked >= size
            # The other one's would be too many.
            answers = [asyncio.ensure_future(read_response(reader)) for reader, _ in clients]
            (refused,), (taken,) = await asyncio.wait(answers, return_when="FIRST_COMPLETED")
            assert refused.result()[0].startswith(b"HTTP/1.1 503 ")
            go.set()
            assert (await taken)[1] == b"ok"
            assert not rig.service.parked
            for _, writer in clients:
                writer.close()

    run(test())


def test_bytes_that_come_one_by_one_are_kept_together():
    async def test():
        seen: list[tuple[bytes, bytes]] = []
        async with Rig(recording(seen), sites=sites(gather=10_000)) as rig:
            reader, writer = await rig.client()
            writer.write(post())
            for at in range(300):
                writer.write(b"2\r\n%02d\r\n" % (at % 100))
                await asyncio.sleep(0)
            while rig.service.parked < 600:
                await asyncio.sleep(0.002)
            (client,) = rig.service.clients
            assert len(client.exchange.held) == 1
            writer.write(b"0\r\n\r\n")
            await read_response(reader)
            writer.close()
        assert seen[0][1] == b"".join([b"%02d" % at for at in range(100)]) * 3

    run(test())


# ── HTTP/2 ──────────────────────────────────────────────────────────────────────────────────────


def status_of(client, number):
    while True:
        _, _, stream, payload = client.until(frames.HEADERS)
        got = dict(client.decoder.decode(payload))
        if stream == number:
            return int(got[":status"])


@pytest.mark.parametrize(
    ("size", "over", "status"),
    [(0, "refuse", 200), (1000, "refuse", 200), (1001, "refuse", 413), (1001, "pass", 200)],
)
def test_over_http2(size, over, status):
    seen: list[tuple[bytes, bytes]] = []

    def client(h2, rig):
        h2.send(h2.headers("/", ended=False))
        for at in range(0, size, 500):
            h2.send(frames.data(1, bytes(min(500, size - at)), False))
        if status == 200:
            h2.send(frames.data(1, b"", True))
        assert status_of(h2, 1) == status

    talk(recording(seen), client, sites=sites(over=over))
    if status == 413:
        assert not seen
        return
    ((head, body),) = seen
    if size > 1000:
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head and len(body) > size
    else:
        assert b"\r\nContent-Length: %d\r\n" % size in head and body == bytes(size)


def test_over_http2_a_window_and_more_is_gathered():
    seen: list[tuple[bytes, bytes]] = []
    size = 200_000

    def client(h2, rig):
        h2.send(h2.headers("/", ("expect", "100-continue"), ended=False))
        assert status_of(h2, 1) == 100
        room, left = 65535, size
        while left:
            if not room:
                _, _, number, payload = h2.until(frames.WINDOW_UPDATE)
                room += int.from_bytes(payload, "big") if number else 0
                continue
            some = min(room, left, 16384)
            h2.send(frames.data(1, bytes(some), False))
            room, left = room - some, left - some
        h2.send(frames.data(1, b"", True))
        assert status_of(h2, 1) == 200

    talk(recording(seen), client, sites=sites(gather=size))
    ((head, body),) = seen
    assert body == bytes(size) and b"xpect" not in head


# ── an upstream that reads no chunks ────────────────────────────────────────────────────────────

WSGI = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
class Handler(WSGIRequestHandler):
    def log_message(self, *_): pass
def application(environ, start):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), application, handler_class=Handler).serve_forever()
"""


def started(server, folder, port):
    """The application above, in one of two servers."""
    (folder / "app.py").write_text(WSGI)
    command = [sys.executable, str(folder / "app.py"), str(port)]
    if server == "gunicorn":
        command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--chdir", str(folder)]
        command += ["--bind", f"127.0.0.1:{port}", "app:application"]
    # Newer gunicorns have a control socket, in the user's home or runtime folder.
    home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    return Program(command, cwd=folder, env=os.environ | home)


@pytest.mark.parametrize("server", ["wsgiref", "gunicorn"])
@pytest.mark.parametrize("gather", [False, True])
def test_before_wsgi(tmp_path, server, gather):
    """The application reads CONTENT_LENGTH bytes, as PEP 3333 has it."""
    port = free_port()
    wsgi = started(server, tmp_path, port)
    config = tmp_path / "rawproxy.toml"
    key = 'gather = "1m"\n' if gather else ""
    config.write_text(f'upstream = "http://127.0.0.1:{port}"\n[[site]]\n[[site.route]]\n{key}')
    try:
        wait_for_port(port, wsgi.process)
        with RawProxy("--config", str(config), "--no-redirect", https=False) as proxy:

            async def ask():
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http)
                writer.write(post(b"Connection: close") + chunks(b"up", b"load"))
                answer = await read_response(reader)
                writer.close()
                return answer

            assert run(ask())[1] == (b"upload" if gather else b"")
    finally:
        wsgi.stop()
