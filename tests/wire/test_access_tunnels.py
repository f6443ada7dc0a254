"""WebSockets of guarded routes, of HTTP/1.1 and of HTTP/2: asked about at first, and again."""

import asyncio

import pytest

from rawproxy.protocol.http2 import frames
from tests.unit.access.heads import rule

from .guarding import YES, Answer, Client1, Client2, GuardScript, guarded, route
from .rig import read_head, response, run
from .test_access import eventually
from .test_h2_front import grant
from .test_tunnel import ASK, KEY

COOKIES = (b"Set-Cookie: a=1", b"Set-Cookie: b=2")


class Socket1(Client1):
    """A WebSocket of HTTP/1.1."""

    async def open(self, early: bytes = b""):
        self.writer.write(ASK + early)
        return await self.answer()

    async def said(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)


class Socket2(Client2):
    """A WebSocket of HTTP/2."""

    async def open(self, early: bytes = b""):
        return await asyncio.to_thread(self._open, early)

    def _open(self, early):
        client = self.client
        self.number, client.next_id = client.next_id, client.next_id + 2
        self.got = b""
        pseudo = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "https",
            ":path": "/ws",
            ":authority": "h",
        }
        block = client.encoder.encode([*pseudo.items(), ("sec-websocket-version", "13")])
        client.send(frames.headers(self.number, block, False))
        if early:
            client.send(frames.data(self.number, early, False))
        while True:
            kind, _, stream, payload = client.frame()
            if stream == self.number and kind == frames.HEADERS:
                fields = list(client.decoder.decode(payload))
                status = int(dict(fields)[":status"])
                return Answer(101 if status == 200 else status, fields, b"")

    async def said(self, size: int) -> bytes:
        return await asyncio.to_thread(self._said, size)

    def _said(self, size):
        while len(self.got) < size:
            kind, _, stream, payload = self.client.frame()
            if stream == self.number and kind == frames.DATA:
                self.got += payload
        found, self.got = self.got[:size], self.got[size:]
        return found

    async def rest(self) -> bytes:
        return await asyncio.to_thread(self._rest)

    def _rest(self):
        while True:
            kind, flags, stream, payload = self.client.frame()
            if stream != self.number:
                continue
            if kind == frames.DATA:
                self.got += payload
            if kind == frames.RST_STREAM or flags & frames.END_STREAM:
                return self.got

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.to_thread(self.client.send, frames.data(self.number, data, False))


both = pytest.mark.parametrize("version", [Socket1, Socket2])
TEXT = b"\x81\x02hi"  # a frame of a server
MASKED = b"\x81\x82\0\0\0\0hi"  # the same of a client
heads: list[bytes] = []


async def echo(reader, writer):
    """Says hi, then echoes; keeps the heads."""
    while True:
        head = await read_head(reader)
        heads.append(head)
        if b"upgrade: websocket" not in head.lower():
            writer.write(response(b"plain"))
            continue
        writer.write(grant(head, KEY if KEY in head else None) + TEXT)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return


def talk(version, guard, client, *routes, script=echo, **options):
    async def test():
        heads.clear()
        async with guarded(script, guard, *routes, **options) as rig, version(rig) as connection:
            await client(connection, rig)

    run(test())


@both
def test_a_websocket_is_asked_about_as_a_get_and_opens_with_all_cookies(version):
    async def client(connection, rig):
        answer = await connection.open(MASKED)
        assert answer.status == 101
        assert answer.all("set-cookie") == ["a=1", "b=2"]
        assert await connection.said(12) == TEXT + MASKED, "what came early is not lost"
        question = guard.questions[0].lower()
        assert question.startswith(b"get /outpost.goauthentik.io/auth/caddy http/1.1\r\n")
        assert b"\r\nx-forwarded-method: get\r\n" in question
        assert b"\r\nx-forwarded-proto: https\r\n" in question
        for name in (b"upgrade", b"sec-websocket", b"connection:", b"content-length"):
            assert name not in question
        assert b"X-authentik-username: alice\r\n" in heads[0]
        assert rig.service.counters.tunnels == 1

    guard = GuardScript(response(b"", *YES, *COOKIES), pause=0.05)
    talk(version, guard, client)


@both
@pytest.mark.parametrize(
    "status", [b"302 Found", b"401 Unauthorized", b"403 Forbidden", b"500 Oops"]
)
def test_a_websocket_that_may_not_pass_is_answered_and_the_connection_goes_on(version, status):
    async def client(connection, rig):
        answer = await connection.open()
        assert answer.status == (503 if status.startswith(b"5") else int(status[:3]))
        assert not heads
        guard.answer = response(b"", *YES)
        answer = await connection.ask("/plain")
        assert (answer.status, answer.body) == (200, b"plain")

    guard = GuardScript(response(b"", b"Location: /x", status=status))
    talk(version, guard, client)


@both
def test_a_guard_that_changes_its_mind_ends_a_websocket_by_a_close_frame(version):
    async def client(connection, rig):
        assert (await connection.open()).status == 101
        assert await connection.said(4) == TEXT
        await eventually(lambda: len(guard.questions) >= 3)
        await connection.send_bytes(MASKED)
        assert await connection.said(8) == MASKED, "it goes on as long as the guard agrees"
        guard.answer = response(status=b"401 Unauthorized")
        rest = await connection.rest()
        assert rest[:1] == b"\x88" and rest[2:4] == (1008).to_bytes(2, "big"), rest
        assert b"no longer permitted" in rest
        await eventually(lambda: not rig.service.counters.tunnels)
        assert [line for line in rig.problems if "[auth.sso] it answered 401" in line]

    guard = GuardScript()
    talk(version, guard, client, route(auth=rule(recheck=0.1)), deadlines={"linger": 1.0})


@both
def test_one_failure_of_the_guard_is_forgiven_and_a_second_is_not(version):
    async def client(connection, rig):
        assert (await connection.open()).status == 101
        assert await connection.said(4) == TEXT
        guard.answer = response(status=b"500 Oops")
        asked = len(guard.questions)
        await eventually(lambda: len(guard.questions) == asked + 1)
        guard.answer = response()
        await eventually(lambda: len(guard.questions) >= asked + 3)
        assert rig.service.counters.tunnels == 1
        guard.silent = True
        rest = await connection.rest()
        assert rest[2:4] == (1008).to_bytes(2, "big")

    guard = GuardScript()
    talk(
        version,
        guard,
        client,
        route(auth=rule(recheck=0.2, timeout=0.2)),
        deadlines={"linger": 1.0},
    )


@both
def test_a_tunnel_keeps_its_place_among_its_clients(version):
    async def client(connection, rig):
        assert (await connection.open()).status == 101
        guard = rig.service.route_targets.all[0].guard
        assert list(guard._by_client.values()) == [1]
        async with Client1(rig) as other:
            assert (await other.ask("/plain")).status == 429
        await connection.__aexit__()
        await eventually(lambda: not guard._by_client)
        async with Client1(rig) as other:
            assert (await other.ask("/plain")).status == 200

    talk(version, GuardScript(), client, route(connections=1))
