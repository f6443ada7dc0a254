"""The object beneath Python's `SSLSocket`, used directly: OpenSSL's side of one connection.

    instead of                   why                                              if missing
    ───────────────────────────  ───────────────────────────────────────────────  ─────────────
    `SSLSocket.read`, `.write`   each makes two more calls in Python; four of     `WholeSocket`
                                 those are 3 % of a small proxied request
    `SSLContext.wrap_socket`     makes another socket of the one there is: some   `wrap_socket`
                                 per cent of a new connection
    `socket.accept`              makes enums of two numbers for each socket: 1 %  `accept`
                                 of a new connection

Python does not promise `SSLSocket._sslobj`, `SSLContext._wrap_socket` or `socket._accept`.
`Reach.find_out` tries them at the start. This module never reads or writes for anybody. Invariant:
what `core` and `server_side` return has `read`, `write`, `shutdown`, `do_handshake` and `pending`,
and they always mean the same.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

Made = tuple[socket.SocketType, Any]  # the socket to keep, and OpenSSL's object
CALLED: Final = ("read", "write", "shutdown", "do_handshake", "pending")


class BareSocket(socket.SocketType):
    """A socket without what the standard library adds, which costs time for each one.

    OpenSSL needs no more, but for a weak reference. The loop's own transports do need more.
    """

    __slots__ = ("__weakref__",)


class WholeSocket:
    """An `SSLSocket` that can be used like the object beneath it, if that is not accessible."""

    __slots__ = (
        "_sock", "do_handshake", "getpeercert", "pending", "read", "selected_alpn_protocol",
        "version", "write",
    )  # fmt: skip

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.read, self.write, self.pending = sock.read, sock.write, sock.pending
        self.do_handshake = sock.do_handshake
        self.getpeercert, self.version = sock.getpeercert, sock.version
        self.selected_alpn_protocol = sock.selected_alpn_protocol

    @property
    def context(self) -> ssl.SSLContext:
        return self._sock.context

    @property
    def server_side(self) -> bool:
        return self._sock.server_side

    @property
    def session_reused(self) -> bool | None:
        return self._sock.session_reused

    def shutdown(self) -> None:
        """Send close_notify. `SSLSocket.shutdown` means TCP; this means TLS."""
        self._sock.unwrap()


class Reach:
    """Which of the private parts this Python has."""

    def __init__(self) -> None:
        self.beneath = True  # `SSLSocket._sslobj`
        self.bare = True  # `SSLContext._wrap_socket`
        self.accept = hasattr(socket.socket, "_accept")

    def find_out(self) -> list[str]:
        """Try them. Returns a line for the log if one is missing."""
        self.beneath = _works(_by_whole)
        self.bare = _works(_by_bare)
        there = {"_sslobj": self.beneath, "_wrap_socket": self.bare, "_accept": self.accept}
        missing = [name for name, found in there.items() if not found]
        if not missing:
            return []
        return [
            f"this Python has no usable {' and no '.join(missing)}: TLS works, but costs some per"
            " cent more CPU time"
        ]


reach: Final = Reach()


def accepted(listening: socket.socket) -> tuple[int, object]:
    """Like `listening.accept()`: the descriptor of a new connection, and the peer's address."""
    if not reach.accept:
        sock, peer = listening.accept()
        return sock.detach(), peer
    # typeshed knows no private parts, here and below
    found: tuple[int, object] = listening._accept()  # type: ignore[attr-defined]
    return found


def core(sock: ssl.SSLSocket) -> Any:
    """The object beneath `sock`, which `TlsTransport` uses."""
    return _beneath(sock) if reach.beneath else WholeSocket(sock)


def server_side(sock: socket.SocketType, context: ssl.SSLContext) -> Made:
    """The socket to keep for an accepted connection, and OpenSSL's object for it.

    Raises `OSError` if the client has gone. Then `sock` still belongs to the caller.
    """
    # An `sni_callback` has to get a whole `SSLSocket`.
    if reach.bare and context.sni_callback is None:
        return _by_bare(sock, context)
    sock.getpeername()  # `wrap_socket` would raise too, but lose the descriptor
    whole = _whole(sock, context)
    return whole, core(whole)


def _whole(sock: socket.SocketType, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(
        cast(socket.socket, sock),
        server_side=True,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )


def _beneath(sock: ssl.SSLSocket) -> Any:
    return sock._sslobj  # type: ignore[attr-defined]  # private


def _by_whole(sock: socket.SocketType, context: ssl.SSLContext) -> Made:
    whole = _whole(sock, context)
    return whole, _beneath(whole)


def _by_bare(sock: socket.SocketType, context: ssl.SSLContext) -> Made:
    # `wrap_socket` calls this in the end, after much work in Python.
    return sock, context._wrap_socket(sock, True)  # type: ignore[attr-defined]  # private


def _works(make: Callable[[socket.SocketType, ssl.SSLContext], Made]) -> bool:
    """Whether `make` gives an object that begins a handshake as it should."""
    with contextlib.ExitStack() as stack:
        one, other = socket.socketpair()
        stack.enter_context(other)
        bare = BareSocket(one.family, one.type, 0, one.detach())
        stack.callback(bare.close)
        bare.setblocking(False)
        try:
            sock, tls = make(bare, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            stack.callback(sock.close)
            there = all(callable(getattr(tls, name)) for name in CALLED)
            tls.do_handshake()
        except ssl.SSLWantReadError:  # for the ClientHello
            return there
        except (AttributeError, TypeError, ValueError, OSError):
            return False
    return False
