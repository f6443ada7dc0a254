"""`python -m tests.early_answers`: an upstream answers 413 while the body still comes; who hears it?

gunicorn's sync worker runs an application that answers without reading, and then closes what was
not read: a reset follows the answer at once. Each upload is made over a connection of its own by a
client that sends on and reads at the same time, as curl and browsers do:

    length, chunked   HTTP/1.1; where the answer promises that the connection stays, the body is
                      sent to its end and another request has to be answered on it
    h2                HTTP/2 over TLS; another request has to be answered on the connection

An upload is lost where no whole 413 comes. The proxies stand in front of the same gunicorn, each
sending bodies on as they come, as authentik's users need it (nginx and HAProxy would gather them
otherwise, or some of them). It prints a table and writes tests/EARLY.md; `trial` is what the small
test of the default run calls.
"""

import argparse
import asyncio
import collections
import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events

from .process import CA, LEAF, Program, RawProxy, free_port, wait_for_port

SIZE = 1 << 20  # bytes of a body: more than what may be read for the connection's sake
PIECE = 16_384
TOGETHER = 8  # uploads at once
PATIENCE = 15.0  # seconds before an upload counts as lost
PAGE = b"too large\n" * 50
APPLICATION = """
PAGE = {page!r}

def application(environ, start_response):
    status = "200 OK" if environ["REQUEST_METHOD"] == "GET" else "413 Content Too Large"
    start_response(status, [("Content-Length", str(len(PAGE))), ("Content-Type", "text/plain")])
    return [PAGE]
"""
PATH = os.environ["PATH"] + ":/usr/sbin"
CONFIGS = {
    "nginx": """
daemon off; worker_processes 1; pid @FOLDER@/nginx.pid; error_log @FOLDER@/nginx.log;
events { worker_connections 512; }
http {
    access_log off; client_max_body_size 0;
    client_body_temp_path @FOLDER@/1; proxy_temp_path @FOLDER@/2; fastcgi_temp_path @FOLDER@/3;
    uwsgi_temp_path @FOLDER@/4; scgi_temp_path @FOLDER@/5;
    upstream origin { server @UPSTREAM@ max_fails=0; keepalive 10; }
    server {
        listen 127.0.0.1:@PLAIN@;
        listen 127.0.0.1:@TLS@ ssl http2;
        ssl_certificate @PEM@; ssl_certificate_key @PEM@;
        location / {
            proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_request_buffering off;
        }
    }
}
""",
    "HAProxy": """
global
    nbthread 1
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:@PLAIN@
    bind 127.0.0.1:@TLS@ ssl crt @PEM@ alpn h2,http/1.1
    default_backend origin
backend origin
    server origin @UPSTREAM@
""",
    "Caddy": """
{
    admin off
    auto_https off
}
http://:@PLAIN@ {
    bind 127.0.0.1
    reverse_proxy @UPSTREAM@
}
https://:@TLS@ {
    bind 127.0.0.1
    tls @PEM@ @PEM@
    reverse_proxy @UPSTREAM@
}
""",
}
COMMANDS = {
    "nginx": ("nginx", "-p", "{folder}", "-e", "stderr", "-c", "{config}"),
    "HAProxy": ("haproxy", "-db", "-f", "{config}"),
    "Caddy": ("caddy", "run", "--adapter", "caddyfile", "--config", "{config}"),
}


class Ports(NamedTuple):
    plain: int
    tls: int


class Outcome(NamedTuple):
    """What one upload came to."""

    verdict: str  # "answered", or how it was lost
    kept: bool = True  # what the answer promised of the connection
    ended: float = 0.0  # seconds from the whole answer to the end of the client's half, HTTP/2 only


@contextlib.contextmanager
def gunicorn(tls: bool = False) -> Iterator[str]:
    """The upstream; its address."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "early.py").write_text(APPLICATION.format(page=PAGE))
        address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--workers", "2"]
        command += ["--bind", address, "--chdir", str(folder), "early:application"]
        if tls:
            pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
            command += ["--certfile", pem, "--keyfile", pem]
        # Newer ones have a control socket, in the user's home or runtime folder.
        home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        program = Program(command, cwd=folder, env=os.environ | home)
        stack.callback(program.stop)
        wait_for_port(int(address.rpartition(":")[2]), program.process)
        yield address


@contextlib.contextmanager
def proxy(name: str, upstream: str, tls: bool = False) -> Iterator[Ports]:
    """One of the proxies in front of `upstream`; rawproxy can be asked to speak TLS to it."""
    if name == "rawproxy":
        options = ["--access-log", "off", "--no-redirect"]
        options += ["--upstream-verify", "off"] if tls else []
        with RawProxy("--upstream", f"http{'s' * tls}://{upstream}", *options) as one:
            yield Ports(one.http, one.https)
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        pem = stack.enter_context(LEAF.private_key_and_cert_chain_pem.tempfile())
        ports = Ports(free_port(), free_port())
        text = CONFIGS[name]
        facts = {"FOLDER": folder, "PEM": pem, "UPSTREAM": upstream}
        for word, value in {**facts, "PLAIN": ports.plain, "TLS": ports.tls}.items():
            text = text.replace(f"@{word}@", str(value))
        config = pathlib.Path(folder, "config")
        config.write_text(text)
        command = [word.format(config=config, folder=folder) for word in COMMANDS[name]]
        program = Program(command, env=os.environ | {"PATH": PATH, "HOME": folder})
        stack.callback(program.stop)
        for port in ports:
            wait_for_port(port, program.process)
        yield ports


# ── the clients ─────────────────────────────────────────────────────────────────────────────────


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next final response."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"\r\ncontent-length: " in head:
        size = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        return head, await reader.readexactly(size)
    assert b"\r\ntransfer-encoding: chunked" in head, head
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return head, body


async def hear(sock: socket.socket, reader: asyncio.StreamReader) -> None:
    """Read whatever comes of writing: asyncio's own transports do not once a write has failed."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(sock, 65536):
            reader.feed_data(data)
        reader.feed_eof()
    except OSError as error:
        reader.set_exception(error)


async def http1(ports: Ports, chunked: bool) -> Outcome:
    loop = asyncio.get_running_loop()
    sock = socket.create_connection(("127.0.0.1", ports.plain))
    sock.setblocking(False)
    reader = asyncio.StreamReader()
    hearing = asyncio.create_task(hear(sock, reader))
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
    piece = b"%x\r\n%b\r\n" % (PIECE, bytes(PIECE)) if chunked else bytes(PIECE)
    over = False  # the answer is here, and the connection is not to be used again

    async def send() -> None:
        with contextlib.suppress(OSError):
            await loop.sock_sendall(sock, b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % framing)
            for _ in range(SIZE // PIECE):
                if over:
                    return
                await loop.sock_sendall(sock, piece)
            await loop.sock_sendall(sock, b"0\r\n\r\n" if chunked else b"")

    sending = asyncio.create_task(send())
    try:
        head, body = await answer(reader)
        if not head.startswith(b"http/1.1 413 ") or body != PAGE:
            return Outcome(head.partition(b"\r\n")[0].decode())
        if b"\r\nconnection: close" in head:
            over = True
            return Outcome("answered")
        await sending
        try:
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            head, _ = await answer(reader)
        except (OSError, EOFError):
            return Outcome("answered", kept=False)
        return Outcome("answered", kept=head.startswith(b"http/1.1 200 "))
    finally:
        over = True
        sending.cancel()
        hearing.cancel()
        await asyncio.wait([sending, hearing])
        sock.close()


async def length(ports: Ports) -> Outcome:
    return await http1(ports, chunked=False)


async def chunked(ports: Ports) -> Outcome:
    return await http1(ports, chunked=True)


class Upload:
    """One upload over HTTP/2, and what came of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        self.left = SIZE
        self.status: dict[int, str] = {}
        self.body: dict[int, bytes] = collections.defaultdict(bytes)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}

    def request(self, number: int, method: str, *, ended: bool) -> None:
        names = (":method", ":scheme", ":authority", ":path")
        fields = list(zip(names, (method, "https", "localhost", "/"), strict=True))
        self.http.send_headers(number, fields, end_stream=ended)

    def feed(self) -> None:
        """As much of the body as the windows allow."""
        while self.left and 1 not in self.reset:
            room = min(self.http.local_flow_control_window(1), self.left, PIECE)
            if not room or self.writer.transport.get_write_buffer_size() > 4 * PIECE:
                return
            self.left -= room
            self.http.send_data(1, bytes(room), end_stream=not self.left)
            self.writer.write(self.http.data_to_send())

    async def until(self, done: Callable[[], bool], *, feeding: bool) -> None:
        """Go on until `done`. Raises `EOFError` or `OSError` where the connection ends."""
        while not done():
            if feeding:
                self.feed()
            self.writer.write(self.http.data_to_send())
            try:
                data = await asyncio.wait_for(self.reader.read(65536), 0.002 if feeding else None)
            except TimeoutError:
                continue
            if not data:
                raise EOFError
            for event in self.http.receive_data(data):
                self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.status[event.stream_id] = dict(event.headers)[":status"]
        elif isinstance(event, h2.events.DataReceived):
            self.body[event.stream_id] += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.reset[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            raise EOFError


async def http2(ports: Ports, *, on: bool = True) -> Outcome:
    """`on`: the client sends on after the answer, until it is told to stop; else it waits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", ports.tls, ssl=context, server_hostname="localhost"
    )
    upload = Upload(reader, writer)
    try:
        upload.http.initiate_connection()
        upload.request(1, "POST", ended=False)
        await upload.until(lambda: 1 in upload.ended or 1 in upload.reset, feeding=True)
        if 1 not in upload.ended:
            return Outcome(f"reset {upload.reset[1]}")
        if upload.status[1] != "413" or upload.body[1] != PAGE:
            return Outcome(f"{upload.status[1]}, {len(upload.body[1])} bytes")
        began = time.monotonic()
        await upload.until(lambda: 1 in upload.reset or not upload.left, feeding=on)
        took = time.monotonic() - began
        upload.request(3, "GET", ended=True)
        await upload.until(lambda: 3 in upload.ended or 3 in upload.reset, feeding=False)
        return Outcome("answered", upload.status.get(3) == "200", took)
    finally:
        writer.transport.abort()


CLIENTS: dict[str, Callable[[Ports], Awaitable[Outcome]]] = {
    "length": length,
    "chunked": chunked,
    "h2": http2,
}


# ── the trial ───────────────────────────────────────────────────────────────────────────────────


async def trial(ports: Ports, client: str, uploads: int) -> list[Outcome]:
    """So many uploads, some at a time."""
    outcomes: list[Outcome] = []
    left = uploads

    async def some() -> None:
        nonlocal left
        while left:
            left -= 1
            try:
                outcome = await asyncio.wait_for(CLIENTS[client](ports), PATIENCE)
            except (OSError, EOFError, TimeoutError) as error:
                outcome = Outcome(type(error).__name__)
            outcomes.append(outcome)

    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    return outcomes


def row(name: str, client: str, outcomes: list[Outcome]) -> str:
    """A line of the table."""
    lost = collections.Counter(one.verdict for one in outcomes if one.verdict != "answered")
    how = ", ".join(f"{text}: {count}" for text, count in lost.most_common())
    broken = sum(not one.kept for one in outcomes)
    slowest = f"{max(one.ended for one in outcomes):.2f}" if client == "h2" else "-"
    return (
        f"| {name} | {client} | {len(outcomes)} | {lost.total()} | {how} | {broken} | {slowest} |"
    )


def main() -> None:
    """Run it and write the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.early_answers")
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--only", default="", help="one of the proxies")
    parser.add_argument("--no-file", action="store_true", help="print only")
    options = parser.parse_args()
    doc = (__doc__ or "").partition("\n")[2].strip()
    lines = [
        "# Early answers",
        "",
        "What `python -m tests.early_answers` saw last.",
        "",
        *doc.splitlines(),
        "",
        "| proxy | client | uploads | lost | how | promises broken | slowest end, s |",
        "|---|---|--:|--:|---|--:|--:|",
    ]
    print("\n".join(lines[-2:]), flush=True)
    with gunicorn() as upstream:
        for name in ("rawproxy", *COMMANDS):
            if options.only not in ("", name):
                continue
            if name in COMMANDS and shutil.which(COMMANDS[name][0], path=PATH) is None:
                continue
            with proxy(name, upstream) as ports:
                for client in CLIENTS:
                    outcomes = asyncio.run(trial(ports, client, options.uploads))
                    lines.append(row(name, client, outcomes))
                    print(lines[-1], flush=True)
    if not options.no_file:
        (pathlib.Path(__file__).parent / "EARLY.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
