"""The PROXY protocol, both versions, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.errors import ClientError
from rawproxy.protocol.proxy_header import LIMIT, SIGNATURE, AnnouncedAddresses, read, write

V4 = AnnouncedAddresses("192.0.2.7", 50000, "203.0.113.1", 443)
V6 = AnnouncedAddresses("2001:db8::7", 50000, "2001:db8::1", 443)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("route", [V4, V6, None])
def test_what_we_write_we_read(version, route):
    header = write(version, route)
    for stop in range(len(header)):
        assert read(header[:stop]) is None
    assert read(header + b"GET / HTTP/1.1\r\n") == (len(header), route)


def test_the_bytes_of_the_specification():
    assert write(1, V4) == b"PROXY TCP4 192.0.2.7 203.0.113.1 50000 443\r\n"
    assert write(2, V4) == SIGNATURE + bytes.fromhex("21 11 000c c0000207 cb007101 c350 01bb")
    assert write(2, None) == SIGNATURE + bytes.fromhex("20 00 0000")


@pytest.mark.parametrize("version", [1, 2])
def test_families_that_differ_and_socket_files(version):
    mixed = read(write(version, AnnouncedAddresses("192.0.2.7", 1, "2001:db8::1", 2)))
    assert mixed is not None and mixed.route is not None
    assert mixed.route.source in ("::ffff:192.0.2.7", "::ffff:c000:207")
    assert read(write(version, AnnouncedAddresses("", 0, "", 0))).route is None


def test_what_needs_no_address():
    assert read(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nrest") == (35, None)
    local = SIGNATURE + bytes.fromhex("20 11 000c") + bytes(12)
    assert read(local) == (28, None)
    unix = SIGNATURE + bytes.fromhex("21 31 0003") + b"abc"
    assert read(unix) == (19, None)


def test_tlvs_are_passed_over():
    tlvs = b"\x04\0\1x"
    header = SIGNATURE + bytes.fromhex("21 11 0010") + write(2, V4)[16:] + tlvs
    assert read(header + b"G") == (len(header), V4)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 50000\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 50000 443 x\r\n",
        b"PROXY TCP4 192.0.2.7  203.0.113.1 50000 443\r\n",
        b"PROXY TCP5 192.0.2.7 203.0.113.1 50000 443\r\n",
        b"PROXY TCP6 192.0.2.7 203.0.113.1 50000 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 50000 443\r\n",
        b"PROXY TCP4 192.0.2.999 203.0.113.1 50000 443\r\n",
        b"PROXY TCP4 \xff 203.0.113.1 50000 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 +5 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 05 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 123456 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 50000 443\n",
        b"PROXY " + b"x" * 110,
        b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
        b"PROXY UNKNOWN \n\r\n",
        SIGNATURE + bytes.fromhex("11 11 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("22 11 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("21 11 000b") + bytes(11),
        SIGNATURE + bytes.fromhex("21 21 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("21 11 ffff") + bytes(12),
    ],
)
def test_refused(data):
    with pytest.raises(ClientError):
        read(data)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(SIGNATURE.__add__)))
def test_arbitrary_bytes(data):
    try:
        header = read(data)
    except ClientError:
        return
    assert header is None or header.size <= min(len(data), LIMIT)
