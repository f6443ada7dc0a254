"""HPACK (RFC 7541): the header compression of HTTP/2, as this side of it is needed.

    Decoder     blocks of a client's fields ──► entries, its dynamic table kept up to date
    encode_*    our responses ──► bytes, without the dynamic table and without Huffman coding

An entry of the decoder is whatever `make(name, value)` gave for a field; it is made once, when the
field is first spelled out, and the table hands the same one out again. What `make` found out about
a field is therefore known for every request that only refers to it, which is most fields of most
requests. Encoding without the dynamic table (as nginx does) makes a field's bytes a pure function
of the field.

It never judges a field. Invariants: after every block that does not raise `HpackError` the table
is the one the client's encoder has, also where the block was over the limits; no block costs more
memory than the limits allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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

# RFC 7541 Appendix B: bits of each symbol's code; the code is canonical, so nothing else is needed.
_CODE_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b0806"
    "06060505050606060606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d"
    "130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414161616171617"
    "17171717181718181617181717171715161716171718161514161617171517161618151617171515161517161717"
    "14161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b141814151615"
    "15171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_EOS: Final = 256
# Remembered steps of the Huffman decoder in each of two generations: ordinary text needs a few
# thousand, and there are 65,536, of some 200 bytes each.
_MEMO: Final = 8192


class HpackError(Exception):
    """The block is not HPACK: the connection cannot go on (RFC 9113 4.3, COMPRESSION_ERROR)."""


class FieldsTooLarge(Exception):  # noqa: N818 - the block is good, there is only too much of it
    """More fields or more bytes than the limits allow; the table has been kept up to date."""


def _codes() -> dict[int, int]:
    """Symbol of each code; a code is its bits behind a leading 1."""
    symbols: dict[int, int] = {}
    code = 0
    for length in range(1, max(_CODE_LENGTHS) + 1):
        for symbol, bits in enumerate(_CODE_LENGTHS):
            if bits == length:
                symbols[1 << length | code] = symbol
                code += 1
        code <<= 1
    return symbols


_SYMBOLS: Final = _codes()
_STEPS: dict[int, tuple[int, bytes]] = {}
_OLD_STEPS: dict[int, tuple[int, bytes]] = {}  # what was remembered before those


def _step(key: int) -> tuple[int, bytes]:
    """From the bits still pending (key >> 8, behind a leading 1), by one byte more."""
    step = _OLD_STEPS.get(key) or _make_step(key)
    if len(_STEPS) >= _MEMO:
        # Nobody can fill the memo for good: what is in use is soon in it again, from the old one.
        _OLD_STEPS.clear()
        _OLD_STEPS.update(_STEPS)
        _STEPS.clear()
    _STEPS[key] = step
    return step


def _make_step(key: int) -> tuple[int, bytes]:
    pending, byte = key >> 8, key & 0xFF
    out = bytearray()
    for shift in range(7, -1, -1):
        pending = pending << 1 | (byte >> shift & 1)
        symbol = _SYMBOLS.get(pending)
        if symbol is not None:
            if symbol == _EOS:
                raise HpackError("a Huffman string contains EOS")
            out.append(symbol)
            pending = 1
    return pending, bytes(out)


def huffman(data: bytes) -> bytes:
    """The text of a Huffman-coded string (RFC 7541 5.2). Raises `HpackError`."""
    pending = 1
    pieces: list[bytes] = []
    steps = _STEPS
    for byte in data:
        key = pending << 8 | byte
        pending, piece = steps.get(key) or _step(key)
        pieces.append(piece)
    # Padding is shorter than a byte and all ones: with the leading 1, 1, 11, 111, ...
    if pending > 0xFF or pending & (pending + 1):
        raise HpackError("the padding of a Huffman string is not the beginning of EOS")
    return b"".join(pieces)


def static_entries(make: Callable[[bytes, bytes], Any]) -> list[Any]:
    """The static table as `make` sees it, by index; the same for all connections."""
    return [None, *(make(name, value) for name, value in STATIC)]


class Decoder:
    """The client's fields; one for each connection."""

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
        """A field that is spelled out (RFC 7541 6.2): entry, size, and where the next begins.

        Raises `HpackError`, and `IndexError` where the block breaks off.
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
            name, at = _string(block, at)
        elif index < _FIRST_DYNAMIC:
            name = STATIC[index - 1][0]
        else:
            name = self._dynamic(index)[1]
        value, at = _string(block, at)
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
        """Oldest first, until the table is within its limit (RFC 7541 4.3, 4.4)."""
        drop = 0
        while self.size > self.table_limit:
            self.size -= self.table[drop][2]
            drop += 1
        del self.table[:drop]

    def _size_updates(self, block: bytes) -> int:
        """Table size updates stand only in front of a block's first field (RFC 7541 4.2)."""
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
    """The rest of an integer whose prefix is full (RFC 7541 5.1), and what follows it."""
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


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string literal (RFC 7541 5.2), and what follows it."""
    byte = block[at]
    at += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    stop = at + length
    if stop > len(block):
        raise HpackError("the block breaks off within a string")
    text = block[at:stop]
    return (huffman(text) if byte >= 0x80 else text), stop


# ── encoding ────────────────────────────────────────────────────────────────────────────────────

SIZE_UPDATE_ZERO: Final = b"\x20"  # we use no table: said once to who allows less than 4096 bytes
LINES = 2048  # encoded lines that are remembered, of at most LINE bytes each: half a megabyte
LINE: Final = 128
_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}
_STATUS: Final = {STATIC[i - 1][1]: bytes((0x80 | i,)) for i in range(8, 15)}
_remembered: dict[bytes, bytes] = {}
# Fields whose values are secrets: never kept here, and no hop may index them (RFC 7541 7.1.3).
_SECRET: Final = frozenset((b"set-cookie", b"authorization", b"www-authenticate"))


def encode_status(status: int) -> bytes:
    """The `:status` field."""
    value = b"%d" % status
    return _STATUS.get(value) or b"\x08\x03" + value


def encode_block(block: bytes) -> bytes:
    r"""The fields of a canonical block of `Name: value\r\n` lines, names in lower case."""
    remembered = _remembered
    return b"".join(
        [remembered.get(line) or _encode_line(line) for line in block.split(b"\r\n")[:-1]]
    )


def _encode_line(line: bytes) -> bytes:
    name, _, value = line.partition(b":")
    name = name.lower()
    value = value.strip(b" \t")
    secret = name in _SECRET
    index = _NAMES.get(name)
    flags = 0x10 if secret else 0
    if index is None:
        head = bytes((flags,)) + _encode_integer(len(name), 0x7F) + name
    else:
        first = _encode_integer(index, 0x0F)
        head = bytes((flags | first[0],)) + first[1:]
    encoded = head + _encode_integer(len(value), 0x7F) + value
    if not secret and len(line) <= LINE:
        if len(_remembered) >= LINES:
            _remembered.clear()
        _remembered[line] = encoded
    return encoded


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
