"""What --store may name, and what a log shows of it."""

import pytest

from rawproxy.errors import ConfigError
from rawproxy.store.address import StoreAddress, parse_store


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("file:/srv/shared", StoreAddress("file:/srv/shared", path="/srv/shared")),
        ("file:///srv/shared", StoreAddress("file:/srv/shared", path="/srv/shared")),
        ("redis://h", StoreAddress("redis://h:6379", "redis://h")),
        ("valkey://h:1/2", StoreAddress("valkey://h:1/2", "redis://h:1/2")),
        ("rediss://[::1]:7", StoreAddress("rediss://[::1]:7", "rediss://[::1]:7")),
        (
            "redis://u:secret@h/0?prefix=one&ssl_ca_certs=/ca",
            StoreAddress("redis://h:6379/0", "redis://u:secret@h/0?ssl_ca_certs=%2Fca", "", "one"),
        ),
        ("redis+unix:/run/r", StoreAddress("redis+unix:/run/r", "unix:///run/r")),
    ],
)
def test_what_it_names(text, wanted):
    assert parse_store(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file:relative", "type file:/FOLDER"),
        ("file://host/srv", "type file:/FOLDER"),
        ("/srv", "no scheme; type redis://HOST:6379"),
        ("http://h", "http:// is not known; type redis://"),
        ("redis://", "no host"),
        ("redis://h/name", "the number of a database"),
        ("redis://h:port", "not a URL"),
        ("redis://h?prefix=a:b", "prefix is of letters"),
        ("redis+unix:r", "type redis\\+unix:/path"),
    ],
)
def test_what_it_cannot(text, why):
    with pytest.raises(ConfigError, match=f"^--store.*{why}"):
        parse_store(text)


def test_no_message_has_the_password():
    for text in ("redis://u:secret@h/name", "redis://u:secret@", "redis://u:secret@h:port"):
        with pytest.raises(ConfigError) as caught:
            parse_store(text)
        assert "secret" not in str(caught.value)
    assert "secret" not in parse_store("redis://u:secret@h").shown
