"""`rawproxy explain` beside what really happens to the same requests, by the same file."""

import asyncio
import re
import threading

import pytest
from click.testing import CliRunner

from rawproxy import cli
from tests.process import RawProxy, free_port

from .rig import read_head, response

FILE = """\
trusted-proxy = ["127.0.0.2"]
send-real-ip = true

[group.app]
upstream = "http://127.0.0.1:{app}"

[group.api]
upstream = ["http://127.0.0.1:{app}", {{ url = "http://localhost:{app}", backup = true }}]

[auth.sso]
kind = "authentik"
upstream = "http://127.0.0.1:{guard}"

[[site]]
server-name = ["app.tld", "*.app.tld"]
auth = "sso"
deny = ["127.0.0.3"]

[[site.route]]
group = "app"

[[site.route]]
path = "/api"
group = "api"
request-headers = {{ set = {{ X-Api = "$remote_addr of $host" }}, remove = "Cookie" }}
response-headers = {{ set = {{ X-Frame-Options = "DENY" }}, remove = "Server" }}

[[site.route]]
path = "/v1"
replace-prefix = "/v2"
group = "app"
auth = false

[[site.route]]
path = "/health"
auth = false
respond = {{ status = 200, body = "ok\\n" }}

[[site]]
server-name = "old.tld"

[[site.route]]
redirect = "https://app.tld$request_uri"
status = 308
"""


class Doubles:
    """An application and a guard that keep the heads they get, in a thread."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.questions: list[bytes] = []
        self.app, self.guard = free_port(), free_port()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.ready.wait(10)

    def _run(self) -> None:
        self.loop.run_until_complete(self._open())
        self.loop.run_forever()
        for server in self.servers:
            server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _open(self) -> None:
        def keeping(kept: list[bytes], answer: bytes):
            async def serve(reader, writer):
                try:
                    while True:
                        kept.append(await read_head(reader))
                        writer.write(answer)
                except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                    writer.close()

            return serve

        app = keeping(self.heads, response(b"app", b"Server: x"))
        guard = keeping(self.questions, response(b""))
        self.servers = [
            await asyncio.start_server(app, "127.0.0.1", self.app),
            await asyncio.start_server(guard, "127.0.0.1", self.guard),
        ]
        self.ready.set()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    doubles = Doubles()
    path = tmp_path_factory.mktemp("explain") / "rawproxy.toml"
    path.write_text(FILE.format(app=doubles.app, guard=doubles.guard))
    with RawProxy("--config", str(path), https=False) as proxy:
        yield doubles, path, proxy
    doubles.close()


def told(path, *words: str) -> str:
    found = CliRunner().invoke(cli.rawproxy, ["explain", "--config", str(path), *words])
    assert found.exit_code == 0, found.output
    return found.output.replace(f"{path.parent}/", "")


def quoted(text: str, behind: str) -> list[str]:
    """The lines of the head that stands behind a line that has `behind` in it."""
    rest = text[text.index(behind) :].split("\n")[1:]
    lines = []
    for line in rest:
        if not (match := re.match(r" +\| (.*)", line)):
            break
        lines.append(match[1])
    return lines


def happened(proxy, method: str, host: str, target: str, lines: list[str], sender: str) -> bytes:
    async def ask():
        local = (sender, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.http, local_addr=local)
        start = [
            f"{method} {target} HTTP/1.1",
            f"Host: {host}",
            *lines,
            "Connection: close",
            "",
            "",
        ]
        writer.write("\r\n".join(start).encode())
        try:
            return await reader.read()
        finally:
            writer.close()

    return asyncio.run(ask())


REQUESTS = [
    ("GET", "app.tld", "/", [], "127.0.0.1"),
    ("GET", "x.app.tld", "/page?a=b&c=%20", ["Cookie: s=1", "X-authentik-username: root"], "127.0.0.1"),
    ("HEAD", "app.tld:8080", "/page", ["X-Forwarded-For: 6.6.6.6", "X_Real_IP: 6.6.6.6"], "127.0.0.1"),
    ("GET", "app.tld", "/page", ["X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https"], "127.0.0.2"),
    ("DELETE", "app.tld", "/api/x", ["Cookie: s=1", "X_Api: 1"], "127.0.0.1"),
    ("OPTIONS", "app.tld", "/api", ["Max-Forwards: 5"], "127.0.0.1"),
    ("GET", "app.tld", "/v1/things?x=1", ["Connection: X-Hop", "X-Hop: 1"], "127.0.0.1"),
    ("GET", "app.tld", "/outpost.goauthentik.io/start?rd=x", ["Cookie: s=1"], "127.0.0.1"),
    ("GET", "app.tld", "/health", [], "127.0.0.1"),
    ("GET", "old.tld", "/a?b", [], "127.0.0.1"),
    ("GET", "app.tld", "/page", [], "127.0.0.3"),
    ("GET", "other.tld", "/", [], "127.0.0.1"),
    ("GET", "app.tld", "/a/../b", [], "127.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "host", "target", "lines", "sender"), REQUESTS)
def test_what_is_told_is_what_happens(stand, method, host, target, lines, sender):
    doubles, path, proxy = stand
    fields = [word for line in lines for word in ("-H", line)]
    closing = "-H", "Connection: close"
    if any(line.startswith("Connection:") for line in lines):
        closing = ()
    text = told(path, method, f"http://{host}{target}", *fields, *closing, "--from", sender)
    doubles.heads.clear()
    doubles.questions.clear()
    answer = happened(proxy, method, host, target, lines if closing else [*lines], sender)
    status, _, rest = answer.decode().partition("\r\n")

    asked = [head.decode().split("\r\n")[:-2] for head in doubles.questions]
    heads = [head.decode().split("\r\n")[:-2] for head in doubles.heads]
    if "auth: sso" in text and "refused" not in text:
        assert asked and asked[0] == quoted(text, "auth: sso")
    if "it gets" in text and "is refused (403)" not in text:
        received = asked if "start?rd" in target else heads
        assert received == [quoted(text, "it gets")]
        for line in re.findall(r"^response +\+ ([^ ].*?)(?:  +\S.*)?$", text, re.M):
            assert f"\r\n{line.strip()}\r\n" in answer.decode()
        for name in re.findall(r"^response +- (\S+)", text, re.M):
            assert f"\r\n{name}:" not in answer.decode().lower()
    else:
        assert not heads
    if found := re.search(r"^answer +(\d+)", text, re.M):
        assert status.split()[1] == found[1]
        for line in quoted(text, f"answer    {found[1]}"):
            assert line in rest
    elif "is refused (403)" in text:
        assert status.split()[1] == "403"
    else:
        assert status.split()[1] == "200"


def test_every_line_names_its_place(stand):
    _, path, _ = stand
    text = told(path, "DELETE", "http://app.tld/api/x", "-H", "Cookie: s=1")
    for place in (
        "site      app.tld, *.app.tld .* rawproxy.toml:15: [[site]] server-name",
        "route     /api, .* rawproxy.toml:23: [[site.route]] path",
        "may pass  deny: 192.0.2.1 passes .* rawproxy.toml:17: [[site]] deny",
        "auth: sso (authentik) at http://127.0.0.1:.* is asked .* rawproxy.toml:16: [[site]] auth",
        "group     api, round-robin .* rawproxy.toml:24: [[site.route]] group",
        "then http://localhost:.* rawproxy.toml:8: [group.api] upstream",
        "response  + X-Frame-Options: DENY .* rawproxy.toml:26: [[site.route]] response-headers",
    ):
        pattern = ".*".join(map(re.escape, place.split(".*")))
        assert re.search(pattern, text), (place, text)


def test_plain_requests_go_to_https_where_there_is_such_a_listener(tmp_path):
    words = ["--upstream", "http://127.0.0.1:1", "--https", ":8443", "--self-signed"]
    found = CliRunner().invoke(cli.rawproxy, ["explain", "http://a.tld:8080/x", *words])
    assert "answer    301 to https://a.tld:8443/x" in found.output
    found = CliRunner().invoke(cli.rawproxy, ["explain", "wss://a.tld/x", *words])
    assert "| Upgrade: websocket" in found.output
    assert "listener  https :8443" in found.output and "--https" in found.output
    assert re.search(
        r"response  \+ Strict-Transport-Security: max-age=63072000 +default", found.output
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "type [METHOD] URL"),
        (["a", "b", "c"], "type [METHOD] URL"),
        (["app.tld/x"], "type a whole URL"),
        (["ftp://app.tld/x"], "type a whole URL"),
        (["G(T", "http://a/"], "not a method"),
        (["http://a/", "-H", "X"], "type 'Name: value'"),
        (["http://a/", "--from", "x"], "--from x: type an address"),
        (["https://a/"], "there is no --https listener"),
    ],
)
def test_what_is_no_request_is_refused(words, said):
    found = CliRunner().invoke(
        cli.rawproxy, ["explain", *words, "--upstream", "http://127.0.0.1:1"]
    )
    assert isinstance(found.exception, Exception)
    assert said in str(found.exception)
