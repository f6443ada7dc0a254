"""HPACK, differentially: the `hpack` package is the law."""

import hpack as law
import hypothesis
import pytest
from hypothesis import strategies as st

from rawproxy.protocol.http2 import hpack, huffman
from rawproxy.protocol.http2.hpack import Decoder, FieldsTooLarge, HpackError
from rawproxy.protocol.http2.huffman import HuffmanError


def pair(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value


def decoder() -> Decoder:
    return Decoder(pair, hpack.static_entries(pair), 65536, 128)


FIELD = st.one_of(
    st.sampled_from(hpack.STATIC),
    st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=300)),
)
FIELDS = st.lists(FIELD, max_size=12)


@hypothesis.given(
    st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([4096, 4096, 0, 100])), max_size=5)
)
def test_whatever_is_encoded_is_decoded(blocks):
    encoder, one = law.Encoder(), decoder()
    for fields, coded, size in blocks:
        encoder.header_table_size = size
        assert one.decode(encoder.encode(fields, huffman=coded)) == fields


@hypothesis.given(st.one_of(st.binary(max_size=60), st.lists(st.binary(max_size=9)).map(b"".join)))
def test_arbitrary_bytes(block):
    """Either both refuse, or both read the same; never another exception."""
    try:
        mine = decoder().decode(block)
    except (HpackError, FieldsTooLarge):
        mine = None
    try:
        theirs = [tuple(field) for field in law.Decoder().decode(block, raw=True)]
    except law.HPACKError:
        theirs = None
    if mine is not None:
        assert mine == theirs
    else:
        # Stricter on purpose: an integer of any length whose value is none (RFC 7541 5.1).
        assert theirs is None or b"\x80\x80\x80\x80" in block


@hypothesis.given(st.binary(max_size=80))
def test_huffman_reads_what_was_coded(text):
    coder = law.huffman.HuffmanEncoder(
        law.huffman_constants.REQUEST_CODES, law.huffman_constants.REQUEST_CODES_LENGTH
    )
    coded = coder.encode(text)
    assert huffman.decode(coded) == text
    with pytest.raises(HuffmanError):
        huffman.decode(coded + b"\xff")


LINES = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from((b"Server", b"server", b"Set-Cookie", b"Date")),
            st.from_regex(rb"[A-Za-z-]{1,20}", fullmatch=True),
        ),
        st.one_of(
            st.sampled_from((b"", b"x", b"y")), st.from_regex(rb"[!-~]{0,200}", fullmatch=True)
        ),
    ),
    max_size=8,
)


@hypothesis.given(st.lists(LINES, max_size=4), st.integers(100, 999))
def test_what_we_encode(heads, status):
    """Whatever the heads before it were: what is kept of them changes nothing."""
    for pairs in heads:
        block = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        coded = hpack.encode_status(status) + hpack.encode_block(block)
        expected = [(b":status", b"%d" % status), *((n.lower(), v) for n, v in pairs)]
        fields = law.Decoder().decode(coded, raw=True)
        assert [tuple(field) for field in fields] == expected
        secret = [type(field).__name__ == "NeverIndexedHeaderTuple" for field in fields]
        assert secret == [name == b"set-cookie" for name, _ in expected]
