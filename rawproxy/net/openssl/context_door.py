"""Calls OpenSSL functions for a context that Python has no name for, by the context's own pointer.

    set_ticket_keys        sessions of one context can be resumed on another with the same keys
    keep_no_sessions       no client can resume anything
    set_groups             which key exchange groups are offered, instead of the configured ones

An `ssl.SSLContext` holds its `SSL_CTX *` right behind the header that every object has. `find_out`
proves this on contexts of its own before anything is set. The word there has to be an address that
can be read. And OpenSSL has to give the same options for it as Python does, before and after they
change. The library is the one with which `_ssl` is linked. Each use compares the options again.

This module never decides who may resume what: `tls` does. Invariant: until `find_out` has proved
all this, and wherever it is not so, every function here returns False and does nothing.
"""

from __future__ import annotations

import _ssl
import os
import ssl
import sys
from typing import Any, Final

from rawproxy.net.openssl import error_queue

TICKET_KEYS: Final = 80  # bytes: a name of 16, 32 for the HMAC, 32 for AES-256 (OpenSSL 1.1.1 on)
# Commands of SSL_CTX_ctrl, as in OpenSSL's ssl.h; they have been the same since 1.0.
_SET_SESSION_CACHE_MODE: Final = 44
_SET_TICKET_KEYS: Final = 59
_SET_GROUPS_LIST: Final = 92
_READABLE: Final = 1024  # bytes: an SSL_CTX is longer, so to ask it cannot crash
_WORD: Final = 8  # bytes of a pointer; no other size is tried
_OPTIONS: Final = 0xFFFF_FFFF  # the options that every version has; OpenSSL 3 has 64 bits


class Library:
    """The OpenSSL that `_ssl` uses. If it cannot be found, `find_out` knows what is raised."""

    def __init__(self) -> None:
        if sys.implementation.name != "cpython" or sys.maxsize < 1 << 32:
            raise LookupError("no CPython of 64 bits")
        import ctypes  # some builds of Python lack it

        self._pointer: Any = ctypes.c_void_p
        # The libraries that `_ssl` is linked with are searched too. It may be a built-in module.
        library = self.calls = ctypes.PyDLL(getattr(_ssl, "__file__", None))
        library.OpenSSL_version_num.restype = ctypes.c_ulong
        # `_ssl` was compiled for one version, and may run with a later one.
        if library.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
            raise LookupError("another OpenSSL was found than Python's")
        self._options: Any = library.SSL_CTX_get_options
        self._options.restype = ctypes.c_uint64
        self._options.argtypes = [ctypes.c_void_p]
        self._control: Any = library.SSL_CTX_ctrl
        self._control.restype = ctypes.c_long
        self._control.argtypes = [
            ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p,
        ]  # fmt: skip

    def word(self, context: ssl.SSLContext) -> int:
        """The word behind the header of the object."""
        return self._pointer.from_address(id(context) + object.__basicsize__).value or 0

    def agrees(self, context: ssl.SSLContext) -> bool:
        """Whether OpenSSL and Python give the same options for `context`."""
        told: int = self._options(self.word(context))
        return told & _OPTIONS == int(context.options) & _OPTIONS

    def proved(self, context: ssl.SSLContext) -> bool:
        """Whether the word behind the header is the SSL_CTX. Changes the options of `context`."""
        if type(context).__basicsize__ < object.__basicsize__ + _WORD:
            return False
        if not readable(self.word(context)) or not self.agrees(context):
            return False
        before = context.options
        context.options ^= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        return context.options != before and self.agrees(context)

    def control(
        self, context: ssl.SSLContext, command: int, number: int, data: bytes | None
    ) -> int | None:
        """What SSL_CTX_ctrl returns. None: it was not called."""
        if not self.agrees(context):
            return None
        done: int = self._control(self.word(context), command, number, data)
        if not done:
            error_queue.by_new_object()  # OpenSSL has put the reason there
        return done


class ContextDoor:
    """The way to OpenSSL's contexts. It is closed until `find_out` opens it."""

    def __init__(self) -> None:
        self._library: Library | None = None

    def find_out(self) -> str | None:
        """Open the door. If that cannot be, return a line for the log."""
        self._library = None
        try:
            library = Library()
            contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
            contexts[1].options |= ssl.OP_NO_TICKET
            if not all(library.proved(context) for context in contexts):
                raise LookupError("this Python builds them in another way")
        except (LookupError, ImportError, AttributeError, OSError, ValueError) as error:
            return (
                f"OpenSSL's contexts cannot be reached from Python ({error}): workers do not resume"
                " each other's TLS sessions, and TLS 1.2 clients resume those that began with a"
                " client certificate"
            )
        self._library = library
        return None

    @property
    def is_open(self) -> bool:
        """Whether anything can be set."""
        return self._library is not None

    def set_ticket_keys(self, context: ssl.SSLContext, keys: bytes) -> bool:
        """Write and read tickets only with these keys (`TICKET_KEYS` bytes) from now on."""
        if len(keys) != TICKET_KEYS:
            raise ValueError(f"ticket keys have {TICKET_KEYS} bytes, not {len(keys)}")
        library = self._library
        return (
            library is not None and library.control(context, _SET_TICKET_KEYS, len(keys), keys) == 1
        )

    def keep_no_sessions(self, context: ssl.SSLContext) -> bool:
        """Remember no session in the context, by number (TLS 1.2) or by a stateful ticket."""
        library = self._library
        return (
            library is not None
            and library.control(context, _SET_SESSION_CACHE_MODE, 0, None) is not None
        )

    def set_groups(self, context: ssl.SSLContext, names: bytes) -> bool:
        """Set the key exchange groups: OpenSSL's names, with colons between them."""
        library = self._library
        return library is not None and library.control(context, _SET_GROUPS_LIST, 0, names) == 1


door: Final = ContextDoor()


def readable(address: int) -> bool:
    """Whether the kernel says that there is memory at `address`."""
    if not address or address % _WORD:
        return False
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        return len(os.pread(memory.fileno(), _READABLE, address)) == _READABLE
