"""An upstream that answers while the body still comes: its answer reaches the client (rule 45).

`python -m tests.early_answers` is the same at length and beside other proxies.
"""

import asyncio
import contextlib
import socket
import struct

import pytest

from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import Code
from tests import early_answers
from tests.process import PATIENCE

from .h2raw import H2Client
from .rig import LOOPS, Rig, read_head, read_response, response, run
from .test_h2_front import talk, whole

TOO_LARGE = response(b"no", status=b"413 Content Too Large")
BODY = 1 << 20


@pytest.mark.parametrize("secure", [False, True], ids=["plain upstream", "TLS upstream"])
def test_in_front_of_gunicorn(secure):
    with (
        early_answers.gunicorn(secure) as upstream,
        early_answers.proxy("rawproxy", upstream, secure) as ports,
    ):
        for client, uploads in (("length", 60), ("chunked", 60), ("h2", 15)):
            outcomes = asyncio.run(early_answers.trial(ports, client, uploads))
            assert [one.verdict for one in outcomes] == ["answered"] * uploads
            assert all(one.kept for one in outcomes), "a promise that was not kept"


def refusing(answer, sent=BODY):
    """An upstream that takes some of a body, answers, and resets."""

    async def script(reader, writer):
        await read_head(reader)
        await reader.readexactly(sent // 4)
        writer.write(answer)
        await asyncio.sleep(0.01)  # TLS of asyncio's has it in a buffer
        sock = writer.get_extra_info("socket")
        if sock is not None:  # the proxy was not faster
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("reused", [False, True])
def test_a_reset_behind_the_answer(loop, tls, reused):
    """In whichever order they are noticed; a few times, as that is chance."""

    async def test():
        first = True

        async def upstream(reader, writer):
            nonlocal first
            if reused and first:
                first = False
                await read_head(reader)
                writer.write(response(b"ok"))
            await refusing(TOO_LARGE)(reader, writer)

        async with Rig(upstream, tls) as rig:
            for _ in range(5):
                first = True
                if reused:
                    assert (await rig.ask(get_plain()))[1] == b"ok"
                reader, writer = await rig.client()
                writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % BODY)
                for _ in range(BODY // 16384):
                    writer.write(bytes(16384))
                    await asyncio.sleep(0)
                head, body = await read_response(reader)
                assert head.startswith(b"HTTP/1.1 413 ") and body == b"no"
                writer.transport.abort()
                await rig.settled()
                while rig.service.endpoints[0].pool.idle:  # the body was gone before the answer
                    await asyncio.sleep(0.01)

    run(test(), loop)


def get_plain():
    return b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("tls", [False, True])
def test_a_reset_within_an_answer_that_only_its_end_ends(tls):
    """What came is relayed, and cut: nobody knows whether that was all (rule 31)."""

    async def test():
        answer = b"HTTP/1.1 413 Content Too Large\r\n\r\npart"
        async with Rig(refusing(answer), tls) as rig:
            reader, writer = await rig.client()
            writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % BODY)
            writer.write(bytes(BODY))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 413 ")
            with contextlib.suppress(OSError):
                assert not (await reader.read()).endswith(b"0\r\n\r\n")
            writer.transport.abort()

    run(test())


def test_a_chunked_body_that_still_comes_promises_nothing():
    async def test():
        async def upstream(reader, writer):
            await read_head(reader)
            writer.write(TOO_LARGE)
            await reader.read()

        async with Rig(upstream) as rig:
            reader, writer = await rig.client()
            writer.write(
                b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
            )
            head, body = await read_response(reader)
            assert b"\r\nConnection: close\r\n" in head and body == b"no"
            writer.write(b"0\r\n\r\n" + get_plain())
            assert await reader.read() == b""
            writer.close()

    run(test())


async def answering(reader, writer):
    await read_head(reader)
    writer.write(TOO_LARGE)
    await reader.read()


def post(h2: H2Client, *more: tuple[str, str]) -> int:
    block = h2.encoder.encode(
        [(":method", "PUT"), (":scheme", "https"), (":authority", "h"), (":path", "/"), *more]
    )
    number, h2.next_id = h2.next_id, h2.next_id + 2
    h2.send(frames.headers(number, block, False))
    return number


def test_http2_a_client_that_sends_on_is_told_to_stop():
    def client(h2, rig):
        number = post(h2)
        (fields,), body, reset = whole(h2, number)
        assert (fields[":status"], body, reset) == ("413", b"no", None)
        h2.sock.settimeout(0.1)
        room, sent = 65535, 0
        while True:  # as much as it may, and no more
            size = min(16384, room)
            if size:
                h2.send(frames.data(number, bytes(size), False))
                room, sent = room - size, sent + size
            try:
                kind, _, stream, payload = h2.frame()
            except TimeoutError:
                continue
            if kind == frames.RST_STREAM:
                break
            if kind == frames.WINDOW_UPDATE and stream == number:
                room += int.from_bytes(payload, "big")
        assert int.from_bytes(payload, "big") == Code.NO_ERROR
        assert 65535 < sent < 4 * 65535, "not before it was given credit behind the answer"
        h2.sock.settimeout(PATIENCE)
        assert h2.get()[0] == 413

    talk(answering, client, deadlines={"linger": 30.0}, every=60.0)


def test_http2_a_client_that_waits_is_told_to_stop():
    def client(h2, rig):
        number = post(h2)
        assert whole(h2, number)[1:] == (b"no", None)
        _, _, stream, payload = h2.until(frames.RST_STREAM)
        assert (stream, int.from_bytes(payload, "big")) == (number, Code.NO_ERROR)

    talk(answering, client)


def test_http2_a_client_that_stops_within_its_body_still_has_its_answer():
    """As curl does once the status tells it that the rest is of no use."""
    stopped = asyncio.Event()

    async def upstream(reader, writer):
        await read_head(reader)
        writer.write(TOO_LARGE[:-2])
        await stopped.wait()
        writer.write(b"no")
        assert await reader.read() == b"part", "the body did not end"

    def client(h2, rig):
        number = post(h2, ("content-length", "1000"))
        h2.send(frames.data(number, b"part", False))
        assert h2.until(frames.HEADERS)[2] == number
        h2.send(frames.data(number, b"", True))
        rig.server.get_loop().call_soon_threadsafe(stopped.set)
        kind, flags, _, payload = h2.until(frames.DATA, frames.RST_STREAM)
        body = payload
        while not flags & frames.END_STREAM:
            kind, flags, _, payload = h2.until(frames.DATA, frames.RST_STREAM)
            body += payload
        assert (kind, body) == (frames.DATA, b"no")

    rig = talk(upstream, client)
    assert rig.service.endpoints[0].pool.idle == []
