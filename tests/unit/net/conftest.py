"""Both event loops, for every test of the room."""

import asyncio

import pytest

from tests.process import PATIENCE

try:
    import uvloop

    LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]


@pytest.fixture(params=LOOPS, ids=lambda factory: factory.__module__.partition(".")[0])
def run(request):
    """One test in a fresh loop, bounded; what the loop's exception handler is told is a failure."""

    def runner(story):
        problems = []

        async def bounded():
            asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(what))
            async with asyncio.timeout(PATIENCE):
                await story()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())
        assert not problems

    return runner
