"""Single values: every message names the option and what to type."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config import option_values as c
from rawproxy.config.model import Limits
from rawproxy.errors import ConfigError


def test_pins():
    assert c.parse_pin("AB:" * 31 + "AB") == "ab" * 32
    for bad in ("ab", "g" * 64):
        with pytest.raises(ConfigError, match="--upstream-pin"):
            c.parse_pin(bad)


def test_files():
    assert c.parse_file("--cert", "a.pem") == "a.pem"
    with pytest.raises(ConfigError, match="--access-log: empty; type -, off or the path of a file"):
        c.parse_file("--access-log", "", "-, off or ")


@pytest.mark.parametrize(
    "value",
    [
        "max-age=63072000",
        "max-age=0",
        'max-age="1"; includeSubDomains; preload',
        "includeSubDomains ; Max-Age=1;",
        'max-age=1; x="a b"',
    ],
)
def test_hsts(value):
    assert c.check_hsts(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "on",
        ";",
        "max-age=x",
        "max-age",
        "max-age=-1",
        "max-age=12345678901",
        "max-age=\uff11",
        'max-age="1',
        "max-age=1\r\nX: y",
        "max-age=1;\r\nX",  # \s in a pattern takes line ends: this one ended the header line
        "max-age=1;\n",
        "max-age=1\n",
        "max-age=1;\tpreload",
        "max-age=1; max-age=2",
        "max-age=1; preload; Preload",
        "max-age=1, preload",
        "max-age=1; ü",
    ],
)
def test_bad_hsts(value):
    with pytest.raises(ConfigError, match=r"^--hsts .*--no-hsts$"):
        c.check_hsts(value)


@given(st.text(alphabet='max-ge=1;, "\r\n\t\0\u2028ü', max_size=30))
def test_hsts_is_printable_ascii(text):
    for value in (text, "max-age=1;" + text):
        with contextlib.suppress(ConfigError):
            accepted = c.check_hsts(value)
            assert accepted.isascii() and accepted.isprintable()


def test_limits_by_name():
    limits = c.parse_limits(["head=8k", "body=1m", "body=2G", "per-client=0"], Limits(h2_streams=7))
    assert (limits.head, limits.body, limits.per_client) == (8192, 2 << 30, 0)
    assert (limits.h2_streams, limits.fields) == (7, Limits().fields)
    assert "h2-streams" not in c.limit_names() and "per-client" in c.limit_names()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("haed=1", "did you mean head?"),
        ("zzz=1", "known are start-line, head"),
        ("head", "type head=N, 1024 or more"),
        ("head=-1", "type head=N"),
        ("head=1023", "1024 or more"),
        ("drain=0", "1 or more"),
        ("body=1t", "k, m and g are known"),
        ("body=\u0661", "type body=N"),
    ],
)
def test_bad_limits(text, hint):
    with pytest.raises(ConfigError, match=hint.replace("?", r"\?")) as caught:
        c.parse_limits([text])
    assert f"--limit {text}: " in str(caught.value)


def test_timeouts_by_name():
    deadlines = c.parse_timeouts(["drain=2.5", "tunnel-idle=86400"])
    assert (deadlines.drain, deadlines.tunnel_idle) == (2.5, 86400.0)
    assert set(c.timeout_names()) >= {"request-head", "tls-handshake"}
    assert c.parse_timeouts(["wait=9", "wait=0"]).wait == 0  # none, and none at all


@pytest.mark.parametrize(
    "text",
    [
        "drain",
        "drain=0",
        "drain=-1",
        "drain=inf",
        "drain=nan",
        "wait=-1",
        "wait=nan",
        "wait=inf",
        "x=1",
    ],
)
def test_bad_timeouts(text):
    with pytest.raises(ConfigError, match=f"--timeout {text}: "):
        c.parse_timeouts([text])


def test_headers():
    assert c.parse_header("--set", "X-Name", "a b") == ("X-Name", "a b")
    assert c.parse_header("--remove", "Via") == ("Via", "")
    assert c.parse_header("--set", "Host", "h") == ("Host", "h")
    for option, value in (("--remove", ""), ("--add", "h"), ("--set", "")):
        with pytest.raises(ConfigError, match=f"^{option}: Host can only be set"):
            c.parse_header(option, "Host", value)
    for name, value, hint in (
        ("X A", "", "is not the name of a header field"),
        ("", "", "is not the name"),
        ("X\n", "", "is not the name"),
        ("Transfer-Encoding", "chunked", "leave it out"),
        ("X", "a\r\nB: c", "printable ASCII"),
        ("X", " a", "no blanks around it"),
        ("X", "\u00fc", "printable ASCII"),
    ):
        with pytest.raises(ConfigError, match=f"^--set.*{hint}"):
            c.parse_header("--set", name, value)


@given(st.text(alphabet="aX-: \t\r\n\0\u0131", max_size=6), st.text(max_size=6))
def test_a_header_is_one_line(name, value):
    with contextlib.suppress(ConfigError):
        line = ": ".join(c.parse_header("--set", name, value))
        assert line.isascii() and line.isprintable() and " " not in name


def test_paths_of_routes():
    for good in ("/", "/app", "/app/", "/outpost.goauthentik.io", "/a/b.c/~d", "/a=b"):
        assert c.parse_path(good) == good
    for bad in ("", "app", "//", "/a//b", "/./a", "/a/..", "/%61", "/a?b", "/a#b", "/a b", "/\u00fc",
                "/a\n", "/a;b", "/a\\b"):  # fmt: skip
        with pytest.raises(ConfigError, match=r"(?s)^--path .*: type a plain path"):
            c.parse_path(bad)


def test_redirects():
    for good in (
        "https://$host:8443$path?$query",
        "https://[::1]?a",
        "https://$host$request_uri",
        "/login",
        "http://a.test/$path?x=$query",
        "/",
    ):
        assert c.parse_redirect(good) == good
    for bad, hint in (
        ("login", "type https://host/path"),
        ("https://", "type https://host/path"),
        ("https://a.test$query", "type https://host/path"),
        ("https://a.test$host", "type https://host/path"),
        ("https://a@b/", "type https://host/path"),
        ("javascript:x", "type https://host/path"),
        ("/a b", "type https"),
        ("/a\n", "type https"),
        ("/\u00fc", "type https"),
        ("/$hst", r"did you mean \$host\? .*known are"),
        ("/$", "names nothing; for a dollar itself type"),
    ):
        with pytest.raises(ConfigError, match=f"(?s)^--redirect .*{hint}"):
            c.parse_redirect(bad)


def test_health_checks():
    assert c.parse_status("204") == (204, 204)
    assert c.parse_status("200-399") == (200, 399)
    for bad in ("", "20", "600", "300-200", "200-", "2xx"):
        with pytest.raises(ConfigError, match=r"^--status"):
            c.parse_status(bad)
    assert c.parse_target("/-/health/ready/?a=b") == "/-/health/ready/?a=b"
    for bad in ("", "health", "/a b", "/a\n", "/a#b"):
        with pytest.raises(ConfigError, match=r"^--path"):
            c.parse_target(bad)


def test_names_of_groups():
    assert c.parse_group("app-1.blue") == "app-1.blue"
    for bad in ("", "a b", "\u00fc", "a" * 65):
        with pytest.raises(ConfigError, match=r"^--group"):
            c.parse_group(bad)


@pytest.mark.parametrize("text", ["websocket", "tcp", "tailscale-control-protocol", "SPDY/3.1"])
def test_upgrade_tokens(text):
    assert c.parse_upgrade(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [("h2c", "leave it out"), ("H2C", "leave it out"), ("HTTP/2.0", "leave it out"),
     ("", "not the name"), ("a b", "not the name"), ("a,b", "not the name")],
)  # fmt: skip
def test_upgrade_tokens_that_are_none(text, why):
    with pytest.raises(ConfigError, match=f"--upgrade {text}: .*{why}"):
        c.parse_upgrade(text)


def test_parameters_to_mask():
    assert c.parse_parameter("token") == "token"
    for bad in "", "a b", "a=b", "?token", "to%6ben", "ü":
        with pytest.raises(ConfigError, match=r"^--access-log-mask .*: type the name"):
            c.parse_parameter(bad)
