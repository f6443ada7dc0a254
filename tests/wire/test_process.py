"""The command as people run it: start, ready, signals, exit codes, the demo."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from websockets.sync.client import connect

from tests.process import LATER, PATIENCE

LAX = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
LAX.check_hostname = False
LAX.verify_mode = ssl.CERT_NONE


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "rawproxy", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_ready(process: subprocess.Popen) -> list[str]:
    lines = []
    for line in process.stderr:
        lines.append(line.strip())
        if line.startswith("rawproxy ready"):
            return lines
    raise AssertionError(f"never ready: {lines}")


def port_of(lines: list[str], scheme: str) -> int:
    return int(re.search(rf"listening on {scheme}://\S+:(\d+)", "\n".join(lines))[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def stop(process: subprocess.Popen, number=signal.SIGTERM) -> tuple[str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def demo():
    upstream = free_port()
    process = start(
        *f"demo --http 127.0.0.1:0 --https localhost:0 --demo-upstream 127.0.0.1:{upstream}".split()
    )
    lines = until_ready(process)
    yield port_of(lines, "http"), port_of(lines, "https")
    out, err = stop(process)
    assert '"GET /echo HTTP/1.1" 200' in out
    assert "--upstream-verify pin" in err


def fetch(demo, path: str, **options):
    request = urllib.request.Request(f"https://localhost:{demo[1]}{path}", **options)
    return urllib.request.urlopen(request, context=LAX, timeout=PATIENCE)


def test_the_demo_shows_what_the_upstream_saw(demo):
    with fetch(demo, "/echo") as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"
        seen = json.load(answer)
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert seen["http_version"] == "1.1"
    assert headers["host"] == f"localhost:{demo[1]}"
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-for"] in ("127.0.0.1", "::1")


def test_the_demo_redirects(demo):
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(Stay).open(f"http://localhost:{demo[0]}/x?y", timeout=PATIENCE)
    assert caught.value.code == 301
    assert caught.value.headers["Location"] == f"https://localhost:{demo[1]}/x?y"
    caught.value.close()


def test_the_demos_pages(demo):
    with fetch(demo, "/") as answer:
        assert b"rawproxy" in answer.read()
    with fetch(demo, "/bytes/100000") as answer:
        assert len(answer.read()) == 100_000
    with fetch(demo, "/chunked/100000") as answer:
        assert len(answer.read()) == 100_000
    with fetch(demo, "/upload", data=b"x" * 200_000) as answer:
        assert json.load(answer)["length"] == 200_000
    with fetch(demo, "/echo") as answer, fetch(demo, "/slow/0.01") as slow:
        assert answer.status == slow.status == 200
    with fetch(demo, "/status/204") as answer:
        assert answer.read() == b""
    with fetch(demo, "/slow/nonsense", method="HEAD") as answer:
        assert answer.read() == b""
    with fetch(demo, "/events") as answer:
        assert answer.readline() == b"id: 1\n"
    for path, status in (
        ("/nowhere", 404),
        ("/status/503", 503),
        ("/status/99", 404),
        ("/status/101", 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(demo, path)
        assert caught.value.code == status
        caught.value.close()


def test_the_demos_websocket(demo):
    url = f"wss://localhost:{demo[1]}/ws"
    with connect(url, ssl=LAX, subprotocols=["chat"]) as ws:
        assert ws.subprotocol == "chat"
        for message in ("hello", b"bytes", "x" * 100_000):
            ws.send(message)
            assert ws.recv(timeout=PATIENCE) == message
        ws.ping().wait(timeout=PATIENCE)
    with pytest.raises(Exception, match="404"):
        connect(url.replace("/ws", "/other"), ssl=LAX)
    with pytest.raises(Exception, match="HTTP 400"):
        connect(url, ssl=LAX, additional_headers={"Sec-WebSocket-Version": "7"})


def test_plain_http_on_the_tls_port_is_told_so(demo):
    for sent, expected in (
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"\x00\x01", b""),
    ):
        with socket.create_connection(("localhost", demo[1])) as sock:
            sock.settimeout(PATIENCE)
            # Once with the first byte late, so that it is waited for.
            sock.sendall(sent)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while data := sock.recv(4096):
                    answer += data
            assert answer.startswith(expected)
            assert bool(answer) is bool(expected)


def test_garbage_as_a_handshake_is_no_news(demo):
    with socket.create_connection(("localhost", demo[1])) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(b"\x16\x03\x01\x00\x05hello")
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass
    test_the_demo_shows_what_the_upstream_saw(demo)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_drain_finishes_what_is_under_way(number):
    upstream = socket.create_server(("127.0.0.1", 0))
    port = upstream.getsockname()[1]
    process = start(
        *f"--upstream http://127.0.0.1:{port} --http 127.0.0.1:0 --access-log off".split(),
        *("--timeout", f"drain={LATER}"),  # it ends because all is done
    )
    lines = until_ready(process)
    with contextlib.ExitStack() as stack:
        stack.enter_context(upstream)
        busy = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(lines, "http"))))
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(lines, "http"))))
        busy.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        upstream.settimeout(PATIENCE)
        connection, _ = upstream.accept()
        stack.enter_context(connection)
        assert connection.recv(4096)
        process.send_signal(number)
        idle.settimeout(PATIENCE)
        assert idle.recv(1) == b""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        busy.settimeout(PATIENCE)
        answer = b""
        while data := busy.recv(4096):
            answer += data
        assert answer.endswith(b"Connection: close\r\n\r\nok")
        out, _err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")


def test_unix_sockets_on_both_sides(tmp_path):
    front, back = tmp_path / "front.sock", tmp_path / "back.sock"
    front.touch()
    front.unlink()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(front))
    stale.close()  # left behind, as after a crash

    async def test():
        async def upstream(reader, writer):
            assert b"X-Forwarded-For: unix:\r\n" in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.read()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_unix_server(upstream, back)
        process = start(
            "--upstream",
            f"unix:{back}",
            "--http",
            f"unix:{front}",
            "--access-log",
            str(tmp_path / "log"),
        )
        await asyncio.to_thread(until_ready, process)
        reader, writer = await asyncio.open_unix_connection(front)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
        await asyncio.to_thread(stop, process)
        server.close()

    asyncio.run(test())
    assert not front.exists()
    assert (tmp_path / "log").read_text().startswith("unix: - - [")


def test_what_prevents_a_start_is_exit_1_and_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in [
            (["--http", f"127.0.0.1:{port}"], f"--http 127.0.0.1:{port}: Address already in use"),
            (["--http", "127.0.0.1:0", "--access-log", "/nowhere/log"], "/nowhere/log"),
            (["--http", "no-such-host.invalid:0"], "--http no-such-host.invalid:0"),
            (["--http", f"unix:{tmp_path}"], f"--http {tmp_path}: Address already in use"),
        ]:
            process = start("--upstream", "http://127.0.0.1:1", *arguments)
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out) == (1, "")
            assert words in err
            assert err.startswith("rawproxy: error: cannot start: ")
            assert err.count("\n") == 1
        process = start(
            "demo",
            "--http",
            "127.0.0.1:0",
            "--https",
            "127.0.0.1:0",
            "--demo-upstream",
            f"127.0.0.1:{port}",
        )
        assert "cannot start" in process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 1


def test_check(demo, tmp_path):
    upstream = f"localhost:{demo[1]}"
    process = start("check", "--upstream", upstream, "--self-signed")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert f"upstream {upstream} (" in out and "): reached (TLSv1.3, " in out
    assert "the configuration is good" in out
    for arguments, words in [
        (["--upstream", "http://127.0.0.1:1"], "http://127.0.0.1:1: cannot connect: "),
        (["--upstream", upstream, "--upstream-verify", "system"], "does not verify"),
        (["--upstream", f"localhost:{demo[0]}"], f"use --upstream http://localhost:{demo[0]}"),
        (["--upstream", upstream, "--cert", "/nowhere", "--key", "/nowhere"], "--cert /nowhere"),
        ([], "--upstream is missing"),
    ]:
        process = start("check", *arguments)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert words in err
        assert "Traceback" not in err
