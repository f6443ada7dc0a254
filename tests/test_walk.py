"""The walk in docs/architecture.md has the order in which the code runs: three real requests."""

import base64
import json
import re
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time

import h2.config
import h2.connection
import h2.events
from wsproto.utilities import generate_accept_token

from tests.builds import plain_only
from tests.process import PATIENCE, Program, free_port
from tests.test_architecture_page import PAGE

# What runs for some other reason as well, and then before its turn.
EARLY = {"FrameWriter.flush", "FrameWriter.pump", "Recorder.flush", "Stream.credit"}
EARLY |= {"Stream.throttle"}
# What these three requests do not meet: a chosen lane, a certificate, and what goes wrong.
ELSEWHERE = {
    "A GET": {
        "request_parser", "find_request", "reference_request", "request_facts", "Trial.passes",
        "Checkout._dial_failed", "ResponseRelay.on_payload", "Exchange.fail",
    },
    "A POST": {"UpstreamConnection.pause_writing"},
    "A WebSocket": {"Stream.switch"},
}  # fmt: skip
CLOSE = b"\x88\x80\0\0\0\0"


class Upstream(socketserver.BaseRequestHandler):
    """Answers 200 to what has come whole, and switches where it is asked to."""

    def handle(self):
        data = b""
        while more := self.request.recv(65536):
            data += more
            head, found, body = data.partition(b"\r\n\r\n")
            if not found or (b"chunked" in head and not body.endswith(b"0\r\n\r\n")):
                continue
            key = re.search(rb"sec-websocket-key: (\S+)", head, re.IGNORECASE)
            if key is not None:
                self.request.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                    + generate_accept_token(key[1])
                    + b"\r\n\r\n"
                )
                self.request.recv(65536)
                self.request.sendall(b"\x81\x02hi")
                self.request.recv(65536)  # the Close frame
                self.request.sendall(b"\x88\0")
                return
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
            data = b""


def connect(port: int, protocol: str) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(sock, server_hostname="localhost")


def get(port: int) -> None:
    with connect(port, "http/1.1") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")


def post(port: int) -> None:
    with connect(port, "h2") as sock:
        law = h2.connection.H2Connection(h2.config.H2Configuration())
        law.initiate_connection()
        names = (":method", ":path", ":scheme", ":authority")
        law.send_headers(1, list(zip(names, ("POST", "/", "https", "localhost"), strict=True)))
        sock.sendall(law.data_to_send())
        law.send_data(1, b"x" * 16_000)
        law.send_data(1, b"x" * 16_000)
        law.send_data(1, b"x", end_stream=True)
        sock.sendall(law.data_to_send())
        while not any(
            isinstance(event, h2.events.StreamEnded) for event in law.receive_data(sock.recv(65536))
        ):
            pass


def websocket(port: int, proxy: Program) -> None:
    """It is open when the proxy is told to end."""
    with connect(port, "http/1.1") as sock:
        key = base64.b64encode(bytes(16))
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x81\x82\0\0\0\0hi")
        assert sock.recv(65536) == b"\x81\x02hi"
        proxy.process.send_signal(signal.SIGINT)
        assert sock.recv(65536).startswith(b"\x88")
        sock.sendall(CLOSE)
        while sock.recv(65536):
            pass


@plain_only("compiled calls are not seen")
def test_the_walk_has_the_order_in_which_the_code_runs(tmp_path):
    port, log = free_port(), tmp_path / "access.log"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upstream) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = server.server_address[1]
        file = tmp_path / "rawproxy.toml"
        file.write_text(
            f'http = []\nhttps = ["127.0.0.1:{port}"]\nself-signed = true\n'
            f'access-log = "{log}"\n[group.app]\n'
            f'upstream = ["http://127.0.0.1:{there}", "http://localhost:{there}"]\n'
            '[[site]]\n[[site.route]]\ngroup = "app"\n'
            '[[site.route]]\npath = "/x"\ngroup = "app"\n'
        )
        proxy = Program([sys.executable, "-m", "tests.walk", str(file)])

        def until(done) -> None:
            end = time.monotonic() + PATIENCE
            while not done():
                assert proxy.process.poll() is None and time.monotonic() < end, proxy.err()
                time.sleep(0.02)  # polling another program

        until(lambda: "rawproxy ready" in proxy.err())
        for number, send in enumerate((get, post), 1):
            send(port)
            until(lambda lines=number: log.exists() and log.read_text().count("\n") == lines)
        websocket(port, proxy)
        assert proxy.process.wait(PATIENCE) == 0
        seen = [json.loads(line) for line in proxy.out().splitlines()]
        proxy.stop()
        server.shutdown()
    assert len(seen) == 3
    for (title, elsewhere), calls in zip(ELSEWHERE.items(), seen, strict=True):
        section = PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]
        named = dict.fromkeys(re.findall(r"`([\w.]+)\(\)`", section))
        walk = [name for name in named if name not in EARLY | elsewhere]
        assert set(walk) <= set(calls), f"{title}: never called"
        assert walk == [name for name in calls if name in walk], title
