"""Heads as objects: what two of them have to share to be the same, and copies with other facts."""

import pytest

from rawproxy.protocol.http.message import RequestHead, ResponseHead

REQUEST = RequestHead(
    b"POST", b"/a", 1, b"Host: h\r\nA: 1\r\n", [(4, 0, 9)], 5, True, b"", True, b"h", (b"x",), 70,
    (b"agent", None, None), b"h2c", True,
)  # fmt: skip
RESPONSE = ResponseHead(
    200, b"HTTP/1.1 200 OK\r\n", 1, b"A: 1\r\n", [], -1, False, b"", True, (), 30
)


def another(value):
    """Of the same type: compiled code holds attributes to theirs."""
    return not value if isinstance(value, bool) else value + value if value else type(value)(b"?")


@pytest.mark.parametrize("head", [REQUEST, RESPONSE])
def test_a_copy_differs_in_what_was_changed_and_in_nothing_else(head):
    before = repr(head)
    for name in head.FIELDS:
        value = None if name == "told" else another(getattr(head, name))
        other = head._replace(**{name: value})
        assert other != head and getattr(other, name) == value
        assert other._replace(**{name: getattr(head, name)}) == head
    assert head._replace() == head and head._replace() is not head
    assert repr(head) == before and "another" in repr(head._replace(block=b"another"))
    assert head != REQUEST._replace(size=1) and head != RESPONSE._replace(size=1) and head != "a"


def test_a_request_for_another_target():
    assert REQUEST.to(b"/b") == REQUEST._replace(target=b"/b") != REQUEST
    assert (REQUEST.value(b"a"), RESPONSE.value(b"a"), RESPONSE.value(b"b")) == (b"1", b"1", b"")
