"""The options and keys that this room brings, as `config/options` describes them.

It never looks at a value's meaning: `reading` does.
"""

from __future__ import annotations

from typing import Any

import click

from rawproxy.acme.settings import ALGORITHMS, CHALLENGES, LETS_ENCRYPT

OPTIONS: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {
    "TLS": [
        (("--acme",), {
            "metavar": "EMAIL", "help": "Certificates by themselves; agrees to terms.",
        }),
        (("--acme-ca",), {
            "metavar": "URL", "help": "The authority.  [default: Let's Encrypt's]",
        }),
        (("--acme-ca-root",), {"metavar": "FILE", "help": "What its own one is checked by."}),
        (("--state",), {"metavar": "DIR", "help": "Where certificates are kept."}),
    ],
}  # fmt: skip
_DNS: dict[str, dict[str, Any]] = {
    "server": {"help": "The name server that takes changes: host or host:port."},
    "zone": {"help": "The zone to change.  [default: the server is asked]"},
    "key-name": {"help": "The name of the key that signs changes (TSIG)."},
    "key-file": {"help": "The file of its secret, base64."},
    "algorithm": {
        "type": click.Choice(ALGORITHMS), "help": "And how it signs.  [default: hmac-sha256]",
    },
}  # fmt: skip
_FALLBACK: dict[str, dict[str, Any]] = {
    "ca": {"help": "A second authority, asked while the first one gives nothing."},
    "ca-root": {"help": "As acme-ca-root."},
    "eab-key-id": {"help": "Its external account binding."},
    "eab-key": {"help": "And the file of the key, base64url."},
}
CERTIFICATES: dict[str, dict[str, Any]] = {
    "eab-key-id": {"help": "External account binding: the name of the key."},
    "eab-key": {"help": "And the file of the key, base64url."},
    "fallback": {"table": _FALLBACK, "help": "A second authority."},
    "challenges": {
        "multiple": True,
        "help": f"How names are proved, best first: {', '.join(CHALLENGES)}.  [default: as the"
        " listeners allow]",
    },
    "dns": {"table": _DNS, "help": "DNS-01 by a name server (RFC 2136), for wildcards too."},
    "dns-hook": {"help": "DNS-01 by a program: HOOK set|remove NAME VALUE."},
    "ask": {
        "help": "On demand, for names of a site without server-name: the URL that allows them."
    },
    "ask-rate": {
        "type": click.FloatRange(min=0, min_open=True),
        "help": "New names on demand, a minute.  [default: 10]",
    },
    "store-key": {"help": "A file with a secret that seals what --store keeps of certificates."},
    "dns-settle": {
        "type": click.FloatRange(min=0),
        "help": "Seconds for records to reach all name servers.  [default: 10]",
    },
}


def brought(group: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The keys by table."""
    return {
        "top": {"certificates": {"table": CERTIFICATES, "help": "How --acme works."}},
        "site": {"acme": {"is_flag": True, "help": f"By itself, as from {LETS_ENCRYPT}, or not."}},
    }
