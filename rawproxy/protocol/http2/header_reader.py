"""Field blocks of one HTTP/2 connection: requests and trailers, and what is like the last one.

Most requests of a connection differ from the one before in their path alone. Where HPACK's table
has not changed since, and a block is that of the last request but for one literal that the table
does not keep, only that literal is read: every other byte has the meaning it had. Nothing wider
than that one request is remembered.

It never sees a frame. Invariant: a remembered reading is what reading the whole block would give.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rawproxy.config.model import Limits
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http2 import fields
from rawproxy.protocol.http2.fields import PSEUDO
from rawproxy.protocol.http2.hpack import Decoder

_PATH: Final = re.compile(rb"/[!-\"$-~]{0,2047}").fullmatch  # longer ones are read the long way


class Known(NamedTuple):
    """The last request without a body."""

    before: bytes  # of its block: what stands in front of the literal that is :path
    behind: bytes
    changes: int  # of the table, as it was
    size: int  # of its fields
    head: RequestHead
    line: bytes  # its rewritten head: what stands in front of the target
    rest: bytes  # and behind it


class Reader:
    """One for each connection."""

    __slots__ = ("decoder", "known", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.decoder = Decoder(fields.field, fields.STATIC, limits.head, limits.fields)
        self.known: Known | None = None

    def request(self, block: bytes, ended: bool) -> tuple[RequestHead, bytes]:
        """The head of a request and, where the last one told, its rewritten head.

        Raises `HpackError`, `FieldsTooLarge`, `StreamFault` or `ClientError`.
        """
        known = self.known
        if known is not None and ended and known.changes == self.decoder.changes:
            path = self._path(known, block)
            if path:
                return known.head._replace(target=path), known.line + path + known.rest
        return fields.request(self.decoder.decode(block), ended, self.limits), b""

    def _path(self, known: Known, block: bytes) -> bytes:
        """The path of a block that is the known one but for its path; empty where it is not."""
        before, behind = known.before, known.behind
        start, stop = len(before), len(block) - len(behind)
        if stop <= start or not block.startswith(before) or not block.endswith(behind):
            return b""
        if block[start] >= 0x20:  # a reference, a literal to keep, a size update
            return b""
        try:
            (kind, name, value, _), weight, at = self.decoder.literal(block, start)
        except IndexError:
            return b""
        if at != stop or kind != PSEUDO or name != b":path" or not _PATH(value):
            return b""
        return value if known.size + weight <= self.decoder.size_limit else b""

    def remember(self, block: bytes, head: RequestHead, opening: bytes) -> None:
        """The request that was just read became `opening`; the next one may be like it."""
        decoder = self.decoder
        self.known = None
        if decoder.literals == 1 and block[decoder.literal_at] < 0x20:
            line, _, rest = opening.partition(b" ")
            if rest.startswith(head.target + b" "):
                self.known = Known(
                    block[: decoder.literal_at],
                    block[decoder.literal_end :],
                    decoder.changes,
                    decoder.total,
                    head,
                    line + b" ",
                    rest[len(head.target) :],
                )

    def decode(self, block: bytes) -> list[fields.Field]:
        """The fields of any other block. Raises `HpackError` or `FieldsTooLarge`."""
        decoded: list[fields.Field] = self.decoder.decode(block)
        return decoded
