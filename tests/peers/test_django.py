"""authentik's own stack behind the proxy: Django, an ASGI server, a login, a WebSocket."""

import http.client
import http.cookiejar
import json
import os
import pathlib
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.process import CA, PATIENCE, Program, RawProxy, free_port, wait_for_port

SITE = pathlib.Path(__file__).with_name("site_django.py")
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CA.configure_trust(TRUST)


class Browser:
    """Cookies, redirects, Origin and Referer, as a browser has them."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.jar = http.cookiejar.CookieJar()
        handlers = (
            urllib.request.HTTPCookieProcessor(self.jar),
            urllib.request.HTTPSHandler(context=TRUST),
        )
        self.opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> str:
        with self.opener.open(self.base + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def post(self, path: str, **fields: str) -> tuple[str, str]:
        data = urllib.parse.urlencode(fields).encode()
        headers = {"Origin": self.base, "Referer": self.base + path}
        request = urllib.request.Request(self.base + path, data, headers)
        with self.opener.open(request, timeout=PATIENCE) as answer:
            return answer.url, answer.read().decode()

    def login(self) -> tuple[str, str]:
        token = re.search('value="(.+?)"', self.get("/login"))[1]
        return self.post("/login", user="akadmin", password="hunter2", csrfmiddlewaretoken=token)

    def cookies(self) -> str:
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.jar)


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def site(request):
    """A proxy in front of a server whose only accepted origin is the proxy's."""
    port = free_port()
    with RawProxy("--upstream", f"http://127.0.0.1:{port}") as proxy:
        origin = f"localhost:{proxy.https}"
        command = [sys.executable, str(SITE), request.param, str(port), origin]
        server = Program(command, env=os.environ | {"COVERAGE_PROCESS_START": ""})
        wait_for_port(port, server.process)
        proxy.direct, proxy.origin, proxy.server = port, origin, request.param
        yield proxy
        server.stop()


@pytest.fixture
def browser(site):
    return Browser(f"https://{site.origin}")


def test_login(site, browser):
    where, page = browser.login()
    assert where == f"https://{site.origin}/me"
    facts = json.loads(page)
    assert facts == {
        "user": "akadmin",
        "secure": True,
        "host": site.origin,
        "address": "127.0.0.1",
        "url": f"https://{site.origin}/me",
    }


def ask(port, method, headers, body="", path="/login") -> http.client.HTTPResponse:
    """One request straight to the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    connection.close()
    return answer


def test_the_login_really_needs_what_the_proxy_adds(site):
    """The control: straight to the server, each thing left out in turn makes the visit fail."""
    host, https = {"Host": site.origin}, {"X-Forwarded-Proto": "https"}
    assert ask(site.direct, "GET", host).status == 301  # to https, where it came from
    assert ask(site.direct, "GET", https | {"Host": "evil.test"}, path="/me").status == 400
    form = ask(site.direct, "GET", host | https)
    assert form.status == 200
    token = re.search('value="(.+?)"', form.text)[1]
    body = urllib.parse.urlencode(
        {"user": "u", "password": "hunter2", "csrfmiddlewaretoken": token}
    )
    browser = https | {
        "Cookie": form.headers["Set-Cookie"].partition(";")[0],
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": f"https://{site.origin}",
    }
    assert ask(site.direct, "POST", browser | host, body).status == 302
    # nginx's `Host $host` drops the port, and with it the login.
    assert ask(site.direct, "POST", browser | {"Host": "localhost"}, body).status == 403


def test_a_wrong_token_is_still_refused(browser):
    browser.get("/login")
    with pytest.raises(urllib.error.HTTPError) as caught:
        browser.post("/login", user="x", password="hunter2", csrfmiddlewaretoken="a" * 64)
    assert caught.value.code == 403
    caught.value.close()


def test_uploads_stream(browser):
    def parts():
        for _ in range(64):
            yield bytes(65536)

    request = urllib.request.Request(browser.base + "/upload", parts(), {"Content-Type": "a/b"})
    with browser.opener.open(request, timeout=PATIENCE) as answer:
        assert json.load(answer) == {"length": 64 * 65536}


def websocket(site, browser, path="/ws/echo", **options):
    headers = {"Cookie": browser.cookies()} if browser else {}
    options = {
        "origin": f"https://{site.origin}",
        "max_size": 1 << 26,
        "open_timeout": 20,
    } | options
    url = f"wss://{site.origin}{path}"
    return connect(url, ssl=TRUST, additional_headers=headers, **options)


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websocket(site, browser, compression):
    browser.login()
    with websocket(site, browser, subprotocols=["chat", "other"], compression=compression) as ws:
        assert ws.subprotocol == "chat"
        assert json.loads(ws.recv(timeout=PATIENCE)) == {"user": "akadmin"}
        large = 1_000_000 if site.server == "daphne" else 8_000_000  # daphne takes no more
        for message in ("hello", b"\x00\xff", "ü" * 70_000, os.urandom(large), b"x" * large):
            ws.send(message)
            assert ws.recv(timeout=PATIENCE) == message
        ws.send(["in ", "several ", "fragments"])
        assert ws.recv(timeout=PATIENCE) == "in several fragments"
        ws.send([b"a" * 100_000] * 5)
        assert ws.recv(timeout=PATIENCE) == b"a" * 500_000
        assert ws.ping().wait(timeout=PATIENCE)


def test_websocket_close_codes_pass_both_ways(site, browser):
    with websocket(site, browser) as ws:
        ws.recv(timeout=PATIENCE)
        ws.send("close, please")
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=PATIENCE)
        assert caught.value.rcvd.code == 4321
    with websocket(site, browser) as ws:
        ws.recv(timeout=PATIENCE)
        ws.close(code=1001, reason="leaving")
        # uvicorn echoes the code, daphne answers 1000; both close cleanly.
        assert ws.protocol.close_rcvd.code in (1000, 1001)


@pytest.mark.parametrize(
    ("path", "origin"), [("/ws/deny", None), ("/ws/echo", "https://evil.test")]
)
def test_a_refused_websocket_is_an_ordinary_response(site, browser, path, origin):
    with pytest.raises(InvalidStatus) as caught:
        websocket(site, browser, path, origin=origin or f"https://{site.origin}")
    assert caught.value.response.status_code == 403
    assert caught.value.response.headers["Strict-Transport-Security"] == "max-age=63072000"
