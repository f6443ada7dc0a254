"""One client that sends much and reads nothing, or asks a thousand things at once, beside others.

What others would wait for is the longest turn of the loop, in processor time of the thread that
the proxy runs in: the attacker sits in another one, with a blocking socket. So the figures hold on
a machine that is busy with something else.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import socket
import ssl
import struct
import time

import hpack
import pytest

from rawproxy.protocol.http2 import frames
from tests.process import PATIENCE

from .rig import CA, LOOPS, Rig, always, get, read_head, read_response, response, run

MEGABYTE = 1 << 20
TURN = 0.1  # seconds of processor time that others may have to wait
OK = always(response(b"ok"))
ASK = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SMALL = 4096  # bytes of a receive buffer


def resident() -> int:
    """Bytes of memory in use now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Watch:
    """The longest turn of the loop, and by how much memory grew."""

    async def __aenter__(self) -> "Watch":
        # As a worker does: what thousands of other tests have left is not this turn's to look at.
        gc.collect()
        gc.freeze()
        self.longest = 0.0
        self.before = self.most = resident()
        self.task = asyncio.ensure_future(self.watch())
        await asyncio.sleep(0)
        return self

    async def watch(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            self.longest = max(self.longest, time.thread_time() - began)
            self.most = max(self.most, resident())
            await asyncio.sleep(0.0005)

    async def __aexit__(self, *_) -> None:
        self.task.cancel()
        gc.unfreeze()
        grown = (self.most - self.before) / MEGABYTE
        print(f"longest turn {1000 * self.longest:.1f} ms, memory {grown:+.1f} MB")


def connect(rig: Rig, buffer: int = 0, alpn: str = "") -> socket.socket:
    """A blocking connection, to be used in a thread."""
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(0.5)
    sock.connect(("127.0.0.1", rig.port))
    if not rig.tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    if alpn:
        context.set_alpn_protocols([alpn])
    sock.settimeout(PATIENCE)
    sock = context.wrap_socket(sock, server_hostname="localhost")
    sock.settimeout(0.5)
    return sock


def pour(sock: socket.socket, data: bytes) -> int:
    """Send until the other side takes no more; how much went. Raises `ConnectionError`."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += sock.send(data[sent : sent + 16384])
    return sent


def pour_on(sock: socket.socket, data: bytes) -> None:
    """Go on for seconds."""
    for _ in range(12):
        pour(sock, data)


async def quiet(rig: Rig) -> int:
    """Wait until no more requests are served; how many were."""
    count = -1
    while count != rig.service.counters.requests:
        count = rig.service.counters.requests
        await asyncio.sleep(0.3)
    return count


@pytest.fixture(autouse=True)
def _no_log():
    """Thousands of lines that pytest would keep."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def read_some(sock: socket.socket, size: int) -> None:
    """So many bytes at least."""
    sock.settimeout(PATIENCE)
    while size > 0:
        size -= len(sock.recv(1 << 20))


def read_all(sock: socket.socket) -> bytes:
    """Everything, to the end."""
    sock.settimeout(PATIENCE)
    got = []
    while data := sock.recv(1 << 20):
        got.append(data)
    return b"".join(got)


# ── a client that does not read ─────────────────────────────────────────────────────────────────


async def sized(reader, writer):
    """`/<n>` is answered by n bytes."""
    while True:
        head = await read_head(reader)
        writer.write(response(bytes(int(head.split(b" ", 2)[1].strip(b"/") or 0))))
        await writer.drain()


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_pipelines_and_does_not_read(tls):
    requests = get(b"/200000") * 40 + get(b"/2500000") * 200
    last = get(b"/3", b"Connection: close")

    async def talk():
        async with Rig(sized, tls) as rig, Watch() as watch:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            await asyncio.to_thread(pour, sock, requests)
            await asyncio.sleep(0.5)
            assert watch.most - watch.before < 64 * MEGABYTE
            # Others are served meanwhile, and so is this one as soon as it reads.
            assert (await rig.ask(get(b"/2", b"Connection: close")))[1] == bytes(2)
            begun = rig.service.counters.requests
            assert begun < 100
            await asyncio.to_thread(sock.close)

        async with Rig(sized, tls) as rig:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            await asyncio.to_thread(pour, sock, get(b"/200000") * 40 + last)
            await asyncio.sleep(0.2)
            assert rig.service.counters.requests < 40
            got = await asyncio.to_thread(read_all, sock)
            assert got.count(b"HTTP/1.1 200 OK") == 41
            await asyncio.to_thread(sock.close)

    run(talk())


@pytest.mark.parametrize("kind", ["redirects", "error pages"])
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_nor_do_answers_of_our_own_pile_up(kind, loop_factory):
    options = {"redirect": 443} if kind == "redirects" else {"limits": {"body": 1}}
    ask = ASK if kind == "redirects" else get(b"/", b"Content-Length: 2", method=b"POST") + b"xx"

    async def talk():
        async with Rig(OK, **options) as rig, Watch() as watch:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            await asyncio.to_thread(pour, sock, ask * 200_000)
            assert await quiet(rig) < 50_000
            assert watch.most - watch.before < 16 * MEGABYTE
            assert watch.longest < TURN
            (client,) = rig.service.clients
            assert client.transport.get_write_buffer_size() < MEGABYTE
            await asyncio.to_thread(sock.close)

    run(talk(), loop_factory)


@pytest.mark.parametrize("tls", [False, True])
def test_who_never_reads_is_cut_in_the_end_and_the_kernel_keeps_nothing(tls):
    async def talk():
        async with Rig(sized, tls, deadlines={"response_body": 0.3, "linger": 0.3}) as rig:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            await asyncio.to_thread(pour, sock, get(b"/6000000") * 3)
            while rig.service.clients:
                await asyncio.sleep(0.01)
            with socket.socket(fileno=sock.detach()) as below, pytest.raises(ConnectionResetError):
                await asyncio.to_thread(read_all, below)

    run(talk())


def test_between_two_requests_too():
    async def talk():
        deadlines = {"response_body": 0.3, "linger": 0.3, "client_idle": 60}
        async with Rig(OK, redirect=443, deadlines=deadlines) as rig:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            with pytest.raises(ConnectionError):
                await asyncio.to_thread(pour_on, sock, ASK * 30_000)
            assert not rig.service.clients
            await asyncio.to_thread(sock.close)

    run(talk())


class H2:
    """A client of HTTP/2 in a thread, with windows that are never in the way."""

    def __init__(self, rig: Rig, buffer: int = 0) -> None:
        self.sock = connect(rig, buffer, "h2")
        wide = frames.settings({frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW})
        more = frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)
        self.sock.sendall(frames.PREFACE + wide + more)
        self.number = -1

    def ask(self, *fields: tuple[str, str]) -> bytes:
        """HEADERS of the next stream."""
        encoder = hpack.Encoder()
        encoder.header_table_size = 0
        whole = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", "/")]
        self.number += 2
        block = encoder.encode([*whole, *fields], huffman=False)
        return frames.headers(self.number, block, True)


def test_heads_over_http2_do_not_pile_up():
    pad = b"X-Pad: " + b"p" * 30_000

    def attack(rig):
        client = H2(rig, SMALL)
        for _ in range(40):
            data = b"".join(client.ask() for _ in range(100))
            if pour(client.sock, data) < len(data):
                break
            time.sleep(0.02)
        return client

    async def talk():
        async with Rig(always(response(b"", pad)), True) as rig, Watch() as watch:
            client = await asyncio.to_thread(attack, rig)
            assert await quiet(rig) < 1000  # of 30 KB each
            assert watch.most - watch.before < 32 * MEGABYTE
            assert watch.longest < TURN
            await asyncio.to_thread(client.sock.close)

    run(talk())


@pytest.mark.parametrize("what", ["PING", "SETTINGS"])
def test_acknowledgements_do_not_pile_up(what):
    frame = frames.frame(6, 0, 0, bytes(8)) if what == "PING" else frames.settings({})

    def attack(rig):
        client = H2(rig, SMALL)
        block, number, sent = bytes((0x82, 0x87, 0x84)), 1, 0
        while sent < 10 * MEGABYTE:
            # A request without an authority is answered at once, and pays for the frames beside it.
            ask = [frames.headers(number + 2 * n, block, True) + frame * 3 for n in range(1000)]
            number += 2000
            more = pour(client.sock, b"".join(ask))
            sent += more
            if more < 44_000:
                break
        return client, sent

    async def talk():
        async with Rig(OK, True, limits={"requests": 10_000_000}) as rig:
            async with Watch() as watch:
                client, sent = await asyncio.to_thread(attack, rig)
            assert sent < 10 * MEGABYTE
            await quiet(rig)
            (front,) = rig.service.clients
            assert front.transport.get_write_buffer_size() < MEGABYTE
            assert watch.longest < TURN
            await asyncio.to_thread(client.sock.close)

    run(talk())


def test_over_http2_reading_goes_on_once_the_client_reads():
    def client(rig):
        one = H2(rig, SMALL)
        data = b"".join(one.ask((":x", "y")[:0] or ("x", "y" * 100)) for _ in range(100))
        one.sock.settimeout(PATIENCE)
        one.sock.sendall(data)
        time.sleep(0.3)
        ended = got = 0
        buffer = b""
        while ended < 100:
            buffer += one.sock.recv(1 << 20)
            at = 0
            while len(buffer) - at >= 9:
                high, low, kind, flags, _ = frames.HEADER.unpack_from(buffer, at)
                stop = at + 9 + (high << 8 | low)
                if stop > len(buffer):
                    break
                got += stop - at
                ended += kind in (0, 1) and flags & 1
                at = stop
            buffer = buffer[at:]
        one.sock.close()
        return got

    async def talk():
        async with Rig(always(response(bytes(100_000))), True) as rig:
            assert await asyncio.to_thread(client, rig) > 10_000_000

    run(talk())


# ── a tunnel that begins while its client is paused ─────────────────────────────────────────────


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def test_a_tunnel_whose_client_is_paused_when_it_begins():
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </" + b"a" * 100_000 + b">\r\n\r\n"
    poured = []

    async def upstream(reader, writer):
        await read_head(reader)
        for _ in range(60):  # until the client's socket and our buffer are full
            writer.write(hint)
            await asyncio.sleep(0.005)
        writer.write(ACCEPT)
        for _ in range(1000):
            writer.write(bytes(MEGABYTE // 4))
            poured.append(1)
            await writer.drain()

    async def talk():
        async with Rig(upstream) as rig, Watch() as watch:
            sock = await asyncio.to_thread(connect, rig, SMALL)
            await asyncio.to_thread(pour, sock, UPGRADE)
            await asyncio.sleep(1.5)
            assert watch.most - watch.before < 32 * MEGABYTE
            assert sum(poured) < 100
            await asyncio.to_thread(read_some, sock, 10 * MEGABYTE)  # it flows again
            await asyncio.to_thread(sock.close)

    run(talk())


# ── much work in few bytes ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["redirects", "refusals", "uploads that are refused"])
def test_thousands_of_requests_that_are_answered_at_once(kind):
    """24,000 pipelined ones, whose client reads."""
    count = 24_000 if kind == "redirects" else 6_000
    ask = get(b"/", b"Content-Length: 2", method=b"POST") + b"xx"
    ask = {"redirects": ASK, "refusals": ask}.get(
        kind, get(b"/", b"Content-Length: 20", method=b"PUT") + b"x" * 20
    )
    options = {"limits": {"body": 1}} if kind == "refusals" else {"redirect": 443}

    def attack(rig):
        sock = connect(rig)
        last = ask.replace(b"Host: h", b"Host: h\r\nConnection: close", 1)
        sock.settimeout(PATIENCE)
        data = ask * (count - 1) + last
        sent = seen = 0
        tail = b""
        sock.setblocking(False)
        while seen < count:
            with contextlib.suppress(BlockingIOError):
                if sent < len(data):
                    sent += sock.send(data[sent : sent + 262_144])
            with contextlib.suppress(BlockingIOError):
                got = sock.recv(1 << 20)
                assert got
                seen += (tail + got).count(b"HTTP/1.1 ") - tail.count(b"HTTP/1.1 ")
                tail = (tail + got)[-8:]
        sock.close()

    async def talk():
        async with Rig(OK, **options) as rig:
            async with Watch() as watch:
                await asyncio.to_thread(attack, rig)
            assert watch.longest < TURN
            assert rig.service.counters.requests == count

    run(talk())


@pytest.mark.parametrize("what", ["requests", "refused requests", "PRIORITY"])
def test_390_kilobytes_of_small_frames(what):
    def attack(rig):
        client = H2(rig)
        if what == "requests":
            data = b"".join(client.ask() for _ in range(10_000))
        elif what == "PRIORITY":
            data = b"".join(frames.frame(2, 0, n, bytes(5)) for n in range(1, 60_000, 2))
        else:
            block = bytes((0x82, 0x87, 0x84))
            data = b"".join(frames.headers(n, block, True) for n in range(1, 60_000, 2))
        client.sock.sendall(data[:400_000])
        time.sleep(0.3)
        client.sock.close()

    async def talk():
        async with Rig(OK, True) as rig:
            async with Watch() as watch:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(attack, rig)
            assert watch.longest < TURN

    run(talk())


def test_settings_that_change_a_window_thousands_of_times():
    def attack(rig):
        client = H2(rig)
        client.sock.sendall(b"".join(client.ask() for _ in range(100)))
        time.sleep(0.2)
        pair = struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 70_000)
        client.sock.sendall(frames.frame(frames.SETTINGS, 0, 0, pair * 2700) * 20)
        time.sleep(0.2)
        client.sock.close()

    async def never(reader, writer):
        await reader.read()

    async def talk():
        async with Rig(never, True) as rig:
            async with Watch() as watch:
                await asyncio.to_thread(attack, rig)
            assert watch.longest < TURN

    run(talk())


def test_a_body_of_chunks_of_one_byte():
    async def upstream(reader, writer):
        await read_head(reader)
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            tail = tail[-8:] + await reader.read(65536)
        writer.write(response(b"ok"))

    def attack(rig):
        sock = connect(rig)
        sock.settimeout(PATIENCE)
        head = get(b"/", b"Transfer-Encoding: chunked", b"Connection: close", method=b"PUT")
        sock.sendall(head + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        assert read_all(sock).endswith(b"ok")
        sock.close()

    async def talk():
        async with Rig(upstream, limits={"rate": 0}) as rig:
            async with Watch() as watch:
                await asyncio.to_thread(attack, rig)
            assert watch.longest < TURN

    run(talk())


def test_a_flood_of_interim_responses():
    async def upstream(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 \r\n\r\n" * 20_000 + response(b"ok"))
        await reader.read()

    async def talk():
        async with Rig(upstream) as rig:
            async with Watch() as watch:
                reader, writer = await rig.client()
                writer.write(ASK)
                seen = await reader.readuntil(b" 502 ")
                assert seen.count(b" 103 ") <= 32
                writer.close()
            assert watch.longest < TURN

    run(talk())


def hellos(count: int) -> list[bytes]:
    """ClientHellos, to be sent when there is no time to make them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    made = []
    for _ in range(count):
        out = ssl.MemoryBIO()
        half = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            half.do_handshake()
        made.append(out.read())
    return made


def greet(rig: Rig, made: list[bytes]) -> list[socket.socket]:
    """Connections that have said hello."""
    socks = [socket.create_connection(("127.0.0.1", rig.port), 10) for _ in made]
    for sock, hello in zip(socks, made, strict=True):
        sock.sendall(hello)
    return socks


def are_answered(socks: list[socket.socket]) -> None:
    for sock in socks:
        assert sock.recv(1)[0] == 22  # a handshake, and no alert
        sock.close()


def test_many_handshakes_at_once():
    made = hellos(120)

    async def talk():
        async with Rig(OK, True) as rig:
            async with Watch() as watch:
                socks = await asyncio.to_thread(greet, rig, made)
                await asyncio.to_thread(are_answered, socks)
            assert watch.longest < TURN

    run(talk())


def test_who_waits_to_be_accepted_at_the_end_is_served():
    """Thousands may be: their handshakes are not all done before anything else."""
    made = hellos(40)

    async def talk():
        async with Rig(OK, True) as rig:
            socks = greet(rig, made)  # nothing is accepted meanwhile
            began = time.thread_time()
            rig.listener.close()
            assert time.thread_time() - began < TURN / 2
            rig.listener = Swept()
            assert len(rig.service.clients) == len(made)
            await asyncio.to_thread(are_answered, socks)

    run(talk())


class Swept:
    """A client of which there are thousands."""

    def __init__(self) -> None:
        self.times = 0

    def sweep(self, now: float) -> None:
        self.times += 1

    def drain(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_sweep_takes_turns_too():
    async def talk():
        async with Rig(OK, every=0.05) as rig:
            many = [Swept() for _ in range(5000)]
            rig.service.clients.update(many)
            while not any(one.times for one in many):
                await asyncio.sleep(0)
            assert not all(one.times for one in many)
            gone = [one for one in many if not one.times]
            rig.service.clients.difference_update(gone)
            await asyncio.sleep(0.2)
            assert not any(one.times for one in gone)
            assert all(one.times for one in set(many) - set(gone))
            rig.service.clients.difference_update(many)

    run(talk())


# ── bytes behind a body that was answered already ───────────────────────────────────────────────


LENGTH = (b"Content-Length: 4", b"body")
CHUNKS = (b"Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n")  # of no known size


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("kind", "field", "body"),
    [("413", *LENGTH), ("redirect", *LENGTH), ("kept", *LENGTH), ("kept", *CHUNKS)],
)
def test_what_stands_behind_a_body_is_answered(kind, field, body, tls):
    """In one segment: an upload that is answered without its body, and a request."""
    options = {"413": {"limits": {"body": 1}}, "redirect": {"redirect": 443}}.get(kind, {})
    first, others = {"413": (b"413", b"200"), "redirect": (b"301", b"301")}.get(
        kind, (b"200", b"200")
    )
    if tls and kind == "redirect":
        others = first = b"200"  # that port is for those who speak no TLS

    async def upstream(reader, writer):
        while True:
            head = await read_head(reader)
            if head.startswith(b"POST"):
                await reader.readuntil(b"0\r\n\r\n" if b"hunked" in head else b"body")
            writer.write(response(b"ok"))

    async def talk():
        async with Rig(upstream, tls, **options) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/", field, method=b"POST") + body + ASK * 3)
            for status in (first, others, others, others):
                head, _ = await read_response(reader)
                assert head.split(b" ")[1] == status
            writer.close()

    run(talk())


# ── a client that has gone ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_client_that_goes_away_before_the_response(loop_factory):
    """Rule 52: the upstream is told, though no deadline of ours has come."""
    gone = asyncio.Event()

    async def upstream(reader, writer):
        await read_head(reader)
        await reader.read()
        gone.set()

    async def talk():
        async with Rig(upstream, every=1.0) as rig:
            _, writer = await rig.client()
            writer.write(ASK)
            await asyncio.sleep(0.05)
            began = time.monotonic()
            writer.close()
            async with asyncio.timeout(PATIENCE):  # every deadline of the rig is later
                await gone.wait()
            print(f"told {time.monotonic() - began:.2f} s after the client went")

    run(talk(), loop_factory)


def test_one_that_only_sends_no_more_has_its_answer():
    async def upstream(reader, writer):
        await read_head(reader)
        await asyncio.sleep(0.8)
        writer.write(response(b"late"))

    async def talk():
        async with Rig(upstream, deadlines={"linger": 0.2}) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            writer.write_eof()
            got = await reader.read()
            assert got.endswith(b"\r\n\r\nlate")
            head, _, rest = got.rpartition(b"HTTP/1.1 200")
            assert head and head.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"") == b""
            assert rest

    run(talk())


def test_hsts_on_a_switch():
    async def upstream(reader, writer):
        await read_head(reader)
        writer.write(ACCEPT)

    async def talk():
        async with Rig(upstream, True) as rig:
            reader, writer = await rig.client()
            writer.write(UPGRADE)
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"\r\nStrict-Transport-Security: max-age=63072000\r\n" in head
            writer.close()

    run(talk())
