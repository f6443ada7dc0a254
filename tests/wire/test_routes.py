"""Routes that change paths, answer by themselves or go by regular expressions: both versions."""

import asyncio
import contextlib
import re

import pytest

from rawproxy.config.model import Edits, ErrorPage, Respond, ResponseMapping, Route, Site
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http2 import frames
from tests.process import PATIENCE

from .h2raw import H2Client
from .rig import Rig, read_head, response, run
from .test_sites import Http1, both

OWN_PREFIX = Edits(set=(("X-Forwarded-Prefix", "/x"),))
NO_ROBOTS = Edits(set=(("X-Robots-Tag", "none"),))
ROUTES = (
    Route("/app", replace_prefix="/"),
    Route("/own", replace_prefix="/", request_headers=OWN_PREFIX),
    Route("/api", replace_prefix="/v1"),
    Route(path_regex="^/user/([0-9]+)/(.*)$", rewrite="/u/$1/$2"),
    Route(
        path_regex="^/old/(.*)$",
        group=None,
        respond=Respond(410, "$1 is gone\n"),
        response_headers=NO_ROBOTS,
    ),
    Route("/health", exact=True, group=None, respond=Respond(200, "ok $host\n")),
    Route("/none", exact=True, group=None, respond=Respond(204)),
    Route("/as-is", replace_prefix="/", mapping=ResponseMapping(back=False)),
)


async def mirror(reader, writer):
    """The request's head as the body, and places below /x, as an application names its own."""
    while True:
        head = await read_head(reader)
        places = (b"Location: /x?y", b"Set-Cookie: a=b; Path=/; Secure")
        writer.write(response(head, *places, status=b"302 Found"))


def talk(version, client, **options):
    async def test():
        async with (
            Rig(mirror, True, sites=[Site(routes=ROUTES)], **options) as rig,
            version(rig) as one,
        ):
            await client(one, rig)

    run(test())


def test_what_a_route_makes_of_a_client_is_made_again_for_another():
    def context(peer: bytes) -> rewrite.ClientContext:
        return rewrite.context(peer, b"http", False, False, None)

    async def test():
        routes = (Route("/"), Route("/a", response_headers=NO_ROBOTS))
        async with Rig(
            lambda reader, writer: read_head(reader), sites=[Site(routes=routes)]
        ) as rig:
            target = rig.service.route_target
            one, other = context(b"10.0.0.1"), context(b"10.0.0.2")
            for asked in (one, one, other, one):
                made = rig.service.follow(asked, target)
                assert made == asked._replace(edits=target.edits)
                assert rig.service.follow(asked, target) is made

    run(test())


@both
def test_the_upstream_sees_another_path(version):
    async def client(connection, rig):
        for target, sees, prefix in (
            ("/app/x?y=/app", b"/x?y=/app", [b"/app"]),
            ("/app", b"/", [b"/app"]),
            ("/own/x", b"/x", [b"/x"]),
            ("/api/x", b"/v1/x", []),
            ("/user/7/a%20b?q", b"/u/7/a%20b?q", []),
        ):
            status, _, head = await connection.ask("a.test", target)
            line, *fields = head.split(b"\r\n")
            assert (status, line) == (302, b"GET " + sees + b" HTTP/1.1")
            name = b"x-forwarded-prefix: "
            told = [one[len(name) :] for one in fields if one.lower().startswith(name)]
            assert told == prefix
        assert [line.split(b'"')[1].split()[1] for line in rig.log] == [
            b"/app/x?y=/app", b"/app", b"/own/x", b"/api/x", b"/user/7/a%20b?q",
        ]  # fmt: skip

    talk(version, client)


@both
def test_what_it_says_of_its_paths_comes_back_as_the_clients(version):
    async def client(connection, rig):
        for target, place, cookie in (
            ("/app/", "/app/x?y", "a=b; Path=/app/; Secure"),
            ("/api/", "/x?y", "a=b; Path=/; Secure"),
            ("/as-is/", "/x?y", "a=b; Path=/; Secure"),
        ):
            _, fields, _ = await connection.ask("a.test", target)
            assert (fields["location"], fields["set-cookie"]) == (place, cookie)

    talk(version, client)


@both
def test_answers_of_our_own(version):
    async def client(connection, rig):
        status, fields, body = await connection.ask("a.test", "/health", "POST", b"is it?")
        assert (status, body, fields["content-length"]) == (200, b"ok a.test\n", "10")
        assert fields["content-type"] == "text/plain; charset=utf-8"
        assert fields["strict-transport-security"]
        status, fields, _ = await connection.ask("a.test", "/health", "HEAD")
        assert (status, fields["content-length"]) == (200, "10")
        status, fields, body = await connection.ask("a.test", "/old/a/b")
        assert (status, fields["x-robots-tag"], body) == (410, "none", b"a/b is gone\n")
        assert rig.connections == 0

    talk(version, client)


def test_who_is_answered_here_over_tls_need_not_wait_for_the_goodbye():
    """The request has been read whole, so there is nothing to linger for."""

    async def client(connection, rig):
        connection.writer.write(
            b"GET /health HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        )
        whole = await asyncio.wait_for(connection.reader.read(), PATIENCE / 2)  # it lingers longer
        assert whole.endswith(b"ok a.test\n")

    talk(Http1, client)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 2\r\n\r\nab", id="whole"),
        pytest.param(b"Content-Length: 2000000\r\n\r\nab", id="still to come"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", id="chunked"),
    ],
)
def test_a_body_that_nobody_reads_does_not_delay_the_goodbye_over_tls(body):
    """Who reads to the end of the connection has the answer now, not when we have had enough."""

    async def client(connection, rig):
        connection.writer.write(
            b"POST /health HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n" + body
        )
        # A close_notify, as the connection itself stays open for a minute.
        whole = await asyncio.wait_for(connection.reader.read(), PATIENCE / 2)
        assert whole.endswith(b"ok a.test\n")

    talk(Http1, client, deadlines={"linger": 60.0})


@both
def test_a_204_has_no_length(version):
    async def client(connection, rig):
        if hasattr(connection, "reader"):
            connection.writer.write(b"GET /none HTTP/1.1\r\nHost: a.test\r\n\r\n")
            head = await read_head(connection.reader)
            assert head.startswith(b"HTTP/1.1 204 ") and b"content-length" not in head.lower()
        else:
            status, fields, body = await connection.ask("a.test", "/none")
            assert (status, body) == (204, b"") and "content-length" not in fields

    talk(version, client)


@both
@pytest.mark.parametrize("target", ["/app/../x", "/app/%2e%2e/x", "/app%2fx", "/user/7%2fx/y"])
def test_no_path_is_read_in_two_ways(version, target):
    async def client(connection, rig):
        assert (await connection.ask("a.test", target))[0] in (400, 404)
        assert rig.connections == 0

    talk(version, client)


CHOSEN = (
    Route(),
    Route(when=(("$arg_o", "~^(.+)[.]a[.]test$"),), rewrite="/of/$1"),
    Route(when=(("$method", "DELETE"),), group=None, respond=Respond(405, "no $method\n")),
    Route("/drop", first=True, group=None, respond=Respond(444)),
)


@both
def test_what_a_request_is_like_decides_beside_its_path(version):
    async def test():
        async with Rig(mirror, True, sites=[Site(routes=CHOSEN)]) as rig, version(rig) as one:
            for target, sees in (
                ("/x?y", b"/x?y"),
                ("/x?o=app.a.test", b"/of/app?o=app.a.test"),
                ("/x?o=a.test", b"/x?o=a.test"),
                ("/x?y", b"/x?y"),
            ):
                status, _, head = await one.ask("a.test", target)
                assert (status, head.split(b" ")[1]) == (302, sees)
            status, _, page = await one.ask("a.test", "/x", method="DELETE")
            assert (status, page) == (405, b"no DELETE\n")

    run(test())


LOOKED_UP = (
    Route("/", response_headers=Edits(add=(("X-Path", "$uri of $request_uri"),))),
    Route("/app", replace_prefix="/", request_headers=OWN_PREFIX),
    Route("/plain"),
    Route("/hidden", internal=True),
    Route(path_regex="^/a/(.*)$", rewrite="/app/$1", again=True, group=None),
    Route("/drops", rewrite="/plain?x=1?", again=True, group=None),
    Route("/in", rewrite="/hidden", again=True, group=None),
    Route("/none", exact=True, rewrite="/nothing/", again=True, group=None),
    Route("/own", rewrite="/said", again=True, group=None),
    Route("/said", group=None, respond=Respond(410, "$uri\n")),
    Route("/round", rewrite="/round$path", again=True, group=None),
    Route(when=(("$arg_to", "~^(.+)$"),), first=True, rewrite="$1", again=True, group=None),
)


@both
def test_a_path_that_is_looked_up_again_is_that_of_another_route(version):
    async def test():
        async with Rig(mirror, True, sites=[Site(routes=LOOKED_UP)]) as rig, version(rig) as one:
            for target, sees in (
                ("/a/x?y", b"/x?y"),
                ("/plain/z", b"/plain/z"),
                ("/drops?y", b"/plain?x=1"),
                ("/plain/z", b"/plain/z"),  # what was changed for one request is not for another
                ("/in?y", b"/hidden?y"),
                ("/none", b"/nothing/"),
                ("/x?to=/app/y", b"/y?to=/app/y"),
                ("/x?y", b"/x?y"),
            ):
                status, _, head = await one.ask("a.test", target)
                assert (status, head.split(b" ")[1]) == (302, sees), target
            for target, status in (
                ("/hidden", 404), ("/own/x", 410), ("/round", 500), ("/x?to=/../y", 400),
            ):  # fmt: skip
                got, _, page = await one.ask("a.test", target)
                assert got == status
                assert status != 410 or page == b"/said\n"
            _, lines, _ = await one.ask("a.test", "/none?q")
            assert lines["x-path"] == "/nothing/ of /none?q"
            assert [line.split(b'"')[1].split()[1] for line in rig.log][:2] == [
                b"/a/x?y",
                b"/plain/z",
            ]

    run(test())


ERRORS = (
    ErrorPage(404, 404, "/page?of=$path"),
    ErrorPage(403, 403, "https://to.test/?rd=$request_uri"),
    ErrorPage(410, 410, "https://to.test/", 301),
    ErrorPage(500, 500, "@sorry"),
    ErrorPage(502, 503, "@spare", 0),
    ErrorPage(401, 401, "/said"),
    ErrorPage(405, 405, "/guarded"),
    ErrorPage(429, 429, "/nowhere/../"),
)
ADDED = Edits(add=(("X-Page", "1"),))
FAILING = (
    Route("/", error_pages=ERRORS, intercept=True, response_headers=Edits(add=(("X-From", "/"),))),
    Route("/shown", error_pages=ERRORS),
    Route("/bare", group=None, respond=Respond(404), error_pages=ERRORS),
    Route("/closed", group=None, respond=Respond(403), error_pages=ERRORS),
    Route("/page", internal=True, response_headers=ADDED, error_pages=ERRORS, intercept=True),
    Route("/said", group=None, respond=Respond(200, "said $uri\n"), response_headers=ADDED),
    Route(named="@sorry", group=None, respond=Respond(503, "sorry for $path\n")),
    Route(named="@spare", response_headers=ADDED),
    Route("/down", group="down", error_pages=(ErrorPage(502, 502, "/said", 200),)),
)


async def failing(reader, writer):
    """Answers with the status that the query says, and tells what it was asked."""
    while True:
        head = await read_head(reader)
        target = head.split(b" ")[1]
        length = re.search(rb"(?i)content-length: ([0-9]+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        status = target.rpartition(b"s=")[2] if b"s=" in target else b"200"
        lines = [b"WWW-Authenticate: Basic"] if status == b"401" else []
        writer.write(response(head, *lines, status=status + b" Said"))


async def hangs_up(reader, writer):
    await read_head(reader)
    writer.close()


@both
def test_an_error_leads_to_another_place(version):
    async def test():
        others = {"down": hangs_up}
        async with (
            Rig(failing, True, sites=[Site(routes=FAILING)], others=others) as rig,
            version(rig) as one,
        ):
            for target, method, status, has, line in (
                ("/x?s=200", "GET", 200, "x-from", b"GET /x?s=200 "),
                ("/x?s=404", "GET", 404, "x-page", b"GET /page?of=/x "),
                ("/x?s=404", "DELETE", 404, "x-page", b"GET /page?of=/x "),
                ("/x?s=404", "POST", 404, "x-page", b"GET /page?of=/x "),
                ("/x?s=403", "GET", 302, "location", b""),
                ("/x?s=410", "POST", 301, "x-from", b""),
                ("/x?s=500", "POST", 500, "content-length", b"sorry for /x\n"),
                ("/x?s=503", "DELETE", 503, "x-page", b"DELETE /x?s=503 "),
                ("/x?s=401", "GET", 401, "www-authenticate", b"said /said\n"),
                ("/x?s=429", "GET", 429, "x-from", b"GET /x?s=429 "),
                ("/shown?s=404", "GET", 404, "content-length", b"GET /shown?s=404 "),
                ("/bare", "GET", 404, "x-page", b"GET /page?of=/bare "),
                ("/bare", "POST", 404, "content-length", b""),
                ("/closed", "GET", 302, "location", b""),
                ("/page", "GET", 404, "x-page", b"GET /page?of=/page "),
                ("/x?s=503", "POST", 503, "x-from", b"POST /x?s=503 "),  # its body is gone
                ("/down", "GET", 200, "x-page", b"said /said\n"),
                ("/x?s=200", "GET", 200, "x-from", b"GET /x?s=200 "),
            ):
                body = b"body" if method == "POST" else b""
                got, fields, page = await one.ask("a.test", target, method, body)
                assert (got, has in fields) == (status, True), (target, method, fields, page)
                assert page.startswith(line), (target, method, page)
                assert b"body" not in page

    run(test())


EMPTY = (
    ErrorPage(404, 404, "/none", 200),
    ErrorPage(410, 410, "/old"),
    ErrorPage(403, 403, "/none", 0),
)


async def empties(reader, writer):
    """Its pages have no body, and one says how long it would be."""
    answers = {
        b"/none": b"204 No Content\r\n",
        b"/old": b"304 Not Modified\r\nContent-Length: 5\r\n",
    }
    while True:
        target = (await read_head(reader)).split(b" ")[1]
        status = target.rpartition(b"s=")[2]
        writer.write(
            b"HTTP/1.1 %b\r\n" % answers.get(target, status + b" Said\r\nContent-Length: 0\r\n")
        )


@both
def test_a_page_without_a_body_says_so_under_a_status_that_has_one(version):
    """Else the client would wait for it, and the next answer would be its body."""

    async def test():
        site = Site(routes=(Route("/", error_pages=EMPTY, intercept=True),))
        async with Rig(empties, True, sites=[site]) as rig, version(rig) as one:
            for target, status in (
                ("/x?s=404", 200), ("/x?s=410", 410), ("/x?s=403", 204), ("/x?s=200", 200),
            ) * 2:  # fmt: skip
                got, fields, page = await one.ask("a.test", target)
                assert (got, page) == (status, b""), target
                assert fields.get("content-length") == (None if status == 204 else "0"), target

    run(test())


def test_444_hangs_up_without_an_answer():
    async def test():
        async with Rig(mirror, True, sites=[Site(routes=CHOSEN)]) as rig:
            reader, writer = await rig.client()
            writer.write(b"GET /drop HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await asyncio.to_thread(hung_up, rig.port)

    run(test())


def hung_up(port: int) -> None:
    with H2Client(port) as client:
        client.send(client.headers("/drop"))
        assert client.until(frames.RST_STREAM, frames.HEADERS)[0] == frames.RST_STREAM
        assert client.get("/")[0] == 302, "the connection goes on"
