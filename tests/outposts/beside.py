"""What becomes of a request that a guard is asked about, behind rawproxy, nginx and Caddy.

Each case is a function that asks through one proxy and says in a few words what happened. `why` says
why rawproxy does otherwise, where it does; `test` names what holds rawproxy to it beside this.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .fronts import running
from .stand import APPLICATIONS, UPGRADE, Site, Stand, outpost, path

ANSWERS, PITFALLS = "answers", "pitfalls"
NAVIGATES = ("Accept: text/html", "Sec-Fetch-Mode: navigate")
SCRIPT = ("Accept: */*", "Sec-Fetch-Mode: cors")
YES = "X-authentik-username: alice"
COOKIES = ("Set-Cookie: a=1", "Set-Cookie: b=2", "Set-Cookie: c=3")
LARGE = 10_000_000  # bytes
ACCESS, TUNNELS = "wire/test_access.py::", "wire/test_access_tunnels.py::"


class Case(NamedTuple):
    """One line of a table."""

    table: str
    title: str
    words: Callable[[Stand], str]
    test: str
    why: str


CASES: list[Case] = []
Words = Callable[[Stand], str]


def case(table: str, title: str, test: str, why: str = "") -> Callable[[Words], Words]:
    """Put a function into a table."""

    def keep(words: Words) -> Words:
        CASES.append(Case(table, title, words, test, why))
        return words

    return keep


# ── what the guard answers ──────────────────────────────────────────────────────────────────────


@case(
    ANSWERS,
    "200 that names somebody",
    ACCESS + "test_whoever_may_pass_passes_with_what_the_guard_told",
)
def yes(stand: Stand) -> str:
    stand.says(200, YES)
    return stand.outcome(stand.ask())


@case(
    ANSWERS, "200 that names nobody, on a route with `require`",
    ACCESS + "test_a_required_identity_that_is_not_told_is_a_refusal",
    "the others cannot ask for it; without `require`, rawproxy serves nobody as well",
)  # fmt: skip
def nobody(stand: Stand) -> str:
    stand.says(200)
    return stand.outcome(stand.ask(host="strict.domain.test"))


def _cookies(stand: Stand, target: str, *lines: str) -> str:
    stand.says(200, YES, *COOKIES)
    found = stand.ask(target, *lines).all("set-cookie")
    return f"{len(found)} of 3 reach the client"


LOST = "sessions are kept in several cookies, and any answer may renew them"


@case(
    ANSWERS, "200 with three cookies", ACCESS + "test_all_cookies_reach_the_client_on_answers_and_on_errors", LOST
)  # fmt: skip
def cookies(stand: Stand) -> str:
    return _cookies(stand, "/page")


@case(
    ANSWERS, "the same, where the application answers 404",
    ACCESS + "test_all_cookies_reach_the_client_on_answers_and_on_errors", LOST,
)  # fmt: skip
def cookies_of_errors(stand: Stand) -> str:
    return _cookies(stand, "/missing")


@case(
    ANSWERS, "the same, where a WebSocket opens",
    TUNNELS + "test_a_websocket_is_asked_about_as_a_get_and_opens_with_all_cookies", LOST,
)  # fmt: skip
def cookies_of_sockets(stand: Stand) -> str:
    return _cookies(stand, "/echo", *UPGRADE)


GOES = ACCESS + "test_a_guards_no_goes_to_the_client_as_it_is"


@case(
    ANSWERS,
    "302 with two cookies",
    GOES,
    "nginx knows 2xx, 401 and 403 alone: the outpost has an endpoint for it",
)
def redirect(stand: Stand) -> str:
    stand.says(302, "Location: http://auth.domain.test/x", *COOKIES[:2])
    got = stand.ask()
    if got.one("location") != "http://auth.domain.test/x":
        return stand.outcome(got)
    return f"{got.status}, {len(got.all('set-cookie'))} cookies"


def _sign_in(stand: Stand, *lines: str) -> str:
    stand.says(401)
    got = stand.ask("/page", *lines)
    return (
        f"{got.status} to {path(got.one('location')).partition('?')[0]}"
        if got.one("location")
        else stand.outcome(got)
    )


NAVIGATION = ACCESS + "test_a_401_becomes_a_redirect_for_navigations_alone"


@case(
    ANSWERS, "401, to a script", NAVIGATION,
    "a script that is redirected learns nothing, and becomes the page to come back to",
)  # fmt: skip
def told_script(stand: Stand) -> str:
    return _sign_in(stand, *SCRIPT)


@case(
    ANSWERS, "401, to whoever navigates", NAVIGATION,
    "authentik answers its /auth/caddy by a redirect; of others' 401, `sign-in` makes one",
)  # fmt: skip
def told_person(stand: Stand) -> str:
    return _sign_in(stand, *NAVIGATES)


@case(ANSWERS, "403 with a page", GOES, "what the guard has to say is for the client")
def forbidden(stand: Stand) -> str:
    stand.says(403, "Content-Type: text/plain", body=b"ask Carol")
    got = stand.ask()
    return f"{stand.outcome(got)}, {'its' if got.body == b'ask Carol' else 'another'} page"


CLOSES = ACCESS + "test_what_is_no_answer_closes"
UNKNOWN = "what nobody understands is no answer: closed, and the cause is in the log alone"


@case(ANSWERS, "404, as for a host without a provider", CLOSES, UNKNOWN)
def unknown(stand: Stand) -> str:
    stand.says(404, body=b"no app for hostname")
    return stand.outcome(stand.ask())


@case(ANSWERS, "500", CLOSES, UNKNOWN)
def broken(stand: Stand) -> str:
    stand.says(500)
    return stand.outcome(stand.ask())


@case(
    ANSWERS, "a connection that closes", CLOSES, "503 says that it may be better later, and is ours"
)
def closed(stand: Stand) -> str:
    stand.says(200, raw=b"")
    return stand.outcome(stand.ask())


@case(
    ANSWERS, "nothing", ACCESS + "test_a_guard_that_hangs_closes_in_time",
    "`timeout`, 10 s unless set and 1 s here; nginx waits 60 s, Caddy without end",
)  # fmt: skip
def silent(stand: Stand) -> str:
    stand.says(200, YES, wait=30.0)
    return stand.outcome(stand.ask())


@case(ANSWERS, "200 with 10 MB", CLOSES, "64 KiB are enough to say yes or no; the rest is not read")
def large(stand: Stand) -> str:
    stand.says(200, YES, body=b"x" * LARGE)
    return stand.outcome(stand.ask())


@case(ANSWERS, "403 with 10 MB", CLOSES, "64 KiB are enough for a page")
def large_no(stand: Stand) -> str:
    stand.says(403, body=b"x" * LARGE)
    got = stand.ask()
    return f"{got.status} with {len(got.body) / 1e6:.0f} MB"


@case(
    ANSWERS,
    "200 with a token of 40 kB",
    "unit/protocol/http/test_head.py::test_rule_32_large_response_heads_pass",
    "heads of upstreams may have 64 KiB",
)
def long_head(stand: Stand) -> str:
    stand.says(200, YES, "X-authentik-jwt: " + "x" * 40_000)
    return stand.outcome(stand.ask())


LIFE = "peers/test_access_browser.py::test_the_whole_life_behind_authentik"


@case(
    ANSWERS, "a stranger asks for `/page?a=b&c=d`, and signs in", LIFE,
    "the pasted lines put the URL into `rd=` as it is, so it ends at its first `&`",
)  # fmt: skip
def stranger(stand: Stand) -> str:
    return stand.back(stand.ask("/page?a=b&c=d", *NAVIGATES))


@case(
    ANSWERS, "an application that is known by its port: `Host: port.domain.test:8443`", LIFE,
    "the pasted lines send `$host`, which has no port: the outpost finds no provider",
)  # fmt: skip
def port(stand: Stand) -> str:
    application = APPLICATIONS[2]
    return stand.outcome(stand.ask("/page", stand.signed_in(application), host=application.host))


@case(
    ANSWERS, "a POST to the outpost's own paths", "unit/access/test_reading.py::test_one_line_guards_a_site_and_brings_the_outposts_own_paths",
    "the pasted lines send no body; a sign-out by the back channel has one",
)  # fmt: skip
def own_path(stand: Stand) -> str:
    stand.ask("/outpost.goauthentik.io/sign_out", method="POST", body=b"abc")
    seen = next((one for one in stand.guard.seen if one.method == "POST"), None)
    if seen is None:
        return "does not arrive"
    return "arrives whole" if seen.body == b"abc" else "arrives without its body"


# ── what became a CVE elsewhere ─────────────────────────────────────────────────────────────────

FORGED = "X-authentik-username: root"
CUT = ACCESS + "test_what_clients_say_of_themselves_reaches_nobody_on_any_route"
NAMES = "every name of the guard's family is cut, on every route of the site"


@case(
    PITFALLS,
    "the client says `X-authentik-username: root`, and the guard names nobody (CVE-2026-30851)",
    CUT,
    NAMES,
)
def forged(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public", FORGED))


@case(PITFALLS, "the same to a route without a guard", CUT, NAMES)
def forged_elsewhere(stand: Stand) -> str:
    return stand.outcome(stand.ask("/health", FORGED))


@case(
    PITFALLS,
    "a twin: `X_authentik_username: root` (CVE-2026-54763)",
    CUT,
    "a twin is the same name to CGI, WSGI and PHP",
)
def twin(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public", "X_authentik_username: root"))


@case(PITFALLS, "a name that no list has: `X-authentik-role: admin`", CUT, NAMES)
def family(stand: Stand) -> str:
    stand.ask("/page", "X-authentik-role: admin", stand.signed_in())
    told = any(seen.one("x-authentik-role") for seen in stand.site.seen)
    return "reaches the application" if told else "is cut"


@case(
    PITFALLS, "`Connection: X-authentik-username`, to remove what the guard says (as CVE-2024-45410)",
    ACCESS + "test_whoever_may_pass_passes_with_what_the_guard_told",
    "what Connection names goes first, then what the guard says is added",
)  # fmt: skip
def nominated(stand: Stand) -> str:
    return stand.outcome(stand.ask("/page", "Connection: X-authentik-username", stand.signed_in()))


ASKED = "unit/access/test_questions.py::test_what_a_client_says_of_itself_is_left_out"
FIRST = "what clients say of forwarding is dropped before the guard is asked"


@case(
    PITFALLS,
    "`X-Original-URI: http://app.domain.test/public`, to be judged by another path",
    ASKED,
    FIRST,
)
def original(stand: Stand) -> str:
    return stand.outcome(stand.ask("/secret", "X-Original-URI: http://app.domain.test/public"))


@case(PITFALLS, "`X-Forwarded-Uri: /public`, for the same (CVE-2026-40575)", ASKED, FIRST)
def forwarded(stand: Stand) -> str:
    return stand.outcome(stand.ask("/secret", "X-Forwarded-Uri: /public"))


@case(PITFALLS, "`X-Forwarded-Host` of an application that is open to all", ASKED, FIRST)
def other_host(stand: Stand) -> str:
    return stand.outcome(stand.ask("/secret", "X-Forwarded-Host: open.domain.test"))


@case(PITFALLS, "`X-Forwarded-Method: GET` with a DELETE: the guard is told", ASKED, FIRST)
def method(stand: Stand) -> str:
    stand.ask("/page", "X-Forwarded-Method: GET", method="DELETE")
    question = stand.question()
    return "nothing" if question is None else question.one("X-Forwarded-Method", "nothing")


@case(
    PITFALLS,
    "`X-Forwarded-For: 192.0.2.6`: the guard is told (CVE-2024-47070)",
    ASKED,
    "one address, the client's, is read by everybody alike",
)
def address(stand: Stand) -> str:
    stand.ask("/page", "X-Forwarded-For: 192.0.2.6")
    question = stand.question()
    return "nothing" if question is None else question.one("X-Forwarded-For", "nothing")


DOTS = ACCESS + "test_a_path_that_others_read_as_another_is_not_even_asked_about"
SAME = "the guard may judge another path than the application reads, so such a path is refused"


@case(PITFALLS, "`/public/../secret`, where /public needs no sign-in", DOTS, SAME)
def dots(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public/../secret"))


@case(PITFALLS, "`/public/%2e%2e/secret`", DOTS, SAME)
def encoded_dots(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public/%2e%2e/secret"))


@case(PITFALLS, "`/public/..;/secret`", DOTS, SAME)
def parameters(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public/..;/secret"))


@case(PITFALLS, "`/public/..%5csecret`", DOTS, SAME)
def backslash(stand: Stand) -> str:
    return stand.outcome(stand.ask("/public/..%5csecret"))


@case(
    PITFALLS,
    "`/%zz`, which the guard cannot read and answers by 400 (CVE-2021-32637)",
    CLOSES,
    UNKNOWN,
)
def unreadable(stand: Stand) -> str:
    stand.says(400)
    return stand.outcome(stand.ask("/%zz"))


@case(
    PITFALLS,
    "a POST with a body: the question has",
    "unit/access/test_questions.py::test_what_belongs_to_a_body_or_a_connection_is_left_out",
)
def question_body(stand: Stand) -> str:
    stand.ask("/page", method="POST", body=b"abc")
    question = stand.question()
    if question is None:
        return "no question"
    return (
        "a body"
        if question.body
        else "a length"
        if question.one("Content-Length", "0") != "0"
        else "no body"
    )


@case(
    PITFALLS, "a WebSocket: the question asks for an upgrade",
    TUNNELS + "test_a_websocket_is_asked_about_as_a_get_and_opens_with_all_cookies",
    "a question is an ordinary GET; a guard that takes the upgrade up would be a tunnel",
)  # fmt: skip
def question_upgrade(stand: Stand) -> str:
    stand.ask("/echo", *UPGRADE)
    question = stand.question()
    return "no question" if question is None else "yes" if question.one("Upgrade") else "no"


@case(
    PITFALLS, "`Expect: 100-continue`, and the guard says 403",
    ACCESS + "test_nobody_is_told_to_continue_before_the_verdict",
    "nobody is asked for a body that will not be taken",
)  # fmt: skip
def expects(stand: Stand) -> str:
    stand.says(403)
    got = stand.ask("/page", "Expect: 100-continue", "Content-Length: 3", method="POST")
    return f"{'100, then ' if got.continued else ''}{got.status}"


@case(
    PITFALLS,
    "another status that begins with 2: 204",
    "unit/access/test_verdicts.py::test_only_what_passes_passes",
)
def other_success(stand: Stand) -> str:
    stand.says(204, YES)
    return stand.outcome(stand.ask())


@case(
    PITFALLS,
    "304, as if the client's copy were good",
    "unit/access/test_verdicts.py::test_only_what_passes_passes",
    UNKNOWN,
)
def not_modified(stand: Stand) -> str:
    stand.says(304, YES)
    return stand.outcome(stand.ask("/page", 'If-None-Match: "x"'))


@case(
    PITFALLS, "the guard sends `Authorization`, and so does the client",
    ACCESS + "test_an_authorization_of_the_guard_takes_the_place_of_the_clients",
)  # fmt: skip
def authorization(stand: Stand) -> str:
    stand.says(200, YES, "Authorization: Basic Z3VhcmQ=")
    stand.ask("/page", "Authorization: Basic Y2xpZW50")
    seen = stand.site.seen[-1].all("Authorization")
    known = {"Basic Z3VhcmQ=": "the guard's", "Basic Y2xpZW50": "the client's"}
    return f"{' and '.join(known[one] for one in seen)} arrives"


@case(
    PITFALLS, "40 requests wait for a guard that hangs; another site meanwhile",
    ACCESS + "test_a_full_queue_closes_and_harms_nobody_else",
)  # fmt: skip
def neighbour(stand: Stand) -> str:
    stand.says(200, YES, wait=30.0)
    waiting = [threading.Thread(target=stand.ask) for _ in range(40)]
    for thread in waiting:
        thread.start()
    try:
        return "is served" if stand.ask(host="elsewhere.test", wait=0.7).status == 200 else "waits"
    finally:
        stand.guard.resume()
        for thread in waiting:
            thread.join()


@contextlib.contextmanager
def standing(name: str) -> Iterator[Stand]:
    """A proxy with what stands around it."""
    with Site() as site, outpost() as guard, running(name, site.port, guard.port) as front:
        yield Stand(front, site, guard)


def verdicts(name: str) -> dict[str, str]:
    """What happens in every case, by title."""
    found = {}
    with standing(name) as stand:
        for one in CASES:
            stand.clear()
            found[one.title] = one.words(stand)
        stand.clear()
    return found
