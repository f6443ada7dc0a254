"""`make resumption`: how many TLS clients that come back resume their session.

Two workers. Each client visits, leaves, and comes back with the session it got: at once, after a
reload, after a worker was killed, after the certificate was renewed. Which worker served a visit is
seen from who holds the connection, so that those who came to another worker than before are counted
apart. Writes tests/production/RESUMPTION.md.
"""

import argparse
import contextlib
import dataclasses
import datetime
import os
import pathlib
import signal
import socket
import ssl
import tempfile

import psutil

from tests.process import CA, LEAF, PATIENCE, RawProxy, free_port

from .stage import reload, until, workers

PAGE = pathlib.Path(__file__).parent / "RESUMPTION.md"
VERSIONS = {"TLS 1.3": ssl.TLSVersion.TLSv1_3, "TLS 1.2": ssl.TLSVersion.TLSv1_2}
WANTED = 0.95


@dataclasses.dataclass
class Count:
    """Of clients who came back."""

    clients: int
    elsewhere: int  # to another worker than before
    resumed: int
    resumed_elsewhere: int


class Crowd:
    """Clients of one proxy, each with a session of its own."""

    def __init__(self, proxy: RawProxy, port: int, version: ssl.TLSVersion, clients: int) -> None:
        self.proxy = proxy
        self.port = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = self.context.maximum_version = version
        CA.configure_trust(self.context)
        self.sessions: list[ssl.SSLSession | None] = [None] * clients
        self.by: list[int] = [0] * clients  # the process that served each one last

    def visit(self) -> Count:
        """All of them, at the same time; a request each."""
        before = list(self.by)
        count = Count(len(before), 0, 0, 0)
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self._connect(session)) for session in self.sessions]
            holders = holders_of(self.port, workers(self.proxy))
            for number, sock in enumerate(socks):
                sock.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 502")
                self.by[number] = holders[sock.getsockname()[1]]
                elsewhere = self.by[number] != before[number]
                count.elsewhere += elsewhere
                count.resumed += bool(sock.session_reused)
                count.resumed_elsewhere += bool(sock.session_reused) and elsewhere
                self.sessions[number] = sock.session
        return count

    def _connect(self, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return self.context.wrap_socket(sock, server_hostname="localhost", session=session)


def holders_of(port: int, pids: set[int]) -> dict[int, int]:
    """Which process holds the connection of each client, by the client's port.

    One of an earlier generation may end meanwhile: it holds none.
    """
    held = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(pid).net_connections("tcp"):
                if one.raddr and one.laddr.port == port:
                    held[one.raddr.port] = pid
    return held


def renew(folder: pathlib.Path, proxy: RawProxy) -> None:
    """New certificates, and wait until they are used."""
    before = proxy.err().count("new certificates are in use")
    write(folder, CA.issue_cert("localhost", "127.0.0.1"))
    until(lambda: proxy.err().count("new certificates are in use") > before, proxy.err())


def write(folder: pathlib.Path, leaf) -> None:
    (folder / "new").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    os.replace(folder / "new", folder / "pair.pem")


def kill_one(proxy: RawProxy) -> None:
    """A worker dies, and another one takes its place."""
    until(lambda: len(workers(proxy)) == 2, proxy.err())
    before = workers(proxy)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(workers(proxy)) == 2 and workers(proxy) != before, proxy.err())


def run(clients: int, version: ssl.TLSVersion) -> dict[str, Count]:
    """What became of them, by what had happened meanwhile."""
    found = {}
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder, LEAF)
        pair = str(folder / "pair.pem")
        options = ["--https", f"127.0.0.1:{port}", "--cert", pair, "--key", pair]
        # Nobody is there: a 502 is as good as any other answer here.
        options += ["--upstream", f"http://127.0.0.1:{free_port()}", "--workers", "2"]
        options += ["--tls", "intermediate", "--access-log", "off"]
        with RawProxy(*options, https=False) as proxy:
            until(lambda: len(workers(proxy)) == 2, proxy.err())
            crowd = Crowd(proxy, port, version, clients)
            assert crowd.visit().resumed == 0
            found["nothing"] = crowd.visit()
            reload(proxy, number=signal.SIGUSR2)
            found["a reload"] = crowd.visit()
            renew(folder, proxy)
            found["new certificates"] = crowd.visit()
            kill_one(proxy)
            found["a killed worker"] = crowd.visit()
    return found


def page(counts: dict[str, dict[str, Count]], date: str) -> str:
    """RESUMPTION.md."""
    lines = [
        "# Sessions that are resumed",
        "",
        f"`make resumption`, {date}, {ssl.OPENSSL_VERSION.split(' 2')[0]}."
        " Two workers; each client comes back with the session that it got at its last visit.",
        "",
        "| version | meanwhile | came back | to another worker | resumed | of these, there |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for version, found in counts.items():
        lines += [
            f"| {version} | {what} | {one.clients} | {one.elsewhere} | **{one.resumed}**"
            f" | {one.resumed_elsewhere} |"
            for what, one in found.items()
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Exit code 1 where fewer than are wanted resumed."""
    parser = argparse.ArgumentParser(prog="python -m tests.production.resumption")
    parser.add_argument("--clients", type=int, default=400)
    options = parser.parse_args()
    counts = {name: run(options.clients, version) for name, version in VERSIONS.items()}
    text = page(counts, f"{datetime.date.today():%Y-%m-%d}")
    PAGE.write_text(text)
    print(text)
    enough = all(
        one.resumed >= WANTED * one.clients for found in counts.values() for one in found.values()
    )
    raise SystemExit(not enough)


if __name__ == "__main__":
    main()
