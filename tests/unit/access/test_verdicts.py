"""What an answer means: nothing passes but what says so, and no field but those that are listed."""

import pytest

from rawproxy.access.rules import KINDS
from rawproxy.access.verdicts import (
    AnswerForm,
    AnswerLines,
    AuthVerdict,
    Ruling,
    closed,
    navigates,
)
from tests.unit.access.heads import request, response, rule

COOKIES = ("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly", "set-cookie: c=3")
BROWSER = ("Accept: text/html,application/xhtml+xml", "Sec-Fetch-Mode: navigate")
URL = b"https://app.tld/app?a=b&c=%20d"


def judged(kind: str, status: int, *lines: str, body: bytes = b"", **facts) -> AuthVerdict:
    return AnswerForm(rule(kind, **facts)).verdict_of(response(status, *lines), body)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_passes_passes(kind):
    for status in range(200, 600):
        verdict = judged(kind, status, "Location: https://login.tld/")
        passes = status < 300
        answers = status in (301, 302, 303, 307, 308, 401, 403)
        wanted = Ruling.PASS if passes else Ruling.ANSWER if answers else Ruling.CLOSED
        assert verdict.ruling is wanted
        assert verdict.status == (status if answers else 0)
        assert passes or str(status) in verdict.reason


def test_a_redirect_to_nowhere_is_no_answer():
    assert judged("authentik", 302).ruling is Ruling.CLOSED


def test_other_statuses_can_pass():
    facts = {"statuses": ((204, 204), (404, 404))}
    assert judged("request", 404, **facts).ruling is Ruling.PASS
    assert judged("request", 204, **facts).ruling is Ruling.PASS
    assert judged("request", 200, **facts).ruling is Ruling.CLOSED


@pytest.mark.parametrize("status", [200, 302, 401, 403, 500])
def test_all_cookies_are_kept_whatever_the_answer(status):
    verdict = judged("authentik", status, "Location: /x", *COOKIES)
    wanted = "".join(f"{line}\r\n" for line in COOKIES).encode()
    assert verdict.cookies == (b"" if verdict.ruling is Ruling.CLOSED else wanted)
    assert b"cookie" not in verdict.lines.lower()


def test_only_listed_fields_go_to_the_upstream():
    lines = (
        "X-authentik-username: alice",
        "X-authentik-groups: a|b",
        "X-Authentik-Custom: c",
        "Authorization: Basic eA==",
        "User-Agent: curl",
        "X-Powered-By: authentik",
        "X-authentik: no",
        "Remote-User: mallory",
    )
    assert judged("authentik", 200, *lines).lines == (
        b"X-authentik-username: alice\r\nX-authentik-groups: a|b\r\nX-Authentik-Custom: c\r\n"
        b"Authorization: Basic eA==\r\n"
    )
    assert judged("authelia", 200, *lines).lines == b"Remote-User: mallory\r\n"
    assert (
        judged("oauth2-proxy", 202, "X-Auth-Request-Email: a@b").lines
        == b"X-Auth-Request-Email: a@b\r\n"
    )
    assert judged("request", 200, *lines).lines == b""
    assert (
        judged("request", 200, *lines, copied=("X-Powered-By",)).lines
        == b"X-Powered-By: authentik\r\n"
    )


@pytest.mark.parametrize("lines", [(), ("X-authentik-username:",), ("X-authentik-user: a",)])
def test_an_identity_that_is_required_and_missing_is_a_refusal(lines):
    facts = {"require": ("X-authentik-username",)}
    verdict = judged("authentik", 200, *lines, *COOKIES, **facts)
    assert (verdict.ruling, verdict.status) == (Ruling.REFUSE, 403)
    assert "x-authentik-username, which is required" in verdict.reason
    assert verdict.cookies and not verdict.lines
    assert judged("authentik", 200, "x-AUTHENTIK-username: a", **facts).ruling is Ruling.PASS


def test_an_answer_reaches_the_client_without_what_frames_it():
    lines = (
        "Location: https://login.tld/?rd=x",
        "Content-Type: text/html",
        "Content-Encoding: gzip",
        "Connection: close, X-Hop",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Trailer: X",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Strict-Transport-Security: max-age=0",
        "Cache-Control: no-store",
    )
    verdict = judged("authentik", 302, *lines, body=b"<a>")
    assert verdict.body == b"<a>"
    assert verdict.lines == (
        b"Location: https://login.tld/?rd=x\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n"
        b"Cache-Control: no-store\r\n"
    )


def test_an_outpost_without_this_host_is_named():
    assert "no provider for this host" in judged("authentik", 404).reason
    assert "no provider" not in judged("authelia", 404).reason
    away = closed("it is away")
    assert (away.ruling, away.reason, away.status) == (Ruling.CLOSED, "it is away", 0)
    assert not (away.lines or away.cookies or away.body or away.authorizes)


@pytest.mark.parametrize(
    ("copied", "wanted"),
    [
        (("X-A*", "Authorization"), "bcefi"),
        (("X-A*",), "bcfi"),
        (("Auth*", "X-B"), "egk"),
        (("Set-Cookie",), "adhj"),
        (("S*", "X-B"), "adghj"),
        ((), ""),
    ],
)
def test_lines_of_each_kind_are_found_wherever_they_stand(copied, wanted):
    letters = iter("abcdefghijk")
    names = (
        "Set-Cookie", "X-A", "x-AB", "set-cookie", "AUTHORIZATION", "X-A", "X-B", "Set-Cookie",
        "X-A-", "Set-cookie", "Author",
    )  # fmt: skip
    lines = {letter: f"{name}: {letter}\r\n" for letter, name in zip(letters, names, strict=True)}
    block = "".join(lines.values()).encode()
    found, cookies, authorizes = AnswerLines(copied).of(block)
    assert found.decode() == "".join(lines[one] for one in wanted)
    assert cookies.decode() == "".join(lines[one] for one in "adhj")
    assert authorizes is ("e" in wanted)
    assert AnswerLines(copied).of(b"") == (b"", b"", False)


# ── 401 and signing in ──────────────────────────────────────────────────────────────────────────


def for_client(sign_in: str, status: int, *lines: str) -> AuthVerdict:
    form = AnswerForm(rule("request", sign_in=sign_in))
    verdict = form.verdict_of(response(status, "WWW-Authenticate: Bearer", *COOKIES), b"no")
    return form.for_client(verdict, request(*lines), URL)


@pytest.mark.parametrize(
    ("sign_in", "where"),
    [
        ("/oauth2/sign_in", b"/oauth2/sign_in?rd=%2Fapp%3Fa%3Db%26c%3D%2520d"),
        (
            "https://login.tld/",
            b"https://login.tld/?rd=https%3A%2F%2Fapp.tld%2Fapp%3Fa%3Db%26c%3D%2520d",
        ),
        (
            "https://login.tld/?x=1",
            b"https://login.tld/?x=1&rd=https%3A%2F%2Fapp.tld%2Fapp%3Fa%3Db%26c%3D%2520d",
        ),
    ],
)
def test_who_navigates_is_sent_to_sign_in_with_the_whole_url_and_all_cookies(sign_in, where):
    verdict = for_client(sign_in, 401, *BROWSER)
    assert (verdict.status, verdict.body) == (302, b"")
    assert verdict.lines == b"Location: %b\r\nCache-Control: no-store\r\n" % where
    assert verdict.cookies.count(b"ookie") == 3


@pytest.mark.parametrize(
    "lines",
    [
        ("Accept: text/html", "Sec-Fetch-Mode: cors"),
        ("Accept: text/html", "X-Requested-With: XMLHttpRequest"),
        ("Accept: application/json",),
        (),
        (*BROWSER, "Connection: Upgrade", "Upgrade: websocket"),
    ],
)
def test_scripts_and_websockets_get_the_401(lines):
    verdict = for_client("/login", 401, *lines)
    assert (verdict.status, verdict.body) == (401, b"no")
    assert verdict.lines == b"WWW-Authenticate: Bearer\r\n"


def test_a_403_is_no_reason_to_sign_in():
    assert for_client("/login", 403, *BROWSER).status == 403
    assert for_client("", 401, *BROWSER).status == 401


def test_old_browsers_navigate_too():
    assert navigates(request("Accept: TEXT/HTML"))
    assert navigates(request("Sec-Fetch-Mode: Navigate"))


def test_an_authorization_is_told_apart():
    for copied in (("X-a*", "Authorization"), ("Auth*",)):
        form = AnswerForm(rule("request", copied=copied))
        for name in ("Authorization", "AUTHORIZATION"):
            verdict = form.verdict_of(response(200, "X-B: 1", f"{name}: Basic eA=="), b"")
            assert verdict.authorizes and verdict.lines == f"{name}: Basic eA==\r\n".encode()
        assert not form.verdict_of(response(200, "X-a: Authorization: x"), b"").authorizes
    verdict = judged("request", 200, "Authorization: Basic eA==", "X-A: 1", copied=("X-A",))
    assert not verdict.authorizes and verdict.lines == b"X-A: 1\r\n"


def test_an_identity_of_one_letter_is_one():
    for line in ("X-authentik-username: a", "X-authentik-username:a"):
        facts = {"require": ("X-authentik-username",)}
        assert judged("authentik", 200, line, **facts).ruling is Ruling.PASS
