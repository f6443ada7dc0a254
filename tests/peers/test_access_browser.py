"""Chromium before a guarded site: stranger, login, the page that was asked for, WebSocket, logout."""

import asyncio
import contextlib
import http
import json
import shutil
import threading

import pytest
from playwright.sync_api import sync_playwright
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from tests.outposts.authentik import Application, Authentik
from tests.outposts.others import Authelia, OAuth2Proxy
from tests.process import LEAF, RawProxy, free_port, needs
from tests.wire.h2raw import eventually

PATIENCE = 60_000  # milliseconds for anything that the browser waits for
ECHO = """
async (url) => {
  const socket = new WebSocket(url);
  const next = () => new Promise((done, failed) => {
    socket.onmessage = (event) => done(event.data);
    socket.onerror = () => failed(new Error("the WebSocket failed"));
    socket.onclose = (event) => failed(new Error(`closed ${event.code}`));
  });
  const who = await next();
  socket.send("hello");
  const echo = await next();
  const closed = new Promise((done) => { socket.onclose = (event) => done(event.code); });
  window.kept = closed;
  return [who, echo];
}
"""
FETCH = """
async (url) => {
  const answer = await fetch(url, { redirect: "manual" });
  return [answer.status, answer.type];
}
"""
pytestmark = needs("chromium")


class Site:
    """An application: a page that says who is there, and an echo that says so too."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heads: list[Headers] = []
        self.paths: list[tuple[str, str]] = []  # host without its port, and path
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,))
        self.thread.start()
        assert ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        self.stop = asyncio.Event()

        async def main() -> None:
            async with serve(self._echo, "127.0.0.1", self.port, process_request=self._page):
                ready.set()
                await self.stop.wait()

        self.loop.run_until_complete(main())
        self.loop.close()

    def _who(self, headers: Headers) -> str:
        names = ("X-authentik-username", "Remote-User", "X-Auth-Request-User")
        return next((headers[name] for name in names if name in headers), "nobody")

    def _page(self, connection, request):
        self.heads.append(request.headers)
        self.paths.append((request.headers["Host"].partition(":")[0], request.path))
        if request.path == "/echo":
            return None
        body = (
            f"<!doctype html><title>app</title><h1>{self._who(request.headers)}</h1>{request.path}"
        )
        fields = Headers([("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
        fields["Connection"] = "close"
        return Response(http.HTTPStatus.OK, "OK", fields, body.encode())

    async def _echo(self, socket) -> None:
        await socket.send(self._who(socket.request.headers))
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                await socket.send(message)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)


FILE = """\
https = ["127.0.0.1:{port}"]
cert = {pem}
key = {pem}
upstream = "http://127.0.0.1:{app}"
access-log = "-"
no-http2 = {old}

[group.login]
upstream = "http://127.0.0.1:{guard}"

[auth.sso]
kind = "{kind}"
upstream = "http://127.0.0.1:{guard}"
recheck = 0.5

[[site]]
server-name = ["app.domain.test", "other.domain.test"]
auth = "sso"

[[site]]
server-name = "auth.domain.test"

[[site.route]]
group = "login"
"""


class Stand:
    """The proxy, an application behind it, a guard, and a page of Chromium."""

    def __init__(self, stack, tmp_path, kind: str, old: bool, made) -> None:
        self.port = free_port()
        self.site = Site()
        stack.callback(self.site.close)
        self.guard = stack.enter_context(made(self.port))
        pem = tmp_path / "pem"
        LEAF.private_key_and_cert_chain_pem.write_to_path(pem)
        path = tmp_path / "rawproxy.toml"
        path.write_text(
            FILE.format(
                port=self.port, pem=json.dumps(str(pem)), app=self.site.port, kind=kind,
                guard=self.guard.port, old=str(old).lower(),
            )
        )  # fmt: skip
        self.proxy = stack.enter_context(RawProxy("--config", str(path), https=False))
        play = stack.enter_context(sync_playwright())
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--host-resolver-rules=MAP *.domain.test 127.0.0.1"],
        )
        stack.callback(browser.close)
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()

    def url(self, host: str, path: str) -> str:
        return f"https://{host}.domain.test:{self.port}{path}"

    def sign_in(self, user="user") -> None:
        self.page.wait_for_selector("h1:has-text('sign in')")
        self.page.fill(f"input[name={user}]", "alice")
        self.page.fill("input[name=password]", "hunter2")
        self.page.click("button")


@pytest.fixture
def stand(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda *more: Stand(stack, tmp_path, *more)


def single(port: int) -> Authentik:
    return Authentik(
        f"https://auth.domain.test:{port}",
        Application(f"https://app.domain.test:{port}"),
        Application(f"https://other.domain.test:{port}"),
    )


def domain(port: int) -> Authentik:
    login = f"https://auth.domain.test:{port}"
    return Authentik(login, Application(login, cookie_domain="domain.test"))


versions = pytest.mark.parametrize("old", [False, True], ids=["HTTP/2", "HTTP/1.1"])


@versions
@pytest.mark.parametrize("mode", [single, domain])
def test_the_whole_life_behind_authentik(stand, mode, old):
    life = stand("authentik", old, mode)
    page, asked = life.page, life.url("app", "/page?a=b&c=%20d")
    page.goto(asked)
    assert page.url.startswith(life.url("auth", "/if/flow/login?next="))
    assert not life.site.heads, "a stranger reaches nothing of the application"
    life.sign_in()
    page.wait_for_url(asked)
    assert page.inner_text("h1") == "alice"
    assert life.site.heads[0]["X-authentik-groups"] == "users|admins"

    who, echo = page.evaluate(ECHO, life.url("app", "/echo").replace("https", "wss"))
    assert (who, echo) == ("alice", "hello")
    socket_head = next(head for head in life.site.heads if "Upgrade" in head)
    assert socket_head["X-authentik-username"] == "alice"

    other = life.url("other", "/other")
    page.context.new_page().goto(other)
    assert ("other.domain.test", "/other") in life.site.paths, "no second login"

    page.bring_to_front()
    assert page.evaluate("Promise.race([window.kept, 'open'])") == "open"
    second = page.context.new_page()
    second.goto(life.url("app", "/outpost.goauthentik.io/sign_out"))
    assert second.inner_text("h1") == "signed out"
    assert page.evaluate("window.kept") == 1008, "the WebSocket goes with the session"
    before = len(life.site.heads)
    page.goto(asked)
    assert page.url.startswith(life.url("auth", "/if/flow/login?next="))
    assert page.evaluate(FETCH, life.url("auth", "/x"))[0] == 404
    assert len(life.site.heads) == before

    spoke(life, old)


def spoke(life: Stand, old: bool) -> None:
    """The WebSocket, too, came by the version that was meant."""
    version, status = ("HTTP/1.1", 101) if old else ("HTTP/2.0", 200)
    wanted = f'"GET /echo {version}" {status} '
    eventually(lambda: wanted in life.proxy.out())  # a thread writes it
    assert ("HTTP/2.0" in life.proxy.out()) is not old


@versions
def test_authelia(stand, old):
    life = stand(
        "authelia", old, lambda port: Authelia(f"https://auth.domain.test:{port}", "domain.test")
    )
    page, asked = life.page, life.url("app", "/page?a=b&c=%20d")
    page.goto(asked)
    assert page.url.startswith(life.url("auth", "/?rd="))
    life.sign_in()
    page.wait_for_url(asked)
    assert page.inner_text("h1") == "alice"
    who, echo = page.evaluate(ECHO, life.url("app", "/echo").replace("https", "wss"))
    assert (who, echo) == ("alice", "hello")
    life.guard.sessions.clear()
    assert page.evaluate("window.kept") == 1008
    spoke(life, old)


@versions
def test_oauth2_proxy(stand, old):
    life = stand("oauth2-proxy", old, lambda port: OAuth2Proxy())
    page, asked = life.page, life.url("app", "/page?a=b&c=%20d")
    page.goto(asked)
    assert page.url == life.url("app", "/oauth2/sign_in?rd=%2Fpage%3Fa%3Db%26c%3D%2520d")
    life.sign_in("username")
    page.wait_for_url(asked)
    assert page.inner_text("h1") == "alice"
    assert len(page.context.cookies()) == 2, "both halves of its session"
    who, echo = page.evaluate(ECHO, life.url("app", "/echo").replace("https", "wss"))
    assert (who, echo) == ("alice", "hello")
    page.goto(life.url("app", "/oauth2/sign_out"))
    page.wait_for_selector("h1:has-text('sign in')")
    status, kind = page.evaluate(FETCH, asked)
    assert (status, kind) == (401, "basic"), "a script is told, not redirected"
    spoke(life, old)
