"""The coarse clock of a worker: no wait that is reckoned by it is cut short."""

import asyncio

import pytest

from rawproxy.config.model import Config
from rawproxy.proxy.service import Service


class Loop(asyncio.SelectorEventLoop):
    """Its time stands still until it is told otherwise."""

    at = 1000.0

    def time(self) -> float:
        return self.at


@pytest.mark.parametrize("began", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 7.0])
def test_no_wait_is_over_sooner_than_was_said_nor_two_sweeps_later(began, seconds):
    loop = Loop()
    service = Service(Config(), None, every=1.0)

    async def start() -> None:
        service.start()

    loop.run_until_complete(start())
    loop.at += began
    begun, deadline = loop.at, service.deadline(seconds)
    while service.clock.now < deadline:
        loop.at = service.next_sweep
        loop.run_until_complete(asyncio.sleep(0))
    assert seconds <= service.clock.now - begun < seconds + 2.0
    service.stop()
    loop.close()
