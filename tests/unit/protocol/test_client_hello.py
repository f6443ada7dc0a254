"""The name in a ClientHello: as OpenSSL writes it, whole and in part, and bent."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.protocol.client_hello import LIMIT, protocols, server_name


def hello(name: str | None, version=ssl.TLSVersion.TLSv1_3, offered=()) -> bytes:
    """What a client sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = version
    context.set_alpn_protocols(offered)
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "expected"), [("A.test", "a.test"), (None, ""), ("127.0.0.1", "")]
)
def test_as_openssl_writes_it(version, name, expected):
    data = hello(name, version)
    assert server_name(data) == expected
    assert server_name(data + b"more") == expected


def test_it_waits_for_the_whole_of_it():
    data = hello("a.test")
    assert all(server_name(data[:size]) is None for size in range(len(data)))


def test_what_is_none():
    assert server_name(b"GET / HTTP/1.1\r\n") == ""
    assert server_name(b"\x16\x03\x01" + (LIMIT + 1).to_bytes(2, "big")) == ""
    assert server_name(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00") == "", "a ServerHello"
    data = bytearray(hello("a.test"))
    at = data.index(b"a.test") - 3
    data[at] = 7
    assert server_name(bytes(data)) == "", "a name that is no host name"


HELLO = hello("a.test", offered=["h2", "http/1.1"])


@given(st.data())
def test_bent_ones_are_read_as_something_or_nothing(data):
    raw = bytearray(HELLO)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    name = server_name(bytes(raw))
    assert name is None or isinstance(name, str)
    assert isinstance(protocols(bytes(raw)), list)


@given(st.binary(max_size=80))
def test_anything_at_all(data):
    server_name(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)
    protocols(data)


def test_what_a_client_offers():
    assert protocols(hello("a.test", offered=["acme-tls/1"])) == [b"acme-tls/1"]
    assert protocols(hello("a.test", offered=["h2", "http/1.1"])) == [b"h2", b"http/1.1"]
    assert protocols(hello("a.test")) == protocols(b"") == []
