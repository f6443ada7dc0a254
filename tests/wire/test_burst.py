"""A thousand connections at once from somebody else: who comes behind them is served in turn."""

import asyncio
import select
import socket

import pytest

from rawproxy.client.listener import BATCH
from rawproxy.config.model import PARKED

from .rig import LOOPS, Rig, get, read_head, response, run
from .test_pressure import Swept
from .test_shares import until
from .test_tunnel import ASK, GRANT

CROWD = 400  # two descriptors each
ELSEWHERE = "127.0.0.2"  # a second client


def come(rig: Rig, address: str) -> socket.socket:
    """A connection and its request, while the proxy does nothing."""
    sock = socket.socket()
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", rig.port))
    sock.sendall(get())
    sock.setblocking(False)
    return sock


def readable(socks: list[socket.socket]) -> int:
    """How many of them have something to read."""
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    return len(poll.poll(0))


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_who_comes_behind_a_crowd_is_served_in_turn(loop_factory):
    async def test():
        async with Rig(lambda reader, writer: read_head(reader), redirect=443) as rig:
            crowd = [come(rig, ELSEWHERE) for _ in range(CROWD)]
            reader, writer = await asyncio.open_connection(sock=come(rig, "127.0.0.1"))
            await read_head(reader)  # which the proxy answers by itself, as soon as it reads
            answered = readable(crowd)
            print(f"{answered} of {CROWD} had been answered before")
            assert answered <= 5 * BATCH
            await until(lambda: readable(crowd) == CROWD)
            assert rig.service.admission.open == CROWD + 1
            writer.close()
            for sock in crowd:
                sock.close()
            await until(lambda: not rig.service.occupied())

    run(test(), loop_factory)


def test_a_crowd_that_waits_for_its_turn_is_served_when_the_listener_closes():
    async def test():
        async with Rig(lambda reader, writer: read_head(reader), redirect=443) as rig:
            crowd = [come(rig, ELSEWHERE) for _ in range(CROWD)]
            await asyncio.sleep(0)
            await until(lambda: rig.service.counters.accepted > BATCH)
            rig.listener.close()
            rig.listener = Swept()
            pairs = [await asyncio.open_connection(sock=sock) for sock in crowd]
            for reader, writer in pairs:
                assert (await read_head(reader)).startswith(b"HTTP/1.1 301 ")
                writer.close()

    run(test())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_newcomers_that_are_put_off_are_served_when_the_listener_closes(loop_factory):
    """As many bodies wait for connections as may, so a burst goes on a little later."""

    async def test():
        async with Rig(lambda reader, writer: read_head(reader), redirect=443) as rig:
            service = rig.service
            service.waiting = PARKED
            crowd = [come(rig, ELSEWHERE) for _ in range(2 * BATCH)]
            await until(lambda: service.counters.accepted == len(crowd))
            late = [come(rig, ELSEWHERE) for _ in range(BATCH)]  # which nobody has accepted
            assert service.occupied() and not service.clients
            rig.listener.close()
            rig.listener = Swept()
            assert service.counters.accepted == len(crowd) + len(late)
            assert service.occupied(), "so that the worker, which ends, waits for them"
            for times in range(2):
                service.waiting = 0 if times else PARKED  # in the end they are served in any case
                for sock in (late, crowd)[times]:
                    reader, writer = await asyncio.open_connection(sock=sock)
                    assert (await read_head(reader)).startswith(b"HTTP/1.1 301 ")
                    writer.close()
            service.waiting = 0
            await until(lambda: not service.occupied())

    run(test(), loop_factory)


def test_a_tab_takes_no_idle_connection_where_there_is_room():
    async def test():
        async def upstream(reader, writer):
            while True:
                head = await read_head(reader)
                if b"Upgrade: websocket" in head:
                    writer.write(GRANT)
                    await reader.read()
                    return
                writer.write(response(b"ok"))

        async with Rig(upstream, max_upstream=2) as rig:
            (endpoint,) = rig.service.endpoints
            pool = endpoint.pool
            await rig.ask(get())
            (idle,) = pool.idle
            tabs = []
            for _ in range(2):
                tabs.append(await rig.client())
                tabs[-1][1].write(ASK)
                await read_head(tabs[-1][0])
            assert pool.idle == [idle] and pool.apart == 2 and rig.connections == 3
            pool.limit = 1  # no room but that
            tabs.append(await rig.client())
            tabs[-1][1].write(ASK)
            await read_head(tabs[-1][0])
            assert pool.idle == [] and pool.apart == 3 and rig.connections == 3
            for _, writer in tabs:
                writer.close()

    run(test())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_small_writes_to_an_upstream_do_not_wait_for_each_other(loop_factory):
    """However it was dialled (Nagle's algorithm, RFC 9293 3.7.4)."""

    async def test():
        async with Rig(lambda reader, writer: read_head(reader)) as rig:
            (endpoint,) = rig.service.endpoints
            connection = await endpoint.connect()
            sock = connection.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            connection.transport.abort()

    run(test(), loop_factory)
