"""What goes wrong: retries, errors of our own, deadlines, limits."""

import asyncio
import json

import pytest

from rawproxy.config.model import Upstream

from .rig import Rig, always, get, read_head, read_response, response, run


def status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


async def answer_once(reader, writer):
    """An upstream that dies on the second request of a connection."""
    await read_head(reader)
    writer.write(response(b"ok"))
    await read_head(reader)
    writer.transport.abort()


def test_a_stale_connection_is_retried_on_a_fresh_one():
    async def test():
        async with Rig(answer_once) as rig:
            reader, writer = await rig.client()
            for number in range(1, 4):
                writer.write(get())
                assert (await read_response(reader))[1] == b"ok"
                assert rig.connections == number
            assert rig.service.counters.retries == 2

    run(test())


def test_a_held_body_is_sent_again():
    async def test():
        bodies = []

        async def upstream(reader, writer):
            await read_head(reader)
            bodies.append(await reader.readexactly(5))
            writer.write(response(b"ok"))
            await read_head(reader)
            await reader.readexactly(5)
            writer.transport.abort()

        async with Rig(upstream) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get(b"/", b"Content-Length: 5", method=b"PUT") + b"he")
                await asyncio.sleep(0.01)
                writer.write(b"llo")
                assert (await read_response(reader))[1] == b"ok"
            assert bodies == [b"hello", b"hello"]

    run(test())


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(b"/", b"Content-Length: 5", method=b"POST") + b"hello",
        get(b"/", b"Content-Length: 70000", method=b"PUT") + b"h" * 70000,
    ],
    ids=["not idempotent", "too large to hold"],
)
def test_what_is_not_replayable_is_not_retried(request_bytes):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(response(b"ok"))
            await read_head(reader)
            await reader.readexactly(5)
            writer.transport.abort()

        async with Rig(upstream) as rig:
            await rig.ask(get())
            head, _ = await rig.ask(request_bytes)
            assert status(head) == 502
            assert rig.connections == 1

    run(test())


def test_no_retry_on_a_fresh_connection():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.transport.abort()

        async with Rig(upstream) as rig:
            head, _ = await rig.ask(get())
            assert status(head) == 502
            assert rig.connections == 1
            assert "before its response" in rig.problems[0]

    run(test())


def test_a_connection_that_can_be_read_is_not_given_a_post():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(response(b"ok"))
            await writer.drain()

        async with Rig(upstream) as rig:
            reader, writer = await rig.client()
            for _ in range(3):
                writer.write(get(b"/", b"Content-Length: 0", method=b"POST"))
                assert (await read_response(reader))[1] == b"ok"

    run(test())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "malformed"),
        (b"SSH-2.0-OpenSSH_9\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", "folded"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000, "over"),
        (b"HTTP/1.1 200", "within its response head"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", "nobody asked for"),
        (b"", "before its response"),
    ],
)
def test_broken_upstreams_are_502_with_the_cause_in_the_log(answer, words):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(answer)
            await writer.drain()

        async with Rig(upstream) as rig:
            head, body = await rig.ask(get(b"/", b"Accept: application/json"))
            assert status(head) == 502
            request_id = json.loads(body)["request_id"]
            assert any(request_id in line and words in line for line in rig.problems)
            assert words.encode() not in body

    run(test())


def test_a_dead_upstream_is_502_and_the_client_may_go_on():
    async def test():
        async with Rig(always(response(b"ok"))) as rig:
            rig.server.close()
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get(b"/", b"Content-Length: 5", method=b"POST") + b"hello")
                head, _ = await read_response(reader)
                assert status(head) == 502
                assert b"Connection: close" not in head
            assert "cannot connect" in rig.problems[0]
            writer.close()

    run(test())


def test_the_next_upstream_takes_over_from_a_dead_one():
    async def test():
        async with Rig(always(response(b"ok"))) as rig:
            alive = rig.config.groups[0].upstreams[0]
        dead = Upstream("http://dead", tls=False, host="127.0.0.1", port=alive.port)

        async with Rig(always(response(b"ok"))) as probe:
            live = Upstream("http://live", tls=False, host="127.0.0.1", port=probe.upstream_port)
            async with Rig(always(response()), upstreams=[dead, live]) as rig:
                for _ in range(4):
                    head, body = await rig.ask(get())
                    assert (status(head), body) == (200, b"ok")

    run(test())


@pytest.mark.parametrize("path", ["/nowhere.sock", None])
def test_addresses_that_lead_nowhere(path):
    async def test():
        host = "" if path else "no-such-host.invalid"
        nowhere = Upstream("x", tls=False, host=host, port=1, path=path)
        async with Rig(always(response()), upstreams=[nowhere]) as rig:
            assert status((await rig.ask(get()))[0]) == 502

    run(test())


# ── the pool's queue ────────────────────────────────────────────────────────────────────────────


def test_requests_wait_for_a_connection():
    async def test():
        async with Rig(always(response(b"ok")), max_upstream=1) as rig:
            clients = [await rig.client() for _ in range(10)]
            for _, writer in clients:
                writer.write(get())
            for reader, _ in clients:
                assert (await read_response(reader))[1] == b"ok"
            assert rig.connections == 1

    run(test())


def test_who_waits_may_dial_when_a_connection_ends():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(response(b"ok", b"Connection: close"))

        async with Rig(upstream, max_upstream=1) as rig:
            clients = [await rig.client() for _ in range(5)]
            for _, writer in clients:
                writer.write(get())
            for reader, _ in clients:
                assert (await read_response(reader))[1] == b"ok"
            assert rig.connections == 5

    run(test())


@pytest.mark.parametrize("full", [True, False], ids=["queue full", "queue too slow"])
def test_no_connection_is_503(full):
    async def test():
        async def upstream(reader, writer):
            await reader.read()

        options = {"limits": {"queue": 0}} if full else {"deadlines": {"queue": 0.05}}
        async with Rig(upstream, max_upstream=1, **options) as rig:
            _reader, writer = await rig.client()
            writer.write(get())
            await asyncio.sleep(0.02)
            assert status((await rig.ask(get()))[0]) == 503
            writer.close()

    run(test())


def test_who_goes_away_waits_no_longer():
    async def test():
        async def upstream(reader, writer):
            await reader.read()

        async with Rig(upstream, max_upstream=1, deadlines={"linger": 0.05}) as rig:
            clients = [await rig.client() for _ in range(3)]
            for _, writer in clients:
                writer.write(get())
                await asyncio.sleep(0.02)
            assert len(rig.service.endpoints[0].pool.waiting) == 2
            for _, writer in clients:
                writer.transport.abort()
            await rig.settled()

    run(test())


# ── deadlines ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "deadlines", "expected"),
    [
        (b"GET / HT", {"request_head": 0.05}, 408),
        (get(b"/", b"Content-Length: 5", method=b"PUT") + b"he", {"request_body": 0.05}, 408),
        (get(b"/silent"), {"response_head": 0.05}, 504),
    ],
)
def test_deadlines(sent, deadlines, expected):
    async def test():
        async def upstream(reader, writer):
            await reader.read()

        async with Rig(upstream, deadlines=deadlines) as rig:
            head, _ = await rig.ask(sent)
            assert status(head) == expected
            assert (b"Connection: close" in head) is (expected == 408)

    run(test())


def test_a_client_that_says_nothing_is_closed():
    async def test():
        async with Rig(
            always(response(b"ok")), deadlines={"request_head": 0.05, "client_idle": 0.05}
        ) as rig:
            reader, _ = await rig.client()
            assert await reader.read() == b""
            reader, writer = await rig.client()
            writer.write(get())
            await read_response(reader)
            assert await reader.read() == b""

    run(test())


def test_a_response_that_stops_is_cut():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
            await reader.read()

        async with Rig(upstream, deadlines={"response_body": 0.05}) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await read_head(reader)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await reader.readexactly(9)

    run(test())


def test_a_client_that_stops_reading_is_cut():
    async def test():
        ended = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            try:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                for _ in range(1000):
                    writer.write(b"x" * 100_000)
                    await writer.drain()
            finally:
                ended.set()

        async with Rig(upstream, deadlines={"response_body": 0.2}) as rig:
            _reader, writer = await rig.client(limit=1024)
            writer.write(get())
            await ended.wait()
            assert any("the client has read next to nothing" in line for line in rig.problems)
            writer.transport.abort()

    run(test())


def test_an_upstream_that_stops_reading_is_504():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            await asyncio.sleep(60)

        async with Rig(upstream, deadlines={"response_head": 0.2}) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 100000000", method=b"PUT"))

            async def push():
                for _ in range(1000):
                    writer.write(b"x" * 100_000)
                    await writer.drain()

            pushing = asyncio.ensure_future(push())
            assert status(await read_head(reader)) == 504
            writer.transport.abort()
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)

    run(test())


# ── bad requests, early answers ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n\r\n\r\n\r\n" + get(), 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (get(b"/", b"X: " + b"a" * 70_000), 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\n", 400),
        (get(b"/", b"Transfer-Encoding: identity", method=b"POST"), 501),
    ],
)
def test_refused_and_closed(sent, expected):
    async def test():
        async def upstream(reader, writer):
            await reader.read()

        async with Rig(upstream) as rig:
            reader, writer = await rig.client()
            writer.write(sent)
            head, _ = await read_response(reader)
            assert status(head) == expected
            assert b"Connection: close" in head
            assert await reader.read() == b""
            writer.close()

    run(test())


def test_a_good_request_before_a_bad_one_is_answered():
    async def test():
        async with Rig(always(response(b"ok"))) as rig:
            reader, writer = await rig.client()
            writer.write(get() + b"nonsense\r\n\r\n")
            assert (await read_response(reader))[1] == b"ok"
            assert status((await read_response(reader))[0]) == 400
            assert await reader.read() == b""
            writer.close()

    run(test())


@pytest.mark.parametrize(
    ("length", "closed"), [(20, False), (10_000_000, True)], ids=["drained", "too long to drain"]
)
def test_rule_19_an_answer_before_the_body_was_read(length, closed):
    async def test():
        async with Rig(always(response(b"early"))) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: %d" % length, method=b"POST"))
            head, body = await read_response(reader)
            assert body == b"early"
            assert (b"Connection: close" in head) is closed
            if closed:
                writer.write(b"x" * 1000)
                assert await reader.read() == b""
                writer.close()
            else:
                writer.write(b"x" * length + get())
                assert (await read_response(reader))[1] == b"early"
            assert rig.service.endpoints[0].pool.busy == 0

    run(test())


def test_a_chunked_body_too_long_to_drain():
    async def test():
        async with Rig(
            always(response(b"early")), limits={"drain": 1000}, deadlines={"linger": 0.1}
        ) as rig:
            for tail in (b"7d0\r\n" + b"x" * 2000, b"zz\r\n"):
                reader, writer = await rig.client()
                writer.write(get(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
                assert (await read_response(reader))[1] == b"early"
                writer.write(tail)
                assert await reader.read() == b""
                writer.close()

    run(test())


def test_the_client_closes_within_its_body():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await reader.readexactly(5)

        async with Rig(upstream) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 5", method=b"PUT") + b"he")
            await asyncio.sleep(0.02)
            writer.write_eof()
            assert status(await read_head(reader)) == 400
            writer.close()

    run(test())


def test_a_half_closed_client_gets_its_answer():
    async def test():
        async with Rig(always(response(b"ok"))) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            writer.write_eof()
            assert (await read_response(reader))[1] == b"ok"
            assert await reader.read() == b""
            writer.close()

    run(test())


# ── sites ───────────────────────────────────────────────────────────────────────────────────────


def test_server_names():
    async def test():
        async with Rig(always(response(b"ok")), server_names=("a.test", "*.b.test")) as rig:
            for host, expected in [
                (b"a.test", 200), (b"A.TEST:8443", 200), (b"x.b.test", 200), (b"b.test", 421),
                (b"xa.test", 421), (b"[::1]", 421), (b"a.test.", 200),
            ]:  # fmt: skip
                head, _ = await rig.ask(get().replace(b"Host: h", b"Host: " + host))
                assert status(head) == expected, host
            body = get(b"/", b"Content-Length: 5", method=b"POST") + b"hello"
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(body)
                assert status((await read_response(reader))[0]) == 421

    run(test())


def test_the_redirect():
    async def test():
        async with Rig(always(response(b"ok")), redirect=8443) as rig:
            reader, writer = await rig.client()
            for method in (b"GET", b"POST"):
                writer.write(get(b"/x?y", method=method).replace(b"Host: h", b"Host: a.b:8080"))
                head, _ = await read_response(reader)
                assert status(head) == 301
                assert b"\r\nLocation: https://a.b:8443/x?y\r\n" in head
                assert b"Strict-Transport-Security" not in head
            writer.write(get(method=b"HEAD"))
            assert b"Location: https://h/\r\n" in await read_head(reader)
            assert status((await rig.ask(b"GET / HTTP/1.0\r\n\r\n"))[0]) == 400
            assert (
                b"Connection: keep-alive"
                in (await rig.ask(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"))[
                    0
                ]
            )
            assert rig.connections == 0

    run(test())
