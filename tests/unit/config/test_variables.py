"""What may stand in a value of the configuration."""

import pytest

from rawproxy.config.option_values import parse_header, parse_redirect
from rawproxy.config.variables import NAMES, Piece, named, parse
from rawproxy.errors import ConfigError


def test_text_and_variables():
    assert parse("") == (Piece(""),)
    assert parse("text") == (Piece("text"),)
    assert parse("a$$b$$") == (Piece("a$b$"),)
    assert parse("$host") == (Piece("", "host"),)
    assert parse("a $host:$server_port/${uri}x") == (
        Piece("a "), Piece("", "host"), Piece(":"), Piece("", "server_port"), Piece("/"),
        Piece("", "uri"), Piece("x"),
    )  # fmt: skip
    assert parse("$http_x_a$cookie_Sid$arg_q") == (
        Piece("", "http_", "x_a"), Piece("", "cookie_", "Sid"), Piece("", "arg_", "q"),
    )  # fmt: skip
    assert all(parse(f"${name}") == (Piece("", name),) for name in NAMES)
    assert named("a$request_id", "request_id") and not named("$$request_id", "request_id")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("$hots", "$hots is not known; did you mean $host?"),
        ("$proxy_add_x_forwarded_for", "$proxy_add_x_forwarded_for is not known"),
        ("$hostx", "did you mean $host?"),
        ("$http_", "$http_ is not known"),
        ("${nothing}", "known are $host, $http_host"),
        ("costs 5$", "a $ that names nothing; for a dollar itself type $$"),
        ("$ 5", "for a dollar itself type $$"),
        ("${host", "for a dollar itself type $$"),
        ("$-", "type $$"),
        ("/u/$1/x", "$1 is what the path-regex of a route has matched, and here it is missing"),
        ("$12", "as in $$1"),
        ("$0", "for a dollar itself type $$"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_what_to_type(value, hint):
    with pytest.raises(ConfigError) as caught:
        parse(value)
    assert hint in str(caught.value)
    for option in "--set", "--add":
        with pytest.raises(ConfigError) as caught:
            parse_header(option, "X-A", value)
        assert str(caught.value).startswith(option) and hint in str(caught.value)
    with pytest.raises(ConfigError):
        parse_redirect(f"https://h/{value}")


@pytest.mark.parametrize(
    "text",
    [
        "https://$host$request_uri", "https://$host:8443$uri", "https://$http_host$path",
        "https://${host}${request_uri}", "https://$server_name/x?$args", "/$path", "/a$$b",
        "https://h/login?next=$request_uri", "http://[::1]:80$path", "https://$host",
    ],
)  # fmt: skip
def test_redirects(text):
    assert parse_redirect(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "$arg_next", "https://$arg_host/", "https://$hostx/", "https://$host$arg_x", "$request_uri",
        "https://h$http_x", "https://$host.evil.example/", "https://$cookie_a", "https://$pathx",
        "https://h$pathy", "https://${host", "https://$host@x/",
    ],
)  # fmt: skip
def test_a_client_never_names_the_host_of_a_redirect(text):
    with pytest.raises(ConfigError):
        parse_redirect(text)
