"""Authorities of the tests: Pebble with its challenge server, and one that refuses as it is told."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator

import trustme

from tests.process import Program, free_port, needs, wait_for_port

needs_pebble = needs("pebble")
CA = trustme.CA()
LEAF = CA.issue_cert("127.0.0.1", "localhost")


class Pebble:
    """An authority that gives certificates to whoever answers at `http` or `tls` of 127.0.0.1."""

    def __init__(
        self, *, http: int = 0, tls: int = 0, life: int = 0, port: int = 0, bound: str = "",
        dns: int = 0, **environment: str,
    ) -> None:  # fmt: skip
        self.folder = tempfile.TemporaryDirectory()
        self.http, self.tls = http or free_port(), tls or free_port()
        self.port, self.management = port or free_port(), free_port()
        self.dns, self.names = dns or free_port(), free_port()
        self.own_dns = bool(dns)
        self.root = os.path.join(self.folder.name, "root.pem")
        CA.cert_pem.write_to_path(self.root)
        LEAF.private_key_pem.write_to_path(os.path.join(self.folder.name, "key.pem"))
        LEAF.cert_chain_pems[0].write_to_path(os.path.join(self.folder.name, "cert.pem"))
        told = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": "cert.pem", "privateKey": "key.pem",
            "httpPort": self.http, "tlsPort": self.tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": bool(bound),
        }  # fmt: skip
        if life:
            told["certificateValidityPeriod"] = life
        if bound:
            told["externalAccountMACKeys"] = {"kid-1": bound}
        pathlib.Path(self.folder.name, "p.json").write_text(json.dumps({"pebble": told}))
        # As strict as it can be: nonces are refused, and looks come late.
        self.environment = os.environ | {
            "PEBBLE_WFE_NONCEREJECT": "15", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0",
        } | environment  # fmt: skip
        self.challenges: Program | None = None
        self.program: Program | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def start(self) -> "Pebble":
        if self.challenges is None and not self.own_dns:
            off = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "")
            self.challenges = Program(
                ["pebble-challtestsrv", *off, "-dns01", f"127.0.0.1:{self.dns}",
                 "-management", f"127.0.0.1:{self.names}"],
            )  # fmt: skip
            wait_for_port(self.names, self.challenges.process)
        command = ["pebble", "-config", "p.json", "-strict", "-dnsserver", f"127.0.0.1:{self.dns}"]
        self.program = Program(command, cwd=self.folder.name, env=self.environment)
        wait_for_port(self.port, self.program.process)
        return self

    def stop(self) -> None:
        """The authority is away; it forgets everything."""
        if self.program is not None:
            self.program.stop()
            self.program = None

    def close(self) -> None:
        self.stop()
        if self.challenges is not None:
            self.challenges.stop()
        self.folder.cleanup()

    def __enter__(self) -> "Pebble":
        return self.start()

    def __exit__(self, *_) -> None:
        self.close()

    def orders(self) -> int:
        """How many orders it has taken; those refused for their nonce do not count."""
        assert self.program is not None
        return self.program.out().count("Added order ")

    def issuer(self) -> str:
        """The root that its certificates lead to, in PEM."""
        trust = ssl.create_default_context(cafile=self.root)
        where = f"https://127.0.0.1:{self.management}/roots/0"
        with urllib.request.urlopen(where, context=trust) as answer:
            return answer.read().decode()

    def tell(self, path: str, told: dict) -> None:
        """Change what names lead to: set-default-ipv4, add-a, set-txt."""
        data = json.dumps(told).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.names}/{path}", data).close()

    def options(self) -> list[str]:
        """Of rawproxy, for this authority."""
        return ["--acme-ca", self.url, "--acme-ca-root", self.root]


class Refusing(http.server.BaseHTTPRequestHandler):
    """A directory, nonces and accounts; every other request gets the server's `answer`."""

    protocol_version = "HTTP/1.1"

    def _send(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response_only(status)
        told = {
            "Date": self.server.date or self.date_time_string(), "Replay-Nonce": "bm9uY2U",
            "Content-Type": "application/json", "Content-Length": str(len(body)),
        } | {name.replace("_", "-"): value for name, value in fields.items()}  # fmt: skip
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._send(200, b"")

    def do_GET(self) -> None:
        base = f"https://127.0.0.1:{self.server.server_port}"
        if self.path == "/dir":
            names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo")
            directory = {name: f"{base}/{name}" for name in names}
            self._send(200, json.dumps(directory).encode())
            return
        self.server.seen.append(self.path)
        status, body, fields = self.server.answers.get(self.path.split("/")[1], (404, {}, {}))
        self._send(status, json.dumps(body).encode(), **fields)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.path)
        base = f"https://127.0.0.1:{self.server.server_port}"
        if self.path == "/newAccount":
            self._send(201, b'{"status": "valid"}', Location=f"{base}/account/1")
            return
        status, body, fields = self.server.answers.get(self.path.split("/")[1], (404, {}, {}))
        self._send(status, json.dumps(body).encode(), **fields)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def refusing() -> Iterator[http.server.ThreadingHTTPServer]:
    """An authority whose answers a test sets: `answers` by the path, and `date`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.daemon_threads = True
    server.answers, server.seen, server.date = {}, [], ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    LEAF.configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(kind: str, detail: str) -> dict:
    """An authority's error (RFC 8555 6.7)."""
    return {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}


def there() -> bool:
    """Whether this machine has both programs."""
    return bool(shutil.which("pebble") and shutil.which("pebble-challtestsrv"))


def run(*words: str, **options) -> subprocess.CompletedProcess:
    """A command of rawproxy, to its end."""
    import sys

    return subprocess.run(
        [sys.executable, "-m", "rawproxy", *words], capture_output=True, text=True, check=False,
        timeout=120, **options,
    )  # fmt: skip
