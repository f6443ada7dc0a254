"""What names a host: every message names the option and what to type."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config import addresses as c
from rawproxy.config.model import Address, Upstream
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
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1, True)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535, True)),
        ("docker_name.:1", ("docker_name.", 1, True)),
        ("xn--mnchen-3ya.de:1", ("xn--mnchen-3ya.de", 1, True)),
    ],
)
def test_upstreams(text, expected):
    upstream = c.parse_upstream(text)
    assert (upstream.host, upstream.port, upstream.tls) == expected
    assert upstream.url == text


def test_srv_names_bring_their_ports():
    upstream = c.parse_upstream("https://_https._tcp.web.test")
    assert (upstream.host, upstream.port, upstream.srv) == ("_https._tcp.web.test", 0, True)
    assert not c.parse_upstream("http://_odd.name.test:80").srv
    with pytest.raises(ConfigError, match=r"SRV records say the port; type https://_h\._tcp\.x"):
        c.parse_upstream("_h._tcp.x:443")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.11:53", Address("127.0.0.11", 53)),
        ("10.0.0.1", Address("10.0.0.1", 53)),
        ("[::1]:5353", Address("::1", 5353)),
    ],
)
def test_resolvers(text, expected):
    assert c.parse_resolver(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"), [("ns.test:53", "nobody could resolve its name"), ("10.0.0.1:0", "port 0")]
)
def test_bad_resolvers(text, hint):
    with pytest.raises(ConfigError, match=hint):
        c.parse_resolver(text)


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
        ("h:0000009999999", "not a port"),
        ("h:" + "0" * 5000 + "1", "not a port"),
        ("h:\uff18\uff10", "not a port"),
        ("a..b:1", "not a host name"),
        ("-a.b:1", "not a host name"),
        ("x" * 64 + ":1", "not a host name"),
        (".".join(["x" * 60] * 5) + ":1", "not a host name"),
        ("münchen.de:1", "type the ASCII form of münchen.de"),
        ("10.0.0.256:1", "10.0.0.256 is not an IPv4 address"),
        ("127.1:1", "127.1 is not an IPv4 address"),
        ("h:x", "not a port"),
        ("::1:9443", "in brackets: [::1:9443]:port"),
        ("[::1", "type [::1]:port"),
        ("[::1]9443", "type [::1]:port"),
        ("[nonsense]:1", "no IPv6 address"),
        ("h h:1", "not a host name"),
        ("unix:relative", "unix:/path"),
        ("unix:/" + "x" * 107, "longer than 107 bytes"),
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
        ("unix:///run/x", Address(path="/run/x")),
        ("unix:/" + "x" * 106, Address(path="/" + "x" * 106)),
    ],
)
def test_addresses(text, address):
    assert c.parse_address("--http", text) == address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("80", "type :80"),
        ("http://h", "not an address"),
        ("", "type :8443"),
        ("h", "type h:8443"),
        ("*:80", "type :80"),
        ("[::1]", r"type [::1]:8443"),
        ("a..b:80", "not a host name"),
        ("münchen.de:80", "ASCII form"),
        ("unix:", "type unix:/path"),
        ("unix:relative", "type unix:/path"),
    ],
)
def test_bad_addresses(text, hint):
    with pytest.raises(ConfigError) as caught:
        c.parse_address("--https", text)
    assert str(caught.value).startswith(f"--https {text}: ")
    assert hint in str(caught.value)


def test_the_port_to_type_is_the_listeners_own():
    with pytest.raises(ConfigError, match="--http h: no port; type h:8080"):
        c.parse_address("--http", "h")


@given(st.text(alphabet="ah0189.:[]/%@*-_ü\n\t ?#\u0660"))
def test_a_parser_returns_what_a_socket_takes_or_raises_config_error(text):
    for parse in (c.parse_upstream, lambda text: c.parse_address("--http", text)):
        with contextlib.suppress(ConfigError):
            found = parse(text)
            assert 0 <= found.port <= 65535
            (found.host or "").encode("idna")  # what getaddrinfo does first


def test_networks():
    assert c.parse_network("10.0.0.0/8") == ipaddress.ip_network("10.0.0.0/8")
    assert c.parse_network("2001:db8::1") == ipaddress.ip_network("2001:db8::1/128")
    with pytest.raises(ConfigError, match="--trusted-proxy ten"):
        c.parse_network("ten")
    with pytest.raises(ConfigError, match="--trusted-proxy : not"):
        c.parse_network("")


def test_server_names():
    assert c.parse_server_name("SSO.Domain.tld.") == "sso.domain.tld"
    assert c.parse_server_name("*.domain.tld") == "*.domain.tld"
    assert c.parse_server_name("**.Domain.tld") == "**.domain.tld"
    for bad in (
        "",
        "a..b",
        "*",
        "a*.b",
        "**",
        "***.a",
        "**.*.a",
        "h:80",
        "-a.b",
        "münchen.de",
        "a\n",
        ".".join(["x" * 60] * 5),
    ):
        with pytest.raises(ConfigError, match="--server-name"):
            c.parse_server_name(bad)


def test_upstream_names():
    assert c.parse_upstream_name("SSO.Domain.tld.") == "sso.domain.tld"
    assert c.parse_upstream_name("10.0.0.1") == "10.0.0.1"
    assert c.parse_upstream_name("$host") == "$host"
    assert c.parse_upstream_name("::1") == "::1"
    for bad, hint in (
        ("", "no name"),
        ("h:443", "without a port"),
        ("a b", "not a host name"),
        ("münchen.de", "ASCII form"),
    ):
        with pytest.raises(ConfigError, match=f"--upstream-name {bad}.*{hint}"):
            c.parse_upstream_name(bad)


def test_the_host_of_a_health_check():
    assert c.parse_host("a.test:8080") == "a.test:8080"
    for bad in ("", ":80", "a b"):
        with pytest.raises(ConfigError, match=r"^--host"):
            c.parse_host(bad)
