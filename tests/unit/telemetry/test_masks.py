"""What the logs leave out."""

import pytest

from rawproxy.config.model import Config
from rawproxy.protocol.http1.parser import parse_request
from rawproxy.telemetry.masks import Masks, of, subject

NAMED = Masks(frozenset({b"token", b"code"}), False, False)
SHORT = Masks(frozenset(), True, False)
BARE = Masks(frozenset(), False, True)


def test_nothing_is_nothing():
    assert of(Config()) is None
    assert of(Config(access_log_mask=("Token",))).target(b"/?token=1") == b"/?token=***"
    assert of(Config(access_log_short_addresses=True)).address(b"192.0.2.7") == b"192.0.2.0"
    assert of(Config(access_log_no_paths=True)).target(b"/a") == b"-"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/", b"/"),
        (b"/token=1", b"/token=1"),
        (b"/?", b"/?"),
        (b"/?token", b"/?token"),
        (b"/?token=", b"/?token=***"),
        (b"/?a=1&token=x&b=2&code=y", b"/?a=1&token=***&b=2&code=***"),
        (b"/?TOKEN=x&to%6Ben=y&%74oken=z", b"/?TOKEN=***&to%6Ben=***&%74oken=***"),
        (b"/?tokens=x&atoken=y", b"/?tokens=x&atoken=y"),
        (b"/?token=a;b=c&d", b"/?token=***&d"),
        (b"/?a;token=b;c&d", b"/?a;token=***&d"),
        (b"/?token=a=b?c", b"/?token=***"),
        (b"/?+token=a", b"/?+token=***"),
        (b"*", b"*"),
    ],
)
def test_named_parameters(target, shown):
    assert NAMED.target(target) == shown
    assert NAMED.referer(b"https://h" + target) == b"https://h" + shown
    assert SHORT.target(target) == target
    assert BARE.target(target) == b"-"


@pytest.mark.parametrize(
    ("referer", "shown"),
    [
        (b"https://h.test/a/b?c=d#e", b"https://h.test"),
        (b"https://h.test", b"https://h.test"),
        (b"https://user:pass@h.test:1?a", b"https://h.test:1"),
        (b"https://h#a", b"https://h"),
        (b"android-app://a.b/c", b"android-app://a.b"),
        (b"/a/b", b""),
        (b"", b""),
    ],
)
def test_without_paths_a_referer_is_its_origin(referer, shown):
    assert BARE.referer(referer) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (b"192.0.2.7", b"192.0.2.0"),
        (b"2001:db8:1:2:3:4:5:6", b"2001:db8:1::"),
        (b"2001:db8::1", b"2001:db8::"),
        (b"::1", b"::"),
        (b"unix:", b"unix:"),
        (b"nonsense:", b"-"),
    ],
)
def test_addresses(address, shown):
    assert SHORT.address(address) == shown
    assert NAMED.address(address) == address


def test_who_asked_for_what_is_masked_in_the_error_log_too():
    head = parse_request(b"GET /a?token=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert subject(None, head, b"192.0.2.7") == "GET h/a from 192.0.2.7"
    assert subject(None, None, b"192.0.2.7") == "from 192.0.2.7"
    masked = of(Config(access_log_short_addresses=True, access_log_no_paths=True))
    assert subject(masked, head, b"192.0.2.7") == "GET h- from 192.0.2.0"
