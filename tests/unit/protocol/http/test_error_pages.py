"""Pages of our own: formats, escaping."""

import json

import pytest

from rawproxy.protocol.http.error_pages import REASONS, negotiate, redirect, render

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"", "text/plain"),
        (b"*/*", "text/plain"),
        (BROWSER, "text/html"),
        (b"application/json", "application/json"),
        (b"application/json;q=0.5, text/html;q=0.4", "application/json"),
        (b"text/*;q=0.5, text/plain;q=0.1, application/json; v=1; q=0.3", "text/html"),
        (b"application/*", "application/json"),
        (b"text/plain;q=0, */*;q=0.1", "text/html"),
        (b"image/png", "text/plain"),
        (b"nonsense, ;;;, \xff", "text/plain"),
    ],
)
def test_negotiate(accept, kind):
    assert negotiate(accept) == kind


def test_html_is_escaped():
    kind, body = render(400, b"text/html", "id<", "no site is called <script>")
    assert kind == b"text/html; charset=utf-8"
    assert b"<script>" not in body
    assert b"&lt;script&gt;" in body
    assert b"id&lt;" in body
    assert b"<p></p>" not in render(502, b"text/html", "id")[1]


def test_json():
    kind, body = render(502, b"application/json", "abc")
    assert kind == b"application/json"
    facts = json.loads(body)
    assert facts["status"] == 502
    assert facts["request_id"] == "abc"
    assert "hint" not in facts
    assert json.loads(render(400, b"application/json", "abc", 'a "hint"')[1])["hint"] == 'a "hint"'


def test_text():
    kind, body = render(418, b"", "abc", "hint")
    assert kind == b"text/plain; charset=utf-8"
    assert body.decode().splitlines() == [
        "418 I'm a Teapot",
        "I'm a Teapot.",
        "hint",
        "Request id abc",
    ]


def test_a_page_has_its_own_id_though_its_text_is_remembered():
    for kind in (b"text/html", b"application/json", b"text/plain"):
        one, other = (render(429, kind, name, "a hint")[1] for name in ("abc", 'x"y'))
        assert b"abc" in one and b"abc" not in other and b"a hint" in other
        assert render(429, kind, "abc", "another")[1].count(b"another") == 1
        assert render(429, kind, "abc", "a hint")[1] == one


def test_redirect():
    assert b'href="https://h/?a=1&amp;b=&quot;"' in redirect(b'https://h/?a=1&b="')[1]


# RFC 9110 15: whatever the standard library calls them.
PHRASES = """100 Continue|101 Switching Protocols|200 OK|201 Created|202 Accepted
203 Non-Authoritative Information|204 No Content|205 Reset Content|206 Partial Content
300 Multiple Choices|301 Moved Permanently|302 Found|303 See Other|304 Not Modified|305 Use Proxy
307 Temporary Redirect|308 Permanent Redirect|400 Bad Request|401 Unauthorized
402 Payment Required|403 Forbidden|404 Not Found|405 Method Not Allowed|406 Not Acceptable
407 Proxy Authentication Required|408 Request Timeout|409 Conflict|410 Gone|411 Length Required
412 Precondition Failed|413 Content Too Large|414 URI Too Long|415 Unsupported Media Type
416 Range Not Satisfiable|417 Expectation Failed|421 Misdirected Request|422 Unprocessable Content
426 Upgrade Required|500 Internal Server Error|501 Not Implemented|502 Bad Gateway
503 Service Unavailable|504 Gateway Timeout|505 HTTP Version Not Supported"""


@pytest.mark.parametrize("phrase", PHRASES.replace("\n", "|").split("|"))
def test_reasons(phrase):
    status, _, reason = phrase.partition(" ")
    assert REASONS[int(status)].decode() == reason
    assert f"{status} {reason}".encode() in render(int(status), b"", "id")[1]


def test_accept_beyond_its_limit_is_not_looked_at():
    assert negotiate(b"text/html;" + b" " * 100_000 + b"q=0.9") == "text/html"
    assert negotiate(b"x/y," * 40 + b"application/json") == "text/plain"
    assert negotiate(b"text/html;q=2, application/json;q=0.5;q=1") == "text/html"
    assert negotiate(b"text/html;xq=0, application/json;q = 0.5") == "text/html"
