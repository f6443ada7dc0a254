"""How a TLS transport ends, and what its protocol may do to it."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
from types import SimpleNamespace

import pytest

from rawproxy.errors import CutError
from rawproxy.net import tls_handshake
from rawproxy.net.poller import poller
from rawproxy.net.socket_transport import LOOK
from rawproxy.net.tls_ends import told
from rawproxy.net.tls_outbox import RECORD
from tests.unit.net.tls_pair import (
    CLIENT,
    GRACE,
    Peer,
    Recorder,
    connected,
    sockets,
)


def test_close_writes_what_is_queued(run):
    async def story():
        async with connected(buffer=8192) as (transport, recorder, peer):
            transport.write(bytes(500_000))
            transport.close()
            transport.close()
            assert transport.is_closing() and not transport.is_reading()
            transport.write(b"too late")
            transport.pause_reading()
            transport.resume_reading()
            # What still comes is thrown away and makes no reset of the end.
            await peer.write(bytes(4000))
            assert len(await peer.read_all(500_000)) == 500_000
            assert await peer.read() == b""
            peer.sock.send(b"more, even in plain")
            peer.sock.shutdown(socket.SHUT_WR)
            assert await recorder.lost is None
            assert "data" not in recorder.events and "eof" not in recorder.events

    run(story)


def test_abort_throws_away_what_is_queued(run):
    async def story():
        async with connected(buffer=8192) as (transport, recorder, peer):
            transport.write(bytes(500_000))
            transport.abort()
            assert await recorder.lost is None
            with pytest.raises(ssl.SSLError) as caught:
                await peer.read_all(500_000)
            assert isinstance(told(caught.value), CutError)

    run(story)


@pytest.mark.parametrize("queued", [0, 500_000])
def test_a_close_takes_no_longer_than_grace(run, queued):
    async def story():
        async with connected(buffer=8192, grace=0.02) as (transport, recorder, _peer):
            transport.write(bytes(queued))
            transport.close()
            assert await recorder.lost is None

    run(story)


def test_a_close_takes_as_long_as_the_peer_goes_on_reading(run):
    async def story():
        async with connected(buffer=65536, grace=0.2) as (transport, _, peer):
            transport.write(bytes(1_000_000))
            transport.close()
            seen = 0
            while seen < 1_000_000:
                seen += len(await peer.read(RECORD))
                await asyncio.sleep(0.01)  # which makes the whole longer than the grace
            assert await peer.read() == b""

    run(story)


def test_the_peer_goes_within_a_close(run):
    async def story():
        async with connected(buffer=8192) as (transport, recorder, peer):
            transport.write(bytes(500_000))
            transport.close()
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            await recorder.lost

    run(story)


def test_the_peer_has_gone_before_a_close(run):
    async def story():
        async with connected() as (transport, recorder, peer):
            transport.pause_reading()
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            transport.close()
            assert await recorder.lost is None

    run(story)


@pytest.mark.parametrize("alive", [True, False])
def test_a_peer_that_goes_on_after_the_first_look(run, alive):
    """It is watched from then on, and not for longer than `grace`."""

    async def story():
        grace = GRACE if alive else 0.05
        async with connected(grace=grace) as (transport, recorder, peer):
            transport.close()
            await asyncio.sleep(2 * LOOK)
            assert "lost" not in recorder.events
            if alive:
                await peer.write(b"dropped")
                peer.sock.shutdown(socket.SHUT_WR)
            assert await recorder.lost is None
            assert recorder.events == ["made", "lost"]

    run(story)


def test_peers_that_end_at_once_are_not_watched(run, monkeypatch):
    async def story():
        async with connected() as (transport, recorder, peer):
            transport.close()
            peer.notify()
            peer.sock.shutdown(socket.SHUT_WR)
            monkeypatch.setattr(poller(), "_epoll", None)
            assert await recorder.lost is None

    run(story)


def test_the_kernel_watches_no_more_for_those_who_linger(run, monkeypatch):
    async def story():
        async with connected() as (transport, recorder, _):
            transport.close()
            full = SimpleNamespace(register=lambda *_: os.open("/proc/self/none", 0))
            monkeypatch.setattr(poller(), "_epoll", full)
            assert await recorder.lost is None

    run(story)


def test_an_abort_before_the_first_look(run):
    async def story():
        async with connected() as (transport, recorder, _):
            transport.close()
            transport.abort()
            assert await recorder.lost is None
            await asyncio.sleep(2 * LOOK)

    run(story)


def test_a_loop_may_end_within_a_close(run):
    async def story():
        ours, theirs = sockets()
        recorder = Recorder()
        shaking = asyncio.create_task(Peer(theirs, True).shake())
        transport = await tls_handshake.connect(ours, CLIENT, "up.test", recorder, GRACE)
        await shaking
        transport.close()
        kept.append(theirs)

    kept = []
    run(story)
    gc.collect()  # a socket left open would be a warning, and that an error
    kept[0].close()


# ── protocols ───────────────────────────────────────────────────────────────────────────────────


def test_protocols_are_swapped(run):
    async def story():
        async with connected() as (transport, recorder, peer):
            second = Recorder()
            second.transport = transport
            assert transport.get_protocol() is recorder
            transport.set_protocol(second)
            await peer.write(b"x")
            await second.until(lambda: second.data == b"x")
            assert not recorder.data
            assert not transport.can_write_eof()
            transport.set_protocol(recorder)

    run(story)


@pytest.mark.parametrize("what", ["data", "eof", "pause", "resume", "made", "lost"])
def test_a_protocol_that_raises(run, what):
    async def story():
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with connected(raising=what, buffer=8192) as (transport, recorder, peer):
            if what == "data":
                await peer.write(b"x")
            elif what == "eof":
                peer.notify()
            elif what == "lost":
                transport.abort()
            elif what in ("pause", "resume"):
                transport.write(bytes(500_000))
                with contextlib.suppress(ssl.SSLError):
                    await peer.read_all(500_000)
            error = await recorder.lost
            assert isinstance(error, ZeroDivisionError) is (what != "lost")
            await asyncio.sleep(0)
            assert [type(context["exception"]) for context in told] == [ZeroDivisionError]

    run(story)
