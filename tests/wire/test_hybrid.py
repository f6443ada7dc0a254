"""The hybrid key exchange of X25519 and ML-KEM-768, on both sides, where OpenSSL knows it.

`openssl`, told to know no other group, is the peer: a handshake with it is proof.
"""

import contextlib
import re
import ssl
import subprocess

import pytest

from tests.process import LEAF, PATIENCE, RawProxy, free_port, needs, wait_for_port

GROUP = "X25519MLKEM768"
pytestmark = [
    pytest.mark.skipif(
        ssl.OPENSSL_VERSION_INFO < (3, 5), reason="needs OpenSSL 3.5: make test-debian13"
    ),
    needs("openssl"),
]


def s_client(port: int, *options: str) -> str:
    """What it says of a handshake; it asks for a page as well."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *options],
        input="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.stdout


@contextlib.contextmanager
def s_server(*options: str):
    """An upstream that answers any GET with a page of its own; its port."""
    port = free_port()
    with LEAF.private_key_and_cert_chain_pem.tempfile() as pem:
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pem]
        command += ["-key", pem, "-www", "-quiet", *options]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
            try:
                wait_for_port(port, server)
                yield port
            finally:
                server.kill()


@pytest.fixture(scope="module")
def proxy():
    with RawProxy("--upstream", "http://127.0.0.1:1", "--access-log", "off") as running:
        yield running


def negotiated(said: str) -> str:
    found = re.search(r"(?:Negotiated TLS1\.3 group|Server Temp Key|Peer Temp Key): (\w+)", said)
    return found[1] if found else ""


def test_a_client_that_knows_it_gets_it(proxy):
    said = s_client(proxy.https)
    assert "HTTP/1.1 502" in said
    assert negotiated(said) == GROUP
    assert "HTTP/1.1 502" in s_client(proxy.https, "-groups", GROUP)


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_others_get_what_they_know(proxy, group):
    assert "HTTP/1.1 502" in s_client(proxy.https, "-groups", group)


@pytest.mark.parametrize("group", ["X448", "P-521", "SecP256r1MLKEM768"])
def test_no_other_group(proxy, group):
    assert "New, (NONE)" in s_client(proxy.https, "-groups", group)


@pytest.mark.parametrize("group", [GROUP, "X25519", "P-256"])
def test_upstreams_get_it_too(group):
    with (
        s_server("-groups", group) as port,
        RawProxy("--upstream", f"https://127.0.0.1:{port}", "--access-log", "off") as running,
    ):
        said = s_client(running.https)
    assert "HTTP/1.1 200" in said or "HTTP/1.0 200" in said
