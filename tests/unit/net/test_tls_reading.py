"""What TLS transports read, and how they tell the ends of a connection apart."""

import asyncio
import socket
import ssl
import struct

import pytest

from rawproxy.errors import CutError
from rawproxy.net.poller import PLACE
from rawproxy.net.tls_outbox import RECORD
from tests.unit.net.tls_pair import (
    Recorder,
    connected,
)


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD, 600_000])
def test_nothing_stays_behind_when_reading_stops_and_goes_on(run, size):
    """Each `data_received` pauses; the peer says no more, so nothing but the kernel wakes us."""

    async def story():
        class Hesitant(Recorder):
            def data_received(self, data):
                super().data_received(data)
                self.transport.pause_reading()
                self.transport.pause_reading()
                assert not self.transport.is_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

        async with connected(protocol=Hesitant()) as (transport, recorder, peer):
            sent = bytes(range(256)) * (size // 256 + 1)
            await peer.write(sent[:size])
            await recorder.until(lambda: len(recorder.data) == size)
            assert recorder.data == sent[:size]
            assert max(recorder.sizes) <= PLACE
            assert not transport.is_closing()

    run(story)


def test_reading_may_be_paused_from_the_start(run):
    async def story():
        class Shy(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                transport.pause_reading()

        async with connected(protocol=Shy()) as (transport, recorder, peer):
            await peer.write(b"x")
            for _ in range(10):
                await asyncio.sleep(0)
            assert not recorder.data
            transport.resume_reading()
            await recorder.until(lambda: recorder.data == b"x")

    run(story)


@pytest.mark.parametrize("before", [0, 5, 2 * RECORD])
@pytest.mark.parametrize("fin", [False, True])
def test_close_notify_is_a_clean_end(run, before, fin):
    async def story():
        async with connected() as (_, recorder, peer):
            if before:
                await peer.write(bytes(before))
            peer.notify()
            if fin:
                peer.sock.shutdown(socket.SHUT_WR)
            assert await recorder.lost is None
            assert len(recorder.data) == before
            assert [e for e in recorder.events if e != "data"] == ["made", "eof", "lost"]
            assert await peer.read() == b""

    run(story)


@pytest.mark.parametrize("before", [0, 5, 2 * RECORD])
@pytest.mark.parametrize("how", ["fin", "close", "reset", "garbage"])
def test_any_other_end_is_an_error(run, before, how):
    async def story():
        async with connected() as (_, recorder, peer):
            if before:
                await peer.write(bytes(before))
                await recorder.until(lambda: how != "reset" or len(recorder.data) == before)
            if how == "garbage":
                peer.sock.send(b"garbage in place of a record")
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if how == "fin":
                peer.sock.shutdown(socket.SHUT_WR)
            else:  # a reset even without asking for one, where something is unread: tickets are
                peer.sock.close()
            error = await recorder.lost
            # Of garbage OpenSSL complains to the peer, and that may be what fails.
            assert isinstance(error, CutError) or (how == "garbage" and type(error) is ssl.SSLError)
            assert len(recorder.data) == before
            assert "eof" not in recorder.events

    run(story)


def test_a_read_that_has_to_write_first(run):
    async def story():
        script = {"read": [ssl.SSLWantWriteError()]}
        async with connected(stubborn=script) as (transport, recorder, peer):
            await peer.write(b"one")
            await recorder.until(lambda: recorder.data == b"one")
            # Within a batch, and with reading paused and resumed meanwhile.
            script["read"] = [ssl.SSLWantReadError(), ssl.SSLWantWriteError()]
            await peer.write(b"two")
            await recorder.until(lambda: recorder.data == b"onetwo" or not script["read"])
            transport.pause_reading()
            transport.resume_reading()
            await recorder.until(lambda: recorder.data == b"onetwo")

    run(story)


def test_a_batch_that_has_to_write_first(run):
    async def story():
        script: dict = {}

        class Once(Recorder):
            def data_received(self, data):
                super().data_received(data)

        async with connected(stubborn=script, protocol=Once()) as (transport, recorder, peer):
            stub = transport.get_extra_info("ssl_object")
            read = stub.read

            def second_fails(size, place, calls=[0]):  # noqa: B006, it counts the calls
                calls[0] += 1
                if calls[0] == 2:
                    transport.pause_reading()
                    asyncio.get_running_loop().call_soon(transport.resume_reading)
                    raise ssl.SSLWantWriteError
                return read(size, place)

            stub.read = second_fails
            await peer.write(bytes(3 * RECORD))
            await recorder.until(lambda: len(recorder.data) == 3 * RECORD)

    run(story)
