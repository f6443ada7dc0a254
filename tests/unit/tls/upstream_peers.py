"""Upstreams that show certificates, and who dials them as an endpoint does, in either loop."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
import threading
import warnings

import pytest
import trustme

from rawproxy.net import tls_handshake
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_trust import UpstreamTrust
from tests.process import PATIENCE

try:
    import uvloop

    LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]

CA = trustme.CA()
LEAF = CA.issue_cert("up.test", "127.0.0.1")
OTHER = trustme.CA().issue_cert("up.test", "127.0.0.1")
THIRD = trustme.CA().issue_cert("up.test", "127.0.0.1")
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
UNVERIFIED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNVERIFIED.verify_message = "self-signed certificate"
UNVERIFIED.verify_code = 18

WEAK = ssl.SSLCertVerificationError(1, "certificate verify failed")
WEAK.verify_message = "EE certificate key too weak"
WEAK.verify_code = 66

loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__module__)


def sha(leaf) -> str:
    der = leaf if isinstance(leaf, bytes) else ssl.PEM_cert_to_DER_cert(pem(leaf))
    return hashlib.sha256(der).hexdigest()


def pem(leaf) -> str:
    return leaf.cert_chain_pems[0].bytes().decode()


def trust(
    verify="auto", pins=(), name="up.test", url="https://up.test:9443", tls="intermediate"
) -> UpstreamTrust:
    return UpstreamTrust(Contexts(verify, None, tls), frozenset(pins), name, url)


def serving(leaf=LEAF, version=TLS13) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    leaf.configure_cert(context)
    return context


class Peer:
    """An upstream that says "x" once the handshake is done; counts connections and names asked."""

    def __init__(self, leaf=LEAF, version=TLS13, port=0) -> None:
        self.names: list[str | None] = []
        self.clients: list[asyncio.StreamWriter] = []
        self.port = port
        self.context = serving(leaf, version)
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.alpn: list[str | None] = []
        self.context.set_alpn_protocols(["http/1.1"])

    async def __aenter__(self) -> "Peer":
        # A client that hangs up within the handshake is no news here.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        self.server = await asyncio.start_server(
            self.speak, "127.0.0.1", self.port, ssl=self.context
        )
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self.server.close()
        for writer in self.clients:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def speak(self, reader, writer) -> None:
        self.alpn.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        with contextlib.suppress(OSError):
            writer.write(b"x")
            await reader.read()
            writer.close()


async def connect(port: int, context: ssl.SSLContext, name: str, session=None):
    """As `asyncio.open_connection`, with the transport that rawproxy uses."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)  # at once, on loopback
    sock.setblocking(False)
    transport = await tls_handshake.connect(sock, context, name, protocol, 1.0, session)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


class Dialer:
    """What `endpoint` does with a trust. `at`: the address that it takes the peer for."""

    def __init__(self, judge: UpstreamTrust, name="up.test", at=None) -> None:
        self.trust = judge
        self.name = name
        self.at = at
        self.warnings: list[str] = []
        self.changes = 0

    async def dial(self, peer: Peer) -> ssl.SSLSocket:
        trial = self.trust.trial()
        while True:
            try:
                tls, reader = await self.attempt(peer, trial)
            except OSError as error:
                if not trial.failed(error):
                    raise
                continue
            if trial.passes(tls.getpeercert(binary_form=True)):
                break
        if trial.warning:
            self.warnings.append(trial.warning)
        self.changes += trial.changed
        assert await reader.read(1) == b"x"
        self.trust.remember(tls)
        return tls

    async def attempt(self, peer: Peer, trial):
        there = (self.at or "127.0.0.1", peer.port)
        session = trial.session(there)
        reader, writer = await connect(peer.port, trial.context, self.name, session)
        peer.clients.append(writer)
        tls = writer.get_extra_info("ssl_object")
        assert tls.context is trial.context
        return tls, reader


def run(loop, story) -> None:
    """One test in a fresh loop, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


PUBLIC = "203.0.113.7"


@contextlib.contextmanager
def blocking(speak):
    """A server in a thread, for one connection: unlike asyncio's it does send its alerts."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            speak(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


def in_plain(answer: bytes):
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return speak


def over(context: ssl.SSLContext):
    def speak(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
        finally:
            # Unread bytes would make of the close a reset, and that might overtake the alert.
            with contextlib.suppress(OSError):
                connection.recv(65536)

    return speak


def old_fashioned() -> ssl.SSLContext:
    context = serving()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def mutual() -> ssl.SSLContext:
    context = serving(version=TLS12)
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    return context


def particular() -> ssl.SSLContext:
    context = serving()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return context
