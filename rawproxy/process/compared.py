"""A new work order beside the one that workers serve by: what is other, in a form that travels.

Whoever reads a configuration compares it, as only the code that wrote an order knows what is in it.
The master passes the result on, and never looks into the patch:

    {"new_processes": [why, …], "nothing": bool, "short": text, "lines": [text, …],
     "patch": {…}, "facts": {"files": [path, …], "contents": {path: fingerprint, …}},
     "tls": bool, whether certificates or what is asked of clients are other}

This module never changes anything. Invariant: a patch is given only where the workers' code is
that of this process.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from rawproxy.config.difference import difference, other_tls, patch_of, tls_files
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config, Group, Site
from rawproxy.process.order import Order, other_files

LINES = 200  # that are told of one change: more than anybody reads in a log
OTHER_CODE = "the code is another one"


def compared(running: Order, order: Order, config: Config) -> dict[str, Any]:
    """What is other in `order`, which is of `config`. Raises `ValueError`."""
    if running.code != order.code:
        return {"new_processes": [OTHER_CODE], "nothing": False, "short": "code", "lines": []}
    old = _revived(running.config, order.config, config)
    known, contents = dict(running.contents), dict(order.contents)
    files = other_files(known, order.contents)
    missing = not contents.keys() >= tls_files(config)
    change = difference(old, config, files)
    lines = change.lines()
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more"]
    return {
        "new_processes": list(change.new_processes),
        "nothing": change.nothing(),
        "short": change.short(),
        "lines": lines,
        "patch": patch_of(old, config),
        "facts": {
            "files": files,
            "contents": {path: one for path, one in contents.items() if known.get(path) != one},
        },
        "tls": missing or other_tls(old, config, frozenset(files)),
    }


def _revived(old: Any, new: Any, config: Config) -> Config:
    """The configuration of the JSON values `old`. What `new` has too is that of `config`.

    To make thousands of sites of their JSON values costs more than to compare these.
    """
    values = dict(old)
    groups = _parts(Group, values.pop("groups", []), new.get("groups", []), config.groups)
    sites = _parts(Site, values.pop("sites", None), new.get("sites", []), config.sites)
    rest = from_json(Config, values)
    return replace(rest, groups=groups, sites=rest.sites if sites is None else sites)


def _parts(kind: type[Any], old: Any, new: list[Any], made: tuple[Any, ...]) -> Any:
    if old is None:
        return None  # the default
    # Before the first that is other, and behind the last, they stand in the same places.
    both = min(len(old), len(new), len(made))
    first = next((at for at in range(both) if old[at] != new[at]), both)
    last = next((at for at in range(both - first) if old[-1 - at] != new[-1 - at]), both - first)
    known = {
        json.dumps(one): part
        for one, part in zip(new[first : len(new) - last], made[first:], strict=False)
    }
    between = (
        known.get(json.dumps(one)) or from_json(kind, one) for one in old[first : len(old) - last]
    )
    return (*made[:first], *between, *made[len(made) - last :])
