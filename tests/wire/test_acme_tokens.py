"""What plain listeners answer to an authority: before the redirect, the site and the guard."""

import contextlib
import pathlib
import socket

import pytest

from rawproxy.acme import answers
from tests.outposts.server import Recorder
from tests.process import PATIENCE, Program, free_port, wait_for_port
from tests.production.stage import COMMAND

pytest.importorskip("acme")
TOKEN = "/.well-known/acme-challenge/tok-en"


@contextlib.contextmanager
def serving(tmp_path, *options):
    """A proxy with a guarded site whose token is there, and no authority that answers."""
    with Recorder() as upstream:
        http, https = free_port(), free_port()
        pathlib.Path(tmp_path, "members").write_text("me:$apr1$x$y\n")
        pathlib.Path(tmp_path, "f.toml").write_text(
            f'upstream = "http://127.0.0.1:{upstream.port}"\n'
            f'http = ["127.0.0.1:{http}"]\nhttps = ["127.0.0.1:{https}"]\n'
            'acme = "me@a.test"\nacme-ca = "https://127.0.0.1:1/"\nstate = "state"\n'
            '[[site]]\nserver-name = "a.test"\ndeny = ["127.0.0.1"]\n'
        )
        path = answers.put_token(answers.folder_of(f"{tmp_path}/state"), "tok-en", "tok-en.print")
        proxy = Program([*COMMAND, "--config", f"{tmp_path}/f.toml", *options])
        try:
            wait_for_port(http, proxy.process)
            yield http, upstream, path
        finally:
            assert proxy.stop() == 0
        assert "Traceback" not in proxy.err() and "internal error" not in proxy.err()


def ask(port: int, *requests: str) -> bytes:
    """All of them at once over one connection; everything that comes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall("".join(requests).encode())
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while piece := sock.recv(65536):
            data += piece
        return data


def request(path: str, method: str = "GET", host: str = "a.test", fields: str = "") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"


def test_before_a_redirect(tmp_path):
    with serving(tmp_path) as (port, upstream, path):
        said = ask(port, request(TOKEN))
        assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\ntok-en.print")
        assert b"application/octet-stream" in said and b"Content-Length: 12\r\n" in said
        # Whatever name it came by, whatever comes with it, whatever follows.
        said = ask(
            port,
            request(TOKEN, "HEAD"),
            request(TOKEN, host="other.test"),
            request(TOKEN, fields="Content-Length: 4\r\n") + "body",
            request("/x"),
        )
        assert said.count(b"HTTP/1.1 200 OK") == 3 and said.count(b"tok-en.print") == 2
        assert said.count(b" 301 ") == 1 and b"https://a.test/x" in said
        for other in (request(TOKEN, "POST"), request(TOKEN + "x"), request(TOKEN + "?x")):
            assert b" 301 " in ask(port, other), other
        answers.take_away(path)
        assert b" 301 " in ask(port, request(TOKEN))
        assert not upstream.seen


def test_before_a_site_and_its_guard(tmp_path):
    with serving(tmp_path, "--no-redirect") as (port, upstream, _):
        assert ask(port, request(TOKEN)).endswith(b"tok-en.print")
        assert b" 403 " in ask(port, request(TOKEN + "x")), "others are asked who they are"
        assert b" 421 " in ask(port, request(TOKEN + "x", host="other.test"))
        assert not upstream.seen
