"""The queue of bytes that wait to be written as records."""

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.net.tls_outbox import RECORD, Outbox


def test_small_pieces_make_one_record():
    box = Outbox()
    for number in range(100):
        box.add(b"%03d" % number)
    whole = b"".join(b"%03d" % number for number in range(100))
    assert box.size == 300
    assert box.head() == whole
    box.advance(300)
    assert box.size == 0


def test_a_large_piece_is_not_copied():
    box = Outbox()
    large = bytes(5 * RECORD)
    box.add(b"small")
    box.add(large)
    assert len(box.head()) == RECORD
    box.advance(RECORD)
    rest = box.head()
    assert isinstance(rest, memoryview) and rest.obj is large
    assert box.size == len(rest) == 4 * RECORD + 5


@given(
    st.lists(st.integers(1, 3 * RECORD), min_size=1, max_size=8), st.randoms(use_true_random=False)
)
def test_order_is_kept_and_what_was_offered_is_offered_again(sizes, random):
    box, out, offered, expected = Outbox(), bytearray(), b"", bytearray()
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        expected += piece
        box.add(piece)
        head = bytes(box.head())
        assert head[: len(offered)] == offered[: len(head)] and len(head) >= min(len(offered), 1)
        sent = random.choice((0, 0, 1, len(head)))
        box.advance(sent)
        out += head[:sent]
        offered = head[sent:]
    while box.size:
        head = bytes(box.head())
        assert head.startswith(offered)
        assert len(head) >= min(RECORD, box.size)
        box.advance(len(head))
        out += head
        offered = b""
    assert out == expected
