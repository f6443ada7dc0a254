"""Sites and routes through a running proxy, over HTTP/1.1 and HTTP/2 alike."""

import asyncio
import contextlib
import json

import pytest

from rawproxy.client.listener import Listener
from rawproxy.config.model import Address, Deadlines, Edits, Limits, Redirect, Route, Site
from rawproxy.net.listening import bind
from rawproxy.protocol.http2 import frames

from .h2raw import H2Client
from .rig import Rig, read_head, read_response, response, run
from .test_h2_front import whole


async def mirror(reader, writer):
    """Answers with the request's head as the body."""
    while True:
        head = await read_head(reader)
        if b"/silent" in head:
            await reader.read()
        writer.write(response(head, b"Server: x", b"X-Kept: y"))


class Http1:
    """One connection; requests one after the other."""

    def __init__(self, rig):
        self.rig = rig

    async def __aenter__(self):
        self.reader, self.writer = await self.rig.client()
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def ask(self, host, target, method="GET", body=b""):
        """Status, fields in lower case, and body."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        if method == "HEAD":
            head, payload = await read_head(self.reader), b""
        else:
            head, payload = await read_response(self.reader)
        status, *fields = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in fields if line)
        return int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, payload


class Http2(Http1):
    """The same over one HTTP/2 connection."""

    async def __aenter__(self):
        self.client = await asyncio.to_thread(H2Client, self.rig.port)
        return self

    async def __aexit__(self, *_):
        self.client.sock.close()

    def _ask(self, host, target, method, body, lines=()):
        client = self.client
        number, client.next_id = client.next_id, client.next_id + 2
        pseudo = [(":method", method), (":scheme", "https"), (":authority", host)]
        more = [("content-length", str(len(body)))] if body else []
        block = client.encoder.encode([*pseudo, (":path", target), *more, *lines])
        client.send(frames.headers(number, block, not body))
        if body:
            client.send(frames.frame(frames.DATA, frames.END_STREAM, number, body))
        (fields, *_), payload, _ = whole(client, number)
        return int(fields.pop(":status")), fields, payload

    async def ask(self, host, target, method="GET", body=b""):
        return await asyncio.to_thread(self._ask, host, target, method, body)


def both(test):
    """Run `test(connection, rig)` over either version of HTTP."""
    return pytest.mark.parametrize("version", [Http1, Http2])(test)


def talk(version, client, *sites, **options):
    async def test():
        async with Rig(mirror, True, sites=sites, **options) as rig, version(rig) as connection:
            await client(connection, rig)

    run(test())


def marked(path, name, **options):
    """A route whose requests carry a field of that name."""
    return Route(path, request_headers=Edits(set=(("X-Route", name),)), **options)


@both
def test_sites_by_host_and_routes_by_path(version):
    async def client(connection, rig):
        for host, target, name in (
            ("a.test", "/", b"a"),
            ("A.test:8443", "/x", b"a"),
            ("a.test", "/outpost.goauthentik.io/start?x=1", b"outpost"),
            ("a.test", "/", b"a"),
            ("x.b.test", "/outpost.goauthentik.io", b"b"),
            ("a.test", "/outpost.goauthentik.iox", b"a"),
        ):
            status, _, seen = await connection.ask(host, target)
            assert status == 200
            assert seen.startswith(b"GET %b HTTP/1.1\r\n" % target.encode())
            assert seen.count(b"X-Route: ") == 1 and b"X-Route: %b\r\n" % name in seen
        status, _, _ = await connection.ask("other.test", "/")
        assert status == 421
        status, _, _ = await connection.ask("a.test", "/x/%2e%2e/outpost.goauthentik.io")
        assert status == 400
        status, _, _ = await connection.ask("a.test", "//outpost.goauthentik.io")
        assert status == 400
        status, _, _ = await connection.ask("a.test", "/again")
        assert status == 200, "the connection goes on"

    one = Site(("a.test",), (marked("/", "a"), marked("/outpost.goauthentik.io", "outpost")))
    talk(version, client, one, Site(("*.b.test",), (marked("/", "b"),)))


@both
def test_a_path_without_a_route_is_404(version):
    async def client(connection, rig):
        assert (await connection.ask("h", "/app/x"))[0] == 200
        assert (await connection.ask("h", "/x"))[0] == 404
        assert (await connection.ask("h", "/x", "POST", b"body"))[0] == 404
        assert (await connection.ask("h", "/app/x"))[0] == 200

    talk(version, client, Site(routes=(Route("/app"),)))


@both
def test_redirects(version):
    async def client(connection, rig):
        for target, status, location in (
            ("/old/a?b=c", 301, "https://a.test/new/old/a?b=c"),
            ("/login?next=/x", 307, "/app/?next=/x"),
            ("/host", 302, "https://h.test:8443/host"),
        ):
            got, fields, body = await connection.ask("h.test", target)
            assert (got, fields["location"]) == (status, location)
            assert location.encode() in body.replace(b"&amp;", b"&")
            assert fields["strict-transport-security"] == "max-age=1"
        assert (await connection.ask("h.test", "/login", "HEAD"))[0] == 307
        assert (await connection.ask("h.test", "/login", "POST", b"x"))[0] == 307
        assert (await connection.ask("h.test", "/"))[0] == 200

    redirects = {
        "/old": Redirect(301, "https://a.test/new$request_uri"),
        "/login": Redirect(307, "/app/?$query"),
        "/host": Redirect(302, "https://$host:8443$path"),
    }
    routes = [Route(path, group=None, redirect=where) for path, where in redirects.items()]
    talk(version, client, Site(routes=(*routes, Route()), hsts="max-age=1"))


@both
def test_a_redirect_of_everything(version):
    async def client(connection, rig):
        for target, location in (("//evil.test/x", "/evil.test/x"), ("/\\e", "/e"), ("/a", "/a")):
            if version is Http2 and "\\" in target:
                continue
            status, fields, _ = await connection.ask("h", target)
            assert (status, fields["location"]) == (308, location)
        assert rig.connections == 0

    talk(version, client, Site(routes=(Route(group=None, redirect=Redirect(308, "$path")),)))


@both
def test_header_edits_both_ways(version):
    async def client(connection, rig):
        _, fields, seen = await connection.ask("h", "/")
        assert b"Host: inner.test\r\n" in seen and seen.count(b"ost: ") == 2  # X-Forwarded-Host
        assert b"X-Two: 1\r\nX-Two: 2\r\n" in seen
        assert b"Via" not in seen
        assert "server" not in fields
        assert (fields["x-kept"], fields["x-frame-options"]) == ("y", "DENY")
        assert fields["strict-transport-security"] == "max-age=5"
        status, fields, _ = await connection.ask("h", "/gone")
        assert (status, "x-frame-options" in fields) == (404, False)

    route = Route(
        "/",
        exact=True,
        request_headers=Edits(
            ("Via",), (("Host", "inner.test"),), (("X-Two", "1"), ("X-Two", "2"))
        ),
        response_headers=Edits(("server",), (("X-Frame-Options", "DENY"),)),
    )
    talk(version, client, Site(routes=(route,), hsts="max-age=5"))


@both
def test_the_only_route_may_have_edits_and_limits_too(version):
    async def client(connection, rig):
        assert rig.listener.sites is None, "nothing is looked at"
        _, _, seen = await connection.ask("h", "/x")
        assert b"X-Route: all\r\n" in seen
        assert (await connection.ask("h", "/x", "POST", b"12345"))[0] == 413

    talk(version, client, Site(routes=(marked("/", "all", limits=Limits(body=4)),)))


@both
def test_hsts_is_the_sites_own(version):
    async def client(connection, rig):
        for host, value in (("a.test", "max-age=1"), ("b.test", None), ("a.test", "max-age=1")):
            _, fields, _ = await connection.ask(host, "/")
            assert fields.get("strict-transport-security") == value

    talk(version, client, Site(("a.test",), hsts="max-age=1"), Site(("b.test",), hsts=None))


@both
def test_limits_and_timeouts_of_a_route(version):
    async def client(connection, rig):
        assert (await connection.ask("h", "/small", "POST", b"12345"))[0] == 413
        assert (await connection.ask("h", "/", "POST", b"12345"))[0] == 200
        assert (await connection.ask("h", "/silent"))[0] == 504

    routes = (
        Route(),
        Route("/small", limits=Limits(body=4)),
        Route("/silent", deadlines=Deadlines(response_head=0.05)),
    )
    talk(version, client, Site(routes=routes))


def test_without_a_host_http_1_0_gets_the_first_site():
    async def test():
        sites = (Site(("a.test",), (marked("/", "a"),)), Site(("b.test",), (marked("/", "b"),)))
        async with Rig(mirror, sites=sites) as rig:
            _, body = await rig.ask(b"GET / HTTP/1.0\r\n\r\n")
            assert b"X-Route: a\r\n" in body

    run(test())


def test_a_listener_serves_its_own_sites():
    async def test():
        here, there = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
        sites = (
            Site(("a.test",), (marked("/", "a"),), listeners=(here,)),
            Site(("b.test",), (marked("/", "b"),)),
        )
        async with Rig(mirror, sites=sites) as rig:
            for address, good in ((here, (b"a", b"b")), (there, (b"b",))):
                (sock,) = bind(Address("127.0.0.1", 0))
                listener = Listener(rig.service, sock, address=address)
                listener.start()
                rig.port = sock.getsockname()[1]
                for name in (b"a", b"b"):
                    head, _ = await rig.ask(b"GET / HTTP/1.1\r\nHost: %b.test\r\n\r\n" % name)
                    status = b" 200 " if name in good else b" 421 "
                    assert status in head.split(b"\r\n")[0]
                listener.close()

    run(test())


def test_the_redirect_to_https_knows_the_names_but_no_paths():
    async def test():
        sites = (Site(("a.test",), (Route("/app"),)),)
        async with Rig(mirror, sites=sites, redirect=443) as rig:
            head, _ = await rig.ask(b"GET /x/.. HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert b"301 " in head and b"Location: https://a.test/x/..\r\n" in head
            head, _ = await rig.ask(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
            assert b" 421 " in head

    run(test())


def test_an_idle_tunnel_has_its_routes_patience():
    async def socket(reader, writer):
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            await reader.read()

    async def test():
        routes = (Route(), Route("/ws", deadlines=Deadlines(tunnel_idle=0.05)))
        async with Rig(socket, sites=(Site(routes=routes),)) as rig:
            reader, writer = await rig.client()
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            assert b" 101 " in await read_head(reader)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""

    run(test())


@both
def test_variables_in_values(version):
    """One connection, several requests: each has values of its own."""

    async def client(connection, rig):
        ids = set()
        for target, uri in (("/a%2fb?x=1", b"/a/b"), ("/a%0d%0aX-Evil:1", b"/a%0D%0AX-Evil:1")) * 2:
            status, fields, seen = await connection.ask("h.test:8443", target)
            assert status == 200
            assert b"X-Uri: %b\r\n" % uri in seen
            assert b"X-Original: https://h.test%b\r\n" % target.encode() in seen
            assert b"X-Fixed: $1\r\n" in seen and b"X-Nothing" not in seen
            assert seen.count(b"\nX-Evil") == 0
            assert b"X-Peer: 127.0.0.1:" in seen
            assert b"X-Port: %d\r\n" % rig.port in seen
            assert fields["x-was"] == "GET " + target.partition("?")[0]
            ids.add(seen.partition(b"X-Id: ")[2].partition(b"\r")[0])
        assert len(ids) == 4 and all(len(one) == 32 for one in ids)
        status, fields, _ = await connection.ask("h.test", "/go/x?y=%0d%0aX:1")
        assert (status, fields["location"]) == (302, "https://h.test/new?at=y=%0d%0aX:1")
        _, fields, seen = await connection.ask("h.test", "/plain")
        assert b"X-Uri" not in seen and "x-was" not in fields

    route = Route(
        request_headers=Edits(
            set=(
                ("X-Uri", "$uri"), ("X-Original", "$scheme://$host$request_uri"),
                ("X-Fixed", "$$1"), ("X-Nothing", "$http_x_nothing"), ("X-Id", "$request_id"),
                ("X-Peer", "$remote_addr:$remote_port"), ("X-Port", "$server_port"),
            )
        ),
        response_headers=Edits(set=(("X-Was", "$method $path"),)),
    )  # fmt: skip
    go = Route("/go", group=None, redirect=Redirect(302, "https://$host/new?at=$args"))
    talk(version, client, Site(routes=(route, go, Route("/plain"))))


@both
def test_variables_on_the_only_route(version):
    async def client(connection, rig):
        for target in "/a", "/b", "/b":
            seen = (await connection.ask("h", target))[2]
            assert b"X-Uri: %b\r\n" % target.encode() in seen

    talk(version, client, Site(routes=(Route(request_headers=Edits(add=(("X-Uri", "$uri"),))),)))


@both
def test_every_answer_has_the_id_of_its_line_in_the_log_whoever_gave_it(version):
    """And an id that was made for the values of one request is not that of the next."""

    async def client(connection, rig):
        told = []
        for target in ("/id", "/nowhere", "/id", "/nowhere"):
            status, fields, seen = await connection.ask("h.test", target)
            named = seen.partition(b"X-Id: ")[2].partition(b"\r")[0].decode()
            told.append((status, named or fields["x-request-id"]))
        assert [status for status, _ in told] == [200, 404, 200, 404]
        lines = [json.loads(line) for line in rig.log]
        assert [(line["status"], line["id"]) for line in lines] == told
        assert len({one for _, one in told}) == 4
        causes = [problem.split()[0] for problem in rig.problems]
        assert causes == [one for status, one in told if status == 404]

    route = Route("/id", request_headers=Edits(set=(("X-Id", "$request_id"),)))
    site = Site(("h.test",), routes=(route,))
    talk(version, client, site, log_format="json")
