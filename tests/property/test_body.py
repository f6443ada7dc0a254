"""Bodies: split anywhere is the same as whole, and nothing is accepted that h11 refuses."""

import h11
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.protocol.http1.body import (
    BodyError,
    ChunkedBody,
    LengthBody,
    encode_chunk,
    last_chunk,
)

payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
extensions = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])
trailers = st.lists(
    st.sampled_from([b"A: b\r\n", b"C:d\r\n", b"E: \r\n", b"Host: x\r\n"]), max_size=3
)


@st.composite
def bodies(draw, after=extensions):
    """A chunked body as others write them."""
    raw = b""
    for payload in draw(payloads):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(payload)
        raw += size + draw(after) + b"\r\n" + payload + b"\r\n"
    return raw + b"0" + draw(after) + b"\r\n" + b"".join(draw(trailers)) + b"\r\n"


def pieces(data, raw):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]


def ours(parts, padded=False):
    """Payload, rest and trailers, or None where the body was refused."""
    body = ChunkedBody(4096, 4096, padded=padded)
    got = b""
    try:
        for number, part in enumerate(parts):
            payload, rest = body.feed(part)
            got += payload
            if rest is not None:
                return got, rest + b"".join(parts[number + 1 :]), body.trailers
    except BodyError:
        return None
    return got, None, b""


def passed(parts, padded=False):
    """What a sender of chunks writes of them: those that `whole` passes by as they came."""
    body = ChunkedBody(4096, 4096, padded=padded)
    out = b""
    inside = 0
    for number, part in enumerate(parts):
        at = body.whole(part, 0)
        out += part[:at]
        inside += body.inside
        if body.ended:
            return out, inside, part[at:] + b"".join(parts[number + 1 :])
        if at == len(part):
            continue
        payload, rest = body.feed(part[at:])
        out += encode_chunk(payload) if payload else b""
        inside += len(payload)
        if rest is not None:
            return out + last_chunk(body.trailers), inside, rest + b"".join(parts[number + 1 :])
    return out, inside, None


def law(raw):
    """What h11 makes of it."""
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    conn.next_event()
    got = b""
    try:
        conn.receive_data(raw)
        while True:
            event = conn.next_event()
            if isinstance(event, h11.Data):
                got += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return got, conn.trailing_data[0]
            else:
                return got, None
    except h11.RemoteProtocolError:
        return None


@given(bodies(), st.data())
def test_split_anywhere_is_whole(raw, data):
    whole = ours([raw + b"GET"])
    assert whole is not None
    assert whole[1] == b"GET"
    assert ours(pieces(data, raw + b"GET")) == whole
    assert whole[:2] == law(raw + b"GET")


@given(bodies(st.sampled_from([b"", b" ", b"\t", b"   ", b";a", b" ;a"])), st.data())
def test_rule_43_padded_sizes_read_as_plain_ones(raw, data):
    """Where they are tolerated, and as h11 reads them where it does."""
    whole = ours([raw + b"GET"], padded=True)
    assert whole is not None and whole[1] == b"GET"
    assert ours(pieces(data, raw + b"GET"), padded=True) == whole
    if b" ;" not in raw:  # RFC 9112 7.1.1 has blanks there, h11 has not
        assert law(raw + b"GET") == whole[:2]
    strict = ours([raw + b"GET"])
    assert strict is None or strict == whole


@given(bodies(), st.data())
def test_a_broken_body_is_never_read_otherwise_than_h11_reads_it(raw, data):
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        new = data.draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n", b"0", b" ", b";"]))
        )
        changed[at : at + data.draw(st.integers(0, 2))] = new
    judged = law(bytes(changed))
    for got in (ours([bytes(changed)]), ours(pieces(data, bytes(changed)))):
        if got is not None and got[1] is not None:
            assert judged == got[:2]
        elif got is not None and judged is not None:
            assert judged[0].startswith(got[0])


@given(st.lists(st.binary(max_size=50)), st.data())
def test_what_we_write_we_read(payload, data):
    raw = b"".join(encode_chunk(part) for part in payload if part) + last_chunk(b"A: b\r\n")
    assert ours(pieces(data, raw)) == (b"".join(payload), b"", b"A: b\r\n")


@given(st.integers(0, 100), st.binary(max_size=120), st.data())
def test_length_split_anywhere(length, raw, data):
    body = LengthBody(length)
    got = b""
    parts = pieces(data, raw)
    for number, part in enumerate(parts):
        payload, rest = body.feed(part)
        got += payload
        if rest is not None:
            assert rest + b"".join(parts[number + 1 :]) == raw[length:]
            break
    assert got == raw[:length]


@given(st.data(), bodies(), st.binary(max_size=10))
def test_chunks_that_pass_as_they_came_mean_the_same(data, raw, behind):
    whole = ours([raw])
    out, inside, rest = passed(pieces(data, raw + behind), padded=data.draw(st.booleans()))
    assert ours([out]) == whole
    assert (inside, rest) == (len(whole[0]), behind)


@given(st.data(), bodies(), st.binary(max_size=10))
def test_what_is_no_chunk_is_refused_as_ever(data, raw, junk):
    """`whole` passes nothing by that `feed` would refuse."""
    at = data.draw(st.integers(0, len(raw)))
    wrong = raw[:at] + junk + raw[at:]
    body = ChunkedBody(4096, 4096)
    stop = body.whole(wrong, 0)
    payload, rest = ChunkedBody(4096, 4096).feed(wrong[:stop])
    assert len(payload) == body.inside
    assert (rest is not None) == body.ended
    again = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in [payload] if one)
    assert law(wrong[:stop] + (b"" if body.ended else b"0\r\n\r\n")) == law(again + b"0\r\n\r\n")
