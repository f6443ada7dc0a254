"""Configuration: every message names the option and what to type."""

import ipaddress

import pytest

from rawproxy import config as c
from rawproxy.config import Address, Certificate, Config, Upstream
from rawproxy.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h:9443", ("h", 9443, True)),
        ("https://h", ("h", 443, True)),
        ("HTTPS://h:1/", ("h", 1, True)),
        ("http://h", ("h", 80, False)),
        ("http://h:8080", ("h", 8080, False)),
        ("[::1]:9443", ("::1", 9443, True)),
        ("http://[::1]", ("::1", 80, False)),
    ],
)
def test_upstreams(text, expected):
    upstream = c.parse_upstream(text)
    assert (upstream.host, upstream.port, upstream.tls) == expected
    assert upstream.url == text


def test_unix_upstreams():
    assert c.parse_upstream("unix:/run/a.sock") == Upstream(
        "unix:/run/a.sock", False, path="/run/a.sock"
    )
    assert c.parse_upstream("unix:///run/a.sock").path == "/run/a.sock"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("example.com", "type example.com:9443 or https://example.com"),
        ("", "no host"),
        ("https://", "no host"),
        ("ftp://h", "https://, http:// or unix:"),
        ("https://h/path", "type https://host:port"),
        ("http://h?x", "a path cannot"),
        ("u:p@h:1", "no user or password"),
        ("h:", "not a port"),
        ("h:70000", "not a port"),
        ("h:0", "port 0"),
        ("h:x", "not a port"),
        ("::1:9443", "in brackets: [::1:9443]:port"),
        ("[::1", "type [::1]:port"),
        ("[::1]9443", "type [::1]:port"),
        ("[nonsense]:1", "no IPv6 address"),
        ("h h:1", "not a host name"),
        ("unix:relative", "unix:/path"),
    ],
)
def test_bad_upstreams(text, hint):
    with pytest.raises(ConfigError) as caught:
        c.parse_upstream(text)
    assert str(caught.value).startswith(f"--upstream {text}")
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":80", Address(None, 80)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::]:443", Address("::", 443)),
        ("localhost:0", Address("localhost", 0)),
        ("unix:/run/x", Address(path="/run/x")),
    ],
)
def test_addresses(text, address):
    assert c.parse_address("--http", text) == address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("80", "type :80"),
        ("http://h", "not an address"),
        ("h", "type h:8080"),
        ("unix:", "no path"),
    ],
)
def test_bad_addresses(text, hint):
    with pytest.raises(ConfigError, match=f"--https {text}.*{hint}"):
        c.parse_address("--https", text)


def test_networks():
    assert c.parse_network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert c.parse_network("2001:db8::1") == ipaddress.ip_network("2001:db8::1/128")
    with pytest.raises(ConfigError, match="--trusted-proxy ten"):
        c.parse_network("ten")


def test_pins():
    assert c.parse_pin("AB:" * 31 + "AB") == "ab" * 32
    for bad in ("ab", "g" * 64):
        with pytest.raises(ConfigError, match="--upstream-pin"):
            c.parse_pin(bad)


def test_server_names():
    assert c.parse_server_name("SSO.Domain.tld.") == "sso.domain.tld"
    assert c.parse_server_name("*.domain.tld") == "*.domain.tld"
    for bad in ("", "a..b", "*", "a*.b", "h:80", "-a.b", "münchen.de"):
        with pytest.raises(ConfigError, match="--server-name"):
            c.parse_server_name(bad)


def test_hsts():
    for good in ("max-age=63072000", 'max-age="1"; includeSubDomains; preload'):
        assert c.check_hsts(good) == good
    for bad in ("", "on", "max-age=1\r\nX: y", "max-age=x"):
        with pytest.raises(ConfigError, match="--hsts"):
            c.check_hsts(bad)


TLS = Upstream("h:1", tls=True, host="h", port=1)
PLAIN = Upstream("http://h", tls=False, host="h", port=80)
GOOD = Config(upstreams=(TLS,), http=(Address(None, 80),))


def test_check_accepts():
    assert c.check(GOOD) is GOOD
    full = Config(
        upstreams=(TLS, PLAIN),
        https=(Address(None, 443),),
        certificates=(Certificate("c", "k"),),
        upstream_verify="system",
    )
    assert c.check(full) is full


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (Config(upstreams=()), "--upstream is missing"),
        (Config(upstreams=(TLS,), https=(Address(None, 443),)), "--https needs a certificate"),
        (Config(upstreams=(TLS,)), "nothing to listen on"),
        (
            Config(
                upstreams=(TLS,),
                http=GOOD.http,
                upstream_pins=frozenset("a"),
                upstream_verify="off",
            ),
            "leave --upstream-verify out",
        ),
        (
            Config(upstreams=(PLAIN,), http=GOOD.http, upstream_verify="system"),
            "for https upstreams",
        ),
        (Config(upstreams=(PLAIN,), http=GOOD.http, upstream_name="x"), "for https upstreams"),
        (Config(upstreams=(TLS,), http=GOOD.http, keepalive=9, max_upstream=8), "--keepalive 9"),
    ],
)
def test_check_refuses(bad, hint):
    with pytest.raises(ConfigError, match=hint):
        c.check(bad)
