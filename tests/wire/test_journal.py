"""The error log of a running proxy, on a pipe that nobody reads: nobody waits for it.

Both standard output (the access log) and standard error are full before the attack begins.
"""

import contextlib
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.pipes import Pipe

REFUSED = 5000
AT_ONCE = 50
BAD = b"GET /%d HTTP/1.1\r\nHost: b\r\n\r\n"  # no site is called so
GOOD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE = 20.0


def upstream() -> socket.socket:
    """Answers one keep-alive connection after the other, until it is closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while sock.recv(65536):
                sock.sendall(ANSWER)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def ask(sock: socket.socket, request: bytes, expected: bytes) -> float:
    """Seconds until the answer."""
    began = time.monotonic()
    sock.sendall(request)
    assert sock.recv(65536).startswith(b"HTTP/1.1 " + expected)
    return time.monotonic() - began


def refuse(port: int, count: int) -> None:
    """So many requests are refused, in one connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b"".join(BAD % number for number in range(count)))
        got = b""
        while got.count(b"HTTP/1.1 421 ") < count:
            data = sock.recv(65536)
            assert data, got
            got += data


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one worker", "two workers"])
def test_a_full_pipe_stops_nobody(arguments):
    listener = upstream()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    out, err = Pipe(), Pipe()
    command = [sys.executable, "-m", "rawproxy", "--http", "127.0.0.1:0", "--server-name", "a"]
    process = subprocess.Popen(
        [*command, "--upstream", url, *arguments], stdout=out.writer, stderr=err.writer
    )
    try:
        err.until(b"rawproxy ready\n")
        port = int(err.data.partition(b"listening on http://127.0.0.1:")[2].split()[0])
        family = [psutil.Process(process.pid)]
        family += family[0].children()
        before = sum(one.memory_info().rss for one in family)
        out.fill()
        err.fill()
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as bystander:
            waits = []
            for _ in range(REFUSED // AT_ONCE):
                refuse(port, AT_ONCE)
                waits.append(ask(bystander, GOOD, b"200"))
        grown = sum(one.memory_info().rss for one in family) - before
        worst, usual = max(waits), statistics.median(waits)
        print(f"{usual * 1e3:.1f} ms usually, {worst * 1e3:.1f} ms at worst, {grown >> 20} MiB")
        # The pipes stay full: whoever waited for them would wait for ever, and `ask` has patience.
        assert grown < 32 << 20
        process.send_signal(signal.SIGHUP)  # what the master says of a reload stops nobody either
        refuse(port, 1)
        threads = [out.drain(), err.drain()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        process.kill()
        process.wait()
        listener.close()
    said = err.data.decode()
    assert "no site is called b" in said
    assert " more like it\n" in said
    assert said.count("\n") < REFUSED / 10
    assert b'" 200 2' in out.data


def test_a_full_pipe_does_not_hold_up_the_end():
    err = Pipe()
    command = [sys.executable, "-m", "rawproxy", "--http", "127.0.0.1:0", "--access-log", "off"]
    command += ["--server-name", "a", "--upstream", "http://127.0.0.1:9"]
    process = subprocess.Popen(command, stderr=err.writer)
    try:
        err.until(b"rawproxy ready\n")
        port = int(err.data.partition(b"listening on http://127.0.0.1:")[2].split()[0])
        err.fill()
        refuse(port, AT_ONCE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        err.drain().join(PATIENCE)
