"""OPTIONS and TRACE: who forwards them how often, and what is said where they end."""

import pytest

from rawproxy.errors import ClientError
from rawproxy.protocol.http import last_hop, rewrite
from rawproxy.protocol.http1.parser import parse_request, reference_request

CONTEXT = rewrite.context(b"192.0.2.1", b"https", False, False, None)


def head(method: bytes, *lines: bytes, parse=parse_request):
    lines = (b"%b /a?b HTTP/1.1" % method, b"Host: h", *lines)
    return parse(b"\r\n".join(lines) + b"\r\n\r\n")


@pytest.mark.parametrize("parse", [parse_request, reference_request])
@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ((), -1),
        ((b"X-Max-Forwards: 5",), -1),
        ((b"Max-Forwards: 0",), 0),
        ((b"Max-Forwards: 00",), 0),
        ((b"max-forwards:  7 ",), 7),
        ((b"Max-Forwards: 1001",), 1000),
        ((b"Max-Forwards: " + b"9" * 500,), 1000),
    ],
)
def test_how_far_it_may_go(lines, left, parse):
    assert last_hop.left(head(b"OPTIONS", *lines, parse=parse), False) == left
    assert last_hop.left(head(b"TRACE", *lines, parse=parse), True) == left


@pytest.mark.parametrize(
    "lines",
    [
        (b"Max-Forwards: ",), (b"Max-Forwards: -1",), (b"Max-Forwards: 1, 1",),
        (b"Max-Forwards: 0x1",), (b"Max-Forwards: \xb2",), (b"Max-Forwards: 5", b"MAX-FORWARDS: 5"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(lines):
    with pytest.raises(ClientError) as caught:
        last_hop.left(head(b"OPTIONS", *lines), False)
    assert caught.value.status == 400


@pytest.mark.parametrize("lines", [(), (b"Max-Forwards: 0",), (b"Max-Forwards: x",)])
def test_trace_is_refused_unless_it_is_allowed(lines):
    with pytest.raises(ClientError) as caught:
        last_hop.left(head(b"TRACE", *lines), False)
    assert caught.value.status == 405


def test_the_count_goes_on():
    asked = head(b"OPTIONS", b"Max-Forwards: 8", b"X: y")
    opening = last_hop.counted(rewrite.request(asked, CONTEXT, b"up"), 7)
    again = parse_request(opening)
    assert again == reference_request(opening)
    assert again.value(b"max-forwards") == b"7" and again.value(b"x") == b"y"
    assert again.block.lower().count(b"max-forwards") == 1
    assert again.value(b"x-forwarded-for") == b"192.0.2.1"


def test_the_answer_of_the_last_one():
    lines, body = last_hop.answer(head(b"OPTIONS"), False)
    assert lines.startswith(b"Allow: GET, ") and b"TRACE" not in lines and not body
    assert b"TRACE" in last_hop.answer(head(b"OPTIONS"), True).lines
    secrets = (b"Cookie: a", b"AUTHORIZATION: b", b"Proxy-Authorization: c", b"Client-Cert: d")
    lines, body = last_hop.answer(head(b"TRACE", b"X: y", *secrets, b"Z: z"), True)
    assert b"Content-Type: message/http\r\n" in lines
    assert body == b"TRACE /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\nZ: z\r\n\r\n"
