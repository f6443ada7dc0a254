"""The option that this room brings, as `config/options` describes options.

It never looks at the value: `reading` does.
"""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {
    "Listeners": [
        (("--store",), {
            "metavar": "URL", "help": "What machines share: redis://HOST, file:/DIR.",
        }),
    ],
}  # fmt: skip


def brought(group: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """No keys but that of the option."""
    del group
    return {}
