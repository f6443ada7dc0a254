"""TLS handshakes on sockets, as server or as client, by plain calls: no task and no timer.

This module never limits the time. The caller does, and gives up by `abort`. Invariants: `ended` is
called once; after `abort` it is not called at all. If a handshake fails, its socket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from rawproxy.net.openssl import error_queue
from rawproxy.net.openssl.objects import core, server_side
from rawproxy.net.poller import Poller, poller
from rawproxy.net.tls_transport import TlsTransport

UNREAD: Final = 65_536  # bytes that are thrown away after a failed handshake


class Handshake:
    """A handshake under way on `sock`.

    `tls` is OpenSSL's object for the connection. When the handshake is done (perhaps within
    `step`), `ended(None)` is called. It has to begin a transport on `sock` and `tls`, which then
    watches the socket. If the handshake failed, `ended(error)` is called.
    """

    __slots__ = ("_ended", "_fd", "_poller", "sock", "tls")

    def __init__(
        self,
        sock: socket.SocketType,
        tls: Any,
        ended: Callable[[OSError | None], None],
        watch: Poller | None = None,
    ) -> None:
        self._poller = watch or poller()
        self.sock = sock
        self.tls = tls
        self._fd = sock.fileno()
        self._ended: Callable[[OSError | None], None] | None = ended

    def step(self) -> None:
        """Begin the handshake, or go on with it."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.add_reader(self._fd, self.step)
        except ssl.SSLWantWriteError:  # a flight larger than the socket's buffer
            self._poller.remove_reader(self._fd)
            self._poller.add_writer(self._fd, self._on_writable)
        except OSError as error:
            self._end(error)
        else:
            self._end(None)

    def _on_writable(self) -> None:
        self._poller.remove_writer(self._fd)
        self.step()

    def _end(self, error: OSError | None) -> None:
        ended = self._ended
        if error is not None:
            error_queue.after(error)
            with contextlib.suppress(OSError):
                # Unread bytes would turn the close into a reset, and that may overtake our alert.
                os.read(self._fd, UNREAD)
            self.abort()
        self._ended = None
        if ended is not None:
            ended(error)

    def abort(self) -> None:
        """Give up: close the socket. Nobody is told."""
        if self._ended is not None:
            self._ended = None
            self._poller.remove_reader(self._fd)
            self._poller.remove_writer(self._fd)
            self.sock.close()


def accept(
    sock: socket.SocketType,
    context: ssl.SSLContext,
    ended: Callable[[OSError | None], None],
    watch: Poller | None = None,
) -> Handshake:
    """The server's side of a handshake that has not begun yet. It owns `sock` from now on.

    Raises `OSError` if the client has gone. Then `sock` still belongs to the caller.
    """
    kept, tls = server_side(sock, context)
    return Handshake(kept, tls, ended, watch)


async def connect(
    sock: socket.socket,
    context: ssl.SSLContext,
    name: str,
    protocol: asyncio.BaseProtocol,
    grace: float,
    session: ssl.SSLSession | None = None,
) -> TlsTransport:
    """Make the client's handshake. The transport owns `sock` from now on.

    Raises `OSError` (`ssl.SSLError` is one). `grace` is for the transport, in seconds. `session`
    came from `context`, and is resumed if the peer still knows it.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    made: list[TlsTransport] = []

    def ended(error: OSError | None) -> None:
        if error is None:
            made.append(TlsTransport(tls, core(tls), protocol, grace))
            made[0].begin()
        if done.cancelled():
            return  # the caller is giving up
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    sock.getpeername()
    tls = context.wrap_socket(
        sock,
        server_hostname=name,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
        session=session,
    )
    handshake = Handshake(tls, core(tls), ended)
    handshake.step()
    try:
        await done
    except BaseException:
        handshake.abort()
        for transport in made:
            transport.abort()
        raise
    return made[0]
