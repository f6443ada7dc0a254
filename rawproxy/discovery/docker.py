"""The containers of a machine as a source: those that run and have labels for us.

    list ──► fragments ──► wait for an event ──► a moment, for more of them ──► list ──► …
      └── Docker is away: what is known stays, and it is tried again

It hears of changes first and asks what there is then, so nothing is missed between the two. The
whole list is asked for at each change, and once a minute without any. A container that was told to
stop takes no new requests, though it runs still: its last ones end in peace.

It never changes anything in Docker. Invariant: what is reported is what Docker listed, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from rawproxy.config.model import Address
from rawproxy.discovery.docker_engine import DockerEngine, EngineError
from rawproxy.discovery.docker_labels import containers, fragments
from rawproxy.discovery.source import FragmentReport, Fragments, FragmentSource, SourceError
from rawproxy.telemetry.error_log import log

MOMENT = 0.05  # seconds from an event to the list: `docker compose up` makes many
AGAIN = 60.0  # seconds without an event after which the list is asked for all the same
PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries to reach it
# Signals that make a container stop. Others, as SIGHUP, it lives through.
STOPPING = ("9", "15", "SIGKILL", "SIGTERM", "2", "SIGINT", "3", "SIGQUIT")
LEAVING = 120.0  # seconds after which one that was told to stop and did not counts again


class DockerSource(FragmentSource):
    """One Engine."""

    def __init__(self, shown: str, address: Address, network: str = "") -> None:
        self.name = f"docker {shown}"
        self._engine = DockerEngine(address)
        self._network = network
        self._leaving: dict[str, float] = {}  # by container: when it was told to stop
        self._away = False
        self._pause = PAUSE

    def now(self) -> Fragments:
        """All fragments as they are now. Raises `SourceError`."""
        try:
            return self._made(self._engine.listed())
        except EngineError as error:
            hint = "is Docker running, and may this user open its socket?"
            raise SourceError(f"[discovery] {self.name}: {error}; {hint}") from None

    async def run(self, report: FragmentReport) -> None:
        """FragmentReport at the beginning and at every change."""
        while True:
            try:
                await self._follow(report)
            except EngineError as error:
                if not self._away:
                    self._away = True
                    log.warning("%s is away: %s; what is known stays in force", self.name, error)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _follow(self, report: FragmentReport) -> None:
        """Until the stream of events ends. Raises `EngineError`."""
        news = asyncio.Event()
        async with contextlib.aclosing(self._engine.events()) as events:
            await anext(events)
            hearing = asyncio.ensure_future(self._hear(events, news))
            try:
                while not hearing.done():
                    news.clear()
                    report(self._made(await self._engine.ask()))
                    if self._away:
                        log.info("%s is back", self.name)
                    self._away, self._pause = False, PAUSE
                    waiting = asyncio.ensure_future(news.wait())
                    await asyncio.wait(
                        (waiting, hearing), timeout=AGAIN, return_when=asyncio.FIRST_COMPLETED
                    )
                    waiting.cancel()
                    await asyncio.sleep(MOMENT)
                hearing.result()
                raise EngineError("it has ended the stream of events")
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)

    async def _hear(self, events: Any, news: asyncio.Event) -> None:
        async for event in events:
            self._note(event, time.monotonic())
            news.set()

    def _note(self, event: dict[str, Any], now: float) -> None:
        """Who is about to stop, and who has come."""
        actor = event.get("Actor") or {}
        one, action = str(actor.get("ID", "")), event.get("Action")
        signal = str((actor.get("Attributes") or {}).get("signal", ""))
        if action == "kill" and signal in STOPPING:
            self._leaving[one] = now
        elif action in ("die", "start"):
            self._leaving.pop(one, None)

    def _made(self, listed: Any) -> Fragments:
        """Raises `EngineError`."""
        try:
            found = containers(listed)
        except ValueError as error:
            raise EngineError(str(error)) from None
        end = time.monotonic() - LEAVING
        self._leaving = {one: at for one, at in self._leaving.items() if at > end}
        staying = [one for one in found if one.id not in self._leaving]
        return fragments(_with_the_last(found, staying), self._network)


def _with_the_last(found: list[Any], staying: list[Any]) -> list[Any]:
    """Those who stay; where nobody of a group does, those who leave, as long as they can."""
    there = {one.labels.get("group", one.service) for one in staying}
    return [
        one for one in found if one in staying or one.labels.get("group", one.service) not in there
    ]
