"""A request like the last one: read by its path alone, and never otherwise than in whole."""

import hpack as law
import hypothesis
import pytest
from hypothesis import strategies as st

from rawproxy.config.model import Limits
from rawproxy.errors import ClientError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http2.frames import StreamFault
from rawproxy.protocol.http2.header_reader import HeaderReader
from rawproxy.protocol.http2.hpack import FieldsTooLarge, HpackError

CONTEXT = rewrite.context(b"::1", b"https", False, False, None)
# :method GET, :scheme https, :authority h (kept), :path as a literal that is not kept, accept.
HEAD, REST = b"\x82\x87\x41\x01h", b"\x53\x03*/*"
AGAIN, TAIL = b"\x82\x87\xbf", b"\xbe"


def path(text: bytes) -> bytes:
    return b"\x04" + bytes((len(text),)) + text


def primed(limits: Limits | None = None) -> HeaderReader:
    reader = HeaderReader(limits or Limits())
    read(reader, HEAD + path(b"/a") + REST)
    _, opening = read(reader, AGAIN + path(b"/b") + TAIL)
    assert not opening
    assert reader.known is not None
    return reader


def read(reader: HeaderReader, block: bytes, ended: bool = True):
    """As the front does; whether the short way was taken."""
    head, opening = reader.request(block, ended)
    if not opening:
        reader.remember(block, head, rewrite.request(head, CONTEXT, b""))
    return head, opening


def test_the_short_way():
    reader = primed()
    head, opening = read(reader, AGAIN + path(b"/other?x=1") + TAIL)
    assert (head.target, head.host, head.block) == (
        b"/other?x=1",
        b"h",
        b"Host: h\r\naccept: */*\r\n",
    )
    assert opening == rewrite.request(head, CONTEXT, b"")
    assert opening.startswith(b"GET /other?x=1 HTTP/1.1\r\nHost: h\r\n")


@pytest.mark.parametrize(
    "block",
    [
        b"\x82\x87\xbf" + b"\x84" + TAIL,  # a reference where the literal was
        AGAIN + path(b"/c") + TAIL + TAIL,
        AGAIN + path(b"/c"),
        AGAIN + b"\x44\x02/c" + b"\xbf",  # a literal to keep
        AGAIN + b"\x10\x01x\x01y" + path(b"/c") + TAIL,
        b"\x82\x87\xbf" + TAIL,
        b"\x82\x82" + path(b"/c") + TAIL,
        AGAIN + path(b"/a b") + TAIL,
        AGAIN + path(b"nothing") + TAIL,
        AGAIN + b"\x04\x7f" + TAIL,
        AGAIN + b"\x0f\x00\x01*" + TAIL,
        AGAIN + b"\x00\x05:path\x02/c" + TAIL,
        AGAIN + b"\x05\x02/c" + TAIL,
        AGAIN + b"\x14\x02/c" + TAIL,
        AGAIN + b"\x04\x82\x60\xff" + TAIL,  # Huffman-coded, with a padding that is none
        AGAIN + b"\x04\x82\x60\x97" + TAIL,
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_whatever_is_read_is_what_the_long_way_reads(block, ended):
    """The same reader, once with its memory and once without."""
    short, long = primed(), primed()
    long.known = None
    outcomes = []
    for reader in (short, long):
        try:
            head, _ = reader.request(block, ended)
            outcomes.append(head)
        except (ClientError, StreamFault, HpackError) as error:
            outcomes.append((type(error), str(error)))
        outcomes.append([entry for entry, _, _ in reader.decoder.table])
    assert outcomes[:2] == outcomes[2:]


@hypothesis.given(st.lists(st.sampled_from([b"/a", b"/b", b"/a" * 40, b"x", b"/c d"]), max_size=6))
def test_a_real_encoder(paths):
    encoder, short, long = law.Encoder(), HeaderReader(Limits()), HeaderReader(Limits())
    for one in paths:
        fields = [law.HeaderTuple(b":method", b"GET"), law.HeaderTuple(b":scheme", b"https"),
                  law.HeaderTuple(b":authority", b"h"), law.NeverIndexedHeaderTuple(b":path", one),
                  law.HeaderTuple(b"accept", b"*/*")]  # fmt: skip
        block = encoder.encode(fields)
        long.known = None
        try:
            expected = read(long, block)[0]
        except ClientError:
            with pytest.raises(ClientError):
                read(short, block)
            continue
        assert read(short, block)[0] == expected


def test_a_path_may_be_as_long_as_the_limit_allows():
    for limit in (299, 300, 301):
        reader, long = primed(Limits(head=limit)), primed(Limits(head=limit))
        long.known = None
        for size in range(60, 100):
            block = AGAIN + path(b"/" * size) + TAIL
            outcomes = []
            for one in (reader, long):
                try:
                    outcomes.append(one.request(block, True)[0])
                except FieldsTooLarge as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], str)


def test_limits_hold_on_the_short_way():
    reader = primed(Limits(head=300))
    with pytest.raises(FieldsTooLarge):
        reader.request(
            AGAIN + b"\x04\x7f\x49" + b"/" + bytes(199).replace(b"\0", b"a") + TAIL, True
        )


def test_a_target_that_is_not_in_the_opening():
    reader = primed()
    head, _ = reader.request(AGAIN + path(b"/x") + TAIL, False)
    reader.decoder.decode(AGAIN + path(b"/x") + TAIL)
    reader.remember(AGAIN + path(b"/x") + TAIL, head, b"GET /y HTTP/1.1\r\n\r\n")
    assert reader.known is None


def test_other_blocks():
    reader = primed()
    assert [name for _, name, _, _ in reader.decode(b"\x00\x01a\x01b")] == [b"a"]
    with pytest.raises(HpackError):
        reader.decode(b"\x80")
