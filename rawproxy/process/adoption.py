"""Another configuration, in a worker that serves: prepared aside, put in force at a word.

    master ──► worker    {"change": 7, "sites": […]}        a piece of a patch, as often as needed
                         {"change": 7, "patch": {…}, …}     the rest of it: prepare
                         {"change": 7, "do": "adopt"}       put it in force
                         {"change": 7, "do": "drop"}        forget it: another worker refused
    worker ──► master    {"change": 7, "is": "prepared"}, "adopted"
                         {"change": 7, "failed": […]}       it cannot be prepared, and why

The patch is of the configuration that this worker serves (`config/difference`). All that can fail
is done before the worker says *prepared*: certificates, logs, routes, guards, groups. Then
`adopt` assigns, between two calls of the loop, and so between two requests.

This module never decides whether a change is to be. Invariants: what was prepared and is dropped
leaves nothing open; requests are served by one configuration or the other, never by parts of both.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from rawproxy.config.difference import other_tls, reassembled, restored
from rawproxy.config.model import Config, Group, Site
from rawproxy.errors import ConfigError, failure
from rawproxy.process.channel import Message
from rawproxy.process.server import PreparedWorker, WorkerServer
from rawproxy.proxy.service_change import ServiceChange, in_slices
from rawproxy.telemetry.access_log_file import LogSink
from rawproxy.telemetry.error_log import log
from rawproxy.tls.renewal import Renewal
from rawproxy.tls.server import server_context
from rawproxy.tls.sessions import Sessions


async def prepare(
    server: WorkerServer, config: Config, sessions: Sessions, throwaway: bytes | None,
    files: frozenset[str] = frozenset(),
) -> PreparedWorker:  # fmt: skip
    """Make everything. Raises `ConfigError` and `OSError`; then nothing is left open."""
    old = server.service.config
    prepared = PreparedWorker(ServiceChange(server.service, config, files))
    if config.https and other_tls(old, config, files):
        kept = prepared.kept
        make = functools.partial(server_context, config, throwaway, sessions, kept)
        prepared.renewal = Renewal(config, make, quiet=server.quiet, kept=kept)
        prepared.context = await asyncio.to_thread(make)
        kept.took()
    prepared.sink = server.sink
    if config.access_log != old.access_log:
        prepared.new_sink = True
        prepared.sink = None if config.access_log == "off" else LogSink(config.access_log)
    try:
        addresses = [one.address for one in server.listeners]
        write = server.service.recorder.write_log
        if prepared.new_sink:
            write = prepared.sink.write if prepared.sink is not None else None
        await prepared.change.prepare(addresses, write)
    except BaseException:
        prepared.drop()
        raise
    return prepared


class Adoption:
    """The changes of one worker, one at a time."""

    def __init__(
        self, server: WorkerServer, say: Callable[[Message], None], sessions: Sessions
    ) -> None:
        self._server = server
        self._say = say
        self._sessions = sessions
        self._number = 0  # of the change that is under way; 0: none
        self._sites: list[Any] = []  # items of its patch
        self._prepared: PreparedWorker | None = None
        self._task: asyncio.Task[None] | None = None

    def hear(self, message: Message) -> None:
        """One message of the master about a change."""
        number = message["change"]
        if number != self._number:
            self.drop()
            self._number = number
        if "patch" in message:
            self._task = asyncio.get_running_loop().create_task(self._prepare(message))
        elif "sites" in message:
            self._sites += message["sites"]
        elif message["do"] == "adopt" and self._prepared is not None:
            prepared, self._prepared = self._prepared, None
            self._server.adopt(prepared)
            self._say({"change": number, "is": "adopted"})
        elif message["do"] == "drop":
            self.drop()

    def drop(self) -> None:
        """Forget the change that is under way."""
        if self._task is not None:
            self._task.cancel()
        if self._prepared is not None:
            self._prepared.drop()
        self._number, self._sites, self._prepared, self._task = 0, [], None, None

    async def _prepare(self, message: Message) -> None:
        number = message["change"]
        try:
            config = await self._config(message["patch"])
            throwaway = message.get("throwaway")
            files = frozenset(message.get("files", ()))
            pem = throwaway.encode() if throwaway else None
            self._prepared = await prepare(self._server, config, self._sessions, pem, files)
            self._prepared.contents = message.get("contents", {})
        except Exception as error:  # noqa: BLE001, whatever it is, the other configuration serves
            reasons, _ = failure(error)
            if not isinstance(error, ConfigError | OSError):
                log.error("internal error: a change cannot be prepared", exc_info=error)
            self._say({"change": number, "failed": reasons})
            return
        self._say({"change": number, "is": "prepared"})

    async def _config(self, patch: dict[str, Any]) -> Config:
        """The configuration that the patch makes of ours. Raises `ValueError`."""
        old = self._server.service.config
        groups: list[Group] = []
        sites: list[Site] = []
        await in_slices(
            patch["groups"], lambda item: groups.extend(restored(Group, old.groups, item))
        )
        await in_slices(self._sites, lambda item: sites.extend(restored(Site, old.sites, item)))
        return reassembled(old, patch["top"], groups, sites)
