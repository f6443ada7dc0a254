"""The access log and its escaping."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.record import Counters, Entry, basic_user, combined, escape, stamp

ENTRY = Entry(b"192.0.2.1", b"", b"GET", b"/a?b", b"HTTP/1.1", 200, 12, b"", b"curl/8")


def test_combined():
    assert combined(ENTRY, b"24/Nov/2026:03:00:00 +0000") == (
        b'192.0.2.1 - - [24/Nov/2026:03:00:00 +0000] "GET /a?b HTTP/1.1" 200 12 "-" "curl/8"\n'
    )
    full = ENTRY._replace(user=b"bob", referer=b'"\\\n', remote=b"")
    assert combined(full, b"S").startswith(b"- - bob [S] ")
    assert rb'"\x22\x5C\x0A"' in combined(full, b"S")


@given(st.binary(), st.binary(), st.binary())
def test_a_line_is_one_line_and_its_quotes_are_ours(target, referer, agent):
    line = combined(ENTRY._replace(target=target, referer=referer, agent=agent), b"S")
    assert line.count(b"\n") == 1
    assert line.count(b'"') == 6
    assert line.isascii()


def test_escape():
    assert escape(b"plain") == b"plain"
    assert escape(b"\x00\xff") == rb"\x00\xFF"


@pytest.mark.parametrize(
    ("now", "offset", "text"),
    [
        (0, 0, b"01/Jan/1970:00:00:00 +0000"),
        (1795489200.9, 3600, b"24/Nov/2026:04:00:00 +0100"),
        (0, -12600, b"31/Dec/1969:20:30:00 -0330"),
    ],
)
def test_stamp(now, offset, text):
    assert stamp(now, offset) == text


def test_basic_user():
    assert basic_user(b"Basic " + base64.b64encode(b"bob:secret:x")) == b"bob"
    assert basic_user(b"Bearer abc") == b""
    assert basic_user(b"Basic !!!") == b""


def test_counters_start_at_nought():
    counters = Counters()
    assert (counters.requests, counters.retries, counters.tunnels) == (0, 0, 0)
