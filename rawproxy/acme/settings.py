"""What the keeper has to know: dataclasses of plain values, which travel to it as JSON.

This module never checks anything: `reading` does. Invariant: names of folders and files that are
made here are safe on any file system, and two names or authorities never have the same one.
"""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass
from typing import Final

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
CHALLENGES: Final = ("http-01", "tls-alpn-01", "dns-01")
ALGORITHMS: Final = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
WILDCARD: Final = "*."


@dataclass(frozen=True, slots=True)
class Authority:
    """One authority, by the URL of its directory (RFC 8555 7.1.1)."""

    url: str
    root: str | None = None  # --acme-ca-root: a PEM file; None: the system's authorities
    key_id: str | None = None  # external account binding (RFC 8555 7.3.4)
    key_file: str | None = None  # and the file of its key, base64url

    def folder(self) -> str:
        """The name of its folder: the URL without its scheme, no byte of which is a slash."""
        return urllib.parse.quote(self.url.partition("://")[2], safe="")


@dataclass(frozen=True, slots=True)
class DnsServer:
    """A name server that takes changes (RFC 2136), signed by a key (RFC 8945)."""

    host: str
    port: int = 53
    key_name: str = ""
    key_file: str = ""  # the key's secret, base64
    algorithm: str = ALGORITHMS[0]
    zone: str = ""  # empty: the server is asked for it


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """All that the keeper of certificates works by."""

    state: str
    authorities: tuple[Authority, ...]
    names: tuple[str, ...] = ()
    email: str | None = None
    challenges: tuple[str, ...] = ()  # of `CHALLENGES`: those that can be answered, best first
    dns: DnsServer | None = None
    hook: str | None = None  # a program that sets and removes the records of DNS-01
    settle: float = 10.0  # seconds that records of DNS-01 get to reach all name servers
    ask: str | None = None  # the URL that allows names on demand
    ask_rate: float = 10.0  # new names on demand, a minute
    store: str | None = None  # --store: what machines share
    store_key: str | None = None  # the file of a secret that seals what stands there

    def folder(self) -> str:
        """Where everything of this room is kept."""
        return os.path.join(self.state, "acme")


def file_name(name: str) -> str:
    """What the folder and the files of a server name are called."""
    return "_." + name[2:] if name.startswith(WILDCARD) else name


def served_file(state: str, name: str) -> str:
    """The file that workers read: the key and the chain, of whichever authority is best."""
    return os.path.join(state, "acme", "live", file_name(name) + ".pem")
