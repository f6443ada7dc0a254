"""Who may dial when: so many at a time, the others in turn."""

import asyncio
import time

import pytest

from rawproxy.config.model import Deadlines, Upstream, single
from rawproxy.errors import DialError
from rawproxy.proxy.service import Service
from rawproxy.upstream.dialling import DIALS
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
