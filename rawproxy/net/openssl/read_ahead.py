"""Lets OpenSSL read ahead on one connection for as long as a long body comes.

Without that, OpenSSL reads five bytes of a record's head and then its body: two system calls for
each 16 KiB. With it, one call brings `BUFFER` bytes, which takes a sixth off the CPU time of a
body's way in (560 instead of 675 microseconds for 1 MiB). The price: a whole record may wait within
OpenSSL, and the kernel knows nothing of it. So whoever has begun to read ahead has to read on until
OpenSSL wants more from the socket.

An `_ssl._SSLSocket` holds its `SSL *` behind the header of every object and one more pointer.
`find_out` proves this on a connection of its own: there has to be memory; OpenSSL has to name the
context that Python names; and it has to give back the setting that it was told. Each use compares
the contexts again.

This module never reads, and never judges when to read ahead. Invariant: until `find_out` has proved
all this, and wherever it is not so, `begin` returns False and does nothing.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from rawproxy.net.openssl import context_door
from rawproxy.net.openssl.objects import BareSocket, reach, server_side

# Two records as long as TLS 1.3 allows, with their heads (RFC 8446 5.2). Four cost as much CPU time
# and twice the memory of a connection whose client is slow.
BUFFER: Final = 2 * (5 + 16_384 + 256)
_USUAL: Final = 0  # OpenSSL's own size: one record
_BEHIND: Final = 8  # bytes of the pointer between the header and the `SSL *`


class ConnectionCalls:
    """OpenSSL's functions for one connection."""

    def __init__(self) -> None:
        library = context_door.Library()
        import ctypes  # some builds of Python lack it; then the line above has raised

        self._library = library
        self._pointer: Any = ctypes.c_void_p
        calls = library.calls
        self._context: Any = calls.SSL_get_SSL_CTX
        self._context.restype = ctypes.c_void_p
        self._context.argtypes = [ctypes.c_void_p]
        self._told: Any = calls.SSL_get_read_ahead
        self._told.restype = ctypes.c_int
        self._told.argtypes = [ctypes.c_void_p]
        self._set: Any = calls.SSL_set_read_ahead
        self._set.restype = None
        self._set.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._size: Any = calls.SSL_set_default_read_buffer_len
        self._size.restype = None
        self._size.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def word(self, tls: Any) -> int:
        """The word where the `SSL *` should be."""
        at = id(tls) + object.__basicsize__ + _BEHIND
        return self._pointer.from_address(at).value or 0

    def proved(self, tls: Any) -> bool:
        """Whether that is so for `tls`."""
        context = tls.context
        if type(tls).__basicsize__ < object.__basicsize__ + 2 * _BEHIND:
            return False
        if not self._library.proved(context) or not context_door.readable(self.word(tls)):
            return False
        if not self.set(tls, on=True) or not self._told(self.word(tls)):
            return False
        return self.set(tls, on=False) and not self._told(self.word(tls))

    def set(self, tls: Any, *, on: bool) -> bool:
        """Read ahead from now on, or no more. False: nothing was done."""
        word = self.word(tls)
        if not word or self._context(word) != self._library.word(tls.context):
            return False
        self._size(word, BUFFER if on else _USUAL)
        self._set(word, int(on))
        return True


class ReadAhead:
    """The way to it. It is closed until `find_out` opens it."""

    def __init__(self) -> None:
        self._calls: ConnectionCalls | None = None
        self._kind: type | None = None  # of OpenSSL's objects

    def find_out(self) -> None:
        """Open it, where that can be. Where not, long bodies over TLS cost a little more."""
        self._calls = None
        if not (reach.bare and context_door.door.is_open):
            return
        one, other = socket.socketpair()
        bare = BareSocket(one.family, one.type, 0, one.detach())
        try:
            bare.setblocking(False)
            _, tls = server_side(bare, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            calls = ConnectionCalls()
            if calls.proved(tls):
                self._calls, self._kind = calls, type(tls)
        except (LookupError, ImportError, AttributeError, OSError, ValueError):
            pass  # each body is read record by record
        finally:
            bare.close()
            other.close()

    def begin(self, tls: Any) -> bool:
        """Read ahead on `tls`, OpenSSL's object of a connection. False: it does not."""
        calls = self._calls
        return calls is not None and type(tls) is self._kind and calls.set(tls, on=True)

    def end(self, tls: Any) -> None:
        """Read ahead no more. What has been read stays to be read."""
        calls = self._calls
        if calls is not None and type(tls) is self._kind:
            calls.set(tls, on=False)


ahead: Final = ReadAhead()
