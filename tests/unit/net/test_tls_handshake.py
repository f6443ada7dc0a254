"""TLS handshakes of either side, between real sockets in both loops."""

import asyncio
import socket
import ssl
import struct

import pytest

from rawproxy.errors import CutError
from rawproxy.net import tls_handshake
from rawproxy.net.tls_transport import TlsTransport
from tests.unit.net.tls_pair import (
    CLIENT,
    GRACE,
    SERVER,
    Peer,
    Recorder,
    Stubborn,
    connected,
    sockets,
)


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


@pytest.mark.parametrize("what", ["here", "late", "paused"])
def test_what_came_behind_the_handshake_is_read_at_once(run, what):
    class Pausing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            if what == "paused":
                transport.pause_reading()

    async def story():
        ours, theirs = sockets()
        done = asyncio.get_running_loop().create_future()
        handshake = tls_handshake.accept(ours, SERVER, done.set_result)
        handshake.step()
        peer = Peer(theirs, False)
        await peer.shake()
        assert await done is None
        if what != "late":
            await peer.write(b"x")
        recorder = Pausing()
        transport = TlsTransport(handshake.sock, handshake.tls, recorder, GRACE)
        transport.begin(at_once=True)
        assert recorder.data == (b"x" if what == "here" else b"")
        if what == "late":
            await peer.write(b"x")
        transport.resume_reading()
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
