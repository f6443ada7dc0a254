"""What a guard is asked: everything about the client that may matter, and nothing that it says of itself."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.access.questions import CLIENTS, QuestionForm, named, scheme_of, url
from rawproxy.access.rules import BY_KIND, KINDS
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http1.parser import parse_request
from tests.unit.access.heads import asked, request, rule

NETWORKS = (ipaddress.ip_network("10.0.0.0/8"),)


def sent(kind: str, *lines: str, facts: dict | None = None, connection: dict | None = None, **more):
    """The lines of the question, as they are sent."""
    form = QuestionForm(rule(kind, **(facts or {})), BY_KIND[kind].copied)
    whole = asked(request(*lines, **more), **(connection or {}))
    opening = form.opening(form.head(whole.head, whole), whole)
    assert opening.endswith(b"\r\n\r\n") and opening.count(b"\r\n\r\n") == 1
    assert parse_request(opening) is not None, "a question is a request that we would serve"
    return opening.decode().split("\r\n")[:-2]


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("authentik", "GET /outpost.goauthentik.io/auth/caddy HTTP/1.1"),
        ("authelia", "GET /api/authz/forward-auth HTTP/1.1"),
        ("oauth2-proxy", "GET /oauth2/auth HTTP/1.1"),
        ("request", "GET / HTTP/1.1"),
    ],
)
def test_every_kind_is_asked_as_it_wants(kind, start):
    lines = sent(kind, "Cookie: a=b; c=d", "Accept: text/html", method="POST")
    real_ip = ["X-Real-IP: 192.0.2.7"] if kind == "oauth2-proxy" else []
    assert lines == [
        start,
        "Host: app.tld",
        "Cookie: a=b; c=d",
        "Accept: text/html",
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: app.tld",
        "X-Forwarded-Method: POST",
        "X-Forwarded-Uri: /app?a=b",
        *real_ip,
    ]


def test_the_target_is_asked_about_byte_for_byte():
    odd = "/a%2fb/./..;x//c?q=%00&r='\"|\\"
    assert f"X-Forwarded-Uri: {odd}" in sent("authentik", target=odd)
    assert "X-Forwarded-Uri: /" in sent("authentik", target="*", method="OPTIONS")


FORGED = [
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: evil.tld",
    "X-Forwarded-Uri: /public",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Anything: x",
    "X_Forwarded_Uri: /public",
    "X-Original-URI: /public",
    "X-Original-URL: https://evil.tld/public",
    "X-Original-Method: OPTIONS",
    "X_Original_URI: /public",
    "X-Rewrite-URL: /public",
    "X-Auth-Request-Redirect: https://evil.tld/",
    "X-Authelia-URL: https://evil.tld/",
    "X-HTTP-Method-Override: OPTIONS",
    "Forwarded: for=6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "X-authentik-username: admin",
    "X_authentik_username: admin",
    "X-Authentik_Username: admin",
    "X-AUTHENTIK-GROUPS: admins",
    "Remote-User: admin",
    "Remote_User: admin",
    "SSL-Client-Verify: SUCCESS",
]


@pytest.mark.parametrize("underscores", [False, True])
@pytest.mark.parametrize("line", FORGED)
def test_what_a_client_says_of_itself_is_left_out(line, underscores):
    name = line.partition(":")[0].lower().replace("_", "-")
    kind = "authelia" if name.startswith("remote-") else "authentik"
    lines = sent(kind, line, connection={"underscores": underscores})
    assert lines == sent(kind)


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Content-Type: text/plain",
        "Expect: 100-continue",
        "Connection: keep-alive, X-Secret",
        "TE: trailers",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic x",
        "Range: bytes=0-1",
        "If-None-Match: x",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "Max-Forwards: 0",
    ],
)
def test_what_belongs_to_a_body_or_a_connection_is_left_out(line):
    assert sent("authentik", line, method="POST") == sent("authentik", method="POST")


def test_an_upgrade_is_asked_about_as_a_plain_request():
    upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: x",
        "Sec-WebSocket-Version: 13",
    ]
    lines = sent("authentik", *upgrade, "Cookie: a=b")
    assert lines == sent("authentik", "Cookie: a=b")
    form = QuestionForm(rule("authentik"), ())
    whole = asked(request(*upgrade))
    head = form.head(whole.head, whole)
    assert (head.upgrade, head.framing, head.expect) == (b"", 0, False)


def test_what_proves_who_a_client_is_goes_along():
    kept = [
        "Authorization: Basic eA==",
        "Cookie: a=b",
        "X-Api-Key: k",
        "Origin: https://x",
        "User-Agent: y",
        "Accept: */*",
    ]
    for kind in KINDS:
        assert set(kept) <= set(sent(kind, *kept))


def test_behind_a_trusted_proxy_it_is_about_the_client_that_it_names():
    connection = {"trusted": True, "networks": NETWORKS, "scheme": b"http", "peer": b"10.0.0.2"}
    lines = sent(
        "authentik",
        "X-Forwarded-For: 6.6.6.6, 198.51.100.9, 10.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: other.tld",
        connection=connection,
    )
    assert "X-Forwarded-For: 198.51.100.9" in lines
    assert "X-Forwarded-Proto: https" in lines
    assert "X-Forwarded-Host: app.tld" in lines, "the host that was routed by"
    assert len([line for line in lines if line.startswith("X-Forwarded-")]) == 5


@pytest.mark.parametrize(
    ("told", "scheme"),
    [("wss", b"https"), ("ws", b"http"), ("HTTPS", b"https"), ("gopher", b"http"), ("", b"http")],
)
def test_the_scheme_is_http_or_https(told, scheme):
    whole = asked(
        request(f"X-Forwarded-Proto: {told}"), trusted=True, scheme=b"http", networks=NETWORKS
    )
    assert scheme_of(whole.head, whole.context) == scheme


def test_a_request_of_any_kind_can_say_what_it_likes():
    facts = {
        "path": "/check$request_uri",
        "method": "HEAD",
        "headers": (
            ("X-Original-URL", "$scheme://$http_host$request_uri"),
            ("X-Key", "secret"),
            ("Accept", ""),
        ),
    }
    lines = sent("request", "X-Key: mine", "X_Key: mine", "Accept: text/html", facts=facts)
    assert lines[0] == "HEAD /check/app?a=b HTTP/1.1"
    assert "X-Original-URL: https://app.tld/app?a=b" in lines
    assert [line for line in lines if "key" in line.lower()] == ["X-Key: secret"]
    assert not [line for line in lines if "html" in line]


def test_an_old_client_without_a_host_is_asked_about_by_the_name_of_the_site():
    head = parse_request(b"GET /a HTTP/1.0\r\n\r\n")
    whole = asked(head)
    form = QuestionForm(rule("authentik"), ())
    opening = form.opening(form.head(head, whole), whole)
    assert b"\r\nHost: site.tld\r\n" in opening and b"\r\nX-Forwarded-Host: site.tld\r\n" in opening
    assert url(head, whole.context, whole.server_name) == b"https://site.tld/a"


def test_families_and_names():
    assert named(("X-authentik-*", "Authorization")) == ({b"authorization"}, (b"x-authentik-",))


def test_a_question_is_about_its_own_request_alone_whoever_was_asked_about_before():
    form = QuestionForm(rule("request", headers=(("X-Key", "$request_uri"),)), ())
    for number in range(2 * CLIENTS + 2):
        client = b"192.0.2.%d" % (number // 2)
        whole = asked(request(target=f"/{number}"), peer=client)
        opening = form.opening(form.head(whole.head, whole), whole)
        assert b"\r\nX-Forwarded-For: %b\r\n" % client in opening
        assert b"\r\nX-Forwarded-Uri: /%d\r\nX-Key: /%d\r\n" % (number, number) in opening
        assert opening.count(b"\r\nX-Key:") == 1
        assert len(form._clients) <= CLIENTS


def test_a_clean_head_is_asked_about_and_sent_on_as_if_nobody_had_looked():
    form = QuestionForm(rule("authentik"), BY_KIND["authentik"].copied)
    names, families = named(("X-authentik-*",))
    edits = rewrite.HeadEdits(names, b"", frozenset(), b"", families=families)
    assert form.covers(edits)
    kept = request("Accept: */*", "Cookie: a=b", "X-Authentik: no", "Connection: close")
    assert form.clean(kept)
    whole = asked(kept)
    question = form.head(kept, whole)
    assert form.opening(question, whole, True) == form.opening(question, whole)
    context = whole.context._replace(edits=edits)
    assert rewrite.request(kept, context, b"", b"", True) == rewrite.request(kept, context, b"")
    for line in FORGED[7:11] + FORGED[17:20] + ["Range: bytes=0-", "If-None-Match: x"]:
        assert not form.clean(request("Accept: */*", line)), line


def test_who_cuts_other_fields_has_to_look_again():
    form = QuestionForm(rule("authentik"), ("X-authentik-*", "Remote-User"))
    for cut, families in (
        ({b"x-mine"}, ()),
        (set(), (b"x-mine-",)),
        ({b"x-forwarded-for"}, ()),
        (set(), (b"x-",)),
    ):
        edits = rewrite.HeadEdits(frozenset(cut), b"", frozenset(), b"", families=families)
        assert not form.covers(edits)
    assert form.covers(None), "nothing is cut"
    assert form.covers(rewrite.HeadEdits(frozenset((b"remote-user",)), b"", frozenset(), b""))
    ours = QuestionForm(rule("request", headers=(("X-Forwarded-Host", "other.tld"),)), ())
    assert not ours.clean(request("Accept: */*")), "a line of ours is cut"
    lines = sent("request", facts={"headers": (("X-Forwarded-Host", "other.tld"),)})
    assert [line for line in lines if "Forwarded-Host" in line] == ["X-Forwarded-Host: other.tld"]


@pytest.mark.parametrize("path", ["/check", "/check$uri"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_question_of_the_requests_own_lines_has_its_own_start(method, path):
    form = QuestionForm(rule("request", path=path, method=method), ())
    whole = asked(request("Cookie: a=b"))
    own = rewrite.lines_of(whole.head, whole.context, True)
    question = form.head(whole.head, whole)
    assert form.opening(whole.head, whole, True, own) == form.opening(question, whole)
    assert form.fits(whole.head) == (method == "GET")
    assert not form.fits(whole.head._replace(personal=True)), "the connection is nobody's own"


SHARED = {
    "browser": (),
    "named by Connection": ("Connection: close, X-Hop", "X-Hop: 1"),
    "old": ("TE: trailers", "Keep-Alive: 5"),
}


@pytest.mark.parametrize("lines", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("append", [False, True])
def test_a_question_of_the_requests_own_lines_is_the_same_one(lines, append):
    form = QuestionForm(rule("oauth2-proxy", headers=(("X-Key", "$path"),)), ("X-User",))
    edits = rewrite.HeadEdits(frozenset((b"x-user",)), b"", frozenset(), b"")
    for facts in ({"edits": edits}, {"edits": None}):
        whole = asked(request("Cookie: a=b", *lines), append=append, **facts)
        for _ in range(2):  # a context that is known, too
            assert form.clean(whole.head) and form.shares(whole.head, whole.context)
        own = rewrite.lines_of(whole.head, whole.context, True)
        goes_on = b"GET /app?a=b HTTP/1.1\r\n%b\r\n" % own
        assert goes_on == rewrite.request(whole.head, whole.context, b"up")
        question = form.head(whole.head, whole)
        assert form.opening(question, whole, True, own) == form.opening(question, whole)


EDITS = rewrite.HeadEdits(frozenset(), b"", frozenset(), b"")


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (("Transfer-Encoding: chunked",), {}),
        (("Content-Length: 1",), {}),
        (("Expect: 100-continue",), {}),
        (("Connection: Upgrade", "Upgrade: websocket"), {}),
        (("X-Forwarded-For: 6.6.6.6",), {"append": True}),
        (("X-Real-IP: 6.6.6.6",), {"append": True}),
        ((), {"trusted": True, "networks": NETWORKS}),
        ((), {"lines": b"X-Real-IP: 192.0.2.7\r\n", "real_ip": True}),
        ((), {"forwarded": b"Forwarded: for=192.0.2.7"}),
        ((), {"via": True}),
        (("X_a: b",), {"underscores": True}),
        ((), {"identity": b"SSL-Client-Verify: NONE\r\n"}),
        ((), {"edits": EDITS._replace(request_lines=b"X-A: b\r\n")}),
        ((), {"edits": EDITS._replace(target=b"/other")}),
        ((), {"edits": EDITS._replace(cookies=frozenset((b"a",)))}),
    ],
)  # fmt: skip
def test_a_request_that_goes_on_otherwise_shares_no_lines(lines, facts):
    form = QuestionForm(rule("authentik"), ())
    whole = asked(request(*lines), **facts)
    assert not form.shares(whole.head, whole.context)


USUAL = [
    "Cookie: a=b", "Accept: */*", "X-Original: 1", "X_a: b", "Connection: keep-alive, X-a",
    "Connection: close", "TE: trailers", "Expect: 100-continue", "Content-Length: 0", "X-a: c",
]  # fmt: skip


@given(
    st.lists(st.sampled_from(FORGED + USUAL), max_size=6, unique_by=lambda line: line[:6]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_known_of_a_head_its_question_is_the_same(lines, trusted, append, underscores):
    form = QuestionForm(rule("authentik"), BY_KIND["authentik"].copied)
    facts = {"append": append, "underscores": underscores, "networks": NETWORKS, "trusted": trusted}
    whole = asked(request(*lines), **facts)
    question, clean = form.head(whole.head, whole), form.clean(whole.head)
    wanted = form.opening(question, whole)
    assert form.opening(question, whole, clean) == wanted
    if clean and form.shares(whole.head, whole.context):
        own = rewrite.lines_of(whole.head, whole.context, True)
        assert form.opening(question, whole, True, own) == wanted
