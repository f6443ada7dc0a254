"""The worker leaves: each WebSocket is told so at the end of a frame, and nothing is torn."""

import asyncio

import pytest

from rawproxy.proxy.tunnel_close import DrainReason
from tests.unit.protocol.websocket.test_frames import frame

from .rig import Rig, read_head, run
from .test_tunnel import ASK, GRANT

pytestmark = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
SOON = {"deadlines": {"drain": 0.8, "linger": 0.4}}


async def read_frame(reader) -> tuple[int, bytes]:
    """First byte and payload, unmasked, of one frame. Raises `IncompleteReadError` at the end."""
    first, second = await reader.readexactly(2)
    length = second & 127
    if length > 125:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
    mask = await reader.readexactly(4) if second & 128 else b"\0\0\0\0"
    payload = await reader.readexactly(length)
    read_frame.masked = bool(second & 128)
    return first, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


GOODBYE = (0x88, (1012).to_bytes(2, "big") + b"service restart")


class Stage:
    """A tunnel through a rig: raw frames in and out on both sides."""

    def __init__(self, tls: bool, **options) -> None:
        self.rig = Rig(self.serve, tls, **{**SOON, **options})
        self.back = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    async def serve(self, reader, writer) -> None:
        await read_head(reader)
        writer.write(GRANT)
        self.back.set_result((reader, writer))
        await self.over.wait()

    async def __aenter__(self):
        await self.rig.__aenter__()
        self.front = await self.rig.client()
        self.front[1].write(ASK)
        await read_head(self.front[0])
        return self.rig, self.front, await self.back

    async def __aexit__(self, *error) -> None:
        self.front[1].close()
        self.over.set()
        await self.rig.__aexit__(*error)


def test_both_sides_are_told_and_then_closed(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (back, answer)):
            writer.write(frame(1, b"hello", mask=True))
            assert await read_frame(back) == (0x81, b"hello")
            rig.service.drain()
            rig.service.drain()  # less time now: told once all the same
            assert await read_frame(reader) == GOODBYE
            assert not read_frame.masked
            assert await read_frame(back) == GOODBYE
            assert read_frame.masked
            # What comes behind our Close is not passed on, as nothing may follow one.
            writer.write(frame(1, b"late", mask=True) + frame(8, b"\x03\xf4", mask=True))
            answer.write(frame(1, b"late") + frame(8, b"\x03\xf4"))
            assert await reader.read() == b""
            assert await back.read() == b""
            await rig.settled()

    run(test())


def test_a_message_under_way_comes_to_its_end(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, _writer), (back, answer)):
            part = frame(2, b"a" * 70_000, fin=False)
            answer.write(part)
            assert await read_frame(reader) == (0x02, b"a" * 70_000)
            rig.service.drain()
            assert await read_frame(back) == GOODBYE, "the other direction need not wait"
            last = frame(0, b"b" * 300)
            answer.write(last[:100])
            assert await reader.readexactly(100) == last[:100]
            answer.write(last[100:] + frame(1, b"next"))
            assert await reader.readexactly(len(last) - 100) == last[100:]
            assert await read_frame(reader) == GOODBYE

    run(test())


def test_between_fragments_where_the_message_does_not_end(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (back, _answer)):
            writer.write(frame(1, b"a", fin=False, mask=True))
            assert await read_frame(back) == (0x01, b"a")
            rig.service.drain()
            assert await read_frame(reader) == GOODBYE
            assert await read_frame(back) == GOODBYE

    run(test())


def test_a_frame_that_does_not_end_is_cut_by_time_alone(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, _writer), (back, answer)):
            torn = frame(1, b"a" * 100)[:50]
            answer.write(torn)
            assert await reader.readexactly(50) == torn
            rig.service.drain()
            assert await read_frame(back) == GOODBYE
            assert await reader.read() == b"", "no Close within a frame"
            await rig.settled()

    run(test())


def test_peers_that_are_closing_already_are_left_to_it(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (back, answer)):
            bye = frame(8, b"\x03\xe8bye", mask=True)
            writer.write(bye[:8])
            assert await back.readexactly(8) == bye[:8]
            (tunnel,) = [one for one in rig.service.clients if hasattr(one, "part")]
            answer.write(frame(1, b"a", fin=False))
            assert await read_frame(reader) == (0x01, b"a")
            rig.service.drain()
            tunnel.part()
            writer.write(bye[8:])
            assert await back.readexactly(len(bye) - 8) == bye[8:], "its own Close, whole"
            answer.write(frame(0, b"b") + frame(8, b"\x03\xe8bye"))
            assert await read_frame(reader) == (0x80, b"b")
            assert await read_frame(reader) in (GOODBYE, (0x88, b"\x03\xe8bye"))
            assert await reader.read() == b""
            await rig.settled()

    run(test())


def test_a_close_in_one_chunk_with_what_it_interrupts(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (_back, answer)):
            answer.write(frame(1, b"a", fin=False))
            assert await read_frame(reader) == (0x01, b"a")
            (tunnel,) = [one for one in rig.service.clients if hasattr(one, "part")]
            rig.service.drain()
            tunnel.part()
            answer.write(frame(8, b"\x03\xe8bye"))
            assert await read_frame(reader) == (0x88, b"\x03\xe8bye"), "one Close, and its own"
            writer.write(frame(8, b"\x03\xe8", mask=True))
            assert await reader.read() == b""

    run(test())


@pytest.mark.parametrize("how", ["eof", "abort"])
def test_a_peer_that_goes_without_a_word(tls, how):
    async def test():
        async with Stage(tls) as (rig, (reader, _writer), (back, answer)):
            answer.write(frame(1, b"a" * 100)[:50])
            await reader.readexactly(50)
            (tunnel,) = [one for one in rig.service.clients if hasattr(one, "part")]
            rig.service.drain()
            tunnel.part()
            assert await read_frame(back) == GOODBYE
            if how == "abort":
                answer.transport.abort()
            else:
                answer.close()
            assert await reader.read() == b""
            await rig.settled()

    run(test())


def test_one_that_does_not_answer_is_not_waited_for(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, _), (back, _)):
            rig.service.drain(DrainReason.RETIRED)
            assert await read_frame(reader) == GOODBYE
            assert await read_frame(back) == GOODBYE
            assert await reader.read() == b""
            await rig.settled()

    run(test())


def test_one_that_begins_while_the_worker_drains_is_told_too(tls):
    async def test():
        asked, go = asyncio.Event(), asyncio.Event()

        async def upstream(reader, writer):
            await read_head(reader)
            asked.set()
            await go.wait()
            writer.write(GRANT)
            assert await read_frame(reader) == GOODBYE
            writer.write(frame(8, b"\x03\xf4"))
            await reader.read()

        async with Rig(upstream, tls, **SOON) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            await asked.wait()
            rig.service.drain(DrainReason.RETIRED)
            go.set()
            assert (await read_head(reader)).startswith(b"HTTP/1.1 101")
            assert await read_frame(reader) == GOODBYE
            writer.close()

    run(test())


def test_a_tunnel_that_is_half_closed_already(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (back, _)):
            if tls:  # no half-close there: the tunnel is gone with it
                writer.close()
                assert await back.read() == b""
            else:
                writer.write_eof()
                assert await back.read() == b""
                rig.service.drain()
                assert await read_frame(reader) == GOODBYE
                assert await reader.read() == b""
            await rig.settled()

    run(test())


def test_what_comes_for_one_that_has_gone_is_dropped(tls):
    async def test():
        async with Stage(tls) as (rig, (reader, writer), (back, answer)):
            answer.write(frame(1, b"a" * 100)[:50])
            await reader.readexactly(50)
            rig.service.drain()
            assert await read_frame(back) == GOODBYE
            writer.transport.abort()
            answer.write(frame(1, b"a" * 100)[50:] + frame(8, b"\x03\xf4"))
            await rig.settled()

    run(test())
