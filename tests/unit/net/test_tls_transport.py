"""TLS transports, between real sockets in both loops; the peer is OpenSSL in memory."""

import asyncio
import contextlib
import gc
import hashlib
import socket
import ssl
import struct

import pytest
import trustme

from rawproxy.errors import CutError
from rawproxy.net import tls_handshake
from rawproxy.net.backpressure import MOST_WORDS, last_words
from rawproxy.net.poller import poller
from rawproxy.net.socket_transport import HIGH, LOW
from rawproxy.net.tls_ends import told
from rawproxy.net.tls_outbox import RECORD
from rawproxy.net.tls_transport import BATCH, TlsTransport
from rawproxy.tls.server import tell_ends_apart
from tests.process import PATIENCE

try:
    import uvloop

    LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]

GRACE = 10.0  # seconds for a close, where it should not matter
CA = trustme.CA()
LEAF = CA.issue_cert("up.test")
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.set_alpn_protocols(["h2", "http/1.1"])
LEAF.configure_cert(SERVER)
CLIENT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLIENT.set_alpn_protocols(["http/1.1"])
CA.configure_trust(CLIENT)
tell_ends_apart(SERVER)
tell_ends_apart(CLIENT)


@pytest.fixture(params=LOOPS, ids=lambda factory: factory.__module__.partition(".")[0])
def run(request):
    """One test in a fresh loop, bounded; what the loop's exception handler is told is a failure."""

    def runner(story):
        problems = []

        async def bounded():
            asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(what))
            async with asyncio.timeout(PATIENCE):
                await story()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())
        assert not problems

    return runner


def sockets(buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        two, _ = server.accept()
    two.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for sock in (one, two):
        sock.setblocking(False)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    return one, two


class Recorder(asyncio.Protocol):
    """What a transport told its protocol."""

    def __init__(self, raising: str = "") -> None:
        self.raising = raising
        self.events: list[str] = []
        self.data = bytearray()
        self.sizes: list[int] = []
        self.lost = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()

    def note(self, name: str) -> None:
        self.events.append(name)
        self.news.set()
        if name == self.raising:
            raise ZeroDivisionError(name)

    async def until(self, done):
        while not done():
            self.news.clear()
            await self.news.wait()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.data += data
        self.sizes.append(len(data))
        # The invariant by which the loop knows of all there is to read.
        assert not self.transport.get_extra_info("ssl_object").pending()
        self.note("data")

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, error):
        self.lost.set_result(error)
        self.note("lost")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")


class Peer:
    """The other end: OpenSSL in memory over a socket, so that a test may do anything with either."""

    def __init__(self, sock: socket.socket, server: bool) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (
            SERVER.wrap_bio(self.incoming, self.outgoing, server_side=True)
            if server
            else CLIENT.wrap_bio(self.incoming, self.outgoing, server_hostname="up.test")
        )

    async def do(self, call, *arguments):
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLZeroReturnError:
                return b""  # close_notify, after our own
            except ssl.SSLWantReadError:
                if self.outgoing.pending:
                    await loop.sock_sendall(self.sock, self.outgoing.read())
                data = await loop.sock_recv(self.sock, 65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                if self.outgoing.pending:
                    await loop.sock_sendall(self.sock, self.outgoing.read())
                return result

    async def shake(self):
        await self.do(self.tls.do_handshake)

    async def write(self, data):
        await self.do(self.tls.write, data)

    async def read(self, size=1 << 20):
        """b"" is a close_notify; an end without one raises."""
        return await self.do(self.tls.read, size)

    async def read_all(self, size):
        data = bytearray()
        while len(data) < size:
            data += await self.read()
        return data

    def notify(self) -> None:
        """Say close_notify, and no more."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.send(self.outgoing.read())


class Stubborn:
    """OpenSSL's side of a connection, which raises what the test says before it does its work."""

    def __init__(self, tls) -> None:
        self.tls = tls
        self.script: dict[str, list[Exception]] = {}

    def __getattr__(self, name):
        return getattr(self.tls, name)

    def _do(self, name, *arguments):
        if self.script.get(name):
            raise self.script[name].pop(0)
        return getattr(self.tls, name)(*arguments)

    def do_handshake(self):
        return self._do("do_handshake")

    def read(self, size):
        return self._do("read", size)

    def write(self, data):
        return self._do("write", data)

    def shutdown(self):
        return self._do("shutdown")


@contextlib.asynccontextmanager
async def connected(
    *, raising="", buffer=0, grace=GRACE, server=True, stubborn=None, protocol=None
):
    """A transport of either side, its protocol and its peer, handshake done."""
    ours, theirs = sockets(buffer)
    recorder = protocol or Recorder(raising)
    peer = Peer(theirs, not server)
    if server:
        done = asyncio.get_running_loop().create_future()
        handshake = tls_handshake.accept(ours, SERVER, done.set_result)
        handshake.step()
        await peer.shake()
        assert await done is None
        tls = handshake.tls
        if stubborn is not None:
            tls = Stubborn(tls)
            tls.script = stubborn
        transport = TlsTransport(handshake.sock, tls, recorder, grace)
        transport.begin()
    else:
        shaking = asyncio.create_task(peer.shake())
        transport = await tls_handshake.connect(ours, CLIENT, "up.test", recorder, grace)
        await shaking
    try:
        yield transport, recorder, peer
    finally:
        theirs.close()
        transport.abort()
        await asyncio.wait([recorder.lost])
        number = transport._fd
        watch = poller()
        assert not watch.remove_reader(number) and not watch.remove_writer(number)


# ── the handshake ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("server", [True, False])
def test_both_sides(run, server):
    async def story():
        async with connected(server=server) as (transport, recorder, peer):
            assert recorder.events == ["made"]
            assert "open" in repr(transport)
            tls = transport.get_extra_info("ssl_object")
            assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            assert tls.server_side is server
            assert transport.get_extra_info("socket").fileno() > 0
            assert transport.get_extra_info("sslcontext") is (SERVER if server else CLIENT)
            assert transport.get_extra_info("peername") == peer.sock.getsockname()
            assert transport.get_extra_info("sockname") == peer.sock.getpeername()
            assert transport.get_extra_info("weather", "fine") == "fine"
            transport.write(b"hello")
            assert await peer.read() == b"hello"
            await peer.write(b"hello yourself")
            await recorder.until(lambda: recorder.data == b"hello yourself")
            transport.close()
            peer.notify()
            peer.sock.shutdown(socket.SHUT_WR)
            assert await recorder.lost is None
            assert transport.get_extra_info("peername") is None

    run(story)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02",
        b"\x16\x03\x01\x00\x05hello" + bytes(5000),
        b"",
    ],
)
def test_a_client_that_fails_the_handshake(run, sent):
    async def story():
        ours, theirs = sockets()
        ended = asyncio.get_running_loop().create_future()
        tls_handshake.accept(ours, SERVER, ended.set_result).step()
        theirs.send(sent)
        theirs.shutdown(socket.SHUT_WR)
        assert isinstance(await ended, OSError)
        said = b""
        while more := await asyncio.get_running_loop().sock_recv(theirs, 100):
            said += more
        assert said[:1] in (b"\x15", b"")  # an alert, not overtaken by a reset
        theirs.close()

    run(story)


@pytest.mark.parametrize("callback", [None, lambda *_: None])
def test_a_client_that_went_before_the_handshake(run, callback, monkeypatch):
    async def story():
        ours, theirs = sockets()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        monkeypatch.setattr(SERVER, "sni_callback", callback)
        ended = []
        if callback is None:
            tls_handshake.accept(ours, SERVER, ended.append).step()
            assert isinstance(ended[0], OSError)
        else:
            with pytest.raises(OSError):
                tls_handshake.accept(ours, SERVER, ended.append)
        ours.close()

    run(story)


def test_a_handshake_given_up_tells_nobody(run):
    async def story():
        ours, theirs = sockets()
        handshake = tls_handshake.accept(ours, SERVER, lambda error: pytest.fail("called"))
        handshake.step()
        handshake.abort()
        handshake.abort()
        assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
        theirs.close()

    run(story)


def test_a_handshake_that_has_to_wait_to_write(run):
    async def story():
        ours, theirs = sockets()
        done = asyncio.get_running_loop().create_future()
        handshake = tls_handshake.accept(ours, SERVER, done.set_result)
        handshake.tls = Stubborn(handshake.tls)
        handshake.tls.script = {"do_handshake": [ssl.SSLWantWriteError(), ssl.SSLWantReadError()]}
        handshake.step()
        peer = Peer(theirs, False)
        await peer.shake()
        assert await done is None
        recorder = Recorder()
        transport = TlsTransport(handshake.sock, handshake.tls, recorder, GRACE)
        transport.begin()
        await peer.write(b"x")
        await recorder.until(lambda: recorder.data == b"x")
        transport.abort()
        await recorder.lost
        theirs.close()

    run(story)


def test_a_certificate_that_does_not_verify(run):
    async def story():
        ours, theirs = sockets()
        shaking = asyncio.create_task(Peer(theirs, True).shake())
        with pytest.raises(ssl.SSLCertVerificationError):
            await tls_handshake.connect(ours, CLIENT, "down.test", Recorder(), GRACE)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await shaking
        theirs.close()

    run(story)


def test_a_dial_that_is_cancelled(run):
    async def story():
        ours, theirs = sockets()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tls_handshake.connect(ours, CLIENT, "up.test", Recorder(), GRACE)
        while await asyncio.get_running_loop().sock_recv(theirs, 1000):
            pass  # the ClientHello
        theirs.close()

    run(story)


@pytest.mark.parametrize("fails", [False, True])
def test_a_dial_that_is_cancelled_as_it_ends(run, fails):
    async def story():
        class Canceller(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                dial.cancel()

        ours, theirs = sockets()
        recorder = Canceller()
        dial = asyncio.create_task(tls_handshake.connect(ours, CLIENT, "up.test", recorder, GRACE))
        if fails:
            await asyncio.get_running_loop().sock_recv(theirs, 1)
            theirs.send(b"no TLS at all")
            dial.cancel()
        else:
            await Peer(theirs, True).shake()
        with pytest.raises(asyncio.CancelledError):
            await dial
        if not fails:
            assert await recorder.lost is None
        theirs.close()

    run(story)


def test_a_socket_file_has_tls_too(run):
    async def story():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        done = asyncio.get_running_loop().create_future()
        handshake = tls_handshake.accept(ours, SERVER, done.set_result)
        handshake.step()
        await Peer(theirs, False).shake()
        assert await done is None
        recorder = Recorder()
        TlsTransport(handshake.sock, handshake.tls, recorder, GRACE).begin()
        theirs.close()
        assert isinstance(await recorder.lost, CutError)

    run(story)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


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
            assert max(recorder.sizes) <= BATCH * RECORD
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

            def second_fails(size, calls=[0]):  # noqa: B006
                calls[0] += 1
                if calls[0] == 2:
                    transport.pause_reading()
                    asyncio.get_running_loop().call_soon(transport.resume_reading)
                    raise ssl.SSLWantWriteError
                return read(size)

            stub.read = second_fails
            await peer.write(bytes(3 * RECORD))
            await recorder.until(lambda: len(recorder.data) == 3 * RECORD)

    run(story)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


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


# ── the end ─────────────────────────────────────────────────────────────────────────────────────


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
