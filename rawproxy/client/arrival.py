"""A client's first bytes, before any of them is HTTP: PROXY protocol, TLS, and who serves it.

    accepted ──► PROXY header (--accept-proxy) ──► first byte ──► TLS ──► ALPN ──► HTTP/1 or /2

On a TLS listener the first byte is looked at before the handshake begins. So a client that speaks
plain HTTP there is told so (400 in plain text, as in nginx), and not just cut off.

This module never takes a byte that does not belong to a PROXY header. Invariants: a connection that
never says anything is closed at the deadline of the handshake. However it ends, its slot is given
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

from rawproxy.client import h1_connection, h2_connection
from rawproxy.errors import ClientError
from rawproxy.net.backpressure import QUEUED
from rawproxy.net.poller import Poller
from rawproxy.net.tls_handshake import Handshake, accept
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.protocol import client_hello, proxy_header
from rawproxy.protocol.proxy_header import AnnouncedAddresses
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service, log
from rawproxy.tls import client_identity
from rawproxy.tls.server import ServerContext

TLS_HANDSHAKE: Final = 0x16  # the content type of a ClientHello's record (RFC 8446 5.1)


def _plain(status: bytes, text: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(text), text)
    )


PLAIN: Final = _plain(
    b"400 Bad Request", b"This port speaks https. Type https:// in front of the address.\n"
)
CROWDED: Final = _plain(
    b"503 Service Unavailable", b"Too many connections. Try again in a moment.\n"
)


class Arrival:
    """A connection that has not said enough yet to be served."""

    __slots__ = (
        "context",
        "deadline",
        "handshake",
        "header",
        "loop",
        "poller",
        "redirect",
        "seen",
        "service",
        "slot",
        "sock",
        "waiting",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        sock: socket.SocketType,
        slot: ConnectionSlot,
        context: ServerContext | None,
        redirect: int,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
    ) -> None:
        self.service = service
        self.sock = sock
        self.slot = slot
        self.context = context
        self.redirect = redirect
        self.loop = loop
        self.poller = poller
        self.deadline = service.deadline(service.deadlines.tls_handshake)
        self.waiting = False  # watched and swept
        self.handshake: Handshake | None = None
        # What there is of a PROXY header; None: none is due.
        self.seen = 0  # bytes of a ClientHello that is not whole
        self.header: bytes | None = b"" if service.announced(slot.peer) else None

    def look(self) -> None:
        """Called right after accepting: often the ClientHello is here already."""
        if not self._step() and not self.waiting:
            self.wait()

    def wait(self) -> None:
        """Look again when the poller says that there is something."""
        self.waiting = True
        self.service.clients.add(self)
        self.poller.add_reader(self.sock.fileno(), self.look)

    def _stop_waiting(self) -> None:
        """Called before the descriptor is closed or handed over."""
        if self.waiting:
            self.waiting = False
            self.poller.remove_reader(self.sock.fileno())
            self.service.clients.discard(self)

    def _step(self) -> bool:
        """Go as far as the bytes here allow. False: wait for more."""
        try:
            if self.header is not None and not self._read_header():
                return False
            if not self.slot.claim(self.service.trusts(self.slot.peer)):
                self.close(CROWDED)
                return True
            if self.context is not None:
                first = self.sock.recv(1, socket.MSG_PEEK)
                if not first or first[0] != TLS_HANDSHAKE:
                    self.close(PLAIN if first.isalpha() else b"")
                    return True
                if self.context.pick is not None and not self._choose(self.context.pick):
                    return False
        except (BlockingIOError, InterruptedError):
            return False
        except ClientError as error:
            shown = self.service.shown(self.slot.peer)
            log.warning("%s: %s", shown, error.detail, extra={"reason": error.detail})
            self.close()
            return True
        except OSError:
            self.close()
            return True
        if self.context is not None:
            self._shake(self.context)
        else:
            self._stop_waiting()
            self.service.spawn(self._serve())
        return True

    def _choose(self, pick: Callable[[str, bytes], ServerContext]) -> bool:
        """Choose the context by the name in the ClientHello. False while that is not whole."""
        data = self.sock.recv(client_hello.LIMIT, socket.MSG_PEEK)
        name = client_hello.server_name(data)
        waiting = name is None and len(data) > self.seen
        # The bytes stay where they are, so that they alone must not wake us again and again.
        self.seen = len(data)
        least = self.seen + 1 if waiting else 1
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        if not waiting:
            self.context = pick(name or "", data)
        return not waiting

    def _read_header(self) -> bool:
        """Take the PROXY header off. False while it is not whole. Raises `ClientError`."""
        before = self.header or b""
        data = self.sock.recv(proxy_header.LIMIT, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError
        header = proxy_header.read(before + data)
        if header is None:
            self.header = before + self.sock.recv(len(data))
            return False
        self.sock.recv(header.size - len(before))
        self.header = None
        if header.route is not None:
            self.slot.peer = header.route.source
            self.slot.port = header.route.source_port
            self.slot.route = header.route
        else:
            # Who is trusted to tell the client did not. What the bytes behind say of forwarding is
            # then anybody's word (LOCAL too: it is the sender's own, and needs no other name).
            self.slot.unknown = True
        return True

    async def _serve(self) -> None:
        """Hand the socket to a transport of the loop's, and that to an `H1Connection`."""
        service, slot = self.service, self.slot
        try:
            transport, _ = await self.loop.connect_accepted_socket(
                lambda: h1_connection.H1Connection(service, slot, False, self.redirect),
                cast(socket.socket, self.sock),
            )
            # For a client of a crowd that nothing is known of yet, no more than one read waits.
            transport.set_write_buffer_limits(0 if slot.unproven else QUEUED)
        except OSError as error:
            log.debug("a connection failed: %s", error)
            self.close()
        except BaseException:
            self.close()
            raise

    def _shake(self, context: ssl.SSLContext) -> None:
        self.service.clients.add(self)
        number = self.sock.fileno()
        try:
            self.handshake = accept(self.sock, context, self._shaken, self.poller)
        except OSError as error:  # the client has gone
            self.poller.remove_reader(number)
            self.sock.close()
            self._shaken(error)
        else:
            self.handshake.step()

    def _shaken(self, error: OSError | None) -> None:
        """The handshake is over. ALPN says who serves the connection (RFC 7301)."""
        service, slot, counters = self.service, self.slot, self.service.counters
        service.clients.discard(self)
        if error is not None or self.handshake is None:
            counters.handshakes_failed += 1
            log.debug("handshake failed: %s", error)
            slot.leave()
            return
        tls = self.handshake.tls
        slot.tls = tls.version() or ""
        context = tls.context
        if isinstance(context, ServerContext) and context.client_cert_policy is not None:
            slot.client_cert_policy = context.client_cert_policy
            slot.identity = client_identity.lines(tls.getpeercert(True))
        counters.handshakes += 1
        counters.resumed += bool(tls.session_reused)
        front: asyncio.Protocol = (
            h2_connection.H2Connection(service, slot)
            if tls.selected_alpn_protocol() == "h2"
            else h1_connection.H1Connection(service, slot, secure=True)
        )
        sock, grace = self.handshake.sock, service.deadlines.linger
        # A client sends its first request right behind its end of the handshake.
        TlsTransport(sock, tls, front, grace, self.loop, self.poller).begin(at_once=True)

    def close(self, answer: bytes = b"") -> None:
        """Nobody serves this connection. A client that may be speaking plain HTTP is told why."""
        self._stop_waiting()
        self.slot.leave()
        if answer and (self.context is None or answer is PLAIN):
            with contextlib.suppress(OSError):
                self.sock.recv(65536)  # unread bytes would turn our close into a reset
            with contextlib.suppress(OSError):
                self.sock.send(answer)
                self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        if now >= self.deadline:
            self.abort()

    def has_tunnels(self) -> bool:
        """Whether it carries one."""
        return False

    def adopt(self) -> None:
        """Another configuration counts: whoever serves this one finds out by its slot."""

    def drain(self) -> None:
        """The worker stops. This connection was accepted, so its request is answered."""
        self.deadline = min(self.deadline, self.service.deadline(self.service.leaving.grace))

    def abort(self) -> None:
        """Close: the client said nothing, or too little, in time."""
        if self.handshake is None:
            self.close()
        else:
            self.handshake.abort()
            self._shaken(TimeoutError("the handshake took too long"))


def route_of(sock: socket.SocketType, peer: object) -> AnnouncedAddresses | None:
    """Both ends of an accepted connection; None for a unix socket."""
    if not isinstance(peer, tuple):
        return None
    here = sock.getsockname()
    return AnnouncedAddresses(peer[0], peer[1], here[0], here[1])
