"""HPACK against RFC 7541: its own examples, and every way a block can be wrong."""

import hpack as law
import pytest
from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from rawproxy.protocol.http2 import hpack, huffman
from rawproxy.protocol.http2.hpack import Decoder, FieldsTooLarge, HpackError


def pair(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value


def decoder(size: int = 65536, fields: int = 128) -> Decoder:
    return Decoder(pair, hpack.static_entries(pair), size, fields)


def test_the_tables_are_the_rfcs():
    assert hpack.STATIC == HeaderTable.STATIC_TABLE
    assert bytes(REQUEST_CODES_LENGTH) == huffman.CODE_LENGTHS


REQUESTS = [  # RFC 7541 C.4: with Huffman coding, on one connection
    (
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        [b":method GET", b":scheme http", b":path /", b":authority www.example.com"],
    ),
    (
        "828684be5886a8eb10649cbf",
        [b":method GET", b":scheme http", b":path /", b":authority www.example.com",
         b"cache-control no-cache"],
    ),
    (
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        [b":method GET", b":scheme https", b":path /index.html", b":authority www.example.com",
         b"custom-key custom-value"],
    ),
]  # fmt: skip


def test_appendix_c4():
    one = decoder()
    for block, expected in REQUESTS:
        assert one.decode(bytes.fromhex(block)) == [tuple(f.split(b" ")) for f in expected]
    assert one.size == 164


def test_eviction_follows_the_encoder():
    encoder, one = law.Encoder(), decoder()
    for size in (4096, 200, 0, 100, 4096):
        encoder.header_table_size = size
        for turn in range(20):
            fields = [(b"x-%d" % (turn % 7), b"v" * (turn * 9)), (b"same", b"value")]
            assert one.decode(encoder.encode(fields)) == fields
            assert one.size <= size


def test_what_is_too_large_for_the_table_empties_it():
    one = decoder()
    one.decode(bytes.fromhex(REQUESTS[0][0]))
    one.decode(b"\x40\x01a\x7f\xa1\x1f" + b"v" * 4128)
    assert (one.table, one.size) == ([], 0)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("80", "index 0"),
        ("ff00", "index 127"),
        ("be", "index 62"),
        ("7e01", "index 62"),
        ("8220", "behind the first"),
        ("3fe21f", "4096 are allowed"),
        ("00", "breaks off"),
        ("000361", "within a string"),
        ("ff", "breaks off"),
        ("ffffffffffff7f", "integer"),
        ("3fffffffffff7f", "integer"),
        ("0085f2b24a84ff8449509fff", "padding"),  # eight bits of padding
        ("0085f2b24a84ff83495090", "padding"),  # zeros
        ("0084ffffffff0161", "EOS"),
    ],
)
def test_blocks_that_are_none(block, why):
    with pytest.raises(HpackError, match=why):
        decoder().decode(bytes.fromhex(block))


def test_size_updates_in_front():
    assert decoder().decode(bytes.fromhex("203fe11f82")) == [(b":method", b"GET")]
    assert decoder().decode(b"") == []


def test_limits_leave_the_table_right():
    one = decoder(size=200, fields=4)
    with pytest.raises(FieldsTooLarge):
        one.decode(b"\x40\x01a\x01b" + b"\xbe" * 60_000 + b"\x40\x01c\x01d")
    assert one.decode(b"\xbe\xbf") == [(b"c", b"d"), (b"a", b"b")]
    with pytest.raises(FieldsTooLarge):
        decoder(fields=4).decode(b"\x82" * 5)
    with pytest.raises(FieldsTooLarge):
        decoder(size=200).decode(b"\x82" * 5)


def test_never_indexed_and_without_indexing():
    one = decoder()
    assert one.decode(b"\x10\x01a\x01b\x00\x01c\x01d\x0f\x0f\x01g") == [
        (b"a", b"b"),
        (b"c", b"d"),
        (hpack.STATIC[29][0], b"g"),
    ]
    assert one.table == []


BLOCK = (
    b"Content-Type: text/html\r\nSet-Cookie: a=b\r\nX-Long: " + b"v" * 300 + b"\r\n"
    b"X-Empty: \r\n" + b"X-" + b"n" * 200 + b": y\r\n"
)


def test_what_we_encode():
    block = hpack.encode_status(200) + hpack.encode_status(418) + hpack.encode_block(BLOCK)
    fields = law.Decoder().decode(block, raw=True)
    assert list(fields) == [
        (b":status", b"200"),
        (b":status", b"418"),
        (b"content-type", b"text/html"),
        (b"set-cookie", b"a=b"),
        (b"x-long", b"v" * 300),
        (b"x-empty", b""),
        (b"x-" + b"n" * 200, b"y"),
    ]
    assert type(fields[3]).__name__ == "NeverIndexedHeaderTuple"
    assert hpack.encode_block(BLOCK) in block


def kept() -> set[bytes]:
    return {place.line for place in hpack._remembered} | {
        place.field for place in hpack._remembered
    }


def test_secrets_and_long_values_are_not_kept():
    secret = b"Set-Cookie: a=secret\r\n"
    for long in (b"v" * hpack.LINE, b"v" * (hpack.LINE + 1)):
        block = b"Server: x\r\n" + secret + b"X-Long: " + long + b"\r\n"
        for _ in range(2):
            assert hpack.encode_block(block).endswith(long)
    assert not any(b"secret" in one or len(one) > hpack.LINE + 50 for one in kept())
    assert hpack.encode_block(b"Server: x\r\n") in kept()


def test_names_that_are_kept_are_bounded():
    for number in range(2 * hpack.FRONTS):
        hpack.encode_block(b"X-%d: 1\r\nX-%064d: 1\r\n" % (number, number))
        assert len(hpack._fronts) <= hpack.FRONTS
    assert hpack._fronts and max(map(len, hpack._fronts)) < hpack.FRONT


def test_more_fields_than_places():
    lines = [b"X-%d: %d\r\n" % (number, number) for number in range(2 * hpack.REMEMBERED)]
    expected = [(b"x-%d" % number, b"%d" % number) for number in range(2 * hpack.REMEMBERED)]
    for _ in range(2):
        fields = law.Decoder().decode(hpack.encode_block(b"".join(lines)), raw=True)
        assert [tuple(field) for field in fields] == expected
