"""The keys that this room brings to the configuration file, as `config/options` describes keys.

It never looks at a value's meaning: `sources` does.
"""

from __future__ import annotations

from typing import Any

DISCOVERY: dict[str, dict[str, Any]] = {
    "folder": {"help": "Whose *.toml files are parts of this file, watched."},
    "docker": {"help": "unix:/var/run/docker.sock, or http://host:port: labels of containers."},
    "docker-network": {"help": "By which containers are dialled.  [default: the first by name]"},
}


def brought(group: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The keys by table."""
    del group  # no table of ours has an upstream of its own
    return {"top": {"discovery": {"table": DISCOVERY, "help": "Sites that come and go."}}}
