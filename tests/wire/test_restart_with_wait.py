"""An upstream goes for a while and comes back with another certificate: nobody notices."""

import asyncio

import pytest

from tests.process import PATIENCE, RawProxy

from .restarting import Upstream, ask, changes


async def outage(seconds: float, pace: float) -> tuple[int, list[int], str]:
    """Requests `pace` seconds apart before, while and after the upstream is away for `seconds`.

    How many were asked, the statuses that are not 200, and the error log.
    """
    upstream = Upstream()
    await upstream.start()
    options = f"--upstream localhost:{upstream.port} --workers 2 --timeout wait=60"
    with RawProxy(*options.split(), https=False) as proxy:
        assert await ask(proxy.http) == 200
        asked: list[asyncio.Task[int]] = []

        async def visitors(duration: float) -> None:
            for _ in range(int(duration / pace)):
                asked.append(asyncio.create_task(ask(proxy.http)))
                await asyncio.sleep(pace)

        await visitors(1)
        await asyncio.gather(*asked)  # what a dying upstream has in hand is lost with it
        await upstream.stop()
        await visitors(seconds)
        assert not any(task.done() for task in asked[-2:]), "it was not away"
        await upstream.restart()
        await visitors(1)
        statuses = await asyncio.gather(*asked)
    await upstream.stop()
    return len(statuses), [one for one in statuses if one != 200], proxy.err()


@pytest.mark.parametrize("seconds", [2])
def test_an_outage_that_ends_with_another_certificate(seconds):
    async def bounded():
        async with asyncio.timeout(2 * PATIENCE):
            return await outage(seconds, 0.05)

    count, failed, err = asyncio.run(bounded())
    assert count > 40 and not failed
    assert changes(err), "the new certificate is told"
