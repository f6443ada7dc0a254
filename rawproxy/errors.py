"""What can go wrong: the exceptions that all other modules use.

    ProxyError                    something ended or prevented an exchange
    ├── ClientError               the client's doing: 4xx, 501, 505; never retried
    ├── UpstreamError             the upstream's doing: 502, 504
    │   ├── MalformedError        the upstream lives, but no client may get what it sent
    │   ├── DialError             no connection was made: nothing was sent, so any method may be
    │   │                         tried again
    │   └── PrematureCloseError   the connection ended before the first byte of the response: tried
    │                             again only if it was reused and the request can be sent again
    └── CapacityError             one of our limits is reached: 503
    ConfigError                   at the start: names the option (or file and line) and what to type
    StoreError                    what machines share is away, or says what nobody understands

`ignore` stands beside them: a callback for those who do not want to be told.

This module never imports another one of the package. Invariant: an exception that leaves a module
is one of these, or the module's docstring names it. Any other exception is a bug.
"""

import enum
from typing import Final

DETAIL: Final = 600  # characters of a cause, which may name three fingerprints
_PLAIN: Final = frozenset(range(32, 127)) - frozenset(b'"\\')


class Source(enum.Enum):
    """Who caused an error."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    PROXY = "proxy"


class Retry(enum.Enum):
    """Whether the request may be tried again after an error."""

    NO = "no"
    YES = "yes"
    IF_REUSED = "if reused"


def escaped(data: bytes) -> str:
    r"""What a peer sent, in quotes for a log line or a page; all but printable ASCII as \xHH."""
    plain = (chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in data)
    return f'"{"".join(plain)}"'


class ProxyError(Exception):
    """Something ended or prevented an exchange.

    `status` is what the client gets, if its response has not begun. `detail` is the cause, for the
    log. If the upstream or the proxy caused the error, no client sees `detail`: it may name
    addresses inside.
    """

    source = Source.PROXY
    retry = Retry.NO
    default_status = 500
    lines = b""  # fields of the response, beside those of every page

    def __init__(self, detail: str, status: int | None = None) -> None:
        # A cause may repeat what a peer sent, which may be longer than a page or a line should be.
        detail = detail if len(detail) <= DETAIL else f"{detail[:DETAIL]}..."
        super().__init__(detail)
        self.detail = detail
        self.status = self.default_status if status is None else status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status}, {self.detail!r})"


class ClientError(ProxyError):
    """The request cannot be served as the client sent it."""

    source = Source.CLIENT
    default_status = 400


class UpstreamError(ProxyError):
    """The upstream failed, or broke the protocol."""

    source = Source.UPSTREAM
    default_status = 502


class MalformedError(UpstreamError):
    """The upstream sent what is not passed on: it is malformed, too large, or not asked for.

    A client may cause this by choosing a URL, so it says nothing about the upstream's health.
    """


class DialError(UpstreamError):
    """No connection to the upstream was made. Nothing was sent, so any method may be tried again.

    `passing` says that the next moment may be better, as after a restart: the upstream refused the
    connection, could not be reached, or has no address. A wrong certificate stays wrong.
    """

    passing = False
    retry = Retry.YES
    there = False  # it was reached, and then TLS failed


class PrematureCloseError(UpstreamError):
    """The connection ended before the first byte of the response (RFC 9110 9.2.2)."""

    retry = Retry.IF_REUSED


class CutError(ConnectionAbortedError):
    """A TLS connection was reset, or ended without close_notify.

    Python cannot always tell which of the two it was, and its versions raise different classes: a
    reset is an `SSLEOFError` before 3.13 and a `ConnectionResetError` later. An end about which
    OpenSSL 3.5 could not send an alert is a `BrokenPipeError`.
    """


class CapacityError(ProxyError):
    """One of our own limits is reached."""

    default_status = 503


class ConfigError(Exception):
    """The configuration cannot be used. Each message names an option and what to type instead."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = messages

    def __str__(self) -> str:
        return "\n".join(self.messages)


class StoreError(Exception):
    """The store is away, or says what nobody understands. The text says why, for the log."""


def ignore(*_: object) -> None:
    """The callback of those who do not want to be told: it does nothing, whatever it is given."""


def failure(error: Exception) -> tuple[list[str], int]:
    """Why the process cannot start, in lines. The exit code: 2 for the configuration, else 1."""
    if isinstance(error, ConfigError):
        return list(error.messages), 2
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename or ''}".rstrip(": ")
    elif not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}"  # a bug, or new code that is not complete
    return [f"cannot start: {text}"], 1
