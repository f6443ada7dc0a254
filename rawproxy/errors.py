"""What can go wrong, in the words every other module uses.

    ProxyError                  something ended or prevented an exchange
    ├── ClientError             the client's doing: 4xx, 501, 505; never retried
    ├── UpstreamError           the upstream's doing: 502, 504
    │   ├── MalformedError      it answered, but what no client may be given: not a sign of death
    │   ├── DialError           no connection was made: nothing was sent, any method may be retried
    │   └── StaleError          a connection died before the first response byte: retried only if
    │                           it was reused and the request is replayable
    └── CapacityError           ours: a limit is reached: 503
    ConfigError                 at start only: names the option (or file and line) and what to type

Beside them stands `ignore`, for whoever does not want to be told of anything, wrong or not.

It never imports anything of the house. Invariant: every exception that leaves a module of this
package is one of these or is documented there; any other is a bug.
"""

import enum
from typing import Final

DETAIL: Final = 600  # characters of a cause, which may name three fingerprints
_PLAIN: Final = frozenset(range(32, 127)) - frozenset(b'"\\')


class Source(enum.Enum):
    """Who caused it."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    PROXY = "proxy"


class Retry(enum.Enum):
    """Whether the same request may be tried again elsewhere."""

    NO = "no"
    YES = "yes"
    IF_REUSED = "if reused"


def escaped(data: bytes) -> str:
    r"""What a peer sent, as a log line or a page may quote it: all but printable ASCII as \xHH."""
    plain = (chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in data)
    return f'"{"".join(plain)}"'


class ProxyError(Exception):
    """Something ended or prevented an exchange.

    `status` is the response the client gets while none has begun, `detail` the cause for the log
    line. `detail` is never shown to a client when the source is the upstream or the proxy: it may
    name addresses inside.
    """

    source = Source.PROXY
    retry = Retry.NO
    default_status = 500
    lines = b""  # fields of the response, beside those of every page

    def __init__(self, detail: str, status: int | None = None) -> None:
        # Some repeat what a peer sent: a page or a line of the log need not be as long as that.
        detail = detail if len(detail) <= DETAIL else f"{detail[:DETAIL]}..."
        super().__init__(detail)
        self.detail = detail
        self.status = self.default_status if status is None else status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status}, {self.detail!r})"


class ClientError(ProxyError):
    """The request cannot be served as it came."""

    source = Source.CLIENT
    default_status = 400


class UpstreamError(ProxyError):
    """The upstream failed or broke the protocol."""

    source = Source.UPSTREAM
    default_status = 502


class MalformedError(UpstreamError):
    """The upstream answered something that is not passed on: malformed, oversized, unasked for.

    A visitor can provoke it by choosing a URL, so it says nothing about the upstream's health.
    """


class DialError(UpstreamError):
    """No connection to the upstream: nothing was sent, so any method may be retried.

    `passing`: it may be otherwise in a moment, as the upstream restarts, say: it refused the
    connection, is not to be reached or has no address. A certificate that is wrong stays so.
    """

    passing = False
    retry = Retry.YES
    there = False  # it was reached, and then TLS failed


class StaleError(UpstreamError):
    """The connection died before the first byte of the response (RFC 9110 9.2.2)."""

    retry = Retry.IF_REUSED


class CutError(ConnectionAbortedError):
    """A TLS connection was reset, or ended without close_notify.

    Which of the two Python cannot always say, and its versions say it by different classes: a reset
    is an `SSLEOFError` before 3.13 and a `ConnectionResetError` since, and an end that OpenSSL 3.5
    could not complain about to its peer is a `BrokenPipeError`.
    """


class CapacityError(ProxyError):
    """One of our own limits is reached."""

    default_status = 503


class ConfigError(Exception):
    """The configuration cannot be used; each message names an option and what to type instead."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = messages

    def __str__(self) -> str:
        return "\n".join(self.messages)


def ignore(*_: object) -> None:
    """The callback of whoever does not want to know, whatever there is to be told."""


def failure(error: Exception) -> tuple[list[str], int]:
    """Why it cannot start, in lines, and the exit code that says which kind of reason."""
    if isinstance(error, ConfigError):
        return list(error.messages), 2
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename or ''}".rstrip(": ")
    elif not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}"  # a bug, or new code that is not all there
    return [f"cannot start: {text}"], 1
