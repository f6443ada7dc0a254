"""A folder as the store of two proxies on one machine, as processes: what they have in common."""

import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys

import psutil
import pytest

from tests.process import CA, PATIENCE, RawProxy
from tests.production.stage import until


@pytest.fixture
def url(tmp_path) -> str:
    return f"file:{tmp_path}/shared"


def proxy(url: str, *more: str) -> RawProxy:
    return RawProxy("--upstream", "http://127.0.0.1:1", "--store", url, "--workers", "2", *more)


def visit(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
    context = visit.context
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 502")  # nobody is behind it
        return sock.session, bool(sock.session_reused)


visit.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CA.configure_trust(visit.context)


def test_sessions_are_resumed_at_the_other_and_after_a_new_start(url):
    with proxy(url) as one:
        one.says(rf"the store {url} is reached")
        with proxy(url) as other:
            other.says(rf"the store {url} is reached")
            sessions = [visit(one.https, None)[0] for _ in range(8)]
            assert [visit(other.https, session)[1] for session in sessions] == [True] * 8
        with proxy(url) as later:
            later.says(rf"the store {url} is reached")
            assert [visit(later.https, session)[1] for session in sessions] == [True] * 8


def test_a_folder_that_goes_and_comes_back(url, tmp_path):
    folder = pathlib.Path(tmp_path, "shared")
    with proxy(url) as one:
        one.says("is reached")
        session, _ = visit(one.https, None)
        os.rename(folder, tmp_path / "elsewhere")
        folder.write_text("not a folder")
        one.says(rf"the store {url} is away: Not a directory")
        assert visit(one.https, session)[1], "what is known stays"
        folder.unlink()
        os.rename(tmp_path / "elsewhere", folder)
        one.says(rf"the store {url} is back")
        assert visit(one.https, session)[1]


def test_without_a_store_nothing_of_it_is_imported():
    """But for its option: neither in the command, nor in what a worker loads."""
    text = """
import sys
sys.argv = ["rawproxy", "--upstream", "h:1"]
import rawproxy.process.master, rawproxy.process.worker, rawproxy.access.wiring
from rawproxy.__main__ import reread
assert reread(sys.argv[1:]).config().keepers == ()
print(sorted(name for name in sys.modules if name.startswith(("rawproxy.store", "redis"))))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "['rawproxy.store', 'rawproxy.store.keys', 'rawproxy.store.reading']\n"


def test_a_keeper_that_is_killed_comes_back(url):
    with proxy(url) as one:
        one.says("is reached")
        keeper = max(psutil.Process(one.process.pid).children(), key=lambda each: each.pid)
        keeper.send_signal(signal.SIGKILL)
        one.says(r"keeper of store \(\d+\): it was killed by SIGKILL; another one starts in 0 s")
        until(lambda: one.err().count("is reached") == 2, one.err())
