"""Long bodies are read ahead: whole, in fewer calls, and nothing stays behind in OpenSSL."""

import asyncio
import hashlib
import ssl

import pytest

from rawproxy.net.openssl import at_start, read_ahead
from rawproxy.net.openssl.read_ahead import BUFFER, ReadAhead, ahead
from rawproxy.net.poller import PLACE
from rawproxy.net.tls_outbox import RECORD
from tests.unit.net.tls_pair import connected


@pytest.fixture(autouse=True)
def opened():
    at_start.found_out()
    assert ahead._calls is not None, "it can be had with every Python that is tested"


class Taker:
    """Who gets the views."""

    def __init__(self, transport, size):
        self.transport, self.size = transport, size
        self.data, self.sizes = bytearray(), []
        self.whole = asyncio.Event()

    def __call__(self, view):
        self.data += view
        self.sizes.append(len(view))
        if len(self.data) >= self.size:
            self.transport.read_views(None)
            self.whole.set()


def reads_ahead(transport) -> int:
    return ahead._calls._told(ahead._calls.word(transport._tls))


def test_a_body_comes_whole_and_what_follows_it_too(run):
    async def story():
        async with connected(server=False) as (transport, recorder, peer):
            body = bytes(range(256)) * 8192  # 2 MiB
            taker = Taker(transport, len(body))
            transport.read_views(taker, ahead=True)
            assert reads_ahead(transport)
            await peer.write(body)
            await taker.whole.wait()
            assert hashlib.sha256(taker.data).digest() == hashlib.sha256(body).digest()
            assert max(taker.sizes) <= PLACE
            assert not reads_ahead(transport)
            await peer.write(b"the next head")
            await recorder.until(lambda: recorder.data == b"the next head")

    run(story)


def test_nothing_stays_behind_while_reading_stops_and_goes_on(run):
    """Small records, many in what OpenSSL reads at a time, and a stop behind each view."""

    async def story():
        async with connected(server=False) as (transport, _, peer):
            size = 40 * (PLACE // 8)
            taker = Taker(transport, size)

            def stops(view):
                taker(view)
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.002, transport.resume_reading)

            transport.read_views(stops, ahead=True)
            for at in range(40):
                await peer.write(bytes((at,)) * (PLACE // 8))
            # All has been sent, so the kernel reports nothing more of what OpenSSL has taken.
            await taker.whole.wait()
            expected = b"".join(bytes((at,)) * (PLACE // 8) for at in range(40))
            assert bytes(taker.data) == expected

    run(story)


def test_records_that_are_not_full(run):
    async def story():
        async with connected(server=False) as (transport, _, peer):
            sizes = [1, RECORD, 100, RECORD - 1, 5000, 7, RECORD, RECORD, 3] * 6
            taker = Taker(transport, sum(sizes))
            transport.read_views(taker, ahead=True)
            transport.pause_reading()
            for size in sizes:
                await peer.write(bytes(size))
            transport.resume_reading()
            await taker.whole.wait()
            assert len(taker.data) == sum(sizes)
            assert len(taker.sizes) < len(sizes) / 2, "many records of one call go on together"

    run(story)


def test_the_end_of_reading_ahead_leaves_no_record_in_openssl(run):
    """It ends within a read, when more records than one may be inside."""

    async def story():
        async with connected(server=False) as (transport, recorder, peer):
            taker = Taker(transport, 1)  # it ends with the first view
            transport.read_views(taker, ahead=True)
            transport.pause_reading()
            count = 2 * PLACE // 1000
            for _ in range(count):
                await peer.write(bytes(1000))
            transport.resume_reading()
            await recorder.until(lambda: len(recorder.data) + len(taker.data) == count * 1000)

    run(story)


def test_the_peer_ends_within_what_was_read_ahead(run):
    async def story():
        async with connected(server=False) as (transport, recorder, peer):
            taker = Taker(transport, 10**9)
            transport.read_views(taker, ahead=True)
            await peer.write(bytes(3 * RECORD))
            peer.notify()
            assert await recorder.lost is None
            assert len(taker.data) == 3 * RECORD
            transport.read_views(None)  # closed by now

    run(story)


def test_it_is_closed_until_it_was_tried_and_for_anything_else():
    never = ReadAhead()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    inside = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="up.test")._sslobj
    assert not never.begin(inside)
    never.end(inside)
    assert ahead.begin(inside)
    ahead.end(inside)
    assert not ahead.begin(None) and not ahead.begin(context)
    ahead.end(None)


@pytest.mark.parametrize("fault", ["context", "memory", "setting", "library"])
def test_it_stays_closed_where_anything_is_not_as_it_knows(monkeypatch, fault):
    if fault == "context":
        monkeypatch.setattr(read_ahead, "_BEHIND", 0)  # another word: the pointer to the socket
    elif fault == "memory":
        monkeypatch.setattr(read_ahead.context_door, "readable", lambda _: False)
    elif fault == "setting":
        monkeypatch.setattr(read_ahead.ConnectionCalls, "set", lambda *_, **__: True)
    else:

        def missing(_):
            raise LookupError("another OpenSSL")

        monkeypatch.setattr(read_ahead.context_door.Library, "__init__", missing)
    tried = ReadAhead()
    tried.find_out()
    assert tried._calls is None


def test_two_records_fit():
    assert BUFFER > 2 * RECORD
