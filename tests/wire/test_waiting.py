"""While upstreams restart: `--timeout wait` lets requests wait until one takes connections again."""

import asyncio
import contextlib
import tempfile

import pytest

from rawproxy.config.model import Upstream
from tests.process import PATIENCE, free_port

from .rig import Rig, always, get, read_head, response, run
from .test_groups import until
from .test_h2_front import talk, whole
from .test_limits import status
from .test_tunnel import ASK, GRANT


async def site(reader, writer):
    """An upstream with a WebSocket, and echoes of what it was sent."""
    while True:
        head = await read_head(reader)
        if b"Upgrade: websocket" in head:
            writer.write(GRANT)
            await reader.read()
            return
        length = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]
        body = await reader.readexactly(int(length or 0))
        writer.write(response(body or b"ok"))


class Later:
    """An upstream that is not there yet."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.port = 0 if path else free_port()
        self.upstream = Upstream(path or "http://u", False, "127.0.0.1", self.port, path)
        self.writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader, writer) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await site(reader, writer)
        writer.close()

    async def start(self) -> None:
        if self.path:
            self.server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def stop(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.close()


@contextlib.asynccontextmanager
async def down(*laters: Later, **options):
    """A proxy before upstreams that are down."""
    options["deadlines"] = {"wait": PATIENCE - 5.0, "linger": 0.1} | options.pop("deadlines", {})
    upstreams = [one.upstream for one in laters]
    async with Rig(always(b""), upstreams=upstreams, **options) as rig:
        try:
            yield rig, rig.service.groups["default"].waiting_room
        finally:
            for one in laters:
                if hasattr(one, "server"):
                    one.stop()


def test_requests_wait_for_an_upstream_that_restarts():
    async def test():
        later = Later()
        await later.start()
        async with down(later) as (rig, room):
            body = bytes(300_000)  # more than is held for a retry
            post = get(b"/", b"Content-Length: 300000", method=b"POST") + body

            async def ask(request: bytes):
                head, answer = await rig.ask(request)
                assert status(head) == 200
                return answer

            for _ in range(3):  # with idle connections, and answers under way
                assert await ask(get()) == b"ok"
                later.stop()
                asks = []
                for n in range(40):
                    # A POST may not be the first: none is sent again that met a connection which
                    # had ended, and nobody knew.
                    asks.append(asyncio.ensure_future(ask(post if n % 4 == 3 else get())))
                    await asyncio.sleep(0.01)
                await until(lambda: room.queue.size == 40)
                assert rig.service.endpoints[0].pool.busy <= 1  # but the one who knocks: nobody
                await later.start()
                assert await asyncio.gather(*asks) == [b"ok", b"ok", b"ok", body] * 10
            assert not room.queue.size
            said = [
                line for line in rig.problems if "requests wait for it (--timeout wait)" in line
            ]
            assert len(said) == 3 and "cannot connect" in said[0]
            assert any("takes connections: 40 go on" in line for line in rig.problems)

    run(test())


def test_a_socket_file_that_is_not_there():
    async def test():
        with tempfile.TemporaryDirectory() as folder:
            later = Later(f"{folder}/app.sock")
            async with down(later) as (rig, room):
                ask = asyncio.ensure_future(rig.ask(get()))
                await until(lambda: room.queue.size)
                await later.start()
                assert status((await ask)[0]) == 200

    run(test())


def test_whoever_of_the_group_comes_first_serves():
    async def test():
        laters = [Later() for _ in range(3)]
        async with down(*laters) as (rig, room):
            asks = [asyncio.ensure_future(rig.ask(get())) for _ in range(9)]
            await until(lambda: room.queue.size == 9)
            await laters[1].start()
            for head, _ in await asyncio.gather(*asks):
                assert status(head) == 200
            assert status((await rig.ask(get()))[0]) == 200

    run(test())


def test_a_websocket_waits_too():
    async def test():
        later = Later()
        async with down(later) as (rig, room):
            reader, writer = await rig.client()
            writer.write(ASK)
            await until(lambda: room.queue.size)
            await later.start()
            assert (await read_head(reader)).startswith(b"HTTP/1.1 101 ")
            writer.transport.abort()

    run(test())


def test_http2_waits_too():
    later = Later()

    def client(h2, rig):
        room = rig.service.groups["default"].waiting_room
        h2.send(h2.headers())
        loop = rig.server.get_loop()

        async def serve():
            await until(lambda: room.queue.size)
            await later.start()

        asyncio.run_coroutine_threadsafe(serve(), loop).result(5)
        assert whole(h2, 1)[0][0][":status"] == "200"
        loop.call_soon_threadsafe(later.stop)

    talk(always(b""), client, upstreams=[later.upstream], deadlines={"wait": 8.0})


def test_it_is_502_in_the_end_and_at_once_where_nobody_may_wait():
    async def test():
        async with down(Later(), deadlines={"wait": 0.3}) as (rig, room):
            assert status((await rig.ask(get()))[0]) == 502
            assert any("still so after 0.3 s" in line for line in rig.problems)
            assert not room.queue.size
        async with down(Later(), deadlines={"wait": 0.0}) as (rig, room):
            assert status((await rig.ask(get()))[0]) == 502
            assert not any("--timeout wait" in line for line in rig.problems)

    run(test())


def test_who_waits_is_bounded_and_knocks_are_few():
    async def test():
        later = Later()
        async with down(later, limits={"queue": 3}) as (rig, room):
            asks = [asyncio.ensure_future(rig.ask(get())) for _ in range(8)]
            while sum(ask.done() for ask in asks) < 5:
                await asyncio.sleep(0.01)
            assert room.queue.size == 3
            assert rig.service.snapshot()["gauges"]["upstreams"]["http://u"]["waiting"] == 3
            assert {status(ask.result()[0]) for ask in asks if ask.done()} == {503}
            assert any("3 requests wait for" in line for line in rig.problems)
            (endpoint,) = rig.service.endpoints
            before = endpoint.tally.dials
            await asyncio.sleep(1.0)
            assert 1 <= endpoint.tally.dials - before <= 5
            await later.start()
            for ask in asks:
                await ask
            assert [status(ask.result()[0]) for ask in asks].count(200) == 3

    run(test())


def test_who_goes_away_waits_no_longer_and_then_nobody_knocks():
    async def test():
        async with down(Later()) as (rig, room):
            clients = [await rig.client() for _ in range(3)]
            for _, writer in clients:
                writer.write(get())
            await until(lambda: room.queue.size == 3)
            for _, writer in clients:
                writer.transport.abort()
            await until(lambda: not room.queue.size)
            await rig.settled()
            (endpoint,) = rig.service.endpoints
            await asyncio.sleep(0.8)
            before = endpoint.tally.dials
            await asyncio.sleep(1.1)
            assert (
                endpoint.tally.dials == before
                and repr(room) == "<WaitingRoom waiting=0 knocking=0>"
            )

    run(test())


def test_a_wrong_certificate_is_no_reason_to_wait():
    async def test():
        async with Rig(always(response(b"ok")), True, deadlines={"wait": 8.0}) as rig:
            upstream = Upstream("https://u", True, "127.0.0.1", rig.upstream_port)
            options = {"upstream_verify": "system", "deadlines": {"wait": 8.0}}
            async with Rig(always(b""), upstreams=[upstream], **options) as front:
                assert status((await front.ask(get()))[0]) == 502
                assert not any("--timeout wait" in line for line in front.problems)

    run(test())


@pytest.mark.parametrize("closes", [True, False])
def test_an_upstream_that_hangs_up_within_the_handshake(closes):
    """As a container's published port does, while nothing in the container listens yet."""

    async def test():
        async def serve(reader, writer):
            await reader.read(1)
            if closes:
                writer.close()
            else:
                writer.transport.abort()

        async with Rig(serve, deadlines={"wait": 8.0}) as rig:
            upstream = Upstream("https://u", True, "127.0.0.1", rig.upstream_port)
            options = {"deadlines": {"wait": 0.5}}
            async with Rig(always(b""), upstreams=[upstream], **options) as front:
                assert status((await front.ask(get()))[0]) == 502
                assert any("--timeout wait" in line for line in front.problems)

    run(test())
