"""What Prometheus, a browser and a terminal see of a running proxy: real processes throughout."""

import fcntl
import http.client
import json
import os
import pathlib
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request

import pytest
from playwright.sync_api import sync_playwright
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.process import PATIENCE, RawProxy, free_port, needs
from tests.wire.h2raw import H2Client, eventually


def answer(sock: socket.socket) -> None:
    """`/<status>` is answered with that status; `/die` by nothing, on a connection used before."""
    served, data = 0, b""
    with sock:
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            while length is not None and len(data) < int(length[1]):
                data += sock.recv(65536)
            data = data[int(length[1]) if length is not None else 0 :]
            path = head.split(b" ", 2)[1]
            if path == b"/die" and served:
                return
            served += 1
            status = int(path[1:]) if path[1:].isdigit() else 200
            sock.sendall(b"HTTP/1.1 %d Said\r\nContent-Length: 10\r\n\r\n0123456789" % status)


@pytest.fixture(scope="module")
def proxy():
    """rawproxy, an upstream for HTTP, one for WebSockets, and one that is not there."""
    admin = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        options = ["--upstream", url, "--admin", f"127.0.0.1:{admin}", "--access-log", "off"]
        with RawProxy(*options, "--no-redirect") as running:
            running.admin, running.upstream = admin, url
            yield running
        server.shutdown(socket.SHUT_RDWR)


def scrape(port: int) -> dict[str, float]:
    """Every sample, by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as page:
        families = text_string_to_metric_families(page.read().decode())
    return {
        f"{sample.name}{[*sorted(sample.labels.items())] or ''}": sample.value
        for family in families
        for sample in family.samples
    }


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def test_the_counters_are_right(proxy):
    before = scrape(proxy.admin)
    one = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=PATIENCE)
    for path in ["/200"] * 5 + ["/404"] * 3 + ["/500"] * 2 + ["/die"]:
        one.request("GET", path)
        one.getresponse().read()
    one.request("POST", "/201", body=b"x" * 1000)
    one.getresponse().read()
    one.close()
    with H2Client(proxy.https) as two:
        for _ in range(7):
            assert two.get("/200")[0] == 200
    with socket.create_connection(("127.0.0.1", proxy.http), PATIENCE) as sock:
        sock.sendall(b"nonsense\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", proxy.https), PATIENCE) as sock:
        sock.sendall(b"\x16nonsense that is no ClientHello" + bytes(100))
        while sock.recv(100):
            pass
    up = ("upstream", proxy.upstream)
    grown = difference(scrape(proxy.admin), before)
    expected = {
        f"rawproxy_requests_total{[('status', '2xx'), up]}": 5 + 1 + 1 + 7,
        f"rawproxy_requests_total{[('status', '4xx'), up]}": 3,
        f"rawproxy_requests_total{[('status', '5xx'), up]}": 2,
        f"rawproxy_requests_total{[('status', '4xx'), ('upstream', '')]}": 1,
        f"rawproxy_requests_by_protocol_total{[('protocol', 'HTTP/1.1')]}": 12,
        f"rawproxy_requests_by_protocol_total{[('protocol', 'HTTP/2.0')]}": 7,
        f"rawproxy_request_duration_seconds_count{[up]}": 19,
        f"rawproxy_first_byte_seconds_count{[up]}": 19,
        f"rawproxy_request_body_bytes_total{[up]}": 1000,
        f"rawproxy_response_body_bytes_total{[up]}": 190,
        f"rawproxy_retries_total{[up]}": 1,
        f"rawproxy_upstream_dials_total{[up]}": 2,
        f"rawproxy_tls_handshakes_total{[('result', 'full')]}": 1,
        f"rawproxy_tls_handshakes_total{[('result', 'failed')]}": 1,
        "rawproxy_client_connections_accepted_total": 4,
    }
    assert {name: grown.get(name) for name in expected} == expected
    counted = [n for n in grown if "_total" in n and "cpu" not in n]
    assert sorted(counted) == sorted(n for n in expected if "_total" in n), "and no other"
    assert 0 < grown[f"rawproxy_request_duration_seconds_sum{[up]}"] < 19 * 20


def test_a_tunnel_is_counted_while_it_lasts():
    admin = free_port()

    def echo(socket_) -> None:
        for message in socket_:
            socket_.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        options = ["--upstream", url, "--admin", f"127.0.0.1:{admin}"]
        with RawProxy(*options, https=False) as proxy:
            with connect(f"ws://127.0.0.1:{proxy.http}/", compression=None) as client:
                client.send("x" * 1000)
                assert client.recv(timeout=PATIENCE) == "x" * 1000
                assert scrape(admin)["rawproxy_tunnels"] == 1
                way = "rawproxy_tunnel_bytes_total[('direction', '{}')]"
                eventually(lambda: scrape(admin)[way.format("out")] >= 1004)
                now = scrape(admin)
                assert now[way.format("in")] == 1008, "the header is masked"
                assert now["rawproxy_requests_in_flight"] == 0
            eventually(lambda: scrape(admin)["rawproxy_tunnels"] == 0)
            now = scrape(admin)
            assert now["rawproxy_tunnels_opened_total"] == 1
            ended = f"rawproxy_requests_total{[('status', '1xx'), ('upstream', url)]}"
            assert now[ended] == 1
            assert now[f"rawproxy_request_duration_seconds_count{[('upstream', url)]}"] == 0
        server.shutdown()


def test_readiness_is_over_before_the_process_is():
    admin = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        options = ["--upstream", url, "--admin", f"127.0.0.1:{admin}"]
        with RawProxy(*options, https=False) as proxy:

            def ask(path: str) -> int:
                one = http.client.HTTPConnection("127.0.0.1", admin, timeout=PATIENCE)
                one.request("GET", path)
                status = one.getresponse().status
                one.close()
                return status

            assert (ask("/healthz"), ask("/readyz")) == (200, 200)
            with socket.create_connection(("127.0.0.1", proxy.http), PATIENCE) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                upstream, _ = server.accept()
                proxy.process.terminate()
                eventually(lambda: ask("/readyz") == 503)
                assert ask("/healthz") == 200
                upstream.sendall(b"HTTP/1.1 204 Late\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 204")
                upstream.close()


def test_an_exposed_admin_is_warned_of_and_a_taken_port_is_said():
    with RawProxy("--upstream", "h:1", "--admin", "0.0.0.0:0", https=False) as proxy:
        proxy.says("can be reached from other machines")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "rawproxy", "--upstream", "h:1", "--http", "127.0.0.1:0"]
        done = subprocess.run(
            [*command, "--admin", taken],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--admin" in done.stderr


# ── the terminal ────────────────────────────────────────────────────────────────────────────────


def top(*options: str) -> list[str]:
    return [sys.executable, "-m", "rawproxy", "top", *options]


def test_top_prints_one_frame_into_a_pipe(proxy):
    done = subprocess.run(
        top("--admin", f"127.0.0.1:{proxy.admin}", "--once"),
        capture_output=True, text=True, timeout=PATIENCE, check=True,
        env=os.environ | {"COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[0].startswith("rawproxy 0.1.0  ready  1 worker, up ")
    assert any(line.startswith(proxy.upstream) for line in lines)
    assert "\x1b" not in done.stdout


def test_top_without_a_proxy_says_what_to_type():
    port = free_port()
    for admin in f"127.0.0.1:{port}", "unix:/nowhere.sock":
        done = subprocess.run(
            top("--admin", admin), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"--admin {admin}: " in done.stderr and "is rawproxy running" in done.stderr


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-nonsense\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    ],
)
def test_top_at_something_else(reply):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = top("--admin", f"127.0.0.1:{server.getsockname()[1]}", "--once")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            sock, _ = server.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(reply)
                _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err.count("\n")) == (1, 1), err


class Terminal:
    """A program in a terminal of 80x24."""

    def __init__(self, command: list[str]) -> None:
        self.shown = b""
        # Not `pty.fork`: a process that has threads had better not (Python 3.12 and later).
        self.fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = ["setsid", "--ctty", *command]
        self.process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other)
        os.close(other)

    def until(self, words: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while words not in self.shown:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], self.shown
            self.shown += os.read(self.fd, 65536)

    def close(self) -> int:
        try:
            while more := os.read(self.fd, 65536):
                self.shown += more
        except OSError:
            pass  # Linux says EIO where the other end has gone
        os.close(self.fd)
        return self.process.wait(PATIENCE)


@pytest.mark.parametrize("end", [b"q", b"\x03"])
def test_top_draws_each_second_until_q_and_leaves_the_terminal_as_it_was(proxy, end):
    terminal = Terminal(top("--admin", f"127.0.0.1:{proxy.admin}"))
    terminal.until(b"\x1b[?1049h")
    terminal.until(b"Requests/s")
    terminal.shown = b""
    terminal.until(b"\x1b[H")
    terminal.until(proxy.upstream.encode())
    os.write(terminal.fd, end)
    assert terminal.close() == 0
    assert terminal.shown.endswith(b"\x1b[?25h\x1b[?1049l")


def test_top_says_that_nobody_answers_any_more(tmp_path):
    path = tmp_path / "admin.sock"
    with RawProxy("--upstream", "h:1", "--admin", f"unix:{path}", https=False):
        terminal = Terminal(top("--admin", f"unix:{path}"))
        terminal.until(b"ready")
    terminal.until(b"no answer")
    os.write(terminal.fd, b"q")
    assert terminal.close() == 0


# ── the browser ─────────────────────────────────────────────────────────────────────────────────


@needs("chromium")
@pytest.mark.parametrize("size", [(1180, 900), (390, 844), (320, 640)])
def test_the_status_page_in_chromium(proxy, tmp_path: pathlib.Path, size):
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{proxy.admin}/")
        page.wait_for_selector("#upstreams td")
        assert page.inner_text("#state") == "ready"
        assert proxy.upstream in page.inner_text("#upstreams")
        # A chart moves: its line gets a point with each answer.
        page.wait_for_selector("path.s1[d*=L]", state="attached")
        assert page.locator("svg[role=img]").count() == 6
        label = page.locator("svg").first.get_attribute("aria-label")
        assert re.match(r"Requests a second, now: all [\d.,k]+, 4xx ", label)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], (
            "nothing sticks out"
        )
        page.hover(".plot >> nth=0")
        assert "ago" in page.inner_text(".ends >> nth=0")
        page.click("#pause")
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        assert len(page.screenshot(path=tmp_path / "page.png")) > 10_000
        assert not said, said
        host = f"http://127.0.0.1:{proxy.admin}/"
        assert {url.removeprefix(host) for url in asked} <= {"", "status.json", "favicon.ico"}
        browser.close()


@needs("chromium")
def test_a_page_that_knows_more_of_the_past_than_new_workers_do_keeps_it(proxy):
    """After a reload the history begins anew; the charts of a page that is open do not."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/status.json") as answer:
        status = json.load(answer)
    many, few = [float(i) for i in range(20)], [100.0, 101.0]
    names = list(status["series"])
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        shown = [many, few, few]

        def say(route) -> None:
            rows = shown.pop(0) if len(shown) > 1 else shown[0]
            later = status["now"] + 6 * (3 - len(shown))
            fresh = {"series": dict.fromkeys(names, rows), "interval": 2.0, "now": later}
            route.fulfill(json=status | fresh)

        page.route("**/status.json", say)
        page.goto(f"http://127.0.0.1:{proxy.admin}/")
        page.wait_for_selector("path.s1[d*='L']", state="attached")
        points = "document.querySelector('path.s1').getAttribute('d').split('L').length"
        assert page.evaluate(points) == 20
        eventually(lambda: page.evaluate(points) > 20)
        assert page.evaluate("known.series.requests.slice(18, 22)") == [18, 19, 100, 101]
        browser.close()


def test_the_status_is_json_that_other_programs_read(proxy):
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/status.json") as page:
        status = json.load(page)
    assert {"version", "unready", "counters", "gauges", "workers", "upstreams", "series"} <= set(
        status
    )
