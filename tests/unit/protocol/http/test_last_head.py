"""Heads that repeat: read once, wherever in the bytes they come again, and kept only if they do."""

from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.last_head import AGAIN, TRIES, LastHead
from rawproxy.protocol.http1.parser import parse_request


def raw(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number


def keep(last: LastHead[RequestHead], number: int) -> RequestHead:
    head = parse_request(raw(number))
    last.keep(raw(number), 0, head, b"opening %d" % number)
    return head


def test_the_last_one_is_known_again_wherever_it_stands():
    last: LastHead[RequestHead] = LastHead()
    assert last.again(raw(1), 0) is None
    head = keep(last, 1)
    assert last.again(raw(1), 0) is head and last.opening == b"opening 1"
    assert last.again(raw(1) + raw(2), 0) is head
    assert last.again(b"before" + raw(1) + b"behind", 6) is head
    assert last.again(raw(2), 0) is None, "of the same length"
    assert last.again(raw(1)[:-1], 0) is None and last.again(b"", 0) is None
    assert last.again(raw(1), 1) is None


def test_it_is_cut_out_of_what_stands_around_it():
    last: LastHead[RequestHead] = LastHead()
    last.keep(raw(3) + raw(1) + raw(2), len(raw(3)), parse_request(raw(1)))
    assert last.again(raw(1), 0) and not last.again(raw(1) + b"more", 1)


def test_where_none_is_like_the_one_before_none_is_kept_but_now_and_then():
    last: LastHead[RequestHead] = LastHead()
    for number in range(TRIES - 1):
        keep(last, number)
    assert last.again(raw(TRIES - 2), 0), "one that is like it begins the count anew"
    for number in range(TRIES):
        keep(last, number)
    assert last.head is None and last.opening == b""
    for number in range(AGAIN - TRIES - 1):
        keep(last, number)
        assert last.again(raw(number), 0) is None
    keep(last, 7)
    assert last.again(raw(7), 0)
