"""Body framing: rules 4 to 7 and 26, at every split."""

import pytest

from rawproxy.protocol.http1.body import (
    BodyError,
    ChunkedBody,
    CloseBody,
    LengthBody,
    encode_chunk,
    last_chunk,
)


def chunked() -> ChunkedBody:
    return ChunkedBody(64, 256)


def run(body, *parts: bytes) -> tuple[bytes, bytes | None]:
    """The payload of all parts, and what followed the body."""
    got = []
    for number, part in enumerate(parts):
        payload, rest = body.feed(part)
        got.append(payload)
        if rest is not None:
            return b"".join(got), rest + b"".join(parts[number + 1 :])
    return b"".join(got), None


def test_length():
    body = LengthBody(5)
    assert body.feed(b"abc") == (b"abc", None)
    with pytest.raises(BodyError, match="2 bytes are missing"):
        body.eof()
    assert body.feed(b"deGET") == (b"de", b"GET")
    body.eof()
    assert LengthBody(2).feed(b"ab") == (b"ab", b"")
    assert LengthBody(0).feed(b"x") == (b"", b"x")


def test_until_close():
    body = CloseBody()
    assert body.feed(b"abc") == (b"abc", None)
    body.eof()


WHOLE = [
    (b"0\r\n\r\n", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n", b"0123456789" * 2, b""),
    (b'1;a=b; c="d \t\xff"\r\nx\r\n0;last\r\n\r\n', b"x", b""),
    (
        b"1\r\nx\r\n0\r\nX-Sum: 1\r\nB:  two words \t\r\nE:\r\n\r\n",
        b"x",
        b"X-Sum: 1\r\nB: two words\r\nE: \r\n",
    ),
    (
        b"0\r\nContent-Length: 5\r\nX-Forwarded-For: a\r\nGood: g\r\nSet-Cookie: a\r\n\r\n",
        b"",
        b"Good: g\r\n",
    ),
]


@pytest.mark.parametrize(("raw", "payload", "trailers"), WHOLE)
def test_chunked_at_every_split(raw, payload, trailers):
    for cut in range(len(raw) + 1):
        body = chunked()
        got, rest = run(body, *[part for part in (raw[:cut], raw[cut:] + b"next") if part])
        assert (got, rest, body.trailers) == (payload, b"next", trailers)
    body = chunked()
    assert run(body, *[raw[i : i + 1] for i in range(len(raw))]) == (payload, b"")
    assert body.trailers == trailers


BROKEN = [
    b"0x5\r\nhello\r\n", b"5_0\r\n", b"+5\r\n", b"-1\r\n", b" 5\r\n", b"5 \r\nhello\r\n", b"5 ;a\r\nhello\r\n", b"\r\n", b"g\r\n",
    b"1" * 16 + b"\r\n", b"5\nhello\r\n", b"5\rXhello\r\n", b"5;a\nhello\r\n", b"5;a\x00b\r\n", b"5;a\rb\r\n",
    b"5\r\nhelloX\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\rX", b"5\r\nhelloworld\r\n",
    b"5;" + b"a" * 80, b"5;" + b"a" * 80 + b"\r\n",
    b"0\r\nX : y\r\n\r\n", b"0\r\n folded\r\n\r\n", b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\nnonsense\r\n\r\n",
    b"0\r\nTransfer-Encoding:\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nContent-Length: x\r\n\r\n", b"0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"0\r\nX: a\x00b\r\n\r\n", b"0\r\nX: a\nY: b\r\n\r\n", b"0\r\nX: a\rb\r\n\r\n", b"0\r\nX: " + b"a" * 300,
    b"0\r\nX: " + b"a" * 300 + b"\r\n\r\n", b"0\r\n\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", BROKEN)
def test_broken_chunks_are_refused_at_every_split(raw):
    for parts in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        with pytest.raises(BodyError):
            run(chunked(), *parts)


def test_extensions_are_bounded_in_total():
    body = chunked()
    body.feed((b"1;" + b"a" * 50 + b"\r\nx\r\n") * 2000)
    with pytest.raises(BodyError, match="extensions"):
        body.feed(b"")


def test_so_many_chunks_at_a_time():
    body = chunked()
    raw = b"1\r\nx\r\n" * 5000 + b"0\r\n\r\nnext"
    payload, rest = body.feed(raw)
    got, turns = payload, 1
    assert len(payload) < 2000
    while body.more:
        assert rest is None
        payload, rest = body.feed(b"")
        got, turns = got + payload, turns + 1
    assert (got, rest) == (b"x" * 5000, b"next")
    assert turns > 3


def test_a_chunked_body_has_an_end_of_its_own():
    body = chunked()
    body.feed(b"5\r\nhello\r\n")
    with pytest.raises(BodyError):
        body.eof()


def test_encoding():
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert last_chunk(b"") == b"0\r\n\r\n"
    assert last_chunk(b"A: b\r\n") == b"0\r\nA: b\r\n\r\n"


PADDED = b"5  \r\nhello\r\n1\t;a=b\r\n!\r\n0 \r\nA: b\r\n\r\nGET"


def test_rule_43_blanks_behind_a_size_where_they_are_tolerated():
    for cut in range(len(PADDED)):
        body = ChunkedBody(4096, 4096, padded=True)
        payload, rest = body.feed(PADDED[:cut])
        more, rest = body.feed(PADDED[cut:]) if rest is None else (b"", rest + PADDED[cut:])
        assert (payload + more, rest, body.trailers) == (b"hello!", b"GET", b"A: b\r\n")
        if cut > 3:
            with pytest.raises(BodyError):
                ChunkedBody(4096, 4096).feed(PADDED[:cut])


def broken(parts: list[bytes]) -> bool:
    body = ChunkedBody(4096, 4096, padded=True)
    try:
        for part in parts:
            body.feed(part)
    except BodyError:
        return True
    return False


@pytest.mark.parametrize(
    "line", [b" 5", b"5 5", b"\t5", b"5 h", b"5 \x0b", b"5 \n", b"5 \r", b"5 \0", b"0x5 ", b"+5 "]
)
def test_rule_43_no_others(line):
    for cut in range(len(line)):
        assert broken([line[:cut], line[cut:] + b"\r\nhello\r\n0\r\n\r\n"])


def test_rule_43_blanks_are_bounded_in_a_line_and_not_in_total():
    """A camera may pad every size for days."""
    body = ChunkedBody(100, 100, padded=True)
    for _ in range(2000):
        assert body.feed(b"1%b\r\nx\r\n" % (b" " * 60)) == (b"x", None)
    for blanks in (b" " * 200, b" " * 200 + b"\r\nx\r\n"):
        with pytest.raises(BodyError, match="100 bytes"):
            ChunkedBody(100, 100, padded=True).feed(b"1" + blanks)


PLAIN = b"5\r\nhello\r\n1A\r\n" + b"x" * 26 + b"\r\n"


@pytest.mark.parametrize(
    ("raw", "passes", "inside", "ended"),
    [
        (b"", 0, 0, False),
        (PLAIN, len(PLAIN), 31, False),
        (PLAIN + b"0\r\n\r\n", len(PLAIN) + 5, 31, True),
        (PLAIN + b"0\r\n\r\nGET / HT", len(PLAIN) + 5, 31, True),
        (b"0\r\n\r\n", 5, 0, True),
        # What is not whole.
        (PLAIN[:-1], 10, 5, False),
        (PLAIN[:-2], 10, 5, False),
        (b"5\r\nhell", 0, 0, False),
        (b"5\r\n\r\n", 0, 0, False),
        (b"12345678\r", 0, 0, False),
        (PLAIN + b"0\r\n", len(PLAIN), 31, False),
        # What has more to say, or says it in another way.
        (b"5;a=b\r\nhello\r\n", 0, 0, False),
        (b"05\r\nhello\r\n", 0, 0, False),
        (b"5 \r\nhello\r\n", 0, 0, False),
        (b"00\r\n\r\n", 0, 0, False),
        (PLAIN + b"0\r\nA: b\r\n\r\n", len(PLAIN), 31, False),
        # What is wrong: `feed` says so.
        (b"5\r\nhello!!0\r\n", 0, 0, False),
        (b"5\r\nhello\r!0\r\n", 0, 0, False),
        (b"5\r\nhello\n\n0\r\n", 0, 0, False),
        (b"5\n\nhello\r\n0\r\n", 0, 0, False),
        (b"5\r!hello\r\n0\r\n", 0, 0, False),
        (b"x\r\nhello\r\n", 0, 0, False),
        (b"123456789abcdef0\r\nhello\r\n", 0, 0, False),
        (b"\r\nhello\r\n", 0, 0, False),
    ],
)
def test_whole_chunks_may_pass_as_they_came(raw, passes, inside, ended):
    body = chunked()
    assert body.whole(raw, 0) == passes
    assert (body.inside, body.ended) == (inside, ended)
    assert body.whole(b"head" + raw, 4) == 4 + passes


def test_no_chunk_passes_within_another_one_or_a_line():
    body = chunked()
    assert body.feed(b"5\r\nhe") == (b"he", None)
    assert body.whole(PLAIN, 0) == 0
    assert body.feed(b"llo\r\n1") == (b"llo", None)
    assert body.whole(PLAIN, 0) == 0
    assert body.feed(b"\r\nx\r\n") == (b"x", None)
    assert body.whole(PLAIN, 0) == len(PLAIN)


def test_so_many_chunks_pass_at_a_time():
    body = chunked()
    assert body.whole(b"1\r\nx\r\n" * 5000, 0) == 1024 * 6
