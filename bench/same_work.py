"""Whether a proxy does the same work as all others: what reaches the origin, and what comes back.

It starts nothing. A proxy that does other work is left out of the row, with the reason
(`BenchError`).
"""

from __future__ import annotations

import http.client
import re
import sys

from bench import payloads
from bench.peers import HSTS, Lab, Setup
from bench.procs import BenchError, insecure_context, run


def same_work(port: int, setup: Setup) -> None:
    """Ask once through a proxy and check what reached the origin and what came back.

    The row's origin must be nginx, which answers `/seen`.
    """
    context = insecure_context() if setup.tls else None
    connection: http.client.HTTPConnection
    if context:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/seen", headers={"Host": payloads.HOST})
        answer = connection.getresponse()
        seen = answer.read().decode().strip()
        hsts = answer.getheader("Strict-Transport-Security")
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"no answer through the proxy: {error!r}") from error
    finally:
        connection.close()
    scheme = "https" if setup.tls else "http"
    host = "" if setup.page and seen.endswith("|") else payloads.HOST
    # Envoy names the machine's own address where others say 127.0.0.1: any one address will do.
    wanted = rf"{payloads.HOST}\|[0-9a-f.:]+\|{scheme}\|{host}"
    if answer.status != 200 or not re.fullmatch(wanted, seen):
        raise BenchError(f"not the same work: {answer.status}, the origin saw {seen!r}")
    if setup.guard:
        _asked(port)
    if (hsts or None) != (HSTS if setup.tls else None):
        raise BenchError(f"not the same work: Strict-Transport-Security is {hsts!r}")


def _asked(port: int) -> None:
    """Whether the guard is asked, and its word reaches the origin instead of the client's own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        mine = {"Host": payloads.HOST, "X-authentik-username": "root"}
        connection.request("GET", "/who", headers=mine)
        who = connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"no answer through the proxy: {error!r}") from error
    finally:
        connection.close()
    if who != "alice":
        raise BenchError(f"not the same work: the origin takes the client for {who!r}")


PROBE = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["h2", "http/1.1"])
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
with context.wrap_socket(raw, server_hostname=sys.argv[2]) as tls:
    print(tls.version(), tls.cipher()[0], tls.selected_alpn_protocol())
"""


def negotiated(lab: Lab, port: int) -> tuple[str, str, str]:
    """TLS version, cipher and ALPN protocol that a load generator gets; OpenSSL's own names."""
    argv = [sys.executable, "-c", PROBE, str(port), payloads.HOST]
    version, cipher, alpn = run(argv, lab.load_cores, 15.0, lab.load_env).split()
    return version, cipher, alpn
