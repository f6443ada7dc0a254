"""The harnesses of HTTP/2: field blocks, HPACK, and whole connections over a fake transport."""

import struct
import zlib

import hpack as law

from rawproxy.client.h2_connection import H2Connection
from rawproxy.config.model import Limits, Upstream, single
from rawproxy.errors import ClientError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead
from rawproxy.protocol.http1.body import last_chunk
from rawproxy.protocol.http2 import frames, hpack
from rawproxy.protocol.http2.frames import StreamFault
from rawproxy.protocol.http2.header_reader import HeaderReader
from rawproxy.protocol.http2.hpack import Decoder, FieldsTooLarge, HpackError
from rawproxy.proxy.service import Service, log
from tests.fakes import FakeLoop, FakeTransport

from .grammar import FIELDS, HOSTS, METHODS, TARGETS, TOKENS, Rng, chunked, pick
from .oracle import one_request, tells
from .targets import AUTHORITY, LIMITS, PLAIN, Target

REFUSED = (HpackError, FieldsTooLarge, StreamFault, ClientError)
BETWEEN, NAMED = b"\xfe", b"\xfd"  # what separates fields, and a name from its value


# ── field blocks ────────────────────────────────────────────────────────────────────────────────


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literals(pairs: list[tuple[bytes, bytes]], first: int = 0x00) -> bytes:
    """A field block of literals; 0x00: not indexed, 0x40: indexed, 0x10: never."""
    parts = []
    for name, value in pairs:
        parts += [
            bytes((first,)),
            _integer(len(name), 7, 0),
            name,
            _integer(len(value), 7, 0),
            value,
        ]
    return b"".join(parts)


def _pairs(rng: Rng) -> list[tuple[bytes, bytes]]:
    """The fields of a request, more or less."""
    wild = rng.random() < 0.3
    pairs = [
        (b":method", pick(rng, METHODS[wild])),
        (b":scheme", b"https" if rng.random() < 0.95 else pick(rng, (b"http", b"ftp", b""))),
        (b":authority", pick(rng, HOSTS[wild])),
        (b":path", pick(rng, TARGETS[wild])),
    ]
    if not wild and not pairs[3][1].startswith((b"/", b"*")):
        pairs[3] = (b":path", b"/p?q")
    if rng.random() < 0.05:
        pairs[0] = (b":method", b"CONNECT")
        pairs.append((b":protocol", b"websocket"))
    for _ in range(int(rng.random() * 6)):
        name, values = pick(rng, FIELDS)
        if wild or name.lower() not in (b"connection", b"upgrade", b"te", b"keep-alive",
                                        b"proxy-connection"):  # fmt: skip
            pairs.append((name.lower(), pick(rng, values)))
    if rng.random() < 0.2:
        pairs.append((b"content-length", pick(rng, (b"0", b"5", b"5", b"05", b"x", b"5,5"))))
    if wild:
        roll = rng.random()
        if roll < 0.3:
            pairs.insert(int(rng.random() * len(pairs)), pick(rng, pairs))
        elif roll < 0.5:
            pairs.append((b"host", pick(rng, HOSTS[0])))
        elif roll < 0.7:
            del pairs[int(rng.random() * len(pairs))]
        else:
            pairs.append((pick(rng, TOKENS), pick(rng, TOKENS)))
    return pairs


def grow_fields(rng: Rng) -> bytes:
    ended = b"." if rng.random() < 0.7 else b"+"
    return ended + BETWEEN.join(NAMED.join(pair) for pair in _pairs(rng))


def fields(data: bytes) -> str:
    """A field block becomes exactly one request of HTTP/1, the one that it says."""
    ended = data[:1] != b"+"
    parts = [part.partition(NAMED) for part in data[1:].split(BETWEEN)]
    pairs = [(name, value) for name, _, value in parts]
    block = literals(pairs)
    reader = HeaderReader(LIMITS)
    try:
        head, opening = reader.request(block, ended)
    except REFUSED as error:
        return f"refused: {type(error).__name__}"
    assert not opening
    said = dict(reversed(pairs))
    _check_request(head, said, pairs)
    if ended:
        sent = rewrite.request(head, PLAIN, AUTHORITY)
        reader.remember(block, head, sent)
        again, opening = reader.request(block, True)
        assert again == head and opening in (b"", sent)
    return "read"


def _check_request(
    head: RequestHead, said: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]
) -> None:
    if head.framing > 10_000:
        return
    sent = rewrite.request(head, PLAIN, AUTHORITY)
    sent += last_chunk(b"") if head.framing == CHUNKED else bytes(head.framing)
    seen = one_request(sent)
    assert seen.method == (b"GET" if head.upgrade else said[b":method"])
    assert seen.target == said[b":path"]
    host = said.get(b":authority") or said[b"host"]
    assert seen.values(b"host") == seen.values(b"x-forwarded-host") == [host]
    ours = (b"host", b"via", b"connection", b"upgrade", b"transfer-encoding", b"cookie",
            b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"sec-websocket-key")  # fmt: skip
    for pair in seen.fields:
        assert pair in pairs or pair[0] in ours, pair
        assert pair[0] in ours or not (tells(pair[0]) or b"_" in pair[0]), pair
    assert seen.values(b"x-forwarded-for") == [PLAIN.peer]
    crumbs = [value for name, value in pairs if name == b"cookie" and value]
    assert b"cookie" not in said or seen.values(b"cookie") in ([b"; ".join(crumbs)], [])


# ── HPACK ───────────────────────────────────────────────────────────────────────────────────────


def grow_hpack(rng: Rng) -> bytes:
    encoder = law.Encoder()
    encoder.header_table_size = pick(rng, (4096, 4096, 0, 100))
    block = encoder.encode(_pairs(rng), huffman=rng.random() < 0.5)
    if rng.random() < 0.3:
        block += encoder.encode(_pairs(rng), huffman=rng.random() < 0.5)
    if rng.random() < 0.3:
        block += literals(_pairs(rng), pick(rng, (0x00, 0x10, 0x40)))
    return block


def _decoded(block: bytes) -> list[tuple[bytes, bytes]] | None:
    decoder = Decoder(lambda n, v: (n, v), hpack.static_entries(lambda n, v: (n, v)), 65536, 128)
    try:
        return decoder.decode(block)
    except (HpackError, FieldsTooLarge):
        return None


def hpack_block(data: bytes) -> str:
    """Either both refuse, or both read the same; the `hpack` package is the law."""
    mine = _decoded(data)
    try:
        theirs = [tuple(field) for field in law.Decoder().decode(data, raw=True)]
    except law.HPACKError:
        theirs = None
    if mine is None:
        # Stricter on purpose: an integer of any length whose value is none (RFC 7541 5.1).
        assert theirs is None or b"\x80\x80\x80\x80" in data
        return "refused"
    assert mine == theirs
    return "read"


# ── whole connections ───────────────────────────────────────────────────────────────────────────


def _frame(rng: Rng) -> bytes:
    """One frame of a client's, seldom a bad one."""
    number = pick(rng, (1, 3, 5, 7, 9, 11)) if rng.random() < 0.95 else pick(rng, (0, 2, 2**31 - 1))
    roll = rng.random()
    if roll < 0.4:
        block = literals(_pairs(rng), pick(rng, (0x00, 0x10, 0x40)))
        flags = pick(rng, (0x4, 0x5, 0x5, 0x5, 0x0, 0x1, 0x24, 0x2D, 0x0C))
        if flags & 0x8:
            block = b"\3" + block + bytes(3)
        if flags & 0x20:
            block = bytes(5) + block
        cut = int(rng.random() * len(block)) if not flags & 0x4 else len(block)
        rest = frames.frame(9, pick(rng, (4, 4, 4, 0)), number, block[cut:])
        return frames.frame(1, flags, number, block[:cut]) + (rest if not flags & 0x4 else b"")
    if roll < 0.6:
        payload = chunked(rng) if rng.random() < 0.5 else bytes(int(rng.random() * 40))
        return frames.frame(0, pick(rng, (0, 0, 1, 1, 8, 9)), number, payload)
    small = struct.pack(">L", pick(rng, (0, 1, 1000, 65535, 2**31 - 1, 2**32 - 1)))
    return pick(
        rng,
        (
            frames.frame(2, 0, number, small + b"\1"),
            frames.frame(3, 0, number, small),
            frames.frame(8, 0, number, small),
            frames.frame(8, 0, 0, small),
            frames.frame(
                4, 0, 0, struct.pack(">HL", pick(rng, (1, 2, 3, 4, 5, 6, 8, 99)), 0) + b""
            ),
            frames.frame(4, 0, 0, struct.pack(">H", pick(rng, (1, 2, 3, 4, 5, 6, 8, 99))) + small),
            frames.frame(4, 1, 0, b""),
            frames.frame(6, pick(rng, (0, 1)), 0, small + small),
            frames.frame(7, 0, 0, small + bytes(4)),
            frames.frame(9, 4, number, b""),
            frames.frame(5, 4, number, small),
            frames.frame(pick(rng, (10, 16, 255)), 0xFF, number, small),
        ),
    )


def grow_h2(rng: Rng) -> bytes:
    """A client's connection: preface, settings, frames."""
    some = [_frame(rng) for _ in range(int(rng.random() * 12))]
    return frames.PREFACE + frames.settings({4: pick(rng, (65535, 0, 20))}) + b"".join(some)


class Connection:
    """A front between a client that is fuzzed and an upstream that is never free."""

    def __init__(self, queue: int) -> None:
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=1)
        limits = Limits(queue=queue, h2_streams=4, h2_budget=300)
        # No connection is allowed: a request is answered by 503, or waits in the queue.
        self.service = Service(single((upstream,), max_upstream=0, limits=limits), None)
        self.pool = self.service.endpoints[0].pool

    def talk(self, parts: list[bytes]) -> list[tuple[int, int, int]]:
        """Feed the parts; the frames that came back."""
        loop, transport, service = FakeLoop(), FakeTransport(), self.service
        slot = service.admission.enter()
        assert slot is not None
        slot.peer = "203.0.113.9"
        with loop.running():
            front = H2Connection(service, slot)
            front.connection_made(transport)
            for part in parts:
                if not transport.is_closing():
                    front.data_received(part)
                    loop.turn()
            front.sweep(service.clock.now)
            front.drain()
            loop.turn()
            front.connection_lost(None)
            loop.turn()
        assert not service.clients and not service.admission.open
        assert not self.pool.busy and not self.pool.waiting, self.pool
        return _judged(transport.take())


def _judged(data: bytes) -> list[tuple[int, int, int]]:
    """Type, flags and stream of each frame of ours, all of them well-formed and in order."""
    decoder = law.Decoder()
    seen, ended, over, at = [], set(), False, 0
    while at < len(data):
        high, low, kind, flags, number = frames.HEADER.unpack_from(data, at)
        size = high << 8 | low
        payload = data[at + 9 : at + 9 + size]
        assert len(payload) == size <= frames.MAX_FRAME
        at += 9 + size
        assert not over, "a frame behind the last GOAWAY"
        if kind in (frames.DATA, frames.HEADERS):
            assert number & 1 and number not in ended
            if kind == frames.HEADERS:
                assert decoder.decode(payload, raw=True)[0][0] == b":status"
            if flags & frames.END_STREAM:
                ended.add(number)
        elif kind == frames.GOAWAY:
            over = int.from_bytes(payload[4:8], "big") != 0
        seen.append((kind, flags, number))
    return seen


CONNECTIONS = (Connection(0), Connection(1000))


def connection(data: bytes) -> str:
    """Nothing escapes, nothing stays, and any split is answered as the whole is."""
    was, log.disabled = log.disabled, True
    try:
        verdicts = []
        for one in CONNECTIONS:
            whole = one.talk([data])
            at = zlib.crc32(data) % (len(data) + 1)
            assert one.talk([data[:at], data[at:]]) == whole, at
            assert one.talk([data[at : at + 7] for at in range(0, len(data), 7)]) == whole
            verdicts.append(whole)
    finally:
        log.disabled = was
    kinds = {kind for kind, _, _ in verdicts[0]}
    if frames.HEADERS in kinds:
        return "answered"
    return "refused" if frames.GOAWAY in kinds or frames.RST_STREAM in kinds else "nothing asked"


TARGETS_H2 = {
    "fields": Target(grow_fields, fields),
    "hpack": Target(grow_hpack, hpack_block),
    "h2": Target(grow_h2, connection),
}
