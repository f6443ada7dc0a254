"""The path that an upstream sees: prefixes taken off, put on, and rewritten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.path_change import PathChange
from rawproxy.protocol.http.rewrite import context
from rawproxy.protocol.http.variable_values import Asked


def asked(target: bytes, block: bytes = b"", trusted: bool = False, captures=()) -> Asked:
    head = RequestHead(b"GET", target, 1, block, [], 0, False, b"", False, b"h.test", (), 0)
    return Asked(head, context(b"192.0.2.1", b"https", trusted, False, None), b"", 443, 1, captures)


@pytest.mark.parametrize(
    ("prefix", "instead", "target", "sees"),
    [
        ("/app", "/", b"/app", b"/"),
        ("/app", "/", b"/app/", b"/"),
        ("/app", "/", b"/app/x?y=/app", b"/x?y=/app"),
        ("/app", "/", b"/app?y", b"/?y"),
        ("/app/", "/", b"/app/x", b"/x"),
        ("/app", "/v1", b"/app/x", b"/v1/x"),
        ("/app", "/v1/", b"/app/x", b"/v1/x"),
        ("/app/", "/v1", b"/app/x", b"/v1/x"),
        ("/app", "/v1", b"/app", b"/v1"),
        ("/", "/v1", b"/x", b"/v1/x"),
        ("/", "/v1", b"/", b"/v1/"),
        ("/app", "/", b"/app//evil.test/x", b"/evil.test/x"),
        ("/app", "/", b"/app/\\evil.test", b"/evil.test"),
        ("/app", "/", b"*", b"*"),
    ],
)
def test_prefixes(prefix, instead, target, sees):
    assert PathChange(prefix, instead).target(asked(target)) == sees


@pytest.mark.parametrize(
    ("rewrite", "target", "captures", "sees"),
    [
        ("/u/$1/$2", b"/user/7/a%20b?q=1", (b"7", b"a%20b"), b"/u/7/a%20b?q=1"),
        ("/u?id=$1", b"/user/7?q=1", (b"7",), b"/u?id=7&q=1"),
        ("/u?id=$1", b"/user/7", (b"7",), b"/u?id=7"),
        ("/fixed", b"/a", (), b"/fixed"),
        ("$1", b"//evil.test/x", (b"//evil.test/x",), b"/evil.test/x"),
        ("/x$uri", b"/%61/", (), b"/x/a/"),
        ("/$http_x", b"/", (), b"/"),
    ],
)
def test_rewrites(rewrite, target, captures, sees):
    assert PathChange("/", "/", rewrite).target(asked(target, captures=captures)) == sees


@pytest.mark.parametrize(
    ("prefix", "instead", "target", "sees"),
    [
        ("/app/", "/v1/", b"/app/x?q=%2F", b"/v1/x?q=%2F"),
        ("/app/", "/v1", b"/app/x", b"/v1x"),  # to the letter
        ("/app", "/v1/", b"/app/x", b"/v1//x"),
        ("/app", "/v1", b"/apple", b"/v1le"),
        ("/app", "/", b"/app/x", b"/x"),  # nginx says //x
        ("/app/", "/", b"/app/%41%2Fb%20c%C3%A9?%41", b"/A/b%20c%C3%A9?%41"),
        ("/app/", "/", b"/app/a%2525b%3fc%23", b"/a%2525b%3Fc%23"),
        ("/app/", "/", b'/app/%61"<', b"/a%22%3C"),  # anew, as soon as one is escaped
        ("/app/", "/", b'/app/a"<', b'/a"<'),
        ("/app/", "/v1/", b"/app/a//b", b"/v1/a/b"),
        ("/app/", "/", b"*", b"*"),
    ],
)
def test_prefixes_as_nginx_changes_them(prefix, instead, target, sees):
    assert PathChange(prefix, instead, as_nginx=True).target(asked(target)) == sees


@pytest.mark.parametrize(
    ("target", "captures", "sees"),
    [
        (b"/a/b?q", (b"b",), b"/x/b?q"),
        (b"/a/b?", (b"b",), b"/x/b"),
        (b"/a/<%20", (b"<%20",), b"/x/%3C%20"),
        (b'/a/"{|}', (b"%22{|}",), b"/x/%22%7B%7C%7D"),
    ],
)
def test_rewrites_as_nginx_escapes_them(target, captures, sees):
    change = PathChange("/", "/", "/x/$1", as_nginx=True)
    assert change.target(asked(target, captures=captures)) == sees


@given(st.text("/\\ax.;%?", max_size=12), st.sampled_from(["/", "/v1", "/v1/"]))
def test_nothing_begins_with_two_slashes_as_nginx_either(rest, instead):
    target = b"/app/" + rest.encode()
    for change in (
        PathChange("/app/", instead, as_nginx=True),
        PathChange("/app", instead, as_nginx=True),
    ):
        sees = change.target(asked(target))
        assert sees[:1] == b"/" and sees[1:2] not in (b"/", b"\\")
        assert not set(sees) & set(b" \r\n")


@given(st.text("/\\ax.;%?", max_size=12), st.sampled_from(["/", "/v1"]))
def test_nothing_begins_with_two_slashes(rest, instead):
    sees = PathChange("/app", instead).target(asked(b"/app/" + rest.encode()))
    assert sees[:1] == b"/" and sees[1:2] not in (b"/", b"\\")


def test_the_prefix_is_told():
    change = PathChange("/app/", "/")
    theirs = b"Accept: */*\r\nX-Forwarded-Prefix: /outer/\r\n"
    assert change.prefix_line(asked(b"/app/x", theirs)) == b"X-Forwarded-Prefix: /app\r\n"
    told = change.prefix_line(asked(b"/app/x", theirs, trusted=True))
    assert told == b"X-Forwarded-Prefix: /outer/app\r\n"
    odd = b'X-Forwarded-Prefix: /"><script>\r\n'
    assert change.prefix_line(asked(b"/app/x", odd, trusted=True)).endswith(b": /app\r\n")
    assert (change.strips, PathChange("/a", "/b").strips, PathChange("/", "/b").strips) == (
        True,
        False,
        False,
    )
