"""How TLS connections end: announced, cut, or with words that came before the cut.

A peer can end in two ways. An announced end (close_notify) is no error. After any other end nobody
can say whether something is missing (RFC 8446 6.1, RFC 9112 9.8): the protocol is told of a
`CutError`, whichever Python and OpenSSL noticed it.

If an upstream takes no more, it may have said why. `hear_out` reads what it had sent before a write
to it failed.

This module never writes. Invariant: it reads no more than `MOST_WORDS` bytes.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from rawproxy.errors import CutError
from rawproxy.net.backpressure import MOST_WORDS
from rawproxy.net.openssl import error_queue
from rawproxy.net.tls_outbox import RECORD

_CUTS: Final = (ssl.SSLEOFError, ConnectionError)  # a union would be made anew for each question


def is_cut(error: BaseException | None) -> bool:
    """Whether `error`, raised by OpenSSL or the socket, means that the connection was cut."""
    # Python 3.11.2 has only a reason where other versions have a class.
    return (
        isinstance(error, _CUTS) or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"
    )


def told(error: Exception | None) -> Exception | None:
    """What the protocol is told of `error`: the same with every Python and OpenSSL."""
    return CutError(str(error)) if error is not None and is_cut(error) else error


def hear_out(tls: Any, error: OSError) -> tuple[bytes, OSError | None]:
    """A write to a server failed by `error`. Returns what it had said before, and how that ends."""
    words: list[bytes] = []
    left = MOST_WORDS
    ending: OSError | None = error
    try:
        while left > 0:
            words.append(tls.read(RECORD))
            left -= len(words[-1])
            if not words[-1]:
                ending = None  # close_notify
                break
    except OSError as end:
        error_queue.after(end)
        if "ALERT" in (getattr(end, "reason", None) or ""):
            ending = end  # the alert says why the server takes no more
    return b"".join(words), ending
