"""Header rewriting: rules 21 to 29."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproxy.errors import ClientError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.target import redirect_target
from rawproxy.protocol.http1.parser import parse_request, parse_response

HSTS = b"Strict-Transport-Security: max-age=1\r\n"
TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))


def context(trusted=False, append=False, hsts=b"", peer=b"192.0.2.1", scheme=b"https"):
    return rewrite.context(peer, scheme, trusted, append, hsts)


def request(*lines: bytes, start: bytes = b"GET / HTTP/1.1", **facts) -> list[bytes]:
    host = [b"Host: a.b:8443"] if facts.pop("host", True) else []
    raw = b"\r\n".join([start, *host, *lines]) + b"\r\n\r\n"
    out = rewrite.request(parse_request(raw), context(**facts), b"up:9443")
    assert out.endswith(b"\r\n\r\n")
    return out[:-4].split(b"\r\n")


@pytest.mark.parametrize("start", [b"POST / HTTP/1.1", b"POST /expect:transfer-encoding: HTTP/1.1"])
def test_rule_50_measured(start):
    """The length takes the place of the chunks, and an Expect is met."""
    raw = b"Host: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    head = parse_request(start + b"\r\n" + raw)
    out = rewrite.measured(rewrite.request(head, context(), b"up"), 12)
    lines = out.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert lines[0] == start and lines[-1] == b"Content-Length: 12"
    assert b"X: y" in lines and lines.count(b"Content-Length: 12") == 1
    assert not any(line.lower().startswith((b"transfer", b"expect")) for line in lines)


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", **facts) -> list[bytes]:
    raw = b"\r\n".join([start, *lines]) + b"\r\n\r\n"
    return rewrite.response(parse_response(raw), context(**facts)).split(b"\r\n")[:-1]


OURS = [
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: a.b:8443",
]


def test_what_an_upstream_sees():
    lines = request(b"Accept: */*", b"Connection: keep-alive", b"Cookie: a=b", b"X-A: 1", b"X-A: 2")
    assert lines == [
        b"GET / HTTP/1.1", b"Host: a.b:8443", b"Accept: */*", b"Cookie: a=b", b"X-A: 1", b"X-A: 2",
        *OURS,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic x",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: ftp",
        b"X-Forwarded-Host: evil",
        b"X-Forwarded-Port: 1",
        b"X-Forwarded-Anything: 1",
        b"Forwarded: for=1.1.1.1",
        b"X-Real-IP: 1.1.1.1",
        b"X_Forwarded_For: 1.1.1.1",
        b"X-Forwarded_Proto: ftp",
        b"x_real_ip: 1.1.1.1",
    ],
)
def test_rules_21_and_22_what_an_upstream_never_sees(line):
    assert request(line, b"X: y") == [b"GET / HTTP/1.1", b"Host: a.b:8443", b"X: y", *OURS]


def test_rule_21_connection_names_fields():
    lines = request(
        b"Connection: X-Secret, X-Forwarded-Proto, Host", b"X-Secret: 1", b"x-secret: 2", b"X: y"
    )
    assert lines == [b"GET / HTTP/1.1", b"Host: a.b:8443", b"X: y", *OURS]


def test_append_keeps_the_chain_only():
    lines = request(
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: ftp",
        b"X-Forwarded-For: 2.2.2.2",
        append=True,
    )
    assert lines[2:] == [b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1", *OURS[1:]]


def test_a_trusted_peer_is_believed():
    lines = request(
        b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: outer",
        b"X-Forwarded-Port: 80", b"X_Forwarded_Proto: ftp", trusted=True,
    )  # fmt: skip
    assert lines[2:] == [
        b"X-Forwarded-Port: 80",
        b"X-Forwarded-For: 1.1.1.1, 192.0.2.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: outer",
    ]


def test_a_trusted_peer_that_nominates_its_own_chain_loses_it():
    lines = request(
        b"Connection: X-Forwarded-For",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: ",
        trusted=True,
    )
    assert lines[2:] == OURS


def test_rule_27_the_message_is_framed_by_us():
    lines = request(b"Transfer-Encoding: Chunked", start=b"POST / HTTP/1.1")
    assert lines[-1] == b"Transfer-Encoding: chunked"
    assert len(lines) == 6
    assert request(b"Content-Length: 5", start=b"POST / HTTP/1.1")[2] == b"Content-Length: 5"


def test_rule_33_upgrade():
    lines = request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: k")
    assert lines[2:] == [
        b"Sec-WebSocket-Key: k",
        *OURS,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]


def test_expect_passes_but_not_from_http_1_0():
    assert b"Expect: 100-continue" in request(b"Expect: 100-continue")
    assert b"Expect: 100-continue" not in request(b"Expect: 100-continue", start=b"POST / HTTP/1.0")


def test_http_1_0_goes_on_as_1_1_with_a_host():
    lines = request(start=b"GET / HTTP/1.0", host=False)
    assert lines == [
        b"GET / HTTP/1.1", b"Host: up:9443", *OURS[:2], b"X-Forwarded-Host: up:9443",
    ]  # fmt: skip
    lines = request(b"X-Forwarded-For: 1.1.1.1", start=b"GET / HTTP/1.0", host=False, append=True)
    assert lines[4] == b"X-Forwarded-Host: up:9443"


def test_responses():
    lines = response(
        b"Server: s", b"Connection: X-Hop", b"Keep-Alive: timeout=5", b"X-Hop: 1", b"Content-Length: 5",
        b"Strict-Transport-Security: theirs", b"Proxy-Authenticate: Basic", b"Set-Cookie: a", b"Set-Cookie: b",
        hsts=HSTS,
    )  # fmt: skip
    assert lines == [
        b"Server: s",
        b"Content-Length: 5",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        HSTS[:-2],
    ]


@pytest.mark.parametrize(
    ("hsts", "expected"),
    [(HSTS, [HSTS[:-2]]), (b"", []), (None, [b"Strict-Transport-Security: theirs"])],
)
def test_hsts(hsts, expected):
    assert response(b"Strict-Transport-Security: theirs", hsts=hsts) == expected


def test_no_length_where_there_may_be_none():
    assert response(b"Content-Length: 0", start=b"HTTP/1.1 204 No Content") == []
    assert response(b"Content-Length: 9", start=b"HTTP/1.1 304 Not Modified") == []
    assert response(b"Transfer-Encoding: chunked") == []


def test_upgrade_lines():
    switch = parse_response(b"HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\n\r\n")
    assert rewrite.upgrade_lines(switch) == b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    assert (
        rewrite.upgrade_lines(parse_response(b"HTTP/1.1 426 U\r\nUpgrade: TLS/1.0\r\n\r\n")) == b""
    )


@pytest.mark.parametrize(
    ("chain", "trusted", "client"),
    [
        (b"1.1.1.1", False, b"192.0.2.1"),
        (b"1.1.1.1", True, b"1.1.1.1"),
        (b"9.9.9.9, 1.1.1.1, 10.0.0.1, 10.2.3.4", True, b"1.1.1.1"),
        (b"9.9.9.9, 1.1.1.1:4711, [2001:db8::1]:443", True, b"1.1.1.1"),
        (b"10.0.0.3", True, b"10.0.0.3"),
        (b"1.1.1.1, nonsense, 10.0.0.1", True, b"10.0.0.1"),
        (b"::ffff:1.1.1.1", True, b"1.1.1.1"),
        (b'"[2001:db9::1]"', True, b"2001:db9::1"),
    ],
)
def test_rule_22_the_client_is_the_rightmost_untrusted_hop(chain, trusted, client):
    head = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " + chain + b"\r\n\r\n")
    assert rewrite.client_of(head, context(trusted=trusted)._replace(networks=TRUSTED)) == client


@pytest.mark.parametrize(
    ("host", "target", "port", "location"),
    [
        (b"a.b", b"/x?y", 8443, b"https://a.b/x?y"),
        (b"a.b:8080", b"/x", 8443, b"https://a.b:8443/x"),
        (b"a.b:80", b"/x", 443, b"https://a.b/x"),
        (b"[::1]", b"/", 8443, b"https://[::1]/"),
        (b"[::1]:8080", b"*", 8443, b"https://[::1]:8443/"),
    ],
)
def test_redirect_target(host, target, port, location):
    assert redirect_target(host, target, port) == location


def forwarded_request(*lines: bytes, peer=b"192.0.2.1", trusted=False) -> list[bytes]:
    facts = rewrite.with_real_ip(rewrite.with_forwarded(context(trusted=trusted, peer=peer)))
    raw = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a.b", *lines]) + b"\r\n\r\n"
    out = rewrite.request(parse_request(raw), facts._replace(networks=TRUSTED), b"up")
    return out[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("peer", "node"),
    [(b"192.0.2.1", b"192.0.2.1"), (b"2001:db8::1", b'"[2001:db8::1]"'), (b"unix:", b"unknown")],
)
def test_forwarded_of_rfc_7239(peer, node):
    lines = forwarded_request(b"Forwarded: for=evil", b"X-Real-IP: 6.6.6.6", peer=peer)
    assert [line for line in lines if line.lower().startswith(b"forwarded")] == [
        b"Forwarded: for=" + node + b';proto=https;host="a.b"'
    ]
    assert [line for line in lines if line.lower().startswith(b"x-real-ip")] == [
        b"X-Real-IP: " + peer
    ]


def test_a_trusted_peers_real_ip_is_replaced_by_ours():
    lines = forwarded_request(
        b"X-Forwarded-For: 1.1.1.1, 10.1.1.1",
        b"X-Real-Ip: 6.6.6.6",
        b"X-Forwarded-Port: 1",
        peer=b"10.0.0.9",
        trusted=True,
    )
    assert [line for line in lines if line.lower().startswith(b"x-real")] == [b"X-Real-IP: 1.1.1.1"]
    assert b"X-Forwarded-Port: 1" in lines


IDENTITY = [b"SSL-Client-Verify: SUCCESS", b"Client-Cert: :x:", b"X-Forwarded-Client-Cert: x"]


@pytest.mark.parametrize("line", IDENTITY)
def test_who_a_client_is_only_a_trusted_peer_may_say(line):
    assert line not in request(line)
    assert line in request(line, trusted=True)
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n"
    ours = b"SSL-Client-Verify: NONE\r\n"
    out = rewrite.request(parse_request(raw), context(trusted=True)._replace(identity=ours), b"up")
    assert line not in out and out.count(ours) == 1


def passing(*lines: bytes, edits=None) -> list[bytes]:
    """What passes of these where names with underscores do."""
    raw = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a.b:8443", *lines]) + b"\r\n\r\n"
    facts = context()._replace(underscores=True, edits=edits)
    out = rewrite.request(parse_request(raw), facts, b"up")[:-4].split(b"\r\n")
    return [line for line in out[2:] if line not in OURS]


def test_rule_41_underscores():
    mine = b"X_Mine: 1"
    assert request(mine, b"Y: 2")[2:] == [b"Y: 2", *OURS]
    assert request(mine, trusted=True)[2:] == OURS
    assert passing(mine, b"Y: 2", b"_: 3") == [mine, b"Y: 2", b"_: 3"]
    for name in (b"Content_Length", b"Transfer_Encoding", b"X_Forwarded-For", b"SSL_Client_Cert",
                 b"x_real_ip", b"X-Request_ID", b"Proxy_Connection", b"Client_Cert_Chain"):  # fmt: skip
        assert passing(name + b": 6", mine) == [mine]


def test_rule_41_twins_of_what_a_route_changes():
    edits = rewrite.HeadEdits(
        frozenset((b"x-user", b"x-groups")), b"X-User: alice\r\n", frozenset(), b""
    )
    lines = [b"X_User: root", b"x-user: root", b"X_Groups: admins", b"X-Users: 1", b"X_Users: 2"]
    assert passing(*lines, edits=edits) == [b"X-Users: 1", b"X_Users: 2", b"X-User: alice"]


def test_what_is_cut_is_found_in_every_spelling_and_nothing_else_is():
    cut, families = frozenset((b"x-user", b"x.y")), (b"x-id-",)
    edits = rewrite.HeadEdits(cut, b"X-Own: 5\r\n", frozenset(), b"", families=families)
    lines = [b"X-USER: 1", b"x_user: 2", b"X-Id_Name: 3", b"x_ID-: 3", b"X.Y: 4"]
    stays = [
        b"X-Users: X-User: 4",
        b"A: x-id-b",
        b"XX-Id-A: 1",
        b"X-User-A: 1",
        b"Xzy: 1",
        b"Id-: 1",
    ]
    for quick in (edits, edits._replace(finds=rewrite.finder(cut, families))):
        assert passing(*lines, *stays, edits=quick) == [*stays, b"X-Own: 5"]
        for line in lines:
            assert passing(line, edits=quick) == passing(stays[0], line, edits=quick)[1:]
            assert passing(line, edits=quick) == [b"X-Own: 5"]
        assert passing(*stays, edits=quick) == [*stays, b"X-Own: 5"]
    found = rewrite.finder(cut, families)
    assert [bool(found(b"\n%b\r\n" % line)) for line in lines + stays] == [True] * 5 + [False] * 6
    assert not rewrite.finder(frozenset())(b"\nA: b\r\n")
    for one in (b"range", b"x-a", b"x-ab", b"x-b-c", b"if-range"):  # some begin alike
        several = rewrite.finder(frozenset((b"range", b"x-a", b"x-b-c", b"if-range")))
        assert bool(several(b"\n%b: 1" % one)) is (one != b"x-ab"), one
        assert not several(b"\n%bx: 1" % one) and not several(b"\nx%b: 1" % one)
    for name in (b"a*b", b"a|b", b"$", b"a.b+", b"^_`~!#&'%"):
        assert rewrite.finder(frozenset((name,)))(b"\n%b: 1" % name.upper()), name


def test_more_lines_come_behind_all_others_and_are_not_cut():
    edits = rewrite.HeadEdits(frozenset((b"a",)), b"X-Own: 5\r\n", frozenset(), b"")
    head = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\n\r\n")
    for one, own in ((None, b""), (edits, b"X-Own: 5\r\n")):
        facts = context()._replace(edits=one)
        out = rewrite.request(head, facts, b"", b"A: 3\r\nC: 4\r\n")
        assert out.endswith(b"\r\nX-Forwarded-Host: h\r\n%bA: 3\r\nC: 4\r\n\r\n" % own)
        assert (b"\r\nA: 1\r\n" in out) is (one is None) and b"\r\nB: 2\r\n" in out


def test_whoever_has_looked_at_a_head_may_say_so():
    edits = rewrite.HeadEdits(frozenset((b"a",)), b"X-Own: 5\r\n", frozenset(), b"")
    for quick in (edits, edits._replace(finds=rewrite.finder(edits.request_cut))):
        facts = context()._replace(edits=quick)
        for raw in (b"GET / HTTP/1.1\r\nHost: h\r\nB: 2\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
            head = parse_request(raw)
            looked = rewrite.request(head, facts, b"up", clean=True)
            assert looked == rewrite.request(head, facts, b"up")
    head = parse_request(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a=b; c=d\r\n\r\n")
    facts = context()._replace(edits=edits._replace(cookies=frozenset((b"a",))))
    assert b"\r\nCookie: c=d\r\n" in rewrite.request(head, facts, b"", clean=True)


def test_names_of_ours():
    for ours in (b"host", b"x-forwarded-proto", b"x-forwarded-", b"x-", b"", b"ssl-client-verify"):
        assert rewrite.cuts_ours((b"accept", ours)), ours
    assert not rewrite.cuts_ours((b"x-authentik-", b"remote-user", b"authorization"))


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        (b"Cookie: a=b; rawproxy=1; c=d", b"Cookie: a=b; c=d"),
        (b"Cookie: rawproxy=1; a=b", b"Cookie: a=b"),
        (b"Cookie: rawproxy=1;rawproxy=2", None),
        (b"Cookie: rawproxy", None),
        (b"Cookie: a=rawproxy=1; xrawproxy=2", b"Cookie: a=rawproxy=1; xrawproxy=2"),
        (b"cookie: ", b"cookie: "),
    ],
)
def test_our_own_cookies_are_no_upstreams_business(cookie, left):
    edits = rewrite.HeadEdits(frozenset(), b"", frozenset(), b"", frozenset((b"rawproxy",)))
    assert passing(cookie, b"Y: 1", edits=edits) == [*([left] if left else []), b"Y: 1"]


def test_rule_49_via():
    raw = b"GET / HTTP/1.1\r\nHost: h\r\nVia: 1.0 x\r\n\r\n"
    head = parse_request(raw)
    assert rewrite.request(head, context(), b"").lower().count(b"\r\nvia: ") == 1
    out = rewrite.request(head, context()._replace(via=True), b"")
    assert out.index(b"\r\nVia: 1.0 x\r\n") < out.index(b"\r\nVia: 1.1 rawproxy\r\n")


def test_trailers_obey_the_rules_of_heads():
    head = parse_request(
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: x-hop\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    block = b"X-Sum: 1\r\nX-Hop: 2\r\nx-sum: 3\r\nX_Sum: 4\r\nX-Set: 5\r\nOther: 6\r\n"
    allowed = frozenset((b"x-sum", b"x-hop", b"x_sum", b"x-set"))
    edits = rewrite.HeadEdits(frozenset((b"x-set",)), b"", frozenset((b"x-sum",)), b"")
    facts = context()._replace(edits=edits)
    assert rewrite.request_trailers(block, allowed, head, facts) == b"X-Sum: 1\r\nx-sum: 3\r\n"
    facts = context()._replace(underscores=True)
    left = b"X-Sum: 1\r\nx-sum: 3\r\nX_Sum: 4\r\nX-Set: 5\r\n"
    assert rewrite.request_trailers(block, allowed, head, facts) == left
    assert rewrite.response_trailers(block, facts) == block
    left = b"X-Hop: 2\r\nX_Sum: 4\r\nX-Set: 5\r\nOther: 6\r\n"
    assert rewrite.response_trailers(block, facts._replace(edits=edits)) == left


BARE = ["A: 1", "Connection: close", "Connection: X-Cut", "TE: trailers", "X-Cut: 1", "x_cut: 2",
        "X-Cuts: 3", "Content-Length: 5", "Transfer-Encoding: chunked", "X-Forwarded-For: 6.6.6.6"]  # fmt: skip


@given(
    st.lists(st.sampled_from(BARE), max_size=4, unique_by=lambda line: line.partition(":")[0]),
    st.sampled_from(["GET", "POST"]),
    st.booleans(),
)
def test_a_head_of_which_little_is_cut_is_made_as_any_other_one(lines, method, append):
    cut = frozenset((b"x-cut",))
    edits = rewrite.HeadEdits(cut, b"", frozenset(), b"", finds=rewrite.finder(cut))
    quick = rewrite.cuts_only(edits)
    assert quick.bare and not edits.bare
    text = "".join(f"{line}\r\n" for line in lines)
    try:
        head = parse_request(f"{method} /a HTTP/1.1\r\nHost: h\r\n{text}\r\n".encode())
    except ClientError:
        return  # two fields that frame it
    for one in (None, edits, quick):
        facts = context(append=append)._replace(edits=one)
        wanted = rewrite._any_request(head, facts, b"up", b"", False)
        assert rewrite.request(head, facts, b"up") == wanted
        clean = one is None or one.finds(b"\n" + head.block) is None
        made = rewrite.lines_of(head, facts, clean)
        assert b"%b /a HTTP/1.1\r\n%b\r\n" % (head.method, made) == wanted


@pytest.mark.parametrize(
    ("cut", "families", "more"),
    [
        ({b"x-forwarded-host"}, (), {}),
        ({b"via"}, (), {}),
        ((), (b"x-",), {}),
        ({b"a"}, (), {"request_lines": b"B: 1\r\n"}),
        ({b"a"}, (), {"target": b"/b"}),
        ({b"a"}, (), {"cookies": frozenset((b"c",))}),
        ({b"a"}, (), {"finds": None}),
    ],
)
def test_edits_that_change_more_than_what_a_client_has_sent_are_not_bare(cut, families, more):
    found = rewrite.finder(frozenset(cut), families)
    made = rewrite.HeadEdits(frozenset(cut), b"", frozenset(), b"", families=families, finds=found)
    assert not rewrite.cuts_only(made._replace(**more)).bare
    head = parse_request(b"GET /a HTTP/1.1\r\nHost: h\r\nCookie: c=1; d=2\r\nA: 1\r\n\r\n")
    facts = context()._replace(edits=rewrite.cuts_only(made._replace(**more)))
    wanted = rewrite._any_request(head, facts, b"", b"", False)
    assert rewrite.request(head, facts, b"") == wanted


@pytest.mark.parametrize(
    ("quiet", "more"),
    [
        (True, {"request_cut": frozenset((b"a",)), "request_lines": b"B: 1\r\n"}),
        (False, {"response_cut": frozenset((b"a",))}),
        (False, {"response_lines": b"B: 1\r\n"}),
        (False, {"map": lambda block, host, status: block.replace(b"A: 1", b"A: 2")}),
    ],
)
def test_edits_of_requests_alone_leave_responses_as_they_are(quiet, more):
    edits = rewrite.cuts_only(
        rewrite.HeadEdits(frozenset(), b"", frozenset(), b"")._replace(**more)
    )
    assert edits.quiet is quiet
    for line in ("Connection: close", "Strict-Transport-Security: max-age=1", "A: 2"):
        head = parse_response(f"HTTP/1.1 200 OK\r\nA: 1\r\n{line}\r\n\r\n".encode())
        for hsts in (b"", None, HSTS):
            facts = context(hsts=hsts)._replace(edits=edits)
            made = b"".join(rewrite.response_parts(head, facts))
            assert made == head.line + rewrite.response(head, facts)
