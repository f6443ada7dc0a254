"""An https upstream that makes itself a new self-signed certificate at each start."""

import asyncio
import contextlib
import hashlib
import re
import ssl
import tempfile

from rawproxy.tls.self_signed import self_signed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def certificate() -> tuple[bytes, bytes]:
    """PEM of certificate and key, as no one else has them."""
    return self_signed(("authentik.test",))


def sha(pem: bytes) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()


def context_of(pair: tuple[bytes, bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join(pair))
        file.flush()
        context.load_cert_chain(file.name)
    return context


class Upstream:
    """At `host`; each connection is answered again and again, or once if `brief`."""

    def __init__(self, host: str = "127.0.0.1", brief: bool = False, port: int = 0) -> None:
        self.host, self.port, self.brief = host, port, brief
        self.pair = certificate()
        self.shown: list[tuple[bytes, bytes]] = []  # in the order of their first appearance
        self.writers: set[asyncio.StreamWriter] = set()
        self.contexts: list[ssl.SSLContext] = []  # more than one: each connection the next one

    async def start(self) -> None:
        if self.pair not in self.shown:
            self.shown.append(self.pair)
        context = context_of(self.pair)
        if self.contexts:
            context.num_tickets = 0  # who resumes is shown what it has seen
            turn = iter(range(1 << 30))

            def choose(connection, name, _):
                connection.context = self.contexts[next(turn) % len(self.contexts)]

            context.sni_callback = choose
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        self.server = await asyncio.start_server(self._serve, self.host, self.port, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        for writer in tuple(self.writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def restart(self, new: bool = True) -> None:
        await self.stop()
        if new:
            self.pair = certificate()
        await self.start()

    def known_again(self, number: int) -> None:
        """The next start is with a certificate from before."""
        self.pair = self.shown[number]

    async def _serve(self, reader, writer) -> None:
        self.writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
                if self.brief:
                    break
        self.writers.discard(writer)
        writer.close()


def fingerprints(upstream: Upstream) -> list[str]:
    """Of the certificates that it has shown."""
    return [sha(pair[0]) for pair in upstream.shown]


def changes(err: str) -> list[tuple[str, str]]:
    """The pairs of fingerprints that were warned of, in their order."""
    return re.findall(r"changed from SHA-256 ([0-9a-f]{64}) to ([0-9a-f]{64})", err)


async def ask(port: int, path: str = "/", host: str = "authentik.test") -> int:
    """The status of a GET over a connection of its own; the port is plain."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n")
    await reader.read()
    writer.close()
    return int(head.split()[1])
