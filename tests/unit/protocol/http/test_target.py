"""Targets and hosts: RFC 9112 3.2, RFC 3986 3.2.2."""

import ipaddress

import hypothesis
import pytest
from hypothesis import strategies as st

from rawproxy.errors import ClientError
from rawproxy.protocol.http.target import is_host, origin_form


@pytest.mark.parametrize(
    "host", [b"h", b"a.b:8443", b"h:", b"H.", b"a_b~!$&'()*+;=", b"%41b", b"[::1]:8443", b"x" * 255]
)
def test_hosts(host):
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [b"", b":80", b"a:b", b"a:1:2", b"a:999999", b"a b", b"a,b", b"a/b", b"u@h", b"%", b"h%4", b"h%zz",
     b"x" * 256, b"[]", b"[::1", b"::1", b"[h]", b"[::1]x", b"[::1%25lo]", b"[v1.x]", b"h\n", b"\xe4"],
)  # fmt: skip
def test_what_is_no_host(host):
    assert not is_host(host)


GROUPS = st.sampled_from([":", ":", "::", "0", "1", "ab", "FFFF", "12345", "1.2.3.4", "1.2.3.256"])


@hypothesis.given(
    st.one_of(st.lists(GROUPS, max_size=16).map("".join), st.ip_addresses(v=6).map(str))
)
def test_brackets_hold_exactly_what_is_an_ipv6_address(text):
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        assert not is_host(b"[%b]" % text.encode())
    else:
        assert is_host(b"[%b]:443" % text.encode())


def test_the_origin_form_of_each_form():
    assert origin_form(b"GET", b"/a?b") == (b"/a?b", None)
    assert origin_form(b"OPTIONS", b"*") == (b"*", None)
    assert origin_form(b"GET", b"http://[::1]:81?b") == (b"/?b", b"[::1]:81")
    for method, target in ((b"CONNECT", b"h:1"), (b"GET", b"*"), (b"GET", b"/#"), (b"GET", b"h")):
        with pytest.raises(ClientError):
            origin_form(method, target)
