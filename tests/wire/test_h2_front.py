"""HTTP/2 towards the client: the same story as HTTP/1, stream by stream."""

import asyncio
import hashlib
import os

import pytest
from wsproto.utilities import generate_accept_token

from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import Code

from .h2raw import H2Client, eventually
from .rig import LOOPS, Rig, always, read_head, response, run

DATA, HEADERS, RST, GOAWAY = frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.GOAWAY


def talk(script, client, loop=LOOPS[0], **options):
    """Run `client(H2Client, rig)` in a thread against a proxy before `script`; the rig."""

    async def test():
        async with Rig(script, True, **options) as rig:

            def work():
                with H2Client(rig.port) as connection:
                    client(connection, rig)

            await asyncio.to_thread(work)
        return rig

    return run(test(), loop)


def whole(client: H2Client, number: int) -> tuple[list[dict], bytes, int | None]:
    """All field blocks of a stream, its body, and the code of a reset."""
    blocks, body = [], b""
    while True:
        kind, flags, stream, payload = client.frame()
        if stream != number:
            continue
        if kind == HEADERS:
            blocks.append(dict(client.decoder.decode(payload)))
        elif kind == DATA:
            body += payload
            if payload:
                client.send(frames.window_update(0, len(payload)))
                client.send(frames.window_update(number, len(payload)))
        elif kind == RST:
            return blocks, body, int.from_bytes(payload, "big")
        if kind in (HEADERS, DATA) and flags & frames.END_STREAM:
            return blocks, body, None


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_and_its_response(loop):
    heads = []

    async def script(reader, writer):
        heads.append(await read_head(reader))
        writer.write(response(b"hello", b"Server: x", b"Connection: close", b"Keep-Alive: 5"))

    def client(h2, rig):
        more = (("cookie", "a=1"), ("x-forwarded-for", "6.6.6.6"), ("cookie", "b=2"))
        h2.send(h2.headers("/p?q", *more))
        (fields,), body, reset = whole(h2, 1)
        assert (body, reset) == (b"hello", None)
        assert fields.pop("date").endswith("GMT")
        assert fields == {
            ":status": "200",
            "content-length": "5",
            "server": "x",
            "strict-transport-security": "max-age=63072000",
        }

    rig = talk(script, client, loop)
    assert heads == [
        b"GET /p?q HTTP/1.1\r\nHost: localhost\r\ncookie: a=1; b=2\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: localhost\r\n\r\n"
    ]
    assert b'"GET /p?q HTTP/2.0" 200 5 ' in rig.log[0]


def test_interim_chunked_and_trailers():
    async def script(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await asyncio.sleep(0)
        writer.write(b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n")

    def client(h2, rig):
        h2.send(h2.headers())
        (early, head, trailers), body, reset = whole(h2, 1)
        assert early == {":status": "103", "link": "</x>"}
        assert head[":status"] == "200"
        assert "transfer-encoding" not in head
        assert (body, trailers, reset) == (b"hello", {"x-sum": "1"}, None)

    talk(script, client)


def test_head_and_bodiless():
    def client(h2, rig):
        h2.send(h2.headers("/"))
        assert whole(h2, 1)[0][0][":status"] == "204"

    talk(always(b"HTTP/1.1 204 No Content\r\n\r\n"), client)


@pytest.mark.parametrize("length", [True, False])
def test_an_upload_at_length_and_without(length):
    blob = os.urandom(3_000_000)

    async def script(reader, writer):
        head = await read_head(reader)
        assert (b"Transfer-Encoding: chunked" in head) is not length
        digest = hashlib.sha256()
        if length:
            digest.update(await reader.readexactly(len(blob)))
        else:
            while size := int(await reader.readline(), 16):
                digest.update((await reader.readexactly(size + 2))[:-2])
            assert await reader.readexactly(2) == b"\r\n"  # no route lists the trailer
        writer.write(response(digest.hexdigest().encode()))

    def client(h2, rig):
        more = [("content-length", str(len(blob)))] if length else []
        h2.send(h2.headers("/", *more, ended=False))
        room = {0: 65535, 1: 65535}
        at = 0
        while at < len(blob):
            size = min(16384, len(blob) - at, *room.values())
            if not size:
                _, _, number, payload = h2.until(frames.WINDOW_UPDATE)
                room[number] += int.from_bytes(payload, "big")
                continue
            last = length and at + size == len(blob)
            h2.send(frames.data(1, blob[at : at + size], last))
            at += size
            room = {number: left - size for number, left in room.items()}
        if not length:
            h2.send(frames.headers(1, h2.encoder.encode([("x-sum", "7")]), True))
        blocks, body, _ = whole(h2, 1)
        assert (blocks[0][":status"], body) == ("200", hashlib.sha256(blob).hexdigest().encode())

    talk(script, client)


def test_many_at_once_and_a_big_download():
    blob = os.urandom(2_000_000)

    async def script(reader, writer):
        while True:
            await read_head(reader)
            writer.write(response(blob))

    def client(h2, rig):
        h2.send(h2.headers() + h2.headers() + h2.headers())
        bodies = {1: b"", 3: b"", 5: b""}
        open_streams = set(bodies)
        while open_streams:
            kind, flags, number, payload = h2.frame()
            if kind != DATA:
                continue
            bodies[number] += payload
            if flags & frames.END_STREAM:
                open_streams.discard(number)
            elif payload:
                h2.send(frames.window_update(0, len(payload)))
                h2.send(frames.window_update(number, len(payload)))
        assert all(body == blob for body in bodies.values())

    talk(script, client)


def test_a_reset_ends_the_exchange():
    gone = asyncio.Event()

    async def script(reader, writer):
        await read_head(reader)
        assert await reader.read() == b""
        gone.set()

    def client(h2, rig):
        h2.send(h2.headers())
        eventually(lambda: rig.connections)
        h2.send(frames.rst_stream(1, Code.CANCEL))
        eventually(gone.is_set)

    rig = talk(script, client)
    assert b'HTTP/2.0" 499 0 ' in rig.log[0]


def test_a_broken_response_is_a_reset():
    async def script(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        writer.close()

    def client(h2, rig):
        h2.send(h2.headers())
        blocks, body, reset = whole(h2, 1)
        assert (blocks[0][":status"], body, reset) == ("200", b"half", Code.INTERNAL_ERROR)

    talk(script, client)


def test_errors_of_our_own():
    async def script(reader, writer):
        await read_head(reader)
        writer.close()

    def client(h2, rig):
        h2.send(h2.headers("/x", ("accept", "application/json")))
        (fields,), body, _ = whole(h2, 1)
        assert fields[":status"] == "502"
        assert fields["content-type"] == "application/json"
        assert fields["strict-transport-security"]
        assert b'"status": 502' in body
        h2.send(frames.headers(3, h2.encoder.encode([(":method", "GET"), (":scheme", "https"),
                (":authority", "other"), (":path", "/")]), True))  # fmt: skip
        assert whole(h2, 3)[0][0][":status"] == "421"

    talk(script, client, server_names=("localhost",))


def test_drain_says_goodbye_and_finishes():
    async def script(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await drained.wait()
        writer.write(b"lf")

    def client(h2, rig):
        h2.send(h2.headers())
        h2.until(DATA)
        loop.call_soon_threadsafe(rig.service.drain)
        assert h2.until(GOAWAY)[3] == (2**31 - 1).to_bytes(4, "big") + bytes(4)
        assert h2.until(GOAWAY)[3] == (1).to_bytes(4, "big") + bytes(4)
        loop.call_soon_threadsafe(drained.set)
        assert h2.until(DATA)[3] == b"lf"
        with pytest.raises(EOFError):
            h2.until(-1)

    async def test():
        nonlocal drained, loop
        drained, loop = asyncio.Event(), asyncio.get_running_loop()
        async with Rig(script, True) as rig:

            def work():
                with H2Client(rig.port) as connection:
                    client(connection, rig)

            await asyncio.to_thread(work)

    drained, loop = None, None
    run(test())


# ── deadlines ───────────────────────────────────────────────────────────────────────────────────


async def silent(reader, writer):
    await reader.read()


def test_no_preface():
    async def test():
        async with Rig(silent, True, deadlines={"request_head": 0.1}) as rig:

            def work():
                with H2Client(rig.port, preface=frames.PREFACE[:10]) as h2:
                    assert h2.goaway() is Code.SETTINGS_TIMEOUT

            await asyncio.to_thread(work)

    run(test())


def test_a_field_block_that_does_not_end():
    def client(h2, rig):
        h2.send(frames.frame(HEADERS, 0, 1, b"\x82"))
        assert h2.goaway() is Code.ENHANCE_YOUR_CALM

    talk(silent, client, deadlines={"request_head": 0.1})


def test_an_idle_connection_is_closed():
    def client(h2, rig):
        assert h2.goaway() is Code.NO_ERROR

    talk(silent, client, deadlines={"client_idle": 0.1})


def test_no_credit_while_nobody_takes_the_bytes():
    """The upstream connection is busy, so the body waits: more than a window of it is an error."""

    def client(h2, rig):
        h2.send(h2.headers() + h2.headers(ended=False))
        h2.send(frames.data(3, bytes(65535), False) + frames.frame(frames.PING, 0, 0, bytes(8)))
        assert h2.until(frames.PING, frames.WINDOW_UPDATE, RST)[0] in (frames.PING, 8)
        h2.send(frames.data(3, b"x", False))
        number, payload = h2.until(RST)[2:]
        assert (number, int.from_bytes(payload, "big")) == (3, Code.FLOW_CONTROL_ERROR)

    talk(silent, client, max_upstream=1, limits={"replay": 1})


def test_a_body_that_stops_coming():
    def client(h2, rig):
        h2.send(h2.headers(ended=False))
        assert whole(h2, 1)[0][0][":status"] == "408"

    talk(silent, client, deadlines={"request_body": 0.1})


@pytest.mark.parametrize("size", [100_000, 2_000_000])
def test_a_client_that_stops_reading(size):
    def client(h2, rig):
        h2.send(h2.headers())
        kind, _, number, payload = h2.until(RST)
        assert (kind, number) == (RST, 1)
        assert int.from_bytes(payload, "big") in (Code.CANCEL, Code.INTERNAL_ERROR)

    talk(always(response(bytes(size))), client, deadlines={"response_body": 0.2})


# ── WebSocket (RFC 8441) ────────────────────────────────────────────────────────────────────────

ASK = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/ws"),
    (":authority", "localhost"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "chat"),
]


def grant(head: bytes, key: bytes | None = None) -> bytes:
    asked = head.lower().partition(b"sec-websocket-key: ")[0]
    at = len(asked) + len(b"sec-websocket-key: ")
    accept = generate_accept_token(key or head[at : head.index(b"\r\n", at)])
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def echo(reader, writer):
    head = await read_head(reader)
    assert head.startswith(b"GET /ws HTTP/1.1\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    writer.write(grant(head) + b"hi")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")
    if writer.can_write_eof():
        writer.write_eof()


def ask(h2: H2Client) -> None:
    h2.send(frames.headers(1, h2.encoder.encode(ASK), False))


def test_a_websocket_inside():
    blob = os.urandom(40_000)

    def client(h2, rig):
        ask(h2)
        h2.send(frames.data(1, b"early", False))
        fields = dict(h2.decoder.decode(h2.until(HEADERS)[3]))
        assert fields.pop("strict-transport-security") == "max-age=63072000"
        assert fields == {":status": "200", "sec-websocket-protocol": "chat"}
        got = b""
        while len(got) < 7:
            got += h2.until(DATA)[3]
        assert got == b"hiearly"
        h2.send(frames.data(1, blob, False))
        got = b""
        while len(got) < len(blob):
            got += h2.until(DATA)[3]
        assert got == blob
        h2.send(frames.data(1, b"", True))
        while not h2.until(DATA)[1] & frames.END_STREAM:
            pass

    rig = talk(echo, client)
    assert b'"GET /ws HTTP/2.0" 200 ' in rig.log[0]


def test_resets_of_a_websocket_travel_both_ways():
    ends = []

    async def script(reader, writer):
        writer.write(grant(await read_head(reader)))
        try:
            got = await reader.readexactly(2)
        except (OSError, asyncio.IncompleteReadError) as error:
            ends.append(type(error))
            return
        assert got == b"go"
        writer.transport.abort()

    def reset_by_client(h2, rig):
        ask(h2)
        h2.until(HEADERS)
        h2.send(frames.rst_stream(1, Code.CANCEL))
        eventually(lambda: ends)

    def reset_by_upstream(h2, rig):
        ask(h2)
        h2.until(HEADERS)
        h2.send(frames.data(1, b"go", False))
        _, body, code = whole(h2, 1)
        assert body == b""
        assert code in (Code.CANCEL, None)

    talk(script, reset_by_client)
    talk(script, reset_by_upstream)
    assert len(ends) == 1


def test_a_websocket_waits_for_whoever_is_slow():
    """Neither side's bytes pile up here; once they are taken, all of them arrive."""
    amount = 5_000_000
    told = []

    async def script(reader, writer):
        writer.write(grant(await read_head(reader)))
        for _ in range(amount // 50_000):
            writer.write(bytes(50_000))
            await writer.drain()  # returns only as the client takes them
            told.append(1)
        got = 0
        while got < 300_000:
            got += len(await reader.read(65536))
        writer.write(b"all")

    def client(h2, rig):
        h2.send(frames.window_update(0, 2**31 - 1 - 65535))
        ask(h2)
        got = 0
        while got < 65535:
            got += len(h2.until(DATA)[3])
        (stream,) = next(
            iter(c for c in rig.service.clients if hasattr(c, "streams"))
        ).streams.values()
        assert stream.tunnel is not None
        eventually(lambda: stream.full)
        assert stream.queued < 400_000  # one read of the upstream's
        h2.send(frames.window_update(1, 2**31 - 1 - 65535))
        while got < amount:
            got += len(h2.until(DATA)[3])
        sent = 0
        room = 65535
        while sent < 300_000:
            size = min(room, 16384, 300_000 - sent)
            if not size:
                room += int.from_bytes(h2.until(frames.WINDOW_UPDATE)[3], "big")
                continue
            h2.send(frames.data(1, bytes(size), False))
            sent, room = sent + size, room - size
        assert h2.until(DATA)[3] == b"all"

    talk(script, client)
    assert len(told) == amount // 50_000


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda head: response(b"no", status=b"403 Forbidden"), "403"),
        (lambda head: response(b"what?"), "502"),
        (lambda head: grant(head, b"bm90IHlvdXJzISEhISEhIQ=="), "502"),
    ],
)
def test_a_websocket_refused(answer, status):
    async def script(reader, writer):
        writer.write(answer(await read_head(reader)))

    def client(h2, rig):
        ask(h2)
        (fields, *_), _, _ = whole(h2, 1)
        assert fields[":status"] == status
        told.append(fields.get("x-request-id", ""))

    told: list[str] = []
    rig = talk(script, client, log_format="extended")
    assert f" id={told[0]}".encode() in rig.log[0], "the page has the id of its line"
