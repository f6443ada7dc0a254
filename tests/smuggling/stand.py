"""rawproxy in front of a recorder, once for a whole module of tests."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any

from tests.process import RawProxy

from .judge import Target
from .recorder import Recorder

PATIENCE = 10.0  # seconds before a case that hangs fails
LONGEST = 60.0  # seconds before a coroutine of a test is given up


class Stand:
    """A proxy, its recorder, and the loop in which tests talk to both."""

    def __init__(self, runner: asyncio.Runner, target: Target) -> None:
        self.runner = runner
        self.target = target

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run `coro` where the recorder lives."""

        async def bounded() -> Any:
            async with asyncio.timeout(LONGEST):
                return await coro

        return self.runner.run(bounded())


@contextlib.contextmanager
def stand(parser: str, *options: str) -> Iterator[Stand]:
    """rawproxy with this parser."""
    with asyncio.Runner() as runner:
        recorder = Recorder()
        runner.run(recorder.__aenter__())
        url = f"http://127.0.0.1:{recorder.port}"
        with RawProxy(
            "--upstream", url, "--parser", parser, "--no-redirect", "--access-log", "off", *options
        ) as proxy:
            yield Stand(runner, Target("rawproxy", proxy.http, proxy.https, recorder))
        runner.run(recorder.__aexit__())
