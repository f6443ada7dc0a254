"""Rooms that not everybody wants, known here by name alone: what they add to the configuration.

A capability is a room with keys of its own. Nothing of the core imports it: it is found by its name
in `CAPABILITIES` of `options`. Deleting its folder and that name leaves a working proxy, which then
does not know these keys. Such a room may have these modules, with these functions:

    keys       `brought(group)`: its keys, for the tables `top`, `site` and `route`; `group` are the
               keys of [group.NAME], for a table that has an upstream of its own. `OPTIONS`, if it
               is there: its options, by the heading of --help that they stand under
    reading    `amend(settings, config)`: the configuration, with what the room makes of its keys
    joining    `first(reading)`: the configuration, with what the room's sources find at the start;
               `joined(reading, kept)`: the state of these sources; `whole(document)`: the file with
               what they find, every mistake being one
    watching   `watch(state, changed)`: calls `changed` whenever the sources have reported
    wiring     `install(service, memory)`: what it needs is put into a worker's service; `memory` is
               shared by all workers
    keeper     `serve(sock, settings, memory)`: the life of a process of its own, which the master
               starts where `Config.keepers` names the room; it ends when `sock` does
    contexts   `amend(config, context, fresh)`: the last word about the TLS context of the https
               listeners, whenever it is made; `fresh` makes one without a certificate
    checking   `look(config)`: lines for `rawproxy check`; raises `ConfigError`
    commands   `group(command, configured)`: a sub-command, as click knows it
    opening    `open_store(url)`: what machines share, for a keeper of another room
    ledger     `open_ledger(memory)`: what the workers of this machine count together in `memory`,
               for whoever exchanges it with other machines

This module never looks at a key. Invariant: a module is loaded where it is first asked for, so a
room's own modules may import those of `config`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any


def modules(names: tuple[str, ...], module: str) -> Iterator[Any]:
    """The module of that name of every capability that has one."""
    for name in names:
        path = f"rawproxy.{name}.{module}"
        if importlib.util.find_spec(path) is not None:
            yield importlib.import_module(path)
