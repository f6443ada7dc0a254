"""`rawproxy explain` for the configurations that README and examples show, beside what happens.

The files are the real ones. Only addresses, ports and certificates are put in, so that it runs here.
"""

import asyncio
import contextlib
import json
import pathlib
import re
import shlex
import socket
import ssl
import threading

import pytest
from click.testing import CliRunner

from rawproxy import cli
from tests.process import LEAF, RawProxy, free_port

from .rig import read_head, response
from .test_explain import quoted

TOP = pathlib.Path(__file__).parents[2]
ACCESS = re.compile(r"```toml\n(upstream = .*?\[auth\.sso\].*?)```", re.S)
COMMAND = re.compile(r"```console\n(rawproxy \\\n.*?)```", re.S)


class Upstream:
    """Answers every request by a 200, over TLS or not; keeps the heads."""

    def __init__(self, tls: bool) -> None:
        self.heads: list[bytes] = []
        self.port = free_port()
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            LEAF.configure_cert(self.context)
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        self.over = asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.ready.set()
        await self.over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            while True:
                self.heads.append(await read_head(reader))
                writer.write(response(b"app", b"Server: x", b"X-Powered-By: x"))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def __enter__(self) -> "Upstream":
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)
        self.loop.close()


class Stand:
    """A proxy by a configuration of the documents, and the words that `explain` gets for it."""

    def __init__(self, words: list[str], http: str, https: int, secure: Upstream, plain: Upstream):
        self.words, self.https = words, https
        self.secure, self.plain = secure, plain
        self.proxy = RawProxy(*words, https=False, http=http)

    def told(self, words: tuple[str, ...]) -> str:
        found = CliRunner().invoke(cli.rawproxy, ["explain", *words, *self.words])
        assert found.exit_code == 0, found.output
        return found.output

    def happened(self, method: str, url: str, lines: tuple[str, ...]) -> str:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        tls = scheme in ("https", "wss")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if tls else None
        if context is not None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        with contextlib.ExitStack() as stack:
            port = self.https if tls else self.proxy.http
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            if context is not None:
                name = host.partition(":")[0]
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=name))
            start = f"{method} {slash}{path} HTTP/1.1"
            sock.sendall("\r\n".join([start, f"Host: {host}", *lines, "", ""]).encode())
            file = stack.enter_context(sock.makefile("rb"))
            head = b"".join(iter(file.readline, b"\r\n"))
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            if method != "HEAD":
                head += b"\r\n" + file.read(int(length or 0))
            return head.decode()


def readme(folder: pathlib.Path, pem: str, secure: Upstream, plain: Upstream) -> list[str]:
    """The command that stands beside authentik's nginx page."""
    (text,) = COMMAND.findall((TOP / "README.md").read_text())
    words = shlex.split(text.replace("\\\n", " "))[1:]
    at = words.index("--http")
    del words[at : at + 2]
    put = {
        "authentik.internal:9443": f"127.0.0.1:{secure.port}",
        ":443": f"127.0.0.1:{free_port()}",
    }
    return [pem if word.endswith(".pem") else put.get(word, word) for word in words]


def filled(text: str, folder: pathlib.Path, pem: str, put: dict[str, str]) -> list[str]:
    """A file of the documents, so that it serves here; `put`: what stands for what."""
    text = re.sub(r'"[\w/.-]+\.(?:pem|key)"', json.dumps(pem), text)
    text = re.sub(r"^(http|access-log) = .*$", "", text, flags=re.M)
    for old, new in put.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "rawproxy.toml"
    path.write_text(text)
    return ["--config", str(path), "--access-log", "off"]


def sites(folder: pathlib.Path, pem: str, secure: Upstream, plain: Upstream) -> list[str]:
    """examples/sites.toml: several sites, routes, edits."""
    put = {
        "https://authentik.internal:9443": f"https://127.0.0.1:{secure.port}",
        "127.0.0.1:3000": f"127.0.0.1:{plain.port}", "127.0.0.1:8000": f"127.0.0.1:{plain.port}",
        'https = ":443"': f'https = "127.0.0.1:{free_port()}"',
    }  # fmt: skip
    return filled((TOP / "examples" / "sites.toml").read_text(), folder, pem, put)


def access(folder: pathlib.Path, pem: str, secure: Upstream, plain: Upstream) -> list[str]:
    """docs/access.md: authentik in one line."""
    put = {
        "https://authentik.internal:9443": f"https://127.0.0.1:{secure.port}",
        "app.internal:8000": f"127.0.0.1:{plain.port}",
        'https = [":443"]': f'https = ["127.0.0.1:{free_port()}"]',
    }  # fmt: skip
    (text,) = ACCESS.findall((TOP / "docs" / "access.md").read_text())
    return filled(text, folder, pem, put)


SOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
SSO = "https://sso.domain.tld"
REQUESTS = [
    (readme, "GET", f"{SSO}/", ()),
    (readme, "GET", f"{SSO}/if/flow/login/?next=%2Fa%2Fb%20c", ("Cookie: session=1",)),
    (readme, "HEAD", f"{SSO}/static/a.css", ("Accept: text/css",)),
    (readme, "DELETE", f"{SSO}/api/v3/x/1", ("X-authentik-username: me", "Authorization: Bearer x")),
    (readme, "GET", f"{SSO}/", ("X-Forwarded-For: 192.0.2.6", "X-Forwarded-Proto: http", "X_Real_IP: 192.0.2.6")),
    (readme, "GET", f"{SSO}:8443/a", ("Connection: X-Hop, keep-alive", "X-Hop: 1")),
    (readme, "GET", "wss://sso.domain.tld/ws/client/", SOCKET),
    (readme, "OPTIONS", f"{SSO}/api/", ("Max-Forwards: 5",)),
    (readme, "OPTIONS", f"{SSO}/api/", ("Max-Forwards: 0",)),
    (readme, "GET", f"{SSO}/a/../b/%2e%2e/c;x", ()),
    (readme, "GET", "https://other.domain.tld/", ()),
    (readme, "GET", "http://sso.domain.tld/a?b=c", ()),
    (readme, "GET", "http://sso.domain.tld:8080/a", ()),
    (sites, "GET", "https://sso.example.com/x", ()),
    (sites, "GET", "https://a.wiki.example.com/page", ("Cookie: s=1",)),
    (sites, "DELETE", "https://www.example.com/api/x?y", ("Cookie: s=1", "X_Api: 2", "X-Api: 3")),
    (sites, "GET", "https://www.example.com/apis", ()),
    (sites, "GET", "https://www.example.com/old/x?y", ()),
    (sites, "GET", "https://elsewhere.example.com/", ()),
    (access, "GET", "https://app.domain.tld/page", ("Cookie: s=1", "X-authentik-username: root")),
    (access, "GET", "https://app.domain.tld/outpost.goauthentik.io/start?rd=%2Fpage", ()),
    (access, "GET", "https://app.domain.tld/public/../page", ()),
]  # fmt: skip


@pytest.fixture(scope="module")
def stands(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        secure, plain = stack.enter_context(Upstream(True)), stack.enter_context(Upstream(False))
        found = {}
        for made in (readme, sites, access):
            folder = tmp_path_factory.mktemp(made.__name__)
            words = made(folder, pem, secure, plain)
            said = " ".join(words) + "".join(path.read_text() for path in folder.iterdir())
            https = re.search(r"(?:--https |https = \W*)127\.0\.0\.1:(\d+)", said)
            assert https is not None
            http = f"127.0.0.1:{free_port()}"
            stand = Stand(words, http, int(https[1]), secure, plain)
            stack.enter_context(stand.proxy)
            stand.words = ["--http", http, *words]
            found[made] = stand
        yield found


@pytest.mark.parametrize(("made", "method", "url", "lines"), REQUESTS)
def test_what_is_told_of_the_documents_is_what_happens(stands, made, method, url, lines):
    stand = stands[made]
    fields = tuple(word for line in lines for word in ("-H", line))
    text = stand.told((method, url, *fields, "--from", "127.0.0.1"))
    stand.secure.heads.clear()
    stand.plain.heads.clear()
    answer = stand.happened(method, url, lines)
    start = answer.partition("\r\n")[0]
    heads = [one.decode().split("\r\n")[:-2] for one in (*stand.secure.heads, *stand.plain.heads)]
    if "auth: sso" in text and "refused" not in text:
        assert heads.pop(0) == quoted(text, "auth: sso")
    if found := re.search(r"^answer +(\d+)(?: to (\S+))?", text, re.M):
        assert start.split()[1] == found[1]
        assert not found[2] or f"\r\nLocation: {found[2]}\r\n" in answer
        assert not heads
    elif "refused" in text:
        status = re.search(r"refused \((\d+)\)", text)
        assert status is not None and start.split()[1] == status[1]
        assert not heads
    else:
        assert heads == [quoted(text, "it gets")]
        assert start.split()[1] == "200"
        for line in re.findall(r"^response +\+ ([^ ].*?)(?:  +\S.*)?$", text, re.M):
            assert f"\r\n{line.strip()}\r\n" in answer
        for name in re.findall(r"^response +- (\S+)", text, re.M):
            assert f"\r\n{name}:" not in answer.lower()
