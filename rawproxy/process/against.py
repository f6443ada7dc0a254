"""`rawproxy check --against ADMIN`: what a reload would change, and which connections would close.

    check      its configuration as a work order ──► POST /change of the admin server
    worker     compares it with the one that it serves by, in words; nothing is done

Of a file that both name the order has the fingerprint, so another content is told as well. What a
file of passwords says stands in the order itself, as it does in the configuration.
The running configuration never leaves its process, as it may hold secrets. Invariant: nothing that
is sent here is ever put in force. Raises `ConfigError` for an order that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rawproxy.admin.top import fetch
from rawproxy.config.difference import difference
from rawproxy.config.model import Address, Config
from rawproxy.errors import ConfigError
from rawproxy.process.compared import LINES, OTHER_CODE
from rawproxy.process.order import (
    OrderError,
    OtherCodeError,
    named_files,
    order,
    other_files,
    unpack_config,
    unpacked,
)
from rawproxy.telemetry.counters import Tree

PATH = "/change"


def told(config: Config, contents: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What is other in the order `body` than in `config`, which is served.

    `contents` are the fingerprints of its files as they were when they were taken over.
    """
    try:
        other = unpacked(json.loads(body))
        new = unpack_config(other)
    except OtherCodeError:
        return {"new_processes": [OTHER_CODE], "lines": [], "drain": config.deadlines.drain}
    except (OrderError, ValueError) as error:
        raise ConfigError(f"the configuration cannot be read: {error}") from None
    named = named_files(config)
    known = {path: content for path, content in contents.items() if path in named}
    change = difference(config, new, other_files(known, other.contents))
    lines = change.lines()
    return {
        "new_processes": list(change.new_processes),
        "lines": lines
        if len(lines) <= LINES
        else [*lines[:LINES], f"and {len(lines) - LINES} more"],
        "drain": config.deadlines.drain,
        "tunnel_drain": config.deadlines.tunnel_drain,
    }


def against(address: Address, config: Config) -> list[str]:
    """The lines for `rawproxy check`. Raises `OSError`."""
    body = json.dumps(order(config).packed()).encode()
    answer = fetch(address, PATH, body)
    change, gauges = answer["change"], answer["gauges"]
    lines = [f"a reload would change: {line}" for line in change["lines"]]
    if not change["new_processes"]:
        closes = "close no connection" if change["lines"] else "change nothing"
        return [*lines, f"a reload would {closes}"]
    if not change["lines"]:
        lines = [f"a reload would bring new processes: {why}" for why in change["new_processes"]]
    return [*lines, _closed(change, gauges)]


def _closed(change: dict[str, Any], gauges: Tree) -> str:
    """What becomes of the connections of processes that are replaced."""
    tunnels, drain = gauges.get("tunnels", 0), change["drain"]
    stay = change.get("tunnel_drain", -1)
    when = "may stay" if stay == 0 else f"would be closed within {drain if stay < 0 else stay:g} s"
    others = max(gauges.get("connections", 0) - tunnels, 0)
    return (
        f"a reload would close {others} connections within {drain:g} s, each behind a response;"
        f" {tunnels} WebSockets {when}"
    )
