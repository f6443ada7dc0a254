"""Address lists: the first that fits counts, and who cannot be read is refused."""

import pytest

from rawproxy.access.address_lists import KNOWN, AddressList, parse_rule
from rawproxy.errors import ConfigError


def allowing(*texts: str) -> AddressList:
    return AddressList(tuple(parse_rule("--allow", text, True) for text in texts), rest=False)


def denying(*texts: str) -> AddressList:
    return AddressList(tuple(parse_rule("--deny", text, False) for text in texts), rest=True)


@pytest.mark.parametrize(
    ("client", "passes"),
    [
        (b"10.1.2.3", True),
        (b"10.0.0.7", False),
        (b"11.0.0.1", False),
        (b"::ffff:10.1.2.3", True),
        (b"2001:db8::1", True),
        (b"2001:db8::1%eth0", True),
        (b"2001:db9::1", False),
        (b"unix:", False),
        (b"unknown", False),
        (b"", False),
    ],
)
def test_an_allow_list_refuses_the_rest(client: bytes, passes: bool) -> None:
    listed = allowing("!10.0.0.7", "10.0.0.0/8", "2001:db8::/32")
    assert listed.allows(client) is passes
    assert listed.allows(client) is passes, "remembered"


@pytest.mark.parametrize(
    ("client", "passes"),
    [
        (b"192.0.2.1", True),
        (b"192.0.2.2", False),
        (b"198.51.100.1", True),
        (b"unix:", True),
        (b"unknown", False),
    ],
)
def test_a_deny_list_lets_the_rest_pass(client: bytes, passes: bool) -> None:
    assert denying("!192.0.2.1", "192.0.2.0/24").allows(client) is passes


def test_the_first_that_fits_counts() -> None:
    assert allowing("10.0.0.0/8", "!10.0.0.7").allows(b"10.0.0.7")
    assert not allowing("!10.0.0.7", "10.0.0.0/8").allows(b"10.0.0.7")


def test_socket_files_and_all_have_names() -> None:
    assert allowing("unix:").allows(b"unix:")
    assert not allowing("unix:").allows(b"127.0.0.1")
    assert not denying("unix:").allows(b"unix:")
    assert not denying("all").allows(b"2001:db8::1")
    assert not denying("all").allows(b"192.0.2.1")
    assert denying("all").allows(b"unix:"), "all addresses; a socket file has none"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "host", "", "!", "10.0.0", "::/129"])
def test_what_is_no_network_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--allow .*type 10\.0\.0\.0/8"):
        parse_rule("--allow", text, True)


def test_what_is_remembered_is_bounded() -> None:
    listed = denying("10.0.0.0/8")
    for number in range(KNOWN + 10):
        listed.allows(b"198.51.%d.%d" % divmod(number, 256))
    assert len(listed._known) <= KNOWN
    assert not listed.allows(b"10.0.0.1")
