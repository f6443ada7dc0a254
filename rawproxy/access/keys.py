"""The keys that this room brings to the configuration file, as `config/options` describes keys.

It never looks at a value's meaning: `reading` does.
"""

from __future__ import annotations

from typing import Any

import click

from rawproxy.access.rules import KINDS, SATISFY, TIMEOUT

_SECONDS = click.FloatRange(min=0, min_open=True)
_OR_NEVER = click.FloatRange(min=0)
_RATE: dict[str, dict[str, Any]] = {
    "requests": {"type": click.IntRange(min=1), "help": "So many requests"},
    "per": {"type": _SECONDS, "help": "in so many seconds.  [default: 1]"},
    "burst": {
        "type": click.IntRange(min=0),
        "help": "How many more than one may come at once.  [default: requests, less one]",
    },
    "key": {"help": "Who is counted: client, site, $http_NAME or $cookie_NAME.  [default: client]"},
    "zone": {"help": "A name; those that have the same one count together."},
}
_RULES: dict[str, dict[str, Any]] = {
    "auth": {"false": True, "help": "The NAME of an [auth.NAME] who is asked, or false: nobody."},
    "allow": {"multiple": True, "help": "Addresses and networks that may pass; others get 403."},
    "deny": {"multiple": True, "help": "Those that get 403; others may pass."},
    "basic-auth": {"help": "A file of users and passwords (htpasswd)."},
    "realm": {"help": "What the browser shows beside it.  [default: the first server-name]"},
    "satisfy": {
        "type": click.Choice(SATISFY),
        "help": "any: allow and deny, or who signs in; all: both.  [default: all]",
    },
    "request-rate": {"table": _RATE, "help": "Requests of each client; beyond it 429."},
    "connections": {
        "type": click.IntRange(min=0),
        "help": "Requests and tunnels of each client at once; beyond it 429.",
    },
}


NAMES = frozenset(_RULES)  # the keys of a site or route that say who may pass


def brought(group: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The keys by table; `group` has those of [group.NAME]."""
    auth: dict[str, dict[str, Any]] = {
        "kind": {"type": click.Choice(KINDS), "help": "How it is asked, and what it answers."},
        "upstream": group["upstream"],
        "group": {"help": "Instead of upstream: the NAME of a [group.NAME]."},
        "path": {"help": "What it is asked for, with variables.  [default: its kind's]"},
        "method": {"type": click.Choice(["GET", "HEAD"]), "help": "And how.  [default: GET]"},
        "headers": {"names": True, "help": "Fields to send it, with variables."},
        "copy": {"multiple": True, "help": "Fields of its answer for the upstream; X-Name-* too."},
        "copy-as": {"names": True, "help": "Fields for the upstream, and which of its answer's."},
        "require": {"multiple": True, "help": "Fields without which its answer is a refusal."},
        "status": {"multiple": True, "type": "status", "help": "What passes.  [default: 200-299]"},
        "sign-in": {
            "help": "Where a 401 sends whoever navigates; without variables rd=URL is added."
        },
        "timeout": {"type": _SECONDS, "help": f"Seconds for its answer.  [default: {TIMEOUT:g}]"},
        "cache": {"type": _OR_NEVER, "help": "Seconds for which an answer holds.  [default: 0]"},
        "recheck": {
            "type": _OR_NEVER,
            "help": "Seconds after which it is asked again about a WebSocket.  [default: 0, never]",
        },
    }
    return {
        "top": {"auth": {"each": auth, "help": "Who decides who may pass, by name."}},
        "site": _RULES,
        "route": _RULES,
    }
