"""Every attack of the table, mounted: bounded memory, the right error, others unharmed."""

import time

import pytest

from rawproxy.net.openssl import error_queue
from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.frames import Code

from .h2raw import H2Client, running

MEGABYTE = 1 << 20
ALLOWED = 8 * MEGABYTE  # by which an attack may let the process grow
TURNS = 60_000  # of a flood; every one of them ends long before


@pytest.fixture(scope="module")
def proxy():
    with running() as one, H2Client(one.https) as client:
        assert client.get()[0] == 200  # warm: what an attack adds is what it costs
        yield one


def flood(proxy, pieces, settings=None) -> Code:
    """Send `pieces`, and read nothing, until the proxy ends the connection; its GOAWAY says why.

    Others go on meanwhile.
    """
    before, cpu = proxy.rss(), proxy.cpu()
    with H2Client(proxy.https) as bystander, H2Client(proxy.https, settings) as attacker:
        assert bystander.get("/100") == (200, bytes(100))
        began = time.monotonic()
        sent = 0
        try:
            for piece in pieces(attacker):
                attacker.send(piece)
                sent += len(piece)
        except OSError as error:  # closed on us, which is the point
            error_queue.after(error)  # of which the bystander is not to hear, in this process
        assert bystander.get("/100") == (200, bytes(100))
        code = attacker.goaway()
        took = time.monotonic() - began
        assert bystander.get("/100") == (200, bytes(100))
    grown = proxy.rss() - before
    print(
        f"{code.name} after {sent / 1024:.0f} KiB and {took:.2f} s,"
        f" {proxy.cpu() - cpu:.2f} s of CPU, {grown / 1024:+.0f} KiB"
    )
    assert grown < ALLOWED
    return code


def repeat(piece: bytes):
    return lambda client: (piece * 100 for _ in range(TURNS // 100))


def test_rapid_reset(proxy):  # CVE-2023-44487
    def pieces(client):
        for _ in range(TURNS):
            opening = client.headers("/1000")
            yield opening + frames.rst_stream(client.next_id - 2, Code.CANCEL)

    assert flood(proxy, pieces) is Code.ENHANCE_YOUR_CALM


def test_made_you_reset(proxy):  # CVE-2025-8671
    def pieces(client):
        for _ in range(TURNS):
            opening = client.headers("/1000")
            yield opening + frames.window_update(client.next_id - 2, 0)

    assert flood(proxy, pieces) is Code.ENHANCE_YOUR_CALM


def test_malformed_requests_without_end(proxy):
    def pieces(client):
        for _ in range(TURNS):
            yield client.headers("/", ("connection", "close"))

    assert flood(proxy, pieces) is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("fragment", [b"", b"\0\1a\1b", b"\0\1a\1b" * 3000])
def test_continuation_flood(proxy, fragment):
    def pieces(client):
        yield frames.frame(frames.HEADERS, frames.END_STREAM, 1, b"\x82")
        for _ in range(TURNS):
            yield frames.frame(frames.CONTINUATION, 0, 1, fragment)

    assert flood(proxy, pieces) is Code.ENHANCE_YOUR_CALM


def test_hpack_bomb(proxy):  # CVE-2026-49975
    """A large field in the table, then references to it: answered 431, and paid for."""

    head = b"\x82\x87\x84\x01\x09localhost"
    first = head + b"\x40\x01a" + b"\x7f\xbd\x1e" + bytes(4028).replace(b"\0", b"v")
    before, cpu = proxy.rss(), proxy.cpu()
    with H2Client(proxy.https) as bystander, H2Client(proxy.https) as attacker:
        statuses = {}
        for number in range(1, 101, 2):
            attacker.send(frames.headers(number, first, True))
            first = head + b"\xbe" * 16000  # 64 MB of fields in 16 KB
        while len(statuses) < 50:
            _, _, number, payload = attacker.until(frames.HEADERS)
            statuses[number] = dict(attacker.decoder.decode(payload))[":status"]
        assert statuses.pop(1) == "200"
        assert set(statuses.values()) == {"431"}
        assert bystander.get("/100") == (200, bytes(100))
    print(f"{proxy.cpu() - cpu:.2f} s of CPU, {(proxy.rss() - before) / 1024:+.0f} KiB")
    assert proxy.rss() - before < ALLOWED


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(frames.settings({frames.MAX_FRAME_SIZE: 16384}), id="SETTINGS"),
        pytest.param(frames.frame(frames.SETTINGS, frames.ACK, 0), id="SETTINGS-ACK"),
        pytest.param(frames.frame(frames.PING, 0, 0, bytes(8)), id="PING"),
        pytest.param(frames.frame(frames.PRIORITY, 0, 1, bytes(4) + b"\1"), id="PRIORITY"),
        pytest.param(frames.window_update(0, 1), id="WINDOW_UPDATE"),
        pytest.param(frames.frame(0x77, 0, 0, b"x"), id="unknown"),
    ],
)
def test_frames_that_serve_no_request(proxy, piece):  # CVE-2019-9512, -9515 and kin
    piece = piece.replace(b"\0\0\0\1\0\0\0\0\1", b"\0\0\0\3\0\0\0\0\1")
    assert flood(proxy, repeat(piece)) is Code.ENHANCE_YOUR_CALM


def test_empty_data(proxy):  # CVE-2019-9518
    def pieces(client):
        yield client.headers(ended=False)
        for _ in range(TURNS // 100):
            yield frames.data(1, b"", False) * 100

    assert flood(proxy, pieces) is Code.ENHANCE_YOUR_CALM


def test_too_many_streams(proxy):
    """REFUSED_STREAM for those beyond the limit; the connection lives."""
    settings = {frames.INITIAL_WINDOW_SIZE: 0}
    with H2Client(proxy.https, settings) as client:
        client.send(b"".join(client.headers("/1000") for _ in range(140)))
        refused, headed = set(), set()
        while len(refused) + len(headed) < 140:
            kind, _, number, payload = client.until(frames.RST_STREAM, frames.HEADERS)
            if kind == frames.RST_STREAM:
                assert int.from_bytes(payload, "big") == Code.REFUSED_STREAM
                refused.add(number)
            else:
                headed.add(number)
        assert refused == set(range(257, 281, 2))
        client.send(frames.frame(frames.PING, 0, 0, b"pingpong"))
        while client.until(frames.PING)[3] != b"pingpong":
            pass


def test_a_hundred_slow_streams(proxy):
    """Each of a response of 100 MB, and a client that takes 64 KiB of each and no more."""
    before = proxy.rss()
    with H2Client(proxy.https) as client:
        client.send(frames.window_update(0, 2**31 - 1 - 65535))
        client.send(b"".join(client.headers("/100000000") for _ in range(100)))
        taken = 0
        while taken < 100 * 65535:
            taken += len(client.until(frames.DATA)[3])
        # A PING behind them all: whatever was read of the upstreams has been read.
        for _ in range(5):
            client.send(frames.frame(frames.PING, 0, 0, bytes(8)))
            client.until(frames.PING)
            time.sleep(0.1)  # for the upstreams to fill what can be filled
        grown = proxy.rss() - before
        print(f"{grown / MEGABYTE:.1f} MB for 100 slow streams")
        assert grown < 32 * MEGABYTE
        # Fair, and none forgotten: more credit, more bytes, for each of them.
        client.send(b"".join(frames.window_update(n, 100_000) for n in range(1, 201, 2)))
        more = dict.fromkeys(range(1, 201, 2), 0)
        while min(more.values()) < 100_000:
            _, _, number, payload = client.until(frames.DATA)
            more[number] += len(payload)
