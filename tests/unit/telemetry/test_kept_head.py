"""What is kept of a head while its tunnel is open: its log line is the same."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http1.parser import parse_request
from rawproxy.telemetry import kept_head
from rawproxy.telemetry.access_log import FORMATS, lines
from rawproxy.telemetry.counters import Tally
from rawproxy.telemetry.facts import Facts

FORWARDED = (
    b"GET /live HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.7, 192.0.2.9\r\n"
    b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
NEAR = context(b"192.0.2.1", b"https", False, False, None)._replace(tls=b"TLSv1.3")
TRUSTED = NEAR._replace(trusted=True, networks=(ipaddress.ip_network("192.0.2.0/24"),))


def told(head, near) -> list[bytes]:
    """The exchange's line in each format."""
    facts = Facts(b"i" * 32, 5.0, Tally(), b"https://up:9443")
    return [lines(form, [(head, near, facts)], b"now") for form in FORMATS.values()]


VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40)
FIELDS = st.sampled_from(["User-Agent", "Referer", "Authorization", "user-agent", "X-Other"])


@given(
    st.sampled_from(["GET", "M-SEARCH"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30),
    st.lists(st.tuples(FIELDS, VALUES), max_size=5),
    st.sampled_from([b"", b"websocket"]),
    st.booleans(),
)
def test_the_line_of_the_log_is_the_same(method, path, fields, upgrade, looked):
    block = "".join(f"{name}: {value.strip()}\r\n" for name, value in fields).encode("latin-1")
    head = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")._replace(
        method=method.encode(), target=b"/" + path.encode(), block=b"Host: h\r\n" + block,
        upgrade=upgrade, minor=2, told=None,
    )  # fmt: skip
    kept = kept_head.unpacked(kept_head.packed(head))
    assert told(kept, NEAR) == told(head, NEAR)
    assert (kept.minor, kept.upgrade) == (2, upgrade)


def test_the_client_is_the_one_that_a_trusted_peer_names():
    head = parse_request(FORWARDED)
    kept = kept_head.unpacked(kept_head.packed(head))
    named = kept_head.of_client(head, TRUSTED)
    assert told(kept, named) == told(head, TRUSTED)
    assert b"198.51.100.7" in told(kept, named)[0]


def test_a_context_of_a_client_that_says_nothing_of_others_is_shared():
    assert kept_head.of_client(parse_request(FORWARDED), NEAR) is NEAR
