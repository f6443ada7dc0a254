"""Which names --admin answers to: the table of its docstring."""

import pytest

from rawproxy.admin.host_names import AdminHostNames, address_of, is_loopback

ADDRESSES = [
    "localhost",
    "LOCALHOST.",
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "[::1]",
    "10.0.0.7",
    "[fe80::1%eth0]",
    "",
]
LOCAL = ["a.localhost"]
PRIVATE = [
    "metrics",
    "a.internal",
    "a.b.local",
    "box.home.arpa",
    "box.test",
    "rawproxy.mon.svc.cluster.local",
]
KNOWN = ["admin.example.com", "me.example.com", "site.example.org", "a.wild.example"]
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.1",
    "wild.example",
    "a.b.wild.example",
    "evilinternal.com",
]
GIVEN = ["Admin.example.com", "me.example.com.", "site.example.org", "*.wild.example"]


@pytest.mark.parametrize(
    "bound", [["127.0.0.1"], ["127.0.0.9"], ["::1"], ["127.0.0.1", "::1"], ["::ffff:127.0.0.1"]]
)
def test_on_loopback(bound):
    names = AdminHostNames(bound, GIVEN)
    assert names.local
    for name in ADDRESSES + LOCAL:
        assert names.answers(name), name
    for name in PRIVATE + KNOWN + FOREIGN:
        assert not names.answers(name), name


@pytest.mark.parametrize(
    "bound",
    [
        ["0.0.0.0"],
        ["::"],
        ["10.1.2.3"],
        ["fe80::1"],
        ["::ffff:10.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
    ],
)
def test_elsewhere(bound):
    names = AdminHostNames(bound, GIVEN)
    assert not names.local
    for name in ADDRESSES + LOCAL + PRIVATE + KNOWN:
        assert names.answers(name), name
    for name in FOREIGN:
        assert not names.answers(name), name


def test_a_socket_file():
    names = AdminHostNames([])
    assert names.local
    assert all(map(names.answers, ADDRESSES + LOCAL + PRIVATE + KNOWN + FOREIGN))


def test_addresses():
    assert str(address_of("::ffff:127.0.0.1")) == "127.0.0.1"
    assert address_of("localhost") is None
    assert is_loopback("127.255.0.1") and not is_loopback("128.0.0.1") and not is_loopback("h")
