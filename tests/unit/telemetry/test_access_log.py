"""The access log and its escaping."""

import base64
import contextlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.errors import ClientError
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http1.parser import parse_request, reference_request
from rawproxy.protocol.http2.fields import MALFORMED, field
from rawproxy.telemetry.access_log import (
    FORMATS,
    Counters,
    basic_user,
    escape,
    iso_stamp,
    lines,
    stamp,
)
from rawproxy.telemetry.counters import Tally
from rawproxy.telemetry.facts import Facts
from rawproxy.telemetry.masks import Masks

CONTEXT = context(b"192.0.2.1", b"https", False, False, None)._replace(tls=b"TLSv1.3")
HEAD = parse_request(b"GET /a?b HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\n\r\n")
STAMP = b"24/Nov/2026:03:00:00 +0000"


UPSTREAM = b"https://up:9443"


def combined(*exchange):
    return lines(FORMATS["combined"], [exchange[:3]], exchange[3])


def extended(*exchange):
    return lines(FORMATS["extended"], [exchange[:3]], exchange[3])


def as_json(*exchange):
    return lines(FORMATS["json"], [exchange[:3]], exchange[3])


def facts(**known) -> Facts:
    one = Facts(b"i" * 32, 5.0, Tally(), UPSTREAM)
    given = {"dialled": 0.25, "first": 5.5, "ended": 6.0, "received": 7, "retries": 2}
    for name, value in (given | {"status": 200, "sent": 12} | known).items():
        setattr(one, name, value)
    return one


def request(*lines: bytes, target: bytes = b"/"):
    block = b"".join(line + b"\r\n" for line in lines)
    return HEAD._replace(target=target, block=b"Host: h\r\n" + block)


def test_combined():
    line = combined(HEAD, CONTEXT, facts(), STAMP)
    assert line == (
        b'192.0.2.1 - - [24/Nov/2026:03:00:00 +0000] "GET /a?b HTTP/1.1" 200 12 "-" "curl/8"\n'
    )
    user = b"authorization: Basic " + base64.b64encode(b"bob:x")
    full = combined(request(user, b'REFERER: "\\\t', b"User-agent: "), CONTEXT, facts(), b"S")
    assert full.startswith(b"192.0.2.1 - bob [S] ")
    assert full.endswith(rb'"\x22\x5C\x09" "-"' + b"\n")


def test_the_client_behind_a_trusted_peer():
    trusted = CONTEXT._replace(trusted=True)
    head = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n")
    assert combined(head, trusted, facts(), STAMP).startswith(b"198.51.100.7 - ")
    assert json.loads(as_json(head, trusted, facts(), STAMP))["client"] == "198.51.100.7"


def test_extended():
    line = extended(HEAD, CONTEXT, facts(), STAMP)
    assert line == combined(HEAD, CONTEXT, facts(), STAMP)[:-1] + (
        b" id=%b upstream=https://up:9443 connect_us=250000 first_us=500000 total_us=1000000"
        b" retries=2 tls=TLSv1.3 in=7\n" % (b"i" * 32)
    )
    bare = extended(HEAD, CONTEXT._replace(tls=b""), facts(id=b"", first=0.0, began=0.0), STAMP)
    assert bare.endswith(b" first_us=0 total_us=0 retries=2 tls=- in=7\n")
    odd = extended(request(target=b'/"'), CONTEXT, facts(), STAMP)
    assert rb"/\x22 HTTP" in odd and odd.count(b'"') == 6


def test_json():
    one = json.loads(as_json(HEAD, CONTEXT, facts(), iso_stamp(1795489200.9, 3600)))
    assert one == {
        "time": "2026-11-24T04:00:00+01:00", "id": "i" * 32, "client": "192.0.2.1", "user": "",
        "method": "GET", "scheme": "https", "host": "h", "target": "/a?b", "protocol": "HTTP/1.1",
        "tls": "TLSv1.3", "status": 200, "bytes_in": 7, "bytes_out": 12, "referer": "",
        "agent": "curl/8", "upstream": "https://up:9443", "connect_us": 250000, "first_us": 500000,
        "total_us": 1000000, "retries": 2,
    }  # fmt: skip


# What a head can hold, by either lane and over HTTP/2: see the test of that.
VALUES = st.text(alphabet=[chr(9), *map(chr, range(32, 127)), *map(chr, range(128, 256))]).map(
    lambda text: text.encode("latin-1")
)


@given(st.binary(), st.sampled_from([b"", b"\0", b"\n", b"\x1b", b"\x7f"]))
def test_a_head_has_no_control_character_but_the_tab(value, control):
    """`lines` need not look for them: no reader of heads lets them through."""
    value += control + b"v"
    for raw in (
        b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % value,
        b"GET / HTTP/1.1\r\nHost: h\r\nReferer: %b\r\n\r\n" % value,
    ):
        for read in parse_request, reference_request:
            with contextlib.suppress(ClientError):
                head = read(raw)
                kept = head.method + head.target + head.host + head.block.replace(b"\r\n", b"")
                assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", kept)
    for name in b"referer", b":path", b":method", b":authority":
        kind, *_, line = field(name, value)
        if kind != MALFORMED:
            assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value + line[:-2])


@given(st.binary(), st.binary(), st.binary())
def test_whatever_a_head_holds_a_line_is_one_line(target, referer, agent):
    """Even if some reader of heads had a hole."""
    agent = agent.replace(b"\r", b"")
    head = request(b"Referer: " + referer, b"User-Agent: " + agent, target=target)
    for form in combined, extended, as_json:
        assert form(head, CONTEXT, facts(), STAMP).count(b"\n") == 1


@given(VALUES, VALUES, VALUES)
def test_a_line_is_one_line_and_its_quotes_are_ours(target, referer, agent):
    head = request(b"Referer: " + referer, b"User-Agent: " + agent, target=target)
    for form in combined, extended:
        line = form(head, CONTEXT, facts(), STAMP)
        assert line.count(b"\n") == 1
        assert line.count(b'"') == 6
        assert line.isascii()
    line = as_json(head, CONTEXT, facts(), STAMP)
    assert line.count(b"\n") == 1
    assert line.isascii()
    one = json.loads(line)
    assert one["target"] == target.decode("utf-8", "backslashreplace")
    assert len(one) == 20


def test_one_line_that_needs_escaping_leaves_the_others_alone():
    odd = request(b'User-Agent: \\"', target=b'/"')
    for form in FORMATS.values():
        both = lines(form, [(HEAD, CONTEXT, facts()), (odd, CONTEXT, facts())], STAMP)
        alone = lines(form, [(HEAD, CONTEXT, facts())], STAMP)
        assert both.startswith(alone)
        assert both.count(b"\n") == 2
        assert both.endswith(lines(form, [(odd, CONTEXT, facts())], STAMP))


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
    assert basic_user(b"Basic " + base64.b64encode(b"bob\nGET:x")) == b""


def test_counters_start_at_nought():
    counters = Counters()
    assert (counters.requests, counters.retries, counters.tunnels) == (0, 0, 0)


def test_masks_leave_out_what_they_should_in_every_format():
    block = b"Host: h\r\nReferer: https://h/x?token=secret\r\nUser-Agent: a\r\n"
    for told in b"/?token=secret", b'/"?token=secret':  # as it is, and escaped
        odd = HEAD._replace(target=told, block=block, told=None)
        for form in FORMATS.values():
            named = Masks(frozenset({b"token"}), True, False)
            line = lines(form, [(odd, CONTEXT, facts())], STAMP, named)
            assert b"secret" not in line and line.count(b"token=***") == 2
            assert CONTEXT.peer not in line
            line = lines(form, [(odd, CONTEXT, facts())], STAMP, Masks(frozenset(), False, True))
            assert b"token" not in line and b"https://h" in line and CONTEXT.peer in line
