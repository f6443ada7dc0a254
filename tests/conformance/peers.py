"""The processes that are tried: the echo server, and a proxy in front of it."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
START_TIMEOUT = 20
STOP_TIMEOUT = 20
PROXIES = ("rawproxy", "nginx")


class PeerError(Exception):
    """A process did not start, or did not stop as it should."""


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to stop at the end, and must then exit with 0."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAWPROXY_")}
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            status = child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise PeerError(f"{log.name}: did not stop in {STOP_TIMEOUT} seconds") from None
    if status:
        raise PeerError(f"{log.name}: exit status {status}; see {log}")


@contextlib.contextmanager
def echo(kind: str, certificate: Certificate, folder: Path) -> Iterator[dict[str, int]]:
    """The echo server; its port for each scheme."""
    log = folder / "echo.log"
    options = ["--kind", kind, "--cert", str(certificate.cert), "--key", str(certificate.key)]
    with process([sys.executable, "-m", "tests.conformance.echo", *options], log) as child:
        ports = wait_for(child, log, r"^(\d+) (\d+)$")
        yield {"ws": int(ports[1]), "wss": int(ports[2])}


@contextlib.contextmanager
def proxy(
    name: str, scheme: str, upstream: int, certificate: Certificate, folder: Path
) -> Iterator[int]:
    """A proxy to the echo server, TLS on both sides or on none; its port."""
    port = free_port()
    command = (rawproxy if name == "rawproxy" else nginx)(
        scheme, port, upstream, certificate, folder
    )
    log = folder / f"{name}.log"
    with process(command, log) as child:
        if name == "rawproxy":
            wait_for(child, log, r"^rawproxy ready")
        wait_for_port(child, port, scheme, log)
        yield port
    if "Traceback" in log.read_text(errors="replace"):
        raise PeerError(f"{log.name}: a traceback; see {log}")


def rawproxy(
    scheme: str, port: int, upstream: int, certificate: Certificate, folder: Path
) -> list[str]:
    command = [sys.executable, "-m", "rawproxy"]
    if scheme == "ws":
        return [*command, "--http", f"{HOST}:{port}", "--no-redirect",
                "--upstream", f"http://{HOST}:{upstream}"]  # fmt: skip
    # The recipe: --upstream host:port, its certificate unknown and pinned at first sight.
    return [*command, "--http", f"{HOST}:{free_port()}", "--https", f"{HOST}:{port}",
            "--cert", str(certificate.cert), "--key", str(certificate.key),
            "--upstream", f"{HOST}:{upstream}"]  # fmt: skip


def nginx(
    scheme: str, port: int, upstream: int, certificate: Certificate, folder: Path
) -> list[str]:
    """Not ours: a second opinion, and a check of this harness."""
    secure = scheme == "wss"
    tls = f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};"
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 512; }}
        http {{
          access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen {HOST}:{port}{" ssl" if secure else ""};
            {tls + " ssl_protocols TLSv1.3;" if secure else ""}
            location / {{
              proxy_pass {"https" if secure else "http"}://{HOST}:{upstream};
              proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_http_version 1.1;
              proxy_set_header Host $http_host; proxy_read_timeout 1h; proxy_send_timeout 1h;
              proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
            }}
          }}
        }}
        """
    )
    return ["nginx", "-p", str(folder), "-c", str(config)]


def wait_for(child: subprocess.Popen[bytes], log: Path, pattern: str) -> re.Match[str]:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        if found := re.search(pattern, log.read_text(errors="replace"), re.MULTILINE):
            return found
        if ended:
            break
        time.sleep(0.05)
    raise PeerError(f"did not start:\n{log.read_text(errors='replace')[-2000:]}")


def wait_for_port(child: subprocess.Popen[bytes], port: int, scheme: str, log: Path) -> None:
    """Until `port` accepts; where it is a TLS one, until it shakes hands."""
    deadline = time.monotonic() + START_TIMEOUT
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection((HOST, port), 5) as connection:
                if scheme == "wss":
                    tls.wrap_socket(connection).close()
                return
        except OSError:
            time.sleep(0.05)
    raise PeerError(f"does not accept:\n{log.read_text(errors='replace')[-2000:]}")
