"""Rule 46: an upstream connection on which a client has proved itself is that client's alone."""

import asyncio
import contextlib
import itertools
import re

import pytest

from rawproxy.config.model import Upstream

from .h2raw import H2Client
from .rig import LOOPS, Rig, get, read_head, read_response, response, run
from .test_h2_front import whole

_AUTHORIZATION = re.compile(rb"\r\n[Aa]uthorization: (NTLM|Negotiate) ([^\r]*)\r\n").search


class Windows:
    """An upstream that takes a connection for whoever proved himself on it, as IIS does."""

    def __init__(self):
        self.numbers = itertools.count()
        self.closed = []

    async def __call__(self, reader, writer):
        number, user, challenge = next(self.numbers), b"", b""
        try:
            while True:
                head = await read_head(reader)
                said = _AUTHORIZATION(head)
                if said and said[1] == b"Negotiate":  # one message is enough
                    user = said[2]
                elif said and said[2] == b"type-1":
                    challenge = b"%d" % number
                    writer.write(_denied(b"NTLM " + challenge))
                    continue
                elif said:
                    # The third message answers the second one, which went over this connection.
                    name, _, answer = said[2].partition(b":")
                    user = name if challenge and answer == challenge else b""
                if user:
                    writer.write(response(b"hello " + user))
                elif b" /open " in head:
                    writer.write(response(b"hello nobody"))
                else:
                    writer.write(_denied(b"NTLM"))
        finally:
            self.closed.append(number)
            writer.close()


def _denied(offer):
    return response(b"who?", b"WWW-Authenticate: " + offer, status=b"401 Unauthorized")


class Client:
    """One connection of a client that may know NTLM."""

    async def __aenter__(self):
        self.reader, self.writer = await self.rig.client()
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def __init__(self, rig):
        self.rig = rig

    async def ask(self, path=b"/", *lines):
        self.writer.write(get(path, *lines))
        return await read_response(self.reader)

    async def log_in(self, name):
        """The three messages; what is said to them."""
        assert (await self.ask())[1] == b"who?"
        head, _ = await self.ask(b"/", b"Authorization: NTLM type-1")
        challenge = re.search(rb"WWW-Authenticate: NTLM (\d+)\r", head)[1]
        _, body = await self.ask(b"/", b"Authorization: NTLM " + name + b":" + challenge)
        return body


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_gets_another_ones_session(tls, loop):
    async def test():
        windows = Windows()
        async with Rig(windows, tls) as rig:
            pool = rig.service.endpoints[0].pool
            async with Client(rig) as alice, Client(rig) as bob, Client(rig) as visitor:
                assert await alice.log_in(b"alice") == b"hello alice"
                assert await bob.log_in(b"bob") == b"hello bob"
                for _ in range(5):
                    assert (await visitor.ask(b"/open"))[1] == b"hello nobody"
                    assert (await alice.ask())[1] == b"hello alice"
                    assert (await visitor.ask())[1] == b"who?"
                    assert (await bob.ask(b"/open"))[1] == b"hello bob"
                assert (pool.busy, len(pool.idle)) == (3, 0) or (pool.busy, len(pool.idle)) == (
                    2,
                    1,
                )
            while pool.busy or len(windows.closed) < 3:  # with them their connections go
                await asyncio.sleep(0.01)
            assert not pool.idle
            async with Client(rig) as visitor:
                assert (await visitor.ask(b"/open"))[1] == b"hello nobody"

    run(test(), loop)


def test_a_proof_that_comes_unasked():
    """Negotiate needs one message: no 401 is ever seen."""

    async def test():
        async with Rig(Windows()) as rig, Client(rig) as alice, Client(rig) as visitor:
            _, body = await alice.ask(b"/", b"Authorization: Negotiate alice")
            assert body == b"hello alice"
            for _ in range(3):
                assert (await visitor.ask(b"/open"))[1] == b"hello nobody"
            assert (await alice.ask())[1] == b"hello alice"

    run(test())


def test_over_http_2_the_connection_is_nobodys_any_more():
    """Browsers, and curl, go back to HTTP/1.1 for it by themselves."""

    async def test():
        windows = Windows()
        async with Rig(windows, True) as rig:

            def work():
                with H2Client(rig.port) as client:
                    client.send(client.headers())
                    (head,), body, _ = whole(client, 1)
                    assert (head[":status"], body) == ("401", b"who?")
                    assert head["www-authenticate"] == "NTLM"
                    client.send(client.headers("/", ("authorization", "Negotiate alice")))
                    assert whole(client, 3)[1] == b"hello alice"
                    client.send(client.headers("/open"))
                    assert whole(client, 5)[1] == b"hello nobody"

            await asyncio.to_thread(work)
            assert rig.connections == 3
            assert len(windows.closed) == 2
            assert len(rig.service.endpoints[0].pool.idle) == 1  # of him who proved nothing

    run(test())


def test_others_who_wait_get_the_room():
    async def test():
        async with (
            Rig(Windows(), max_upstream=1, keepalive=1) as rig,
            Client(rig) as alice,
            Client(rig) as visitor,
        ):
            assert await alice.log_in(b"alice") == b"hello alice"
            assert (await visitor.ask(b"/open"))[1] == b"hello nobody"
            assert (await alice.ask())[1] == b"who?"

    run(test())


def test_the_upstream_closes_it():
    async def once(reader, writer):
        await read_head(reader)
        writer.write(_denied(b"Negotiate"))
        await writer.drain()

    async def test():
        async with Rig(once) as rig:
            pool = rig.service.endpoints[0].pool
            async with Client(rig) as alice:
                for _ in range(3):
                    assert (await alice.ask())[1] == b"who?"
                    while pool.busy:
                        await asyncio.sleep(0.01)
            assert rig.connections == 3

    run(test())


def test_of_several_upstreams_the_one_that_knows_the_client():
    async def test():
        windows = Windows()
        async with contextlib.AsyncExitStack() as stack:
            others = [await stack.enter_async_context(Rig(windows)) for _ in range(2)]
            upstreams = [
                Upstream(f"http://u{n}", False, "127.0.0.1", one.upstream_port)
                for n, one in enumerate(others)
            ]
            rig = await stack.enter_async_context(Rig(windows, upstreams=upstreams))
            async with Client(rig) as alice, Client(rig) as visitor:
                assert await alice.log_in(b"alice") == b"hello alice"
                for _ in range(4):
                    assert (await alice.ask())[1] == b"hello alice"
                    assert (await visitor.ask(b"/open"))[1] == b"hello nobody"

    run(test())


def test_a_websocket_takes_its_place():
    async def script(reader, writer):
        while True:
            head = await read_head(reader)
            if b"Upgrade: websocket" in head:
                writer.write(
                    b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                )
                writer.write(await reader.readexactly(2))
            else:
                writer.write(_denied(b"NTLM"))

    async def test():
        async with Rig(script) as rig:
            reader, writer = await rig.client()
            writer.write(get())
            await read_response(reader)
            ask = (b"Connection: Upgrade", b"Upgrade: websocket",
                   b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
            writer.write(get(b"/", *ask))
            assert (await read_head(reader)).startswith(b"HTTP/1.1 101 ")
            writer.write(b"hi")
            assert await reader.readexactly(2) == b"hi"
            assert rig.connections == 1
            writer.close()

    run(test())
