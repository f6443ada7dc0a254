"""Who may pass, through a running proxy, over HTTP/1.1 and HTTP/2."""

import asyncio
import base64
import contextlib

import bcrypt
import pytest

from rawproxy.access.address_lists import parse_rule
from rawproxy.access.rules import PasswordRule, RateRule
from rawproxy.config.model import Edits, Respond, Route
from rawproxy.protocol.http2 import frames
from tests.unit.access.heads import rule

from .guarding import YES, Client1, Client2, GuardScript, guarded, route
from .rig import read_head, response, run

both = pytest.mark.parametrize("version", [Client1, Client2])


async def mirror(reader, writer):
    """Answers with the request's head and body as the body."""
    while True:
        head = await read_head(reader)
        body = b""
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                body = await reader.readexactly(int(line.partition(b":")[2]))
        writer.write(response(head + body, b"Set-Cookie: app=1"))


def talk(version, guard, client, *routes, script=mirror, **options):
    async def test():
        async with guarded(script, guard, *routes, **options) as rig, version(rig) as connection:
            await client(connection, rig)

    run(test())


# ── the answers ─────────────────────────────────────────────────────────────────────────────────


@both
def test_whoever_may_pass_passes_with_what_the_guard_told(version):
    async def client(connection, rig):
        for number in range(3):  # also a head that is known
            answer = await connection.ask(
                "/app?a=b", "Cookie: session=1", "X-authentik-username: root"
            )
            assert answer.status == 200
            head = answer.body.decode()
            assert head.startswith("GET /app?a=b HTTP/1.1\r\n")
            assert "\r\nX-authentik-username: alice\r\n" in head
            assert "\r\nX-authentik-groups: users|admins\r\n" in head
            assert "root" not in head
            assert len(guard.questions) == number + 1
        question = guard.questions[0].decode()
        assert question.startswith("GET /outpost.goauthentik.io/auth/caddy HTTP/1.1\r\n")
        for line in (
            "Host: h",
            "X-Forwarded-Uri: /app?a=b",
            "X-Forwarded-Method: GET",
            "X-Forwarded-Proto: https",
        ):
            assert f"\r\n{line}\r\n" in question
        assert "\r\ncookie: session=1\r\n" in question.lower()
        assert len(rig.service.groups["auth.sso"].endpoints[0].pool.idle) == 1, "the pool's"

    guard = GuardScript()
    talk(version, guard, client)


@both
def test_what_one_was_told_never_stands_in_the_head_of_another(version):
    """Clients share a connection behind another proxy; what was told holds for one request."""

    async def client(connection, rig):
        for name in ("alice", "bob", "", "carol"):
            guard.answer = response(
                b"", *([f"X-authentik-username: {name}".encode()] if name else [])
            )
            for target in ("/app", "/open"):
                body = (await connection.ask(target)).body.decode().lower()
                expected = (
                    f"\r\nx-authentik-username: {name}\r\n" if name and target == "/app" else ""
                )
                assert body.count("x-authentik-username") == bool(expected)
                assert expected in body

    guard = GuardScript()
    sso = rule()
    talk(version, guard, client, route("/app", sso), route("/open", identity=sso.copied))


FORGED = ["X-authentik-username: root", "X-AUTHENTIK-groups: root", "X-authentik-anything: root"]
TWINS = ["X_authentik_username: root", "X-Authentik_Username: root"]


@both
@pytest.mark.parametrize("underscores", ["drop", "pass"])
def test_what_clients_say_of_themselves_reaches_nobody_on_any_route(version, underscores):
    async def client(connection, rig):
        for target in ("/app", "/open"):
            answer = await connection.ask(target, *FORGED, *TWINS, "X-Other: kept", "Y_Other: y")
            assert b"root" not in answer.body
            assert b"kept" in answer.body
            assert (b"\r\ny_other: y\r\n" in answer.body.lower()) is (underscores == "pass")
        assert not [one for one in guard.questions if b"root" in one]

    guard = GuardScript(response())
    sso = rule()
    talk(
        version, guard, client, route("/app", sso), route("/open", identity=sso.copied[:1]),
        underscores=underscores,
    )  # fmt: skip


@both
def test_an_authorization_of_the_guard_takes_the_place_of_the_clients(version):
    async def client(connection, rig):
        answer = await connection.ask("/", "Authorization: Basic Y2xpZW50")
        assert answer.body.lower().count(b"authorization:") == 1
        assert b"Basic Z3VhcmQ=" in answer.body
        guard.answer = response()
        answer = await connection.ask("/", "Authorization: Basic Y2xpZW50")
        assert b"Basic Y2xpZW50" in answer.body, "the guard told none: it is the application's"
        assert b"Basic Y2xpZW50" in guard.questions[1]

    guard = GuardScript(response(b"", b"Authorization: Basic Z3VhcmQ="))
    talk(version, guard, client)


COOKIES = (b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2", b"Set-Cookie: c=3")


@both
@pytest.mark.parametrize(
    "status", [b"301 M", b"302 F", b"303 S", b"307 T", b"308 P", b"401 U", b"403 F"]
)
def test_a_guards_no_goes_to_the_client_as_it_is(version, status):
    async def client(connection, rig):
        for method in ("GET", "POST"):
            answer = await connection.ask("/app", method=method, body=b"x" * (method == "POST"))
            assert answer.status == int(status[:3])
            assert answer.one("location") == "https://login.test/?rd=x"
            assert answer.one("content-type") == "text/html"
            assert answer.body == b"<a>sign in</a>"
            assert answer.all("set-cookie") == ["a=1; Path=/", "b=2", "c=3"]
            assert answer.one("strict-transport-security")
            assert not answer.all("x-hop")
        assert (await connection.ask("/app", method="HEAD")).status == int(status[:3])
        assert not rig.connections, "nothing of it reached the upstream"

    more = (
        b"Location: https://login.test/?rd=x",
        b"Content-Type: text/html",
        b"Connection: X-Hop",
        b"X-Hop: 1",
    )
    guard = GuardScript(response(b"<a>sign in</a>", *more, *COOKIES, status=status))
    talk(version, guard, client)


@both
def test_all_cookies_reach_the_client_on_answers_and_on_errors(version):
    async def dead(reader, writer):
        await read_head(reader)

    async def client(connection, rig):
        answer = await connection.ask("/app")
        assert answer.status == 200
        assert answer.all("set-cookie") == ["app=1", "a=1; Path=/", "b=2", "c=3"]

    async def error(connection, rig):
        answer = await connection.ask("/app")
        assert answer.status == 502
        assert answer.all("set-cookie") == ["a=1; Path=/", "b=2", "c=3"]

    def usual(body):  # such an answer may go on as it came, where there are no cookies
        async def script(reader, writer):
            await read_head(reader)
            date = b"Date: Mon, 02 Nov 2026 10:00:00 GMT"
            writer.write(response(body, date, b"Set-Cookie: app=1"))

        return script

    guard = GuardScript(response(b"", *YES, *COOKIES))
    talk(version, guard, client)
    talk(version, guard, client, script=usual(b"short"))
    talk(version, guard, client, script=usual(bytes(5000)))
    talk(version, guard, error, script=dead)


@both
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (response(status=b"500 Oops"), "it answered 500"),
        (response(status=b"404 Nope"), "no provider for this host"),
        (response(status=b"400 Bad"), "no provider for this host"),
        (response(status=b"302 Found"), "it answered 302"),
        (response(status=b"418 Teapot"), "it answered 418"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "101"),
        (response(b"x" * 10_000_000), "larger than 64 KiB"),
        (response(b"x" * 10_000_000, b"Location: /x", status=b"302 Found"), "larger than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000_000, "larger than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", "Content-Length"),
        (b"nonsense\r\n\r\n", "response"),
    ],
)
def test_what_is_no_answer_closes(version, answer, why):
    async def client(connection, rig):
        for _ in range(2):
            told = await connection.ask("/app", "Accept: application/json")
            assert told.status == 503
            assert b"sso" not in told.body, "which guard is nobody's business"
        assert not rig.connections
        assert [line for line in rig.problems if "[auth.sso]" in line and why in line], rig.problems

    talk(version, GuardScript(answer), client)


@both
def test_a_required_identity_that_is_not_told_is_a_refusal(version):
    async def client(connection, rig):
        answer = await connection.ask("/app")
        assert answer.status == 403
        assert answer.all("set-cookie") == ["a=1; Path=/", "b=2", "c=3"]
        guard.answer = response(b"", *YES)
        assert (await connection.ask("/app")).status == 200

    guard = GuardScript(response(b"", b"X-authentik-username:", *COOKIES))
    talk(version, guard, client, route(auth=rule(require=("X-authentik-username",))))


@both
def test_a_401_becomes_a_redirect_for_navigations_alone(version):
    async def client(connection, rig):
        browser = ("Accept: text/html", "Sec-Fetch-Mode: navigate")
        answer = await connection.ask("/a?b=c&d=%20", *browser)
        assert (answer.status, answer.body) == (302, b"")
        assert answer.one("location") == "/oauth2/sign_in?rd=%2Fa%3Fb%3Dc%26d%3D%2520"
        assert answer.all("set-cookie") == ["a=1; Path=/", "b=2", "c=3"]
        answer = await connection.ask("/a", "Accept: */*", "Sec-Fetch-Mode: cors")
        assert (answer.status, answer.body) == (401, b"no")

    guard = GuardScript(response(b"no", *COOKIES, status=b"401 Unauthorized"))
    talk(version, guard, client, route(auth=rule("oauth2-proxy")))


@both
def test_a_401_leads_to_a_whole_url_with_variables(version):
    async def client(connection, rig):
        answer = await connection.ask("/a?b=c", "Accept: text/html", "Sec-Fetch-Mode: navigate")
        assert answer.status == 302
        assert answer.one("location") == "/outpost/start?rd=https://h/a?b=c"
        assert (await connection.ask("/a", "Sec-Fetch-Mode: cors")).status == 401

    guard = GuardScript(response(b"no", status=b"401 Unauthorized"))
    where = "/outpost/start?rd=$scheme://$http_host$request_uri"
    talk(version, guard, client, route(auth=rule("request", sign_in=where)))


@both
def test_what_a_guard_tells_goes_on_under_another_name(version):
    async def client(connection, rig):
        body = (await connection.ask("/", "X-User: root", "Authorization: Basic eA==")).body
        head = body.decode().lower()
        assert "\r\nx-user: alice\r\n" in head and "root" not in head
        assert "\r\nauthorization: bearer y\r\n" in head and "basic" not in head

    told = (b"X-Auth-User: alice", b"X-Token: Bearer y")
    renamed = (("X-User", "X-Auth-User"), ("Authorization", "X-Token"))
    auth = rule("request", renamed=renamed)
    routes = route(auth=auth, identity=("X-User",))
    talk(version, GuardScript(response(b"", *told)), client, routes)


# ── a guard that is away, slow or full ──────────────────────────────────────────────────────────


@both
def test_a_guard_that_is_away_closes(version):
    async def client(connection, rig):
        rig.service.groups["auth.sso"].endpoints[0].addresses[0] = (
            *rig.service.groups["auth.sso"].endpoints[0].addresses[0][:4],
            ("127.0.0.1", 1),
        )
        answer = await connection.ask("/app")
        assert answer.status == 503
        assert [line for line in rig.problems if "[auth.sso]" in line and "cannot connect" in line]

    talk(version, GuardScript(), client)


@both
def test_a_guard_that_hangs_closes_in_time(version):
    async def client(connection, rig):
        answer = await connection.ask("/app", method="POST", body=b"x" * 1000)
        assert answer.status == 503
        assert [line for line in rig.problems if "[auth.sso]" in line and "0.2 s" in line]
        await eventually(lambda: guard.lost == 1)
        assert not rig.service.groups["auth.sso"].endpoints[0].pool.in_use()
        assert not rig.connections

    guard = GuardScript()
    guard.silent = True
    talk(version, guard, client, route(auth=rule(timeout=0.2)))


async def eventually(what, wait=5.0):
    async with asyncio.timeout(wait):
        while not what():
            await asyncio.sleep(0.01)


def test_a_client_that_goes_away_gives_the_question_up():
    async def test():
        guard = GuardScript()
        guard.silent = True
        async with guarded(mirror, guard) as rig:
            async with Client1(rig) as client:
                client.send("/app")
                await eventually(lambda: guard.questions)
            await eventually(lambda: guard.lost == 1)
            await rig.settled()
            assert [line for line in rig.log if b'" 499 ' in line]

    run(test())


def test_a_stream_that_is_reset_gives_the_question_up():
    async def test():
        guard = GuardScript()
        guard.silent = True
        async with guarded(mirror, guard) as rig, Client2(rig) as client:
            await asyncio.to_thread(client.send, "/app")
            await eventually(lambda: guard.questions)
            client.client.send(frames.rst_stream(client.number, frames.Code.CANCEL))
            await eventually(lambda: guard.lost == 1)
            guard.silent = False
            assert (await client.ask("/app")).status == 200

    run(test())


def test_a_full_queue_closes_and_harms_nobody_else():
    async def test():
        guard = GuardScript(pause=0.3)
        async with guarded(mirror, guard, route("/app", rule()), Route("/open")) as rig:
            pool = rig.service.groups["auth.sso"].endpoints[0].pool
            pool.limit, pool.waiting.limit = 2, 3
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(Client1(rig)) for _ in range(9)]
                other = await stack.enter_async_context(Client1(rig))
                for client in clients:
                    client.send("/app")
                for _ in range(20):  # meanwhile
                    assert (await other.ask("/open")).status == 200
                answers = [(await client.answer()).status for client in clients]
            assert sorted(answers) == [200] * 5 + [503] * 4
            assert len([line for line in rig.problems if "requests wait for" in line]) == 4

    run(test())


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────


@both
def test_a_body_waits_for_the_verdict_and_arrives_whole(version):
    blob = bytes(range(256)) * 200

    async def client(connection, rig):
        answer = await connection.ask("/app", method="POST", body=blob)
        assert answer.status == 200
        assert answer.body.endswith(blob)
        assert b"alice" in answer.body

    talk(version, GuardScript(pause=0.1), client)


def test_nobody_is_told_to_continue_before_the_verdict():
    async def test():
        guard = GuardScript(response(status=b"403 Forbidden"))
        async with guarded(mirror, guard) as rig, Client1(rig) as client:
            lines = (
                "POST /app HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            client.writer.write(lines.encode())
            assert (await client.answer()).status == 403, "and no 100 in front of it"
            assert b"expect" not in guard.questions[0].lower()
            assert not rig.connections

    run(test())


def test_a_client_is_not_read_while_its_guard_thinks():
    async def test():
        guard = GuardScript()
        guard.silent = True
        async with guarded(mirror, guard) as rig, Client1(rig) as client:
            client.writer.write(
                b"POST /app HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n"
            )
            client.writer.transport.set_write_buffer_limits(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    for _ in range(500):
                        client.writer.write(b"x" * 100_000)
                        await client.writer.drain()
            (waiting,) = rig.service.clients
            early = sum(len(payload) for payload, _, _ in waiting.exchange.early or ())
            assert 0 < early <= 512 * 1024, "what was under way, and no more"

    run(test())


def test_a_chunked_body_can_be_gathered_behind_a_guard():
    async def test():
        gathers = route(auth=rule(), options={"gather": 1000})
        async with guarded(mirror, GuardScript(pause=0.1), gathers) as rig, Client1(rig) as client:
            start = b"POST /app HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.writer.write(start + b"3\r\nabc\r\n")
            await asyncio.sleep(0.02)
            client.writer.write(b"2\r\nde\r\n0\r\n\r\n")
            answer = await client.answer()
            assert answer.status == 200
            assert answer.body.endswith(b"abcde")
            assert b"Content-Length: 5" in answer.body

    run(test())


# ── pipelining, known heads, plain routes ───────────────────────────────────────────────────────


def test_pipelined_requests_are_asked_about_one_by_one_and_answered_in_order():
    async def test():
        guard = GuardScript()
        async with (
            guarded(mirror, guard, route("/app", rule()), Route("/open")) as rig,
            Client1(rig) as client,
        ):
            for target in ("/app/1", "/open/2", "/app/3", "/open/4"):
                client.send(target)
            for target in (b"/app/1", b"/open/2", b"/app/3", b"/open/4"):
                answer = await client.answer()
                assert answer.body.startswith(b"GET " + target)
                assert (b"alice" in answer.body) is target.startswith(b"/app")
            assert len(guard.questions) == 2

    run(test())


@both
def test_edits_of_the_route_hold_as_ever(version):
    async def client(connection, rig):
        answer = await connection.ask("/app", "X-Drop: x")
        assert b"X-Set: h\r\n" in answer.body and b"x-drop" not in answer.body.lower()
        assert b"alice" in answer.body
        assert answer.one("x-answer") == "1"

    edits = {
        "request_headers": Edits(remove=("X-Drop",), set=(("X-Set", "$host"),)),
        "response_headers": Edits(set=(("X-Answer", "1"),)),
    }
    talk(version, GuardScript(), client, route("/app", rule(), options=edits))


@both
@pytest.mark.parametrize(
    "target",
    [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..;/admin",
        "/public/%252e%252e/admin",
        "/public/..%5cadmin",
    ],
)
def test_a_path_that_others_read_as_another_is_not_even_asked_about(version, target):
    async def client(connection, rig):
        assert (await connection.ask(target)).status == 400
        assert (await connection.ask("/public/a..b/x.y/%20?../..")).status == 200
        assert len(guard.questions) == 1
        assert b"X-Forwarded-Uri: /public/a..b/x.y/%20?../..\r\n" in guard.questions[0]

    guard = GuardScript()
    talk(version, guard, client)


@both
def test_what_a_route_answers_by_itself_is_behind_its_guard_too(version):
    async def client(connection, rig):
        answer = await connection.ask("/app/secret")
        assert (answer.status, answer.body) == (200, b"for alice of h")
        assert answer.all("set-cookie") == ["a=1; Path=/", "b=2", "c=3"]
        guard.answer = response(status=b"403 Forbidden")
        answer = await connection.ask("/app/secret", method="POST", body=b"x")
        assert answer.status == 403
        assert not rig.connections

    guard = GuardScript(response(b"", *COOKIES))
    own = {"group": None, "respond": Respond(200, "for alice of $host")}
    talk(version, guard, client, route("/app", rule(), options=own))


# ── lists and rates ─────────────────────────────────────────────────────────────────────────────


@both
def test_lists_come_first_then_rates_then_the_guard(version):
    async def client(connection, rig):
        answer = await connection.ask("/denied")
        assert answer.status == 403
        answers = [await connection.ask("/slow") for _ in range(4)]
        assert [one.status for one in answers] == [200, 200, 429, 429]
        assert answers[2].one("retry-after") in ("9", "10")
        assert len(guard.questions) == 2
        counts = rig.service.counted["access"]()
        assert counts["results"]["address"] == 1
        assert counts["results"]["rate"] == 2
        assert counts["results"]["passed"] == counts["asked"] == 2

    denied = (parse_rule("--deny", "127.0.0.0/8", False),)
    slow = RateRule(1, 10.0, 1, zone="slow")
    guard = GuardScript()
    talk(
        version, guard, client,
        route("/denied", rule(), addresses=denied, rate=RateRule(1, 1000.0, 0, zone="x")),
        route("/slow", rule(), rate=slow),
    )  # fmt: skip


@both
def test_rates_by_a_header_a_cookie_or_for_the_site(version):
    async def statuses(connection, target, *asks):
        return [(await connection.ask(target, *lines)).status for lines in asks]

    async def client(connection, rig):
        a, b = ["X-Api-Key: a"], ["X-Api-Key: b"]
        assert await statuses(connection, "/header", a, a, b, b, [], []) == [200, 429] * 3
        a, b = ["Cookie: x=1; session=a"], ["Cookie: session=b"]
        assert await statuses(connection, "/cookie", a, a, b, b, [], []) == [200, 429] * 3
        assert await statuses(connection, "/site", [], a, b) == [200, 429, 429]

    one = {"requests": 1, "per": 1000.0, "burst": 0}
    keys = {"/header": "$http_x_api_key", "/cookie": "$cookie_session", "/site": "site"}
    routes = [route(path, rate=RateRule(**one, key=key, zone=path)) for path, key in keys.items()]
    talk(version, GuardScript(), client, *routes)


def test_so_many_requests_of_one_client_at_once():
    async def slow(reader, writer):
        while True:
            await read_head(reader)
            await asyncio.sleep(0.2)
            writer.write(response())

    async def test():
        async with guarded(slow, GuardScript(), route(connections=2)) as rig:
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(Client1(rig)) for _ in range(4)]
                for client in clients:
                    client.send("/")
                answers = [await client.answer() for client in clients]
                assert sorted(one.status for one in answers) == [200, 200, 429, 429]
                assert (await clients[0].ask("/")).status == 200, "there is room again"
                clients[1].send("/")
                await asyncio.sleep(0.05)
            await rig.settled()
            guard = rig.service.route_targets.all[0].guard
            assert not guard._by_client, "also of one that went away"

    run(test())


# ── passwords ───────────────────────────────────────────────────────────────────────────────────

MEMBERS = PasswordRule(
    "members", (("alice", bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()),), "h"
)


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@both
def test_a_password_stands_between_the_rate_and_the_guard(version):
    async def client(connection, rig):
        answer = await connection.ask("/app")
        assert answer.status == 401
        assert answer.one("www-authenticate") == 'Basic realm="h", charset="UTF-8"'
        answer = await connection.ask(
            "/app", basic("alice", "wrong"), method="POST", body=b"x" * 99
        )
        assert answer.status == 401
        assert not guard.questions
        for _ in range(2):
            answer = await connection.ask(
                "/app", basic("alice", "hunter2"), method="POST", body=b"abc"
            )
            assert answer.status == 200
            assert answer.body.endswith(b"abc")
        assert len(guard.questions) == 2
        answers = [await connection.ask("/app") for _ in range(2)]
        assert [one.status for one in answers] == [401, 429]
        counts = rig.service.counted["access"]()
        assert counts["hashed"] == 2
        assert counts["results"]["password"] == 3

    guard = GuardScript()
    rate = RateRule(5, 1000.0, 4, zone="p")
    talk(version, guard, client, route(auth=rule(), password=MEMBERS, rate=rate))


@both
def test_an_address_or_a_password_is_enough_where_any_is(version):
    async def client(connection, rig):
        assert (await connection.ask("/in")).status == 200
        assert (await connection.ask("/out")).status == 401
        assert (await connection.ask("/out", basic("alice", "hunter2"))).status == 200
        assert (await connection.ask("/alone")).status == 403
        assert not guard.questions

    inside = (parse_rule("--allow", "127.0.0.0/8", True),)
    outside = (parse_rule("--allow", "10.0.0.0/8", True),)
    guard = GuardScript()
    rest = {"any": True, "address_rest": False}
    talk(
        version, guard, client,
        route("/in", password=MEMBERS, addresses=inside, **rest),
        route("/out", password=MEMBERS, addresses=outside, **rest),
        route("/alone", addresses=outside, **rest),
    )  # fmt: skip


def test_a_client_that_leaves_before_its_password_is_known_leaves_nothing():
    async def test():
        async with guarded(mirror, GuardScript(), route(password=MEMBERS, connections=1)) as rig:
            for number in range(3):
                async with Client1(rig) as client:
                    client.send("/", basic("alice", f"wrong {number}"))
                    await eventually(lambda: rig.service.clients)
                await rig.settled()
            assert not rig.service.route_targets.all[0].guard._by_client

    run(test())


# ── remembered answers ──────────────────────────────────────────────────────────────────────────


@both
def test_an_answer_holds_for_equal_questions_and_no_others(version):
    async def client(connection, rig):
        first = ("/app?x=1", ["Cookie: s=1"])
        others = [
            ("/app?x=2", ["Cookie: s=1"]), ("/app?x=1", ["Cookie: s=2"]), ("/app?x=1", []),
            ("/app?x=1", ["Cookie: s=1", "Authorization: x"]),
            ("/app?x=1", ["Cookie: s=1", "Accept-Language: de"]),
        ]  # fmt: skip
        for target, lines in (first, first, *others, first):
            assert (await connection.ask(target, *lines)).status == 200
        assert (await connection.ask(first[0], *first[1], method="POST", body=b"x")).status == 200
        assert (await connection.ask(first[0], *first[1], host="other")).status == 200
        assert len(guard.questions) == 1 + len(others) + 2
        rig.service.clock.now += 5.1
        assert (await connection.ask(first[0], *first[1])).status == 200
        assert len(guard.questions) == 1 + len(others) + 3
        guard.answer = response(status=b"403 Forbidden")
        for _ in range(2):
            assert (await connection.ask("/no")).status == 403
        assert len(guard.questions) == 1 + len(others) + 5, "a no is not remembered"

    guard = GuardScript()
    talk(version, guard, client, route(auth=rule(cache=5.0)), every=60.0)


def test_equal_questions_at_once_are_one_and_survive_whoever_leaves():
    async def test():
        guard = GuardScript(pause=0.2)
        async with guarded(mirror, guard, route(auth=rule(cache=5.0))) as rig:
            async with contextlib.AsyncExitStack() as stack:
                first = await stack.enter_async_context(Client1(rig))
                first.send("/app", "Cookie: s=1")
                await eventually(lambda: guard.questions)
                clients = [await stack.enter_async_context(Client1(rig)) for _ in range(9)]
                for client in clients:
                    client.send("/app", "Cookie: s=1")
                first.writer.transport.abort()
                answers = [await client.answer() for client in clients]
            assert [one.status for one in answers] == [200] * 9
            assert len(guard.questions) == 1
            assert not guard.lost

    run(test())
