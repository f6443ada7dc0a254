"""How TLS connections end: announced, cut, or with words that came before the cut.

Of the peer's end there are two kinds. An announced one (close_notify) is none of errors; after any
other nobody can say whether something is missing (RFC 8446 6.1, RFC 9112 9.8), and whoever used the
connection is told of a `CutError`, whichever Python and OpenSSL found it.

An upstream that takes no more may have said why: `hear_out` reads what it has sent before a write
to it fails. It never writes. Invariant: no more than `MOST_WORDS` are read.
"""

from __future__ import annotations

import ssl
from typing import Any

from rawproxy.errors import CutError
from rawproxy.net.backpressure import MOST_WORDS
from rawproxy.net.openssl import error_queue
from rawproxy.net.tls_outbox import RECORD


def is_cut(error: BaseException | None) -> bool:
    """Whether what OpenSSL's calls raised means that the connection was cut."""
    # 3.11.2 has but a reason where others have a class.
    return (
        isinstance(error, ssl.SSLEOFError | ConnectionError)
        or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"
    )


def told(error: Exception | None) -> Exception | None:
    """What the protocol is told of `error`: the same whichever Python and OpenSSL it is."""
    return CutError(str(error)) if is_cut(error) else error


def hear_out(tls: Any, error: OSError) -> tuple[bytes, OSError | None]:
    """A write to a server failed by `error`: what it had said before, and how its words end."""
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
            ending = end  # that it takes no more is what its alert is about
    return b"".join(words), ending
