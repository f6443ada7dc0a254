"""Numbers of streams: what may come on which (RFC 9113 5.1, 5.1.1)."""

import pytest

from rawproxy.protocol.http2.frames import Code, ConnectionFault
from rawproxy.protocol.http2.stream_numbers import MOST, StreamNumbers


def refused(numbers: StreamNumbers, number: int, what: str = "DATA") -> Code | None:
    try:
        numbers.late(number, what)
    except ConnectionFault as fault:
        return fault.code
    return None


@pytest.fixture
def numbers():
    numbers = StreamNumbers()
    for number in (1, 3, 9, 11):
        numbers.begin(number)
    return numbers


@pytest.mark.parametrize("what", ["DATA", "HEADERS"])
def test_idle_closed_and_reset(numbers, what):
    assert [refused(numbers, one, what) for one in (1, 9, 11)] == [Code.STREAM_CLOSED] * 3
    assert [refused(numbers, one, what) for one in (2, 13, 12)] == [Code.PROTOCOL_ERROR] * 3
    assert [numbers.idle(one) for one in (1, 2, 7, 12, 13)] == [False, True, False, True, True]
    numbers.reset(9)
    assert [refused(numbers, one, what) for one in (9, 11)] == [None, Code.STREAM_CLOSED]


def test_numbers_that_were_passed_over_cannot_begin_any_more(numbers):
    assert [refused(numbers, one, "HEADERS") for one in (5, 7)] == [Code.PROTOCOL_ERROR] * 2
    assert [refused(numbers, one, "DATA") for one in (5, 7)] == [Code.STREAM_CLOSED] * 2
    first = StreamNumbers()
    first.begin(5)
    assert [refused(first, one, "HEADERS") for one in (1, 3)] == [Code.PROTOCOL_ERROR] * 2


def test_an_even_number_begins_nothing(numbers):
    with pytest.raises(ConnectionFault, match="even"):
        numbers.begin(14)
    assert numbers.last == 11


def test_what_is_kept_is_bounded():
    numbers = StreamNumbers()
    for number in range(1, 12 * MOST, 6):
        numbers.begin(number)
        numbers.reset(number)
    assert len(numbers.gaps) == len(numbers.resets) == MOST
    assert refused(numbers, number) is None
    assert refused(numbers, 1) is Code.STREAM_CLOSED
    assert refused(numbers, number - 2, "HEADERS") is Code.PROTOCOL_ERROR
