"""Two ends of a TLS connection: a transport of ours, and OpenSSL in memory."""

import asyncio
import contextlib
import socket
import ssl

import trustme

from rawproxy.net import tls_handshake
from rawproxy.net.poller import poller
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.tls.server import tell_ends_apart

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

    def read(self, size, *place):
        return self._do("read", size, *place)

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
