"""Empties OpenSSL's queue of errors, which each thread has, before it can mislead.

OpenSSL looks into that queue to say why a call did nothing. So it has to be empty before the next
call (SSL_get_error(3)). From Python 3.13 on (and in 3.12 with later patches), what OpenSSL 3.2 and
newer wrote there about a failed write stays there. Then the next connection that has nothing to
read yet is told of somebody else's reset, and is cut. So clients that reset could cut the uploads
of others (https://github.com/python/cpython/issues/148594).

    a raw OpenSSL call raises ──► `after(error)` ──► the queue is empty again

Code that calls OpenSSL directly has to call `after` with what was raised, before it calls OpenSSL
again. `find_out` tries whether that is needed here, and which cure works. Until then the first cure
is used. This module never touches anybody's connection. Invariant: when `after` has returned, the
queue of the thread is empty.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

Cure = Callable[[], object]

# It needs no certificate, so it is good for nothing but this trial (RFC 8422 2.5, ECDH_anon).
_ANONYMOUS: Final = "AECDH-AES128-SHA:@SECLEVEL=0"
WAITS: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
FLIGHTS: Final = 4  # a full handshake of TLS 1.2 has so many; no more turns are tried


def _spare() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_context: Final = _spare()


def by_new_object() -> None:
    """Make an SSL object: Python empties the queue then. It takes some microseconds."""
    _context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def by_handshake() -> None:
    """Begin a handshake: OpenSSL itself empties the queue then."""
    with contextlib.suppress(ssl.SSLError):
        _context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).do_handshake()


CURES: Final[tuple[Cure, ...]] = (by_new_object, by_handshake)


class ErrorQueue:
    """The queue of errors, and the cure for it."""

    def __init__(self) -> None:
        self.cure: Cure | None = by_new_object  # None: Python leaves nothing behind

    def after(self, error: BaseException) -> None:
        """A call of OpenSSL raised `error`: empty the queue, unless it only has to wait."""
        if self.cure is not None and not isinstance(error, WAITS):
            self.cure()

    def find_out(self) -> str | None:
        """Choose the cure by trying. If none helps, return a line for the log.

        It takes some milliseconds. If it cannot be tried (no anonymous suites), the first cure
        stays.
        """
        try:
            with QueueTrial(self) as trial:
                for cure in (None, *CURES):
                    self.cure = cure
                    if not trial.soiled():
                        return None
        except OSError:  # SSLError is one
            self.cure = by_new_object
            return None
        self.cure = by_new_object
        return (
            "this Python tells connections of each other's errors, and nothing helps: clients that"
            " reset cut others. Use another Python or OpenSSL"
        )


class QueueTrial:
    """An idle connection that a failed write of another connection may mislead."""

    def __init__(self, queue: ErrorQueue) -> None:
        self.queue = queue
        self.idle: ssl.SSLSocket
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> QueueTrial:
        with contextlib.ExitStack() as stack:
            self.idle, _ = stack.enter_context(_connection())
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def soiled(self) -> bool:
        """Whether the idle connection hears of another one's failed write, in spite of `after`."""
        by_new_object()
        by_handshake()
        with _connection() as (broken, peer):
            peer.close()
            try:
                broken.write(b"nobody reads this")
            except OSError as error:
                self.queue.after(error)
        try:
            self.idle.read(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return False


@contextlib.contextmanager
def _connection() -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a TLS connection in this process. Raises `OSError`."""
    with contextlib.ExitStack() as stack:
        ends: list[Any] = []
        for sock, server in zip(socket.socketpair(), (False, True), strict=True):
            sock.setblocking(False)
            stack.enter_context(sock)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if server else _spare()
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(_ANONYMOUS)
            end = context.wrap_socket(sock, server_side=server, do_handshake_on_connect=False)
            ends.append(stack.enter_context(end))
        for _ in range(FLIGHTS):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        yield ends[0], ends[1]


queue: Final = ErrorQueue()
after: Final = queue.after
