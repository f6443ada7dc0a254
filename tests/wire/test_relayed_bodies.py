"""Long bodies, which the kernel moves between plain sockets, and which are not copied from TLS to TLS:
what else has to hold then.
"""

import asyncio
import contextlib
import os
import socket
import struct

import pytest

from rawproxy.client.h1_connection import H1Connection
from rawproxy.net.backpressure import WRITER_FULL
from rawproxy.net.kernel_relay import LEAST, PIPES_OF_ALL

from .rig import LOOPS, Rig, get, read_head, read_response, response, run
from .test_shares import narrow, until

BODY = bytes(range(251)) * 40_000  # ten megabytes
RESET = struct.pack("ii", 1, 0)
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(autouse=True)
def spliced(monkeypatch):
    """How many bytes were moved by the kernel; all pipes are given back in the end."""
    moved = []
    splice, used = os.splice, PIPES_OF_ALL.used

    def counting(source, *arguments, **more):
        size = splice(source, *arguments, **more)
        moved.append(size)
        return size

    monkeypatch.setattr(os, "splice", counting)
    yield moved
    assert PIPES_OF_ALL.used == used


async def serve(reader, writer):
    """A long body, or the size of the one that came."""
    while True:
        head = await read_head(reader)
        if head.startswith(b"GET"):
            writer.write(response(BODY))
            continue
        length = next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)
        body = await reader.readexactly(int(length.split()[1]))
        writer.write(response(b"%d %d" % (len(body), body == BODY)))


TLS = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


@TLS
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_both_ways_and_again(loop_factory, tls, spliced):
    async def test():
        async with Rig(serve, tls, max_upstream=1) as rig:
            reader, writer = await rig.client()
            for _ in range(2):
                writer.write(POST % len(BODY) + BODY)
                assert (await read_response(reader))[1] == b"%d 1" % len(BODY)
                uploads = sum(spliced)
                assert uploads > len(BODY) or tls  # into a pipe, and out of it
                writer.write(get())
                assert (await read_response(reader))[1] == BODY
                assert sum(spliced) - uploads > len(BODY) or tls
                spliced.clear()
            await until(lambda: len(rig.log) == 4)
            sizes = [int(line.split(b'" ')[1].split()[1]) for line in rig.log]
            assert sizes[1::2] == [len(BODY)] * 2
            assert rig.connections == 1 and not rig.problems

    run(test(), loop_factory)


def test_a_short_body_is_read_and_written(spliced):
    async def script(reader, writer):
        while True:
            await read_head(reader)
            writer.write(response(b"x" * (LEAST - 1)))

    async def test():
        async with Rig(script) as rig:
            for _ in range(3):
                assert len((await rig.ask(get()))[1]) == LEAST - 1
        assert not spliced

    run(test())


def test_a_request_that_comes_meanwhile_has_its_turn():
    async def test():
        async with Rig(serve) as rig:
            reader, writer = await rig.client()
            writer.write(get() + get())
            await read_head(reader)
            writer.write(get())
            assert await reader.readexactly(len(BODY)) == BODY
            for _ in range(2):
                assert (await read_response(reader))[1] == BODY

    run(test())


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_an_upstream_that_breaks_off_is_seen_by_the_client(reset):
    async def script(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        writer.write(BODY[:1_000_000])
        await writer.drain()
        await asyncio.sleep(0.05)
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.close()

    async def test():
        async with Rig(script) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 200")
            got = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while piece := await reader.read(65536):
                    got += piece
            assert got == BODY[: len(got)] and len(got) <= 1_000_000
            (problem,) = rig.problems
            assert "within its response body" in problem
            rig.problems.clear()

    run(test())


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_client_that_leaves_frees_the_upstream(reset):
    gone = asyncio.Event()

    async def script(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(BODY)
                await writer.drain()
        except OSError:
            gone.set()

    async def test():
        async with Rig(script) as rig:
            reader, writer = await asyncio.open_connection(sock=narrow(rig), limit=1024)
            writer.write(get())
            await read_head(reader)
            (one,) = rig.service.clients
            await until(lambda: one.blocked)
            if reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.close()
            await gone.wait()
            await until(lambda: rig.log)
            assert b" 200 " in rig.log[0]

    run(test())


def test_a_client_that_half_closes_and_reads_slowly_gets_all_of_it():
    async def test():
        async with Rig(serve) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await read_head(reader)
            reader._transport.pause_reading()
            (one,) = rig.service.clients
            await until(lambda: one.blocked)
            writer.write_eof()
            await until(lambda: one.half_closed)
            await asyncio.sleep(0.5)  # it is asked whether it is there
            reader._transport.resume_reading()
            assert await reader.readexactly(len(BODY)) == BODY
            assert await reader.read() == b""

    run(test())


def test_a_client_that_reads_nothing_more_is_cut():
    async def test():
        wait = {"response_body": 0.3}
        async with Rig(serve, deadlines=wait, limits={"rate": 1000}) as rig:
            reader, writer = await asyncio.open_connection(sock=narrow(rig), limit=1024)
            writer.write(get())
            await read_head(reader)
            (one,) = rig.service.clients
            await until(lambda: one.blocked)
            await until(lambda: rig.log)
            (problem,) = rig.problems
            assert "next to nothing" in problem
            rig.problems.clear()
            writer.transport.abort()

    run(test())


@TLS
def test_a_client_that_sends_nothing_more_is_told_so(tls):
    async def test():
        async with Rig(serve, tls, deadlines={"request_body": 0.3}, limits={"rate": 1000}) as rig:
            reader, writer = await rig.client()
            writer.write(POST % len(BODY) + BODY[:1_000_000])
            head, _ = await read_response(reader)
            assert head.startswith(b"HTTP/1.1 408 ")
            rig.problems.clear()

    run(test())


@TLS
def test_an_early_answer_ends_an_upload_that_the_upstream_does_not_take(tls):
    async def script(reader, writer):
        await read_head(reader)
        await asyncio.sleep(0.1)  # the relay is full by now
        writer.write(response(b"no", b"Connection: close", status=b"413 Content Too Large"))
        await writer.drain()
        writer.close()

    async def test():
        async with Rig(script, tls) as rig:
            reader, writer = await rig.client()
            writer.write(POST % (10 * len(BODY)) + BODY)
            head, body = await read_response(reader)
            assert head.startswith(b"HTTP/1.1 413 ") and body == b"no"
            writer.transport.abort()
            rig.problems.clear()

    run(test())


@TLS
def test_an_upstream_that_takes_no_more_of_an_upload_throttles_the_client(tls):
    go_on = asyncio.Event()

    async def script(reader, writer):
        await read_head(reader)
        writer.transport.pause_reading()
        await go_on.wait()
        writer.transport.resume_reading()
        assert await reader.readexactly(len(BODY)) == BODY
        writer.write(response(b"all"))

    async def test():
        async with Rig(script, tls) as rig:
            reader, writer = await rig.client()
            writer.write(POST % len(BODY) + BODY)
            await until(lambda: any(isinstance(one, H1Connection) for one in rig.service.clients))
            (one,) = rig.service.clients
            await until(lambda: one.valve.reasons & WRITER_FULL)
            go_on.set()
            assert (await read_response(reader))[1] == b"all"
            await until(lambda: not one.valve.reasons)

    run(test())


@TLS
def test_a_client_that_breaks_off_within_an_upload_is_no_whole_body(tls):
    ended = []

    async def script(reader, writer):
        await read_head(reader)
        try:
            await reader.readexactly(len(BODY))
        except (asyncio.IncompleteReadError, OSError) as error:
            ended.append(error)

    async def test():
        async with Rig(script, tls) as rig:
            _, writer = await rig.client()
            writer.write(POST % len(BODY) + BODY[:3_000_000])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await until(lambda: ended)
            rig.problems.clear()

    run(test())


def test_uploads_that_pass_in_one_place_are_nobody_elses():
    """From TLS to TLS, several at once, to upstreams some of which read in fits."""
    size = 1_500_000

    def body(number: int) -> bytes:
        return b"".join(b"%02d%06d" % (number, at) for at in range(size // 8))

    async def script(reader, writer):
        while True:
            number = int((await read_head(reader)).split(b" ", 2)[1][1:])
            if number % 2:
                reader._transport.pause_reading()
                await asyncio.sleep(0.05)
                reader._transport.resume_reading()
            got = await reader.readexactly(size)
            writer.write(response(b"%d" % (got == body(number))))

    async def ask(rig: Rig, number: int) -> None:
        reader, writer = await rig.client()
        for _ in range(2):
            head = b"PUT /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (number, size) + body(number))
            assert (await read_response(reader))[1] == b"1"
        writer.close()

    async def test():
        async with Rig(script, True) as rig:
            await asyncio.gather(*(ask(rig, number) for number in range(6)))
            assert not rig.problems

    run(test())
