"""Frames as bytes."""

import pytest

from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import Code, ConnectionFault, StreamFault


def test_frames_as_bytes():
    assert frames.frame(frames.PING, 0, 0, b"12345678") == b"\0\0\x08\x06\0\0\0\0\x0012345678"
    assert frames.rst_stream(5, Code.CANCEL) == b"\0\0\x04\x03\0\0\0\0\x05\0\0\0\x08"
    assert frames.window_update(1, 7) == b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x07"
    assert frames.goaway(3, Code.NO_ERROR, "x") == b"\0\0\x09\x07\0\0\0\0\0\0\0\0\x03\0\0\0\0x"
    assert frames.settings({3: 128}) == b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x80"


def cut(data: bytes) -> list[tuple[int, int, int, bytes]]:
    got, at = [], 0
    while at < len(data):
        high, low, kind, flags, number = frames.HEADER.unpack_from(data, at)
        stop = at + 9 + (high << 8 | low)
        got.append((kind, flags, number, data[at + 9 : stop]))
        at = stop
    return got


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 32768, 40000])
@pytest.mark.parametrize("ended", [False, True])
def test_long_payloads_are_cut(size, ended):
    payload = bytes(range(250)) * 160
    got = cut(frames.data(7, payload[:size], ended))
    assert b"".join(piece for *_, piece in got) == payload[:size]
    assert all(len(piece) <= 16384 for *_, piece in got)
    assert [flags for _, flags, _, _ in got] == [0] * (len(got) - 1) + [int(ended)]
    got = cut(frames.headers(7, payload[:size], ended))
    assert b"".join(piece for *_, piece in got) == payload[:size]
    assert [kind for kind, *_ in got] == [1] + [9] * (len(got) - 1)
    assert got[0][1] & 1 == ended
    assert [bool(flags & 4) for _, flags, _, _ in got] == [False] * (len(got) - 1) + [True]


def test_padding():
    assert frames.unpad(0, b"\x05abc") == b"\x05abc"
    assert frames.unpad(frames.PADDED, b"\x02abc\0\0") == b"abc"
    for payload, code in ((b"", Code.FRAME_SIZE_ERROR), (b"\x04abc", Code.PROTOCOL_ERROR)):
        with pytest.raises(ConnectionFault) as caught:
            frames.unpad(frames.PADDED, payload)
        assert caught.value.code is code


def test_dependency():
    frames.dependency(3, b"\x80\0\0\x05\0")
    with pytest.raises(StreamFault):
        frames.dependency(5, b"\x80\0\0\x05\0")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (bytes(5), Code.FRAME_SIZE_ERROR),
        (b"\0\2\0\0\0\2", Code.PROTOCOL_ERROR),
        (b"\0\4\x80\0\0\0", Code.FLOW_CONTROL_ERROR),
        (b"\0\5\0\0\0\1", Code.PROTOCOL_ERROR),
        (b"\0\5\1\0\0\0", Code.PROTOCOL_ERROR),
        (b"\0\x08\0\0\0\2", Code.PROTOCOL_ERROR),
    ],
)
def test_settings_that_are_wrong(payload, code):
    with pytest.raises(ConnectionFault) as caught:
        frames.parse_settings(payload)
    assert caught.value.code is code


def test_settings_that_are_right():
    payload = b"\0\2\0\0\0\1\0\4\x7f\xff\xff\xff\0\5\0\xff\xff\xff\x77\x77\0\0\0\1\0\x08\0\0\0\1"
    assert frames.parse_settings(payload) == [
        (2, 1), (4, 2**31 - 1), (5, 2**24 - 1), (0x7777, 1), (8, 1),
    ]  # fmt: skip
