"""The heads of messages, as objects: what was read of each.

Whoever reads a head (a lane of `http1.parser`, or HTTP/2) makes one, by the policy in `head`. Both
are classes of our own: to make a named tuple takes another tuple and a call of Python's.

This module never reads or judges anything. Invariant: nobody changes a head that others may have;
`_replace` makes another one. `ready` is what `rewrite` would make again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rawproxy.protocol.http.log_fields import LogFields

Note = tuple[int, int, int]  # kind, and where the field's line starts and stops in the block
REQUEST: Final = (
    "block", "close", "expect", "framing", "host", "method", "minor", "nominated", "notes",
    "offered", "personal", "size", "target", "told", "upgrade",
)  # fmt: skip
RESPONSE: Final = (
    "block", "close", "dated", "framing", "line", "minor", "nominated", "notes", "size",
    "status", "upgrade",
)  # fmt: skip


class RequestHead:
    """A request head that may be forwarded. `target` is in origin form (or `*`)."""

    __slots__ = REQUEST
    FIELDS: ClassVar[tuple[str, ...]] = REQUEST

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        block: bytes,
        notes: list[Note],
        framing: int,
        close: bool,
        upgrade: bytes,
        expect: bool,
        host: bytes,
        nominated: tuple[bytes, ...],
        size: int,
        told: LogFields | None = None,
        offered: bytes = b"",
        personal: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor  # of HTTP/1.x; HTTP2
        self.block = block
        self.notes = notes
        self.framing = framing
        self.close = close  # the client wants this connection closed afterwards
        self.upgrade = (
            upgrade  # b"websocket" if the client asks for it by all the rules, else empty
        )
        self.expect = expect  # 100-continue
        self.host = host  # as it came; empty only in HTTP/1.0
        self.nominated = nominated  # lower-case names that Connection lists
        self.size = size  # bytes of the head as it came; 0 in HTTP/2
        self.told = told  # for the access log; None: not looked for yet
        self.offered = (
            offered  # other upgrades than WebSocket, in lower case; a route may allow one
        )
        self.personal = personal  # it proves who the client is to the connection (`AUTHORIZATION`)

    def value(self, name: bytes) -> bytes:
        """The first value of the field `name` (lower case), or empty."""
        return _value(self.block, name)

    def to(self, target: bytes) -> RequestHead:
        """The same request for another target."""
        return RequestHead(
            self.method, target, self.minor, self.block, self.notes, self.framing, self.close,
            self.upgrade, self.expect, self.host, self.nominated, self.size, self.told,
            self.offered, self.personal,
        )  # fmt: skip

    def _replace(self, **changes: Any) -> RequestHead:
        """The same head, but for these facts."""
        return RequestHead(**_facts_of(self, self.FIELDS) | changes)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, RequestHead)
        return same and _facts_of(self, self.FIELDS) == _facts_of(other, self.FIELDS)

    def __repr__(self) -> str:
        return f"RequestHead({_facts_of(self, self.FIELDS)})"


class ResponseHead:
    """A response head that may be forwarded."""

    __slots__ = (*RESPONSE, "ready", "ready_for", "repeated", "unchanged")
    FIELDS: ClassVar[tuple[str, ...]] = RESPONSE

    def __init__(
        self,
        status: int,
        line: bytes,
        minor: int,
        block: bytes,
        notes: list[Note],
        framing: int,
        close: bool,
        upgrade: bytes,
        dated: bool,
        nominated: tuple[bytes, ...],
        size: int,
    ) -> None:
        self.status = status
        self.line = line  # the status line to send on
        self.minor = minor
        self.block = block
        self.notes = notes
        self.framing = framing  # as declared; `response_framing` also looks at the request
        self.close = close
        self.upgrade = upgrade  # lower-case token of a 101
        self.dated = dated
        self.nominated = nominated
        self.size = size  # bytes of the head as it came
        # No facts of it, but what is kept of one that came again, byte for byte (`last_head`): its
        # line and its block as a client gets them, and by which context of that client.
        self.repeated = False
        # Its bytes may go on as they came, to a client of HTTP/1.1 whose connection stays.
        self.unchanged = False
        self.ready = b""
        self.ready_for: object = None

    def value(self, name: bytes) -> bytes:
        """The first value of the field `name` (lower case), or empty."""
        return _value(self.block, name)

    def _replace(self, **changes: Any) -> ResponseHead:
        """The same head, but for these facts."""
        return ResponseHead(**_facts_of(self, self.FIELDS) | changes)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, ResponseHead)
        return same and _facts_of(self, self.FIELDS) == _facts_of(other, self.FIELDS)

    def __repr__(self) -> str:
        return f"ResponseHead({_facts_of(self, self.FIELDS)})"


def _facts_of(head: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(head, name) for name in names}


def _value(block: bytes, name: bytes) -> bytes:
    low = b"\n" + block.lower()
    at = low.find(b"\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 2  # in the block: the "\n" in front of `low` is not there
    return block[at : block.find(b"\r\n", at)].strip()
