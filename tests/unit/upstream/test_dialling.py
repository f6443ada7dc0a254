"""Who may dial when: so many at a time, the others in turn."""

import asyncio
import itertools
import time

import pytest

from rawproxy.config.model import Deadlines, Upstream, single
from rawproxy.errors import DialError
from rawproxy.proxy.service import Service
from rawproxy.upstream.dialling import BEGUN, DIALS
from tests.wire.rig import LOOPS


@pytest.mark.parametrize("first", ["the patience of who waits", "the dial before"])
def test_a_turn_that_comes_as_its_patience_ends_is_counted_once(first):
    async def test():
        patience = 0.01
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=9)
        deadlines = Deadlines(connect=patience)
        (endpoint,) = Service(single((upstream,), deadlines=deadlines), None).endpoints
        endpoint.dialling = DIALS
        loop = asyncio.get_running_loop()
        if first == "the dial before":
            loop.call_later(patience, endpoint.dialled)
        waits = loop.create_task(endpoint.turn(b""))
        await asyncio.sleep(0)
        assert endpoint.turns.size == 1
        if first != "the dial before":
            loop.call_later(patience, endpoint.dialled)
        time.sleep(2 * patience)  # so that both are due in one turn of the loop
        with pytest.raises(DialError, match=r"no connection within 0\.01 s"):
            await waits
        assert (endpoint.dialling, endpoint.turns.size) == (DIALS - 1, 0)

    for loop_factory in LOOPS:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_in_one_turn_of_the_loop_a_few_dials_begin_for_clients_in_turn(loop_factory):
    async def test():
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=9)
        (endpoint,) = Service(single((upstream,)), None).endpoints
        begun: list[bytes] = []

        async def dial(client: bytes) -> None:
            await endpoint.turn(client)
            begun.append(client)

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(dial(b"crowd")) for _ in range(3 * BEGUN)]
        tasks.append(loop.create_task(dial(b"other")))
        seen = [0]
        while len(begun) < len(tasks):
            await asyncio.sleep(0)
            seen.append(len(begun))
        assert max(now - before for before, now in itertools.pairwise(seen)) == BEGUN
        assert begun.index(b"other") <= BEGUN + 1, "whoever is another client comes next"
        assert endpoint.dialling == len(tasks) and endpoint.turns.size == 0
        late = loop.create_task(dial(b"late"))
        await asyncio.sleep(0)
        assert late.done(), "the turns in between count for nobody"
        await asyncio.gather(*tasks)
        for _ in range(len(tasks) + 1):
            endpoint.dialled()
        assert endpoint.dialling == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(test())


def test_who_left_the_queue_of_dials_is_passed_over():
    async def test():
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=9)
        (endpoint,) = Service(single((upstream,)), None).endpoints
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(endpoint.turn(b"")) for _ in range(DIALS + 2)]
        while endpoint.dialling < DIALS:
            await asyncio.sleep(0)
        assert endpoint.turns.size == 2
        gone, waits = tasks[-2:]
        gone.cancel()
        endpoint.dialled()
        await waits
        assert (endpoint.dialling, endpoint.turns.size) == (DIALS, 0)

    for loop_factory in LOOPS:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test())
