"""Runs the sources of a configuration, and says when it has become another one.

A burst of reports becomes one change: after the first one it waits until `QUIET` seconds have
passed without another, and no longer than `LONGEST`. It never puts anything in force: `changed`
does. Invariant: while one change is under way no other is begun, and what was reported meanwhile is
looked at afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rawproxy.config.collector import paused
from rawproxy.discovery.joining import LastGood, Name
from rawproxy.discovery.source import Fragment, Fragments, FragmentSource
from rawproxy.telemetry.error_log import log

QUIET = 0.03  # seconds
LONGEST = 0.15  # seconds, of the one in which a change is to be in force
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until a source that failed is run again

Changed = Callable[[bool], Awaitable[None]]


async def watch(good: LastGood, changed: Changed) -> None:
    """Until it is cancelled.

    `changed` is called after every report; its argument says whether the configuration is another.
    """
    watching = Watching(good)
    async with asyncio.TaskGroup() as tasks:
        for source in good.sources:
            tasks.create_task(watching.run(source))
        while True:
            await changed(await watching.next())


class Watching:
    """What all sources have reported so far."""

    def __init__(self, good: LastGood) -> None:
        self._good = good
        # Until a source reports, what is in force of it is what it has.
        self._found: dict[str, dict[Name, Fragment]] = {one.name: {} for one in good.sources}
        for name, one in good.good.items():
            self._found.setdefault(name[0], {})[name] = one
        self._news = asyncio.Event()

    async def next(self) -> bool:
        """Wait for reports, and take them; whether the configuration is another one now."""
        await self._news.wait()
        until = asyncio.get_running_loop().time() + LONGEST
        while self._news.is_set() and asyncio.get_running_loop().time() < until:
            self._news.clear()
            await asyncio.sleep(QUIET)
        self._news.clear()
        with paused():
            return self._good.take(
                {name: one for found in self._found.values() for name, one in found.items()}
            )

    async def run(self, source: FragmentSource) -> None:
        """Run one source for ever."""
        pause = PAUSE
        while True:
            try:
                await source.run(lambda fragments: self._report(source, fragments))
            except Exception as error:  # noqa: BLE001, the others go on, and so does what is known
                log.error("%s failed, and is run again in %g s", source.name, pause, exc_info=error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _report(self, source: FragmentSource, fragments: Fragments) -> None:
        self._found[source.name] = {(source.name, name): one for name, one in fragments.items()}
        self._news.set()
