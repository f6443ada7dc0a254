"""Where WebSocket frames end, however the bytes are cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from rawproxy.protocol.websocket.frames import RESTART, Tracker, close_frame

MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = False) -> bytes:
    size = len(payload)
    second = 128 if mask else 0
    if size < 126:
        head = bytes([fin << 7 | opcode, second | size])
    elif size < 1 << 16:
        head = struct.pack("!BBH", fin << 7 | opcode, second | 126, size)
    else:
        head = struct.pack("!BBQ", fin << 7 | opcode, second | 127, size)
    if mask:
        payload = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return head + (MASK if mask else b"") + payload


def places(stream: list[bytes]) -> dict[int, tuple[bool, bool]]:
    """Every frame's end: whether a message is under way there, and whether Close has been."""
    found, at, fragmented, closed = {0: (False, False)}, 0, False, False
    for one in stream:
        at += len(one)
        opcode, fin = one[0] & 15, bool(one[0] & 128)
        if opcode < 8:
            fragmented = not fin
        closed = closed or opcode == 8
        found[at] = (fragmented, closed)
    return found


frames = st.builds(
    frame,
    st.sampled_from([0, 1, 2, 8, 9, 10]),
    st.one_of(st.binary(max_size=20), st.sampled_from([b"x" * n for n in (125, 126, 200, 65536)])),
    fin=st.booleans(),
    mask=st.booleans(),
)


@given(st.lists(frames, max_size=8), st.data())
def test_cut_anywhere_it_knows_where_it_is(stream, data):
    whole, known = b"".join(stream), places(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    tracker = Tracker()
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        tracker.feed(whole[begin:end])
        at_end = not tracker.left and tracker.stop(b"", whole=False) == 0
        assert at_end == (end in known)
        if at_end:
            assert (tracker.fragmented, tracker.closed) == known[end]


@given(st.lists(frames, max_size=8), st.data(), st.booleans())
def test_it_stops_at_the_first_place_there_is(stream, data, whole):
    bytes_, known = b"".join(stream), places(stream)
    begin = data.draw(st.integers(0, len(bytes_)))
    tracker = Tracker()
    tracker.feed(bytes_[:begin])
    good = [
        at - begin for at, (inside, _) in known.items() if at >= begin and not (whole and inside)
    ]
    assert tracker.stop(bytes_[begin:], whole=whole) == min(good, default=-1)


def test_byte_by_byte():
    stream = [frame(2, b"x" * 300, fin=False, mask=True), frame(9, b"p"), frame(0, b"y" * 70000)]
    tracker, known = Tracker(), places(stream)
    for at, byte in enumerate(b"".join(stream), 1):
        tracker.feed(bytes([byte]))
        assert (tracker.stop(b"", whole=False) == 0) == (at in known)
    assert not tracker.fragmented


@pytest.mark.parametrize("mask", [b"", MASK])
def test_a_close_frame_is_one(mask):
    made = close_frame(RESTART, mask)
    assert made[0] == 0x88
    payload = made[2 + len(mask) :]
    if mask:
        assert made[1] == 0x80 | len(payload)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    assert Close.parse(payload) == Close(1012, "service restart")
    expected = Frame(Opcode.CLOSE, Close(1012, "service restart").serialize())
    assert mask or made == expected.serialize(mask=False)
    tracker = Tracker()
    tracker.feed(made)
    assert tracker.closed


def test_it_says_where_it_is():
    tracker = Tracker()
    tracker.feed(frame(1, b"abc", fin=False)[:-1])
    assert repr(tracker) == "<Tracker left=1 fragmented=True closed=False>"


def test_a_chunk_of_thousands_of_frames():
    """Of every way to write their lengths, whole and then cut anywhere in the last one."""
    for size in (0, 125, 126, 300, 70_000):
        for mask in (False, True):
            many = frame(1, b"a" * size, mask=mask) * 20 + frame(1, b"b", fin=False)
            for cut in range(len(many) - 20, len(many) + 1):
                tracker = Tracker()
                tracker.feed(many[:cut])
                tracker.feed(many[cut:])
                assert (tracker.left, tracker.fragmented, tracker.closed) == (0, True, False)
