"""What variables stand for, and that no client ends a line with one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.config.model import Edits, Route
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http.variable_values import Asked, Value, normalised
from rawproxy.protocol.http1.parser import parse_request
from rawproxy.routing.own_answer import location
from rawproxy.routing.route_targets import edits, plan

CONTEXT = context(b"192.0.2.7", b"https", False, False, None)._replace(id=b"1d")
FIELDS = b"X-A: one\r\nx-a: two\r\nCookie: a=1; sid=x y\r\nCookie: b=2\r\nX-Tab: a\tb\r\n"


def asked(
    target=b"/",
    host=b"H.test.:8443",
    fields=FIELDS,
    method=b"GET",
    context=CONTEXT,
    name=b"site",
    **more,
):
    raw = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, fields)
    head = parse_request(raw)
    assert head is not None
    facts = {"server_port": 443, "remote_port": 5, **more}
    return Asked(head, context, name, **facts)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$host", b"h.test"),
        ("$http_host", b"H.test.:8443"),
        ("$request_uri", b"/a%20b//c?x=1&Y=2"),
        ("$uri", b"/a%20b/c"),
        ("$path", b"/a%20b//c"),
        ("$query|$args", b"x=1&Y=2|x=1&Y=2"),
        ("$scheme $method", b"https GET"),
        ("$remote_addr:$remote_port", b"192.0.2.7:5"),
        ("$server_name:$server_port", b"site:443"),
        ("$request_id", b"1d"),
        ("$client_verify", b"NONE"),
        ("$http_x_a", b"one, two"),
        ("$http_X_A", b"one, two"),
        ("$http_cookie", b"a=1; sid=x y; b=2"),
        ("$http_x_tab", b"a\tb"),
        ("$cookie_sid|$cookie_b|$cookie_c", b"x y|2|"),
        ("$arg_x$arg_y$arg_z", b"12"),
        ("$http_none", b""),
        (" a$$ $http_none ", b"a$"),
    ],
)
def test_values(value, expected):
    assert Value(value).of(asked(b"/a%20b//c?x=1&Y=2")) == expected


def test_without_variables_a_value_is_what_it_is():
    assert Value("a$$b").fixed == b"a$b"
    assert Value("$host").fixed is None


def test_what_is_not_there_is_empty():
    nothing = asked(server_port=0, remote_port=0, name=b"")
    assert Value("$server_port|$remote_port|$server_name").of(nothing) == b"||"
    head = nothing.head._replace(host=b"")
    assert Value("$host").of(Asked(head, CONTEXT, b"site", 0, 0)) == b"site"
    star = Asked(head._replace(target=b"*"), CONTEXT, b"", 0, 0)
    assert Value("$request_uri").of(star) == b"/"


def test_a_verified_client_and_one_behind_a_trusted_proxy():
    verified = CONTEXT._replace(identity=b"SSL-Client-Verify: SUCCESS\r\nSSL-Client-Serial: 1\r\n")
    assert Value("$client_verify").of(asked(context=verified)) == b"SUCCESS"
    trusted = CONTEXT._replace(trusted=True, networks=(ipaddress.ip_network("192.0.2.0/24"),))
    chain = b"X-Forwarded-For: 198.51.100.1, 192.0.2.9\r\n"
    assert Value("$remote_addr").of(asked(fields=chain, context=trusted)) == b"198.51.100.1"


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (b"/", b"/"),
        (b"/a/b/", b"/a/b/"),
        (b"/%61%7Eb", b"/a~b"),
        (b"/a%2fb", b"/a/b"),
        (b"/a%0d%0aSet-Cookie:x", b"/a%0D%0ASet-Cookie:x"),
        (b"/%00%20%ff%7f", b"/%00%20%FF%7F"),
        (b"/%25%3f%23%5c%22", b"/%25%3F%23%5C%22"),
        (b"//a///b", b"/a/b"),
        (b"/%2f%2fevil", b"/evil"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/a/%2e%2e/b", b"/b"),
        (b"/../../x", b"/x"),
        (b"/a/..", b"/"),
        (b"/a/.", b"/a/"),
        (b"/%", b"/%"),
        (b"*", b"/"),
    ],
)
def test_uri_is_normalised_as_far_as_that_is_safe(path, uri):
    assert normalised(path) == uri
    assert normalised(normalised(path)) == normalised(path)


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from(["uri", "path", "query", "request_uri", "http_x", "cookie_x", "arg_x", "host", "http_host"]))  # fmt: skip
def test_no_client_ends_a_line(target, field, name):
    block = b"X: " + field + b"\r\nCookie: x=" + field + b"\r\n"
    head = RequestHead(b"GET", b"/" + target, 1, block, [], 0, False, b"", False, field, (), 0)
    one = Asked(head, CONTEXT, b"", 1, 1)
    value = Value(f"a${{{name}}}z").of(one)
    assert not any((byte < 32 and byte != 9) or byte == 127 for byte in value)
    assert value == value.strip(b" \t")
    url = Value(f"/a${{{name}}}z").url_of(one)
    assert all(0x21 <= byte < 0x7F for byte in url)


@pytest.mark.parametrize(
    ("target", "request_target", "where"),
    [
        ("https://$host$request_uri", b"/a?b", b"https://h.test/a?b"),
        ("https://$http_host$uri", b"/a%2fb", b"https://H.test.:8443/a/b"),
        ("/$arg_next", b"/?next=/evil.example", b"/evil.example"),
        ("/$arg_next", b"/?next=%09/evil.example", b"/%09/evil.example"),
        ("$$", b"/", b"$"),
        ("//$host/", b"/", b"/h.test/"),
        ("/x?at=$http_x_tab", b"/", b"/x?at=a%09b"),
        ("/x?c=$cookie_sid", b"/", b"/x?c=x%20y"),
    ],
)
def test_redirects(target, request_target, where):
    assert location(Value(target), asked(request_target)) == where


def made(request, response, of):
    route = Route(request_headers=request, response_headers=response)
    whole, each = edits(route), plan(route)
    assert whole is not None and each is not None
    return each.of(whole, of)


def test_edits_of_one_request():
    request = Edits(
        remove=("X-Gone",),
        set=(
            ("X_Uri", "$uri"),
            ("X-Fixed", "f$$"),
            ("X-None", "$http_none"),
            ("Host", "$http_host"),
        ),
        add=(("X-Id", "$request_id"),),
    )
    one = made(request, Edits(set=(("X-Was", "$method"),)), asked(b"/a"))
    assert one.request_cut == {b"x-gone", b"x-uri", b"x-fixed", b"x-none", b"host"}
    assert one.request_lines == b"X_Uri: /a\r\nX-Fixed: f$\r\nHost: H.test.:8443\r\nX-Id: 1d\r\n"
    assert (one.response_cut, one.response_lines) == ({b"x-was"}, b"X-Was: GET\r\n")
    assert plan(Route(request_headers=Edits(set=(("X", "$$"),)))) is None


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b"a@b"])
def test_a_host_that_is_none_leaves_the_clients_own(host):
    request = Edits(set=(("Host", "$http_x_host"), ("X-A", "a")))
    one = made(request, Edits(), asked(fields=b"X-Host: " + host + b"\r\n"))
    assert one.request_cut == {b"x-a"}
    assert one.request_lines == b"X-A: a\r\n"
