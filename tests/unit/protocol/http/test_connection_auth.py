"""Which 401s ask for a proof that holds for a connection."""

import pytest

from rawproxy.protocol.http.connection_auth import binds
from rawproxy.protocol.http1.parser import parse_request, parse_response

BINDING = [b"NTLM", b"Negotiate", b"negotiate oRQw", b'Basic realm="x", NTLM', b"Basic,ntlm,Digest"]
OTHERS = [b"Basic", b"Bearer", b"", b"NTLMv9", b"XNTLM", b"Digest realm=NTLMs"]


@pytest.mark.parametrize("value", BINDING)
def test_rule_46_offers(value):
    head = b"HTTP/1.1 401 No\r\nServer: x\r\nwww-AUTHENTICATE: Basic\r\nWWW-Authenticate: "
    assert binds(parse_response(head + value + b"\r\nX: y\r\n\r\n"))


@pytest.mark.parametrize("value", OTHERS)
def test_other_offers(value):
    head = b"HTTP/1.1 401 No\r\nServer: NTLM\r\nWWW-Authenticate: " + value
    assert not binds(parse_response(head + b"\r\nX: Negotiate\r\n\r\n"))


@pytest.mark.parametrize(
    ("value", "personal"),
    [(b"NTLM x", True), (b"negotiate", True), (b"Negotiate x", True), (b"Basic x", False),
     (b"NTLMx y", False), (b"Nonsense", False)],
)  # fmt: skip
def test_rule_46_a_request_that_proves_itself(value, personal):
    raw = b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: " + value + b"\r\n\r\n"
    head = parse_request(raw)
    assert head.personal is personal
    assert head.value(b"authorization") == value
