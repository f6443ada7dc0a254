"""Requests and responses through real sockets, over both loops, plain and TLS."""

import asyncio
import re

import pytest

from rawproxy.config.model import Route, Site

from .rig import LOOPS, Rig, always, get, read_head, read_response, response, run

pytestmark = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


@pytest.fixture(params=LOOPS, ids=[loop.__module__.partition(".")[0] for loop in LOOPS])
def loop(request):
    return request.param


def test_a_request_and_its_log_line(tls, loop):
    async def test():
        seen = []

        async def upstream(reader, writer):
            while True:
                seen.append(await read_head(reader))
                writer.write(response(b"hello", b"Date: today", b"Keep-Alive: 5"))

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            for _ in range(3):
                writer.write(
                    get(b"/a?b", b"Referer: r", b"User-Agent: u", b"Connection: keep-alive")
                )
                head, body = await read_response(reader)
                assert body == b"hello"
            assert b"Keep-Alive" not in head
            assert (b"Strict-Transport-Security: max-age=63072000\r\n" in head) is tls
            writer.close()
            await rig.settled()
            assert rig.connections == 1
            assert rig.service.counters.requests == 3
        scheme = b"https" if tls else b"http"
        assert (
            seen
            == [
                b"GET /a?b HTTP/1.1\r\nHost: h\r\nReferer: r\r\nUser-Agent: u\r\n"
                b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: " + scheme + b"\r\n"
                b"X-Forwarded-Host: h\r\n\r\n"
            ]
            * 3
        )
        assert re.fullmatch(
            rb'127\.0\.0\.1 - - \[.{26}\] "GET /a\?b HTTP/1\.1" 200 5 "r" "u"\n', rig.log[0]
        )

    run(test(), loop)


def test_pipelined_requests_are_answered_in_order(tls, loop):
    async def test():
        async def upstream(reader, writer):
            while True:
                head = await read_head(reader)
                writer.write(response(head.split(b" ")[1]))

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(
                b"".join(get(b"/%d" % number) for number in range(50)) + get(b"/last")[:10]
            )
            for number in range(50):
                assert (await read_response(reader))[1] == b"/%d" % number
            writer.write(get(b"/last")[10:])
            assert (await read_response(reader))[1] == b"/last"

    run(test(), loop)


def test_a_head_byte_by_byte(tls, loop):
    async def test():
        async with Rig(always(response(b"ok")), tls) as rig:
            reader, writer = await rig.client()
            raw = b"\r\n" + get()
            for at in range(len(raw)):
                writer.write(raw[at : at + 1])
                await asyncio.sleep(0)
            assert (await read_response(reader))[1] == b"ok"

    run(test(), loop)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_uploads(tls, loop, framing):
    body = b"0123456789" * 50_000

    async def test():
        async def upstream(reader, writer):
            head = await read_head(reader)
            got = b""
            if framing == "length":
                assert b"\r\nContent-Length: 500000\r\n" in head
                got = await reader.readexactly(len(body))
            else:
                assert b"\r\nTransfer-Encoding: chunked\r\n" in head
                while size := int(await reader.readline(), 16):
                    got += (await reader.readexactly(size + 2))[:-2]
                assert await read_head(reader) == b"X-Sum: 1\r\n\r\n"
            assert got == body
            writer.write(response(b"thanks"))
            await reader.read()

        sites = (Site(routes=(Route(request_trailers=("x-sum",)),)),)
        async with Rig(upstream, tls, sites=sites) as rig:
            reader, writer = await rig.client()
            if framing == "length":
                writer.write(get(b"/", b"Content-Length: %d" % len(body), method=b"POST") + body)
            else:
                writer.write(
                    get(b"/", b"Transfer-Encoding: chunked", b"Trailer: X-Sum", method=b"PUT")
                )
                for at in range(0, len(body), 7000):
                    part = body[at : at + 7000]
                    writer.write(b"%x;e=1\r\n%b\r\n" % (len(part), part))
                    await writer.drain()
                writer.write(b"0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n")
            assert (await read_response(reader))[1] == b"thanks"

    run(test(), loop)


def test_a_body_that_has_hardly_begun(tls, loop):
    """The head waits for what came with it, and not for more."""

    async def test():
        begun = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            begun.set()
            assert await reader.readuntil(b"0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
            writer.write(response(b"thanks"))
            await reader.read()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"5")
            await begun.wait()
            writer.write(b"\r\nhello\r\n0\r\n\r\n")
            assert (await read_response(reader))[1] == b"thanks"

    run(test(), loop)


def test_a_body_that_is_wrong_from_the_start_reaches_nobody(tls, loop):
    async def test():
        async with Rig(always(response()), tls) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"x\r\n")
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 400 ")
            assert await reader.read() == b""
            assert rig.connections == 0

    run(test(), loop)


def test_chunked_downloads_and_trailers(tls, loop):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await reader.readexactly(len(b"!"))  # never comes: the proxy streams what it has

        async def trailers(reader, writer):
            while True:
                await read_head(reader)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"5;x\r\nhello\r\n0\r\nX-Sum: 1\r\nSet-Cookie: x\r\n\r\n"
                )

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            assert b"Transfer-Encoding: chunked\r\n" in await read_head(reader)
            assert await reader.readexactly(10) == b"5\r\nhello\r\n"
        async with Rig(trailers, tls) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get())
                await read_head(reader)
                assert await read_head(reader) == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
            assert rig.connections == 1

    run(test(), loop)


# What is sent in chunks, and what goes on: those in their plain form as they came.
PASSED = [
    (b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n", b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n", 8),
    (b"0\r\n\r\n", b"0\r\n\r\n", 0),
    (b"1;x\r\na\r\n1\r\nb\r\n0\r\n\r\n", b"2\r\nab\r\n0\r\n\r\n", 2),
]


@pytest.mark.parametrize(("sent", "passed", "inside"), PASSED, ids=range(len(PASSED)))
def test_plain_chunks_go_on_as_they_came(tls, loop, sent, passed, inside):
    """With the head or behind it, and a request may follow at once."""

    async def test():
        seen = []

        async def upstream(reader, writer):
            while True:
                await read_head(reader)
                got = await reader.readuntil(b"0\r\n\r\n")
                seen.append(got)
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                if len(seen) % 2:
                    writer.write(head + sent)
                    continue
                writer.write(head)
                await asyncio.sleep(0.02)
                writer.write(sent)

        async with Rig(upstream, tls, limits={"body": 8}) as rig:
            reader, writer = await rig.client()
            post = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
            writer.write(post + sent + post)
            await asyncio.sleep(0.02)
            writer.write(sent)
            for _ in range(2):
                assert b"\r\nTransfer-Encoding: chunked\r\n" in await read_head(reader)
                assert await reader.readuntil(b"0\r\n\r\n") == passed
            assert seen == [passed, passed]
            assert rig.connections == 1
            assert [line.split(b'"')[2] for line in rig.log] == [b" 200 %d " % inside] * 2
            writer.write(post + b"9\r\n123456789\r\n0\r\n\r\n")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 413 ")

    run(test(), loop)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"200 OK"])
def test_responses_without_a_body(tls, loop, status):
    """HEAD, 204 and 304 end with their head, whatever their Content-Length says."""

    async def test():
        answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n"
        method = b"HEAD" if status == b"200 OK" else b"GET"
        async with Rig(always(answer), tls) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get(method=method))
                head = await read_head(reader)
                assert head.startswith(b"HTTP/1.1 " + status)
                assert (b"Content-Length: 5" in head) is (status[:3] == b"200")

    run(test(), loop)


def test_rule_24_interim_responses_pass_but_not_to_http_1_0(tls, loop):
    async def test():
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n"
        async with Rig(always(early + response(b"ok")), tls) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            assert await read_head(reader) == early
            assert (await read_response(reader))[1] == b"ok"
            reader, writer = await rig.client()
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            head, _body = await read_response(reader)
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"Connection: close" in head
            assert await reader.read() == b""

    run(test(), loop)


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (b"Transfer-Encoding: chunked", False),
        (b"Transfer-Encoding: identity", False),
        (b"Content-Length: 5", False),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", False),
        (b"Content-Length: 0", True),
        (b"X: y", True),
    ],
)
@pytest.mark.parametrize("status", [b"103 Early Hints", b"204 No Content", b"304 Not Modified"])
def test_rule_42_what_has_no_body_is_relayed_and_its_connection_left(tls, status, lines, kept):
    async def test():
        answer = b"HTTP/1.1 %b\r\nLink: x\r\n%b\r\n\r\n" % (status, lines)
        answer += response(b"ok") if status[:1] == b"1" else b""
        async with Rig(always(answer), tls) as rig:
            reader, writer = await rig.client()
            for number in (1, 2):
                writer.write(get())
                head = await read_head(reader)
                assert head.startswith(b"HTTP/1.1 %b\r\nLink: x\r\n" % status)
                assert b"Content-Length" not in head and b"Transfer-Encoding" not in head
                if status[:1] == b"1":
                    assert (await read_response(reader))[1] == b"ok"
                assert rig.connections == (1 if kept else number)

    run(test())


def test_rule_43_padded_chunk_sizes_of_a_response(tls, loop):
    async def test():
        body = b"5  \r\nhello\r\n6\t\r\n world\r\n0 \r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        async with Rig(always(answer), tls) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get())
                assert b"\r\nTransfer-Encoding: chunked\r\n" in await read_head(reader)
                assert await reader.readexactly(21) == b"b\r\nhello world\r\n0\r\n\r\n"
            assert rig.connections == 1
            raw = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
            writer.write(raw + b"5 \r\nhello\r\n0\r\n\r\n")
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 400 ")

    run(test(), loop)


def test_rule_25_expect_is_forwarded(tls, loop):
    async def test():
        async def upstream(reader, writer):
            assert b"\r\nExpect: 100-continue\r\n" in await read_head(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(5) == b"hello"
            writer.write(response(b"ok"))
            await reader.read()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
            assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await read_response(reader))[1] == b"ok"

    run(test(), loop)


def test_rule_25_a_final_answer_instead_of_continue_ends_both_connections(tls, loop):
    async def test():
        async with Rig(always(response(b"no", status=b"413 Content Too Large")), tls) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"POST"))
            head, body = await read_response(reader)
            assert body == b"no"
            assert b"Connection: close" in head
            writer.close()
            await rig.settled()
            assert rig.service.endpoints[0].pool.idle == []

    run(test(), loop)


def test_http_1_0_clients(tls, loop):
    async def test():
        chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        async with Rig(always(chunks), tls) as rig:
            reader, writer = await rig.client()
            writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head = await read_head(reader)
            assert b"chunked" not in head
            assert b"Connection: close" in head
            assert await reader.read() == b"hello"
        async with Rig(always(response(b"ok")), tls) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                head, _ = await read_response(reader)
                assert b"Connection: keep-alive" in head

    run(test(), loop)


def test_a_body_until_close_is_framed_for_the_client(tls, loop):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
            await writer.drain()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(get())
                assert b"Transfer-Encoding: chunked" in await read_head(reader)
                assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"5\r\nhello")

    run(test(), loop)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
    ],
)
def test_rule_31_a_truncated_body_never_ends_cleanly(tls, loop, answer):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(answer)
            await writer.drain()

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            head = await read_head(reader)
            if head.startswith(b"HTTP/1.1 502"):  # it broke before anything was sent
                return
            try:
                body = await reader.read()
            except OSError:
                return
            # What came is less than what was promised, and the connection is gone.
            assert (b"Content-Length: 10" in head and len(body) < 10) or b"0\r\n\r\n" not in body

    run(test(), loop)


def test_rule_30_bytes_behind_a_response_end_the_connection(tls, loop):
    async def test():
        async with Rig(always(response(b"ok") + b"HTTP/1.1 200 OK\r\n"), tls) as rig:
            reader, writer = await rig.client()
            for number in range(1, 3):
                writer.write(get())
                assert (await read_response(reader))[1] == b"ok"
                assert rig.connections == number
                assert rig.service.endpoints[0].pool.idle == []

    run(test(), loop)


def test_bytes_while_idle_end_the_connection(tls, loop):
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(response(b"ok"))
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            await reader.read()

        async with Rig(upstream, tls) as rig:
            assert (await rig.ask(get()))[1] == b"ok"
            while rig.service.endpoints[0].pool.idle:
                await asyncio.sleep(0.01)

    run(test(), loop)


def test_who_sends_what_nobody_asked_for_is_looked_at_each_time(tls, loop):
    async def test():
        async def upstream(reader, writer):
            while True:
                await read_head(reader)
                writer.write(response(b"yours"))
                await asyncio.sleep(0.02)
                writer.write(response(b"not yours"))

        async with Rig(upstream, tls) as rig:
            reader, writer = await rig.client()
            (endpoint,) = rig.service.endpoints
            for number in range(3):
                writer.write(get())
                assert (await read_response(reader))[1] == b"yours"
                assert all(connection.suspect for connection in endpoint.pool.idle) or not number
                while endpoint.pool.idle:
                    await asyncio.sleep(0.01)
                assert endpoint.babbles and not endpoint.bodied

    run(test(), loop)


@pytest.mark.parametrize("when", ["with the head", "at once", "a turn later", "late"])
@pytest.mark.parametrize("body", [response(b"not yours"), b"<html>not yours</html>\r\n\r\n"])
def test_a_body_behind_an_answer_to_head_is_nobodys(tls, loop, when, body):
    """And the upstream is known for it from then on: its connections end behind such an answer."""

    async def test():
        async def upstream(reader, writer):
            while True:
                if not (await read_head(reader)).startswith(b"HEAD "):
                    writer.write(response(b"yours"))
                    continue
                head = response(b"12345")[:-5]
                writer.write(head + body if when == "with the head" else head)
                if when == "late":
                    await read_head(reader)  # of somebody else's request
                elif when == "a turn later":
                    await asyncio.sleep(0)
                if when != "with the head":
                    writer.write(body)
                if when == "late":
                    await reader.read()

        async with Rig(upstream, tls) as rig:
            asking, a = await rig.client()
            other, b = await rig.client()
            a.write(get(method=b"HEAD"))
            assert (await read_head(asking)).startswith(b"HTTP/1.1 200 ")
            b.write(get())
            got = (await read_response(other))[1]
            if when == "late" and body.startswith(b"HTTP"):
                return  # nobody could tell it from the answer
            assert got == b"yours"
            (endpoint,) = rig.service.endpoints
            assert endpoint.bodied
            assert any("with its answers to HEAD" in line for line in rig.problems)
            a.write(get(method=b"HEAD"))
            await read_head(asking)
            assert endpoint.pool.idle == [] and endpoint.pool.busy == 0

    run(test(), loop)


def test_the_client_goes_and_the_upstream_is_told(tls, loop):
    async def test():
        gone = asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                assert await reader.read() == b""
            finally:
                gone.set()

        async with Rig(upstream, tls, deadlines={"linger": 0.05}) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await read_head(reader)
            writer.transport.abort()
            await gone.wait()
            await rig.settled()

    run(test(), loop)
