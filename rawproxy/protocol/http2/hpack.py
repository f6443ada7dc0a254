"""HPACK (RFC 7541): the header compression of HTTP/2, as a server needs it.

    Decoder     blocks of a client's fields ──► entries, its dynamic table kept up to date
    encode_*    our responses ──► bytes, without the dynamic table and without Huffman coding

An entry of the decoder is what `make(name, value)` gave for a field. It is made once, when the
field is first spelled out, and the table hands the same one out again. So what `make` found out
about a field is known for every request that only refers to it. Most fields of most requests do.
The encoder uses no dynamic table (nginx does neither): so the bytes of a field depend only on the
field.

This module never judges a field. Invariants: after every block that does not raise `HpackError`,
the table is the same as that of the client's encoder, even if the block was over the limits. No
block costs more memory than the limits allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rawproxy.protocol.http2 import huffman
from rawproxy.protocol.http2.huffman import HuffmanError

TABLE_SIZE: Final = 4096  # bytes of a client's dynamic table (RFC 9113 6.5.2: the default)
ENTRY_OVERHEAD: Final = 32  # bytes that a field counts beyond its name and value (RFC 7541 4.1)
INTEGER_LIMIT: Final = 1 << 28  # no length or index is larger: a longer integer is an attack

# RFC 7541 Appendix A. A space stands between entries, so the one value with a space comes later.
_STATIC_FIELDS: Final = (
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https "
    ":status=200 :status=204 :status=206 :status=304 :status=400 :status=404 :status=500 "
    "accept-charset accept-encoding=gzip,_deflate accept-language accept-ranges accept "
    "access-control-allow-origin age allow authorization cache-control content-disposition "
    "content-encoding content-language content-length content-location content-range content-type "
    "cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified link location max-forwards proxy-authenticate "
    "proxy-authorization range referer refresh retry-after server set-cookie "
    "strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
STATIC: Final[tuple[tuple[bytes, bytes], ...]] = tuple(
    (name.encode(), value.replace("_", " ").encode())
    for name, _, value in (field.partition("=") for field in _STATIC_FIELDS.split())
)
_FIRST_DYNAMIC: Final = len(STATIC) + 1


class HpackError(Exception):
    """The block is not HPACK, so the connection ends (RFC 9113 4.3, COMPRESSION_ERROR)."""


class FieldsTooLarge(Exception):  # noqa: N818 - the block is good, there is only too much of it
    """More fields or bytes than the limits allow. The table is up to date all the same."""


def static_entries(make: Callable[[bytes, bytes], Any]) -> list[Any]:
    """The static table as `make` sees it, by index. All connections share it."""
    return [None, *(make(name, value) for name, value in STATIC)]


class Decoder:
    """Decodes the fields of one client connection."""

    __slots__ = (
        "changes", "fields_limit", "literal_at", "literal_end", "literals", "make", "size",
        "size_limit", "static", "table", "table_limit", "total",
    )  # fmt: skip

    def __init__(
        self,
        make: Callable[[bytes, bytes], Any],
        static: list[Any],
        size_limit: int,
        fields_limit: int,
    ) -> None:
        self.make = make
        self.static = static
        self.changes = 0  # of the table: while it stays, the same block has the same meaning
        self.size_limit = size_limit  # bytes of all fields of a block, 32 more for each
        self.fields_limit = fields_limit
        self.table: list[tuple[Any, bytes, int]] = []  # entry, name, size; the oldest first
        self.size = 0
        self.table_limit = TABLE_SIZE
        # of the last block: how many of its fields were spelled out, and where the last such stood
        self.literals = self.literal_at = self.literal_end = 0
        self.total = 0  # bytes of its fields, as the limit counts them

    def decode(self, block: bytes) -> list[Any]:
        """The entries of a whole block. Raises `HpackError` or `FieldsTooLarge`."""
        entries: list[Any] = []
        size = self.literals = 0
        try:
            at = self._size_updates(block) if block and block[0] & 0xE0 == 0x20 else 0
            stop = len(block)
            static = self.static
            while at < stop:
                byte = block[at]
                if byte >= 0x80:
                    at += 1
                    index = byte & 0x7F
                    if index == 0x7F:
                        index, at = _integer(block, at, 0x7F)
                    if 0 < index < _FIRST_DYNAMIC:
                        entries.append(static[index])
                        size += 64  # none of them is longer
                        continue
                    entry, _, weight = self._dynamic(index)
                else:
                    self.literals += 1
                    self.literal_at = at
                    entry, weight, at = self.literal(block, at)
                    self.literal_end = at
                size += weight
                if size <= self.size_limit:  # else go on for the table's sake, but hold nothing
                    entries.append(entry)
        except IndexError:
            raise HpackError("the block breaks off") from None
        if size > self.size_limit or len(entries) > self.fields_limit:
            raise FieldsTooLarge(
                f"more than {self.fields_limit} header fields, or {self.size_limit} bytes of them"
            )
        self.total = size
        return entries

    def _dynamic(self, index: int) -> tuple[Any, bytes, int]:
        place = index - _FIRST_DYNAMIC
        if not 0 <= place < len(self.table):
            raise HpackError(f"index {index} is in neither table")
        return self.table[-1 - place]

    def literal(self, block: bytes, at: int) -> tuple[Any, int, int]:
        """A field that is spelled out (RFC 7541 6.2): its entry, its size, and where it ends.

        Raises `HpackError`, and `IndexError` if the block breaks off.
        """
        byte = block[at]
        indexing = byte >= 0x40
        if byte & 0xE0 == 0x20:
            raise HpackError("a table size update behind the first field")
        prefix = 0x3F if indexing else 0x0F
        index = byte & prefix
        at += 1
        if index == prefix:
            index, at = _integer(block, at, prefix)
        if not index:
            name, at = string(block, at)
        elif index < _FIRST_DYNAMIC:
            name = STATIC[index - 1][0]
        else:
            name = self._dynamic(index)[1]
        value, at = string(block, at)
        entry = self.make(name, value)
        weight = len(name) + len(value) + ENTRY_OVERHEAD
        if indexing:
            self.changes += 1
            self.size += weight
            self.table.append((entry, name, weight))
            if self.size > self.table_limit:
                self._evict()
        return entry, weight, at

    def _evict(self) -> None:
        """Drop entries, the oldest first, until the table fits its limit (RFC 7541 4.3, 4.4)."""
        drop = 0
        while self.size > self.table_limit:
            self.size -= self.table[drop][2]
            drop += 1
        del self.table[:drop]

    def _size_updates(self, block: bytes) -> int:
        """Read table size updates. They may stand only before the first field (RFC 7541 4.2)."""
        at = 0
        while at < len(block) and block[at] & 0xE0 == 0x20:
            size = block[at] & 0x1F
            at += 1
            if size == 0x1F:
                size, at = _integer(block, at, 0x1F)
            if size > TABLE_SIZE:
                raise HpackError(f"a table of {size} bytes; {TABLE_SIZE} are allowed")
            self.table_limit = size
            self.changes += 1
            self._evict()
        return at


def _integer(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The rest of an integer whose prefix is full (RFC 7541 5.1), and where it ends."""
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if value > INTEGER_LIMIT or shift > 28:
            raise HpackError("an integer that no length or index can have")


def string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (RFC 7541 5.2), and where it ends.

    Raises `HpackError`, and `IndexError` if there is none.
    """
    byte = block[at]
    at += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    stop = at + length
    if stop > len(block):
        raise HpackError("the block breaks off within a string")
    text = block[at:stop]
    if byte < 0x80:
        return text, stop
    try:
        return huffman.decode(text), stop
    except HuffmanError as error:
        raise HpackError(str(error)) from None


# ── encoding ────────────────────────────────────────────────────────────────────────────────────

SIZE_UPDATE_ZERO: Final = b"\x20"  # we use no table; sent once if the client allows < 4096 bytes
_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}
_STATUS: Final = {STATIC[i - 1][1]: bytes((0x80 | i,)) for i in range(8, 15)}
_LENGTHS: Final = [bytes((length,)) for length in range(0x7F)]
# Fields with secret values: they are not kept here, and no hop may index them (RFC 7541 7.1.3).
_SECRET: Final = frozenset((b"set-cookie", b"authorization", b"www-authenticate"))
NEVER_INDEXED: Final = 0x10
BLANK: Final = 0x20
FRONTS: Final = 1024  # encoded names that are remembered, of at most FRONT bytes each
FRONT: Final = 64
# Fields of a head that are compared with those of the last one, if they are no longer than LINE: a
# quarter of a megabyte in all.
REMEMBERED: Final = 32
LINE: Final = 4096


class RememberedField:
    """What stood at one place of the last head that was encoded, and its encoding.

    An upstream sends its fields in the same order each time, and most of them are unchanged.
    """

    __slots__ = ("field", "front", "line", "name")

    def __init__(self) -> None:
        self.name = b""
        self.front = b""  # the encoded name
        self.line = b""  # as `encode_block` cuts it; empty after a secret
        self.field = b""


_statuses: Final = [b""] * 1000
_remembered: Final = [RememberedField() for _ in range(REMEMBERED)]
_fronts: Final[dict[bytes, bytes]] = {}


def encode_status(status: int) -> bytes:
    """The `:status` field. `status` has three digits."""
    field = _statuses[status]
    if not field:
        value = b"%d" % status
        field = _statuses[status] = _STATUS.get(value) or b"\x08\x03" + value
    return field


def encode_block(block: bytes, status: int = 0) -> bytes:
    r"""The fields of a canonical block of `Name: value\r\n` lines, names in lower case.

    `:status` stands in front of them, unless it is 0.
    """
    lines = block.split(b"\n")  # faster than b"\r\n"; a block has no other CR
    lines.pop()
    fields: list[bytes] = []
    if status:
        fields.append(encode_status(status))
    at = 0
    for line in lines:
        place = _remembered[at]
        if at < REMEMBERED - 1:
            at += 1
        fields.append(place.field if line == place.line else _encode_line(line, place))
    return b"".join(fields)


def _encode_line(line: bytes, place: RememberedField) -> bytes:
    """Encode a line that is not the one which `place` remembers. Now it is."""
    name, _, value = line.partition(b":")
    if name != place.name:
        place.name = name
        place.front = _fronts.get(name) or _encode_name(name)
    size = len(value)
    if size > 2 and value[0] == BLANK and value[1] > BLANK and value[size - 2] > BLANK:
        value = value[1:-1]  # the usual form: a blank in front of it, CR behind
    else:
        value = value.strip(b" \t\r")
    size = len(value)
    length = _LENGTHS[size] if size < 0x7F else _encode_integer(size, 0x7F)
    field = place.front + length + value
    if place.front[0] & NEVER_INDEXED or size > LINE:
        place.line = place.field = b""
    else:
        place.line, place.field = line, field
    return field


def _encode_name(name: bytes) -> bytes:
    """The first bytes of a literal: whether it may be indexed, and its name (RFC 7541 6.2)."""
    low = name.lower()
    flags = NEVER_INDEXED if low in _SECRET else 0
    index = _NAMES.get(low)
    if index is None:
        front = bytes((flags,)) + _encode_integer(len(low), 0x7F) + low
    else:
        first = _encode_integer(index, 0x0F)
        front = bytes((flags | first[0],)) + first[1:]
    if len(front) <= FRONT:
        if len(_fronts) >= FRONTS:
            _fronts.clear()
        _fronts[name] = front
    return front


def _encode_integer(value: int, prefix: int) -> bytes:
    if value < prefix:
        return bytes((value,))
    out = bytearray((prefix,))
    value -= prefix
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
