"""`--store URL`: which store, and where it is.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME]    Redis or Valkey; valkey:// is the same
    rediss://…                                                the same over TLS
    redis+unix:/path[?prefix=NAME]                            the same over a socket file
    file:/folder                                              a folder that all machines share

It never reaches the store. Invariant: what is `shown` has no password in it. Raises `ConfigError`.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from rawproxy.errors import ConfigError

SCHEMES = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_DATABASE = re.compile(r"/?[0-9]{0,3}").fullmatch
_WANTED = "type redis://HOST:6379, rediss://… for TLS, or file:/FOLDER"


class StoreAddress(NamedTuple):
    """One `--store`. `url` is what the library for Redis takes; empty: it is the folder `path`."""

    shown: str
    url: str = ""
    path: str = ""
    prefix: str = "rawproxy"


def parse_store(text: str) -> StoreAddress:
    """The address in `text`. Raises `ConfigError`."""
    try:
        return _parsed(text)
    except ValueError:
        raise ConfigError(f"--store: not a URL; {_WANTED}") from None


def _parsed(text: str) -> StoreAddress:
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if scheme == "file":
        if parts.netloc or parts.query or not parts.path.startswith("/"):
            raise ConfigError(f"--store {text}: type file:/FOLDER, from the root on")
        return StoreAddress(f"file:{parts.path}", path=parts.path)
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("prefix", "rawproxy")
    if not _PREFIX(prefix):
        raise ConfigError("--store: prefix is of letters, digits, dots and dashes, 64 at most")
    rest = f"?{urlencode(query)}" if query else ""
    if scheme == "redis+unix":
        if not parts.path.startswith("/"):
            raise ConfigError("--store: type redis+unix:/path of the socket file")
        return StoreAddress(f"redis+unix:{parts.path}", f"unix://{parts.path}{rest}", "", prefix)
    if scheme not in SCHEMES:
        named = f"{scheme}:// is not known" if scheme else "no scheme"
        raise ConfigError(f"--store: {named}; {_WANTED}")
    if not parts.hostname:
        raise ConfigError(f"--store: no host; {_WANTED}")
    if not _DATABASE(parts.path):
        raise ConfigError("--store: behind the host stands the number of a database, as /0")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{scheme}://{host}:{parts.port or 6379}{parts.path}"
    url = f"{SCHEMES[scheme]}://{parts.netloc}{parts.path}{rest}"
    return StoreAddress(shown, url, "", prefix)
