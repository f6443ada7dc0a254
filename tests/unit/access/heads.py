"""Heads for the tests of this room, as either lane of the parser would give them."""

from rawproxy.access.rules import BY_KIND, AuthRule
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.protocol.http1.parser import parse_request, parse_response


def request(*lines: str, target: str = "/app?a=b", method: str = "GET") -> RequestHead:
    start = f"{method} {target} HTTP/1.1"
    head = parse_request("\r\n".join([start, "Host: app.tld", *lines, "", ""]).encode())
    assert head is not None
    return head


def response(status: int, *lines: str) -> ResponseHead:
    start = f"HTTP/1.1 {status} Whatever"
    head = parse_response("\r\n".join([start, "Content-Length: 0", *lines, "", ""]).encode())
    assert head is not None
    return head


def asked(head: RequestHead, **facts: object) -> Asked:
    context = rewrite.context(
        b"192.0.2.7", b"https", bool(facts.pop("trusted", False)), False, None
    )
    return Asked(head, context._replace(**facts), b"site.tld", 443, 50000)


def rule(kind: str = "authentik", **facts: object) -> AuthRule:
    known = BY_KIND[kind]
    given = {
        "path": known.path, "method": known.method, "copied": known.copied,
        "sign_in": known.sign_in, "own_path": known.own_path,
    }  # fmt: skip
    return AuthRule("sso", kind, "auth.sso", **(given | facts))
