"""Reads the field blocks of one HTTP/2 connection: requests and trailers.

Most requests of a connection differ from the one before only in their path. Suppose that HPACK's
table has not changed since, and that a block is that of the last request but for the value of
`:path`, in a literal that the table does not keep. Then only that value is read: every other byte
means what it meant before. Nothing but that one request is remembered.

This module never sees a frame. Invariant: the short way gives the same as reading the whole block.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.config.model import Limits
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http2 import fields
from rawproxy.protocol.http2.hpack import STATIC, Decoder, string

_PATH: Final = re.compile(rb"/[!-\"$-~]{0,2047}").fullmatch  # longer ones are read the long way
# The first byte of a literal that is not to be kept and whose name is `:path`, by reference to the
# static table (RFC 7541 6.2.2, 6.2.3, Appendix A). How others write it, nobody was seen to.
_PATH_LITERALS: Final = frozenset(
    flags | index
    for flags in (0x00, 0x10)
    for index, (name, _) in enumerate(STATIC, 1)
    if name == b":path"
)


class LastRequest:
    """The last request without a body, and what was read of it."""

    __slots__ = ("before", "behind", "changes", "head", "line", "rest", "room")

    def __init__(self, block: bytes, decoder: Decoder, head: RequestHead) -> None:
        self.before = block[: decoder.literal_at + 1]  # of its block, up to the value of :path
        self.behind = block[decoder.literal_end :]
        self.changes = decoder.changes  # of the table, as it was
        # Bytes that a path may have, for the sake of the limit.
        self.room = decoder.size_limit - decoder.total + len(head.target)
        self.head = head  # all but the target is that of the next one too
        self.line = b""  # its rewritten head: what stands in front of the target
        self.rest = b""  # and behind it


class HeaderReader:
    """The reader of one connection."""

    __slots__ = ("decoder", "known", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.decoder = Decoder(fields.field, fields.STATIC, limits.head, limits.fields)
        self.known: LastRequest | None = None

    def request(self, block: bytes, ended: bool) -> tuple[RequestHead, bytes]:
        """The head of a request, and its rewritten head if it is like the last request.

        Raises `HpackError`, `FieldsTooLarge`, `StreamFault` or `ClientError`.
        """
        known = self.known
        if known is not None and ended and known.changes == self.decoder.changes:
            path = _path(known, block)
            if path:
                return known.head.to(path), b"".join((known.line, path, known.rest))
        return fields.request(self.decoder.decode(block), ended, self.limits), b""

    def remember(self, block: bytes, head: RequestHead, opening: bytes) -> None:
        """The request that was just read became `opening`. The next one may be like it."""
        decoder = self.decoder
        self.known = None
        if decoder.literals == 1 and block[decoder.literal_at] in _PATH_LITERALS:
            line, _, rest = opening.partition(b" ")
            if rest.startswith(head.target + b" "):
                known = self.known = LastRequest(block, decoder, head)
                known.line = line + b" "
                known.rest = rest[len(head.target) :]

    def forget(self) -> None:
        """What a request becomes is another thing from now on."""
        self.known = None

    def decode(self, block: bytes) -> list[fields.Field]:
        """The fields of any other block. Raises `HpackError` or `FieldsTooLarge`."""
        decoded: list[fields.Field] = self.decoder.decode(block)
        return decoded


def _path(known: LastRequest, block: bytes) -> bytes:
    """The path of a block that is `known` but for its path; empty if it is another one."""
    before, behind = known.before, known.behind
    start, stop = len(before), len(block) - len(behind)
    if stop <= start or not block.startswith(before) or not block.endswith(behind):
        return b""
    try:
        value, at = string(block, start)
    except IndexError:
        return b""
    if at != stop or len(value) > known.room or not _PATH(value):
        return b""
    return value
