"""Rule 51: whoever is trusted, Forwarded and X-Forwarded-* say the same."""

import ipaddress
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rawproxy.protocol.http import forwarding, rewrite
from rawproxy.protocol.http1.parser import parse_request

NETWORKS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))
PEER = b"10.0.0.9"


def sent(
    *lines: bytes, send=True, trusted=True, append=False, peer=PEER
) -> dict[bytes, list[bytes]]:
    """What an upstream gets of the fields that forward."""
    context = rewrite.context(peer, b"http", trusted, append, None)._replace(networks=NETWORKS)
    if send:
        context = rewrite.with_forwarded(context)
    raw = b"\r\n".join([b"GET / HTTP/1.1", b"Host: inner", *lines]) + b"\r\n\r\n"
    head = parse_request(rewrite.request(parse_request(raw), context, b"up"))
    found: dict[bytes, list[bytes]] = {}
    for line in head.block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        found.setdefault(name.lower(), []).append(value)
    return found


def agree(fields: dict[bytes, list[bytes]]) -> None:
    """Every reader of the one field learns what a reader of the others does."""
    (chain,), (proto,), (host,) = (
        fields[b"x-forwarded-" + name] for name in (b"for", b"proto", b"host")
    )
    if b"forwarded" not in fields:
        return
    (line,) = fields[b"forwarded"]
    elements = forwarding._elements(line)
    hops = chain.split(b",")[-forwarding.LISTED :]
    assert [one[b"for"] for one in elements] == [
        re.sub(rb"^(.*:.*)$", rb"[\1]", forwarding._shown(context)) for context in hops
    ]
    for element in (elements[0], elements[-1]):
        assert (element[b"proto"], element[b"host"]) == (proto, host)


def test_a_trusted_peer_that_speaks_x_forwarded():
    fields = sent(b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: o")
    agree(fields)
    assert fields[b"forwarded"] == [
        b'for=1.1.1.1;proto=https;host="o", for=10.0.0.9;proto=https;host="o"'
    ]


@pytest.mark.parametrize("send", [False, True])
def test_a_trusted_peer_that_speaks_forwarded(send):
    fields = sent(
        b'Forwarded: for=6.6.6.6;proto=gopher;host=evil, For="[2001:db9::1]:99";proto=https;HOST="o:1"',
        b"Forwarded: for=10.1.1.1;proto=http;by=_x",
        send=send,
    )
    agree(fields)
    assert fields[b"x-forwarded-for"] == [b"6.6.6.6, 2001:db9::1, 10.1.1.1, 10.0.0.9"]
    assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-host"]) == ([b"https"], [b"o:1"])
    assert fields[b"forwarded"] == [
        b'for=6.6.6.6;proto=https;host="o:1", for="[2001:db9::1]", for=10.1.1.1,'
        b' for=10.0.0.9;proto=https;host="o:1"'
    ]


def test_all_hops_are_trusted():
    fields = sent(b"Forwarded: for=10.0.0.1;proto=https, for=10.0.0.2;proto=http")
    agree(fields)
    assert fields[b"x-forwarded-proto"] == [b"https"]


def test_a_trusted_peer_that_speaks_both_and_contradicts_itself():
    fields = sent(
        b"Forwarded: for=6.6.6.6;proto=http;host=other",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: https",
    )
    agree(fields)
    assert fields[b"x-forwarded-for"] == [b"1.1.1.1, 10.0.0.9"]
    assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-host"]) == ([b"https"], [b"other"])


@pytest.mark.parametrize(
    "value",
    [b"", b'for="1.1.1.1', b"for=1.1.1.1 x", b"nonsense", b";", b"for=1.1.1.1,,for=2.2.2.2", b'"'],
)
def test_what_is_malformed_says_nothing(value):
    fields = sent(b"Forwarded: " + value, send=False)
    assert b"forwarded" not in fields
    assert fields[b"x-forwarded-for"] == [PEER]


def test_what_cannot_be_a_scheme_or_a_host_says_nothing():
    fields = sent(rb'Forwarded: for=_hidden;proto="a b";host="u@\"h"')
    agree(fields)
    assert fields[b"x-forwarded-for"] == [b"unknown, 10.0.0.9"]
    assert (fields[b"x-forwarded-proto"], fields[b"x-forwarded-host"]) == ([b"http"], [b"inner"])
    agree(sent(b'X-Forwarded-Host: a"b\\c', b"X-Forwarded-Proto: https, http"))


def test_who_is_not_trusted_says_nothing():
    fields = sent(b"Forwarded: for=6.6.6.6;proto=https", b"X-Forwarded-For: 6.6.6.6", trusted=False)
    agree(fields)
    assert fields[b"forwarded"] == [b'for=10.0.0.9;proto=http;host="inner"']
    fields = sent(
        b"Forwarded: for=6.6.6.6", b"X-Forwarded-For: 7.7.7.7", trusted=False, append=True
    )
    agree(fields)
    assert fields[b"x-forwarded-for"] == [b"7.7.7.7, 10.0.0.9"]


def test_a_nominated_field_says_nothing():
    fields = sent(b"Connection: forwarded", b"Forwarded: for=6.6.6.6", send=False)
    assert b"forwarded" not in fields and fields[b"x-forwarded-for"] == [PEER]


def test_a_unix_socket_is_no_hop_behind_others():
    assert sent(peer=rewrite.UNIX)[b"x-forwarded-for"] == [rewrite.UNIX]
    fields = sent(b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: https", peer=rewrite.UNIX)
    agree(fields)
    assert fields[b"x-forwarded-for"] == [b"1.1.1.1"]
    assert fields[b"forwarded"] == [b'for=1.1.1.1;proto=https;host="inner"']


WORDS = st.sampled_from(
    [b"for=", b"proto=", b"host=", b"1.1.1.1", b"10.0.0.1", b"https", b'"', b",", b";", b" ", b"\\",
     b"[::1]", b"unknown", b"_x", b"h", b":", b"=", b"by="]
)  # fmt: skip
VALUES = st.lists(WORDS, max_size=14).map(b"".join).map(bytes.strip)


@given(VALUES, VALUES, VALUES, st.booleans(), st.booleans(), st.booleans())
@example(b"for=a;proto=", b"", b"", True, False, True)
def test_never_a_contradiction(element, chain, proto, trusted, append, send):
    lines = [b"Forwarded: " + element, b"X-Forwarded-For: " + chain, b"X-Forwarded-Proto: " + proto]
    agree(sent(*lines, send=send, trusted=trusted, append=append))


@pytest.mark.parametrize("element", [b"for=1.1.1.1,", b'for="\\a', b'a="', b"a=b;", b" "])
def test_the_time_is_linear(element):
    lines = [b"Forwarded: " + element * (30000 // len(element)) + b"x"]
    lines.append(b"X-Forwarded-For: " + b"a," * 15000 + b"a")
    began = time.process_time()
    for append in (False, True):
        sent(*lines, trusted=not append, append=append)
    assert time.process_time() - began < 1
