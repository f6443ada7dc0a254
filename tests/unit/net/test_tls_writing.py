"""What TLS transports write, and what becomes of it where the socket takes no more."""

import asyncio
import hashlib
import socket
import ssl
import struct

import pytest

from rawproxy.errors import CutError
from rawproxy.net import tls_handshake
from rawproxy.net.backpressure import MEMINFO, MOST_WORDS, SO_MEMINFO, last_words
from rawproxy.net.socket_transport import HIGH, LOW
from rawproxy.net.tls_outbox import RECORD
from rawproxy.net.tls_transport import CORKED, TlsTransport
from tests.unit.net.tls_pair import (
    CLIENT,
    GRACE,
    SERVER,
    Peer,
    Recorder,
    connected,
    sockets,
)


def segments(sock: socket.socket) -> int:
    """With data, sent so far: tcpi_data_segs_out of the kernel's struct tcp_info."""
    (count,) = struct.unpack_from(
        "I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 156
    )
    return count


def corked(sock: socket.socket) -> int:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)


def test_many_records_leave_as_one(run):
    async def story():
        async with connected() as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for records, most in ((2, 2), (6, 3)):
                before = segments(sock)
                transport.write(bytes(records * RECORD))
                assert not corked(sock), "or the end of it would wait for a while"
                assert transport.get_write_buffer_size() == 0
                assert len(await peer.read_all(records * RECORD)) == records * RECORD
                assert segments(sock) - before <= most

    run(story)


def test_nothing_stays_behind_in_a_full_socket(run):
    async def story():
        async with connected(buffer=8192) as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            transport.write(bytes(20 * RECORD))
            assert transport.get_write_buffer_size() and not corked(sock)
            await peer.read_all(20 * RECORD)
            assert not transport.get_write_buffer_size() and not corked(sock)

    run(story)


class Roomy:
    """A socket that says it has room for all, whatever it has."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def getsockopt(self, level, option, size=0):
        if option == SO_MEMINFO:
            return MEMINFO.pack(1 << 30, 0)
        return self.sock.getsockopt(level, option, size)


class Counting:
    """Writes, and how many bytes each was asked to write."""

    def __init__(self, tls):
        self.tls = tls
        self.sizes = []

    def __getattr__(self, name):
        return getattr(self.tls, name)

    def write(self, data):
        self.sizes.append(len(data))
        return self.tls.write(data)


def test_where_there_is_room_all_records_are_one_write(run):
    async def story():
        async with connected() as (transport, _, peer):
            transport._tls = tls = Counting(transport._tls)
            sock = transport.get_extra_info("socket")
            for size in (2 * RECORD, 5 * RECORD + 7):
                tls.sizes.clear()
                transport.write(bytes(size))
                await peer.read_all(size)
                assert (tls.sizes == [size]) == (size >= CORKED)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1 << 20)
            tls.sizes.clear()
            transport.write(bytes(4 * RECORD))  # of a crowd
            assert tls.sizes == [RECORD] * 4
            await peer.read_all(4 * RECORD)

    run(story)


def test_openssl_gets_again_what_it_began_with(run):
    """Should there be less room than the kernel said."""
    body = bytes(range(251)) * 4000

    async def story():
        async with connected(buffer=8192) as (transport, recorder, peer):
            transport._sock = Roomy(transport._sock)
            transport._tls = tls = Counting(transport._tls)
            transport.write(memoryview(bytearray(body)))
            transport.write(b"behind it")
            assert transport.get_write_buffer_size() == len(body) + 9  # nobody knows of how many
            assert await peer.read_all(len(body) + 9) == body + b"behind it"
            assert not transport.get_write_buffer_size()
            assert set(tls.sizes[:-1]) == {len(body)} and len(tls.sizes) > 2
            assert recorder.events == ["made", "pause", "resume"]
            transport.write(body[: 4 * RECORD])
            assert await peer.read_all(4 * RECORD) == body[: 4 * RECORD]

    run(story)


def test_where_there_is_no_tcp_much_is_written_all_the_same(run):
    async def story():
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        recorder, peer = Recorder(), Peer(theirs, False)
        done = asyncio.get_running_loop().create_future()
        handshake = tls_handshake.accept(ours, SERVER, done.set_result)
        handshake.step()
        await peer.shake()
        assert await done is None
        transport = TlsTransport(handshake.sock, handshake.tls, recorder, GRACE)
        transport.begin()
        transport.write(b"y" * (5 * RECORD))
        assert await peer.read_all(5 * RECORD) == b"y" * (5 * RECORD)
        transport.abort()
        await recorder.lost
        theirs.close()

    run(story)


def test_a_peer_that_does_not_read(run):
    async def story():
        async with connected(buffer=8192) as (transport, recorder, peer):
            sent = bytearray()

            def write(data):
                sent.extend(data)
                transport.write(data)

            write(bytes(100))
            assert transport.get_write_buffer_size() == 0
            write(b"x" * 1_000_000)
            assert recorder.events == ["made", "pause"]
            queued = transport.get_write_buffer_size()
            assert queued > HIGH
            for number in range(2000):
                write(b"%d" % number)
            changing = bytearray(b"before")
            write(changing)
            changing[:] = b"behind"
            write(memoryview(b"view"))
            transport.writelines([b"a", b"b"])
            sent += b"ab"
            transport.write(b"")
            assert transport.get_write_buffer_size() > queued
            assert await peer.read_all(len(sent)) == sent
            await recorder.until(lambda: "resume" in recorder.events)
            assert transport.get_write_buffer_size() == 0
            assert recorder.events == ["made", "pause", "resume"]

    run(story)


def test_what_is_queued_in_small_pieces_leaves_in_few_records(run):
    async def story():
        async with connected(buffer=8192) as (transport, _, peer):
            while not transport.get_write_buffer_size():
                transport.write(b"x" * RECORD)
            for _ in range(1000):
                transport.write(b"y" * 10)
            records = 0
            seen = bytearray()
            while seen.count(b"y") < 10_000:
                seen += await peer.read(RECORD)
                records += 1
            assert records <= len(seen) // RECORD + 4

    run(story)


def test_ten_megabytes_both_ways(run):
    size = 10_000_000

    async def story():
        class Busy(Recorder):
            """Writes as fast as it may, and stops reading now and then."""

            def connection_made(self, transport):
                super().connection_made(transport)
                self.left = size
                self.count = 0
                self.hash = hashlib.sha256()
                self.may = True
                asyncio.get_running_loop().call_soon(self.go_on)

            def go_on(self):
                while self.left and self.may:
                    piece = bytes([self.left % 251]) * min(self.left, 1 + self.left % 50_000)
                    self.left -= len(piece)
                    self.transport.write(piece)

            def pause_writing(self):
                assert self.may
                self.may = False

            def resume_writing(self):
                assert not self.may
                self.may = True
                self.go_on()

            def data_received(self, data):
                self.count += len(data)
                self.hash.update(data)
                if self.count % 3 == 0:
                    self.transport.pause_reading()
                    asyncio.get_running_loop().call_soon(self.transport.resume_reading)
                if self.count == size:
                    self.news.set()

        ours, theirs = sockets()
        one, two = Busy(), Busy()
        begun = asyncio.get_running_loop().create_future()

        def ended(error):
            assert error is None
            TlsTransport(handshake.sock, handshake.tls, one, GRACE).begin()
            begun.set_result(None)

        handshake = tls_handshake.accept(ours, SERVER, ended)
        handshake.step()
        await tls_handshake.connect(theirs, CLIENT, "up.test", two, GRACE)
        await begun
        for end in (one, two):
            await end.until(lambda end=end: end.count == size)
        assert one.hash.digest() == two.hash.digest()
        one.transport.close()
        assert await one.lost is None
        assert await two.lost is None
        assert two.events == ["made", "eof", "lost"]

    run(story)


@pytest.mark.parametrize("paused", [False, True])
def test_a_write_that_has_to_read_first(run, paused):
    async def story():
        script = {"write": [ssl.SSLWantReadError()]}
        async with connected(stubborn=script) as (transport, recorder, peer):
            if paused:
                transport.pause_reading()
            transport.write(b"late")
            assert transport.get_write_buffer_size() == 4
            await peer.write(b"go on")
            assert await peer.read() == b"late"
            assert transport.get_write_buffer_size() == 0
            transport.resume_reading()
            await recorder.until(lambda: recorder.data == b"go on")

    run(story)


def test_a_close_behind_a_write_that_has_to_read_first(run):
    async def story():
        script = {"write": [ssl.SSLWantReadError()], "shutdown": [ssl.SSLWantWriteError()]}
        async with connected(stubborn=script) as (transport, recorder, peer):
            transport.write(b"late")
            transport.close()
            await peer.write(b"go on")
            assert await peer.read() == b"late"
            assert await peer.read() == b""
            peer.sock.close()
            assert await recorder.lost is None

    run(story)


def test_the_write_limits(run):
    async def story():
        async with connected() as (transport, *_):
            assert transport.get_write_buffer_limits() == (LOW, HIGH)
            transport.set_write_buffer_limits(100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (LOW, HIGH)
            with pytest.raises(ValueError, match="at least low"):
                transport.set_write_buffer_limits(1, 2)

    run(story)


def test_a_write_to_a_peer_that_has_gone(run):
    async def story():
        async with connected() as (transport, recorder, peer):
            transport.pause_reading()  # so that it is the write that finds out
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            transport.write(b"x")
            transport.write(b"x")
            assert transport.is_closing()
            assert isinstance(await recorder.lost, CutError)
            assert not last_words(transport), "nobody is answered"

    run(story)


@pytest.mark.parametrize("notified", [False, True])
@pytest.mark.parametrize("size", [6, 3 * RECORD, 2 * MOST_WORDS])
def test_what_an_upstream_said_before_a_write_failed(run, size, notified):
    """Its answer to an upload that it does not read to the end (rule 45)."""

    class Asking(Recorder):
        words = b""

        def connection_lost(self, error):
            self.words = last_words(self.transport)
            super().connection_lost(error)

    async def story():
        async with connected(server=False, protocol=Asking()) as (transport, recorder, peer):
            transport.pause_reading()  # as the loop may find both out in either order
            transport.write(b"a body that is not read")
            await peer.write(bytes(size))
            if notified:
                peer.notify()
            await asyncio.sleep(0.01)
            peer.sock.close()
            while not transport.is_closing():
                transport.write(b"x")
                await asyncio.sleep(0.01)
            error = await recorder.lost
            if size < MOST_WORDS:
                assert error is None if notified else isinstance(error, CutError)
                assert recorder.words == bytes(size)
            else:  # its kernel too throws away what is not out yet
                assert isinstance(error, CutError)
                assert RECORD < len(recorder.words) <= MOST_WORDS
            assert recorder.events == ["made", "lost"]

    run(story)
