"""Pages of our own: formats, escaping."""

import json

import pytest

from rawproxy.pages import REASONS, negotiate, redirect, render

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


def test_redirect():
    assert b'href="https://h/?a=1&amp;b=&quot;"' in redirect(b'https://h/?a=1&b="')[1]


def test_reasons():
    assert REASONS[413] == b"Content Too Large"
