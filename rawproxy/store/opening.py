"""Opens the store that a URL names. Other rooms that need one begin here.

    with open_store(url) as store:
        lease = store.lock("acme/example.com", 60)

It never reaches the store: the first call does. Raises `ConfigError` for a URL that cannot be used,
and for Redis where its library is not installed.
"""

from __future__ import annotations

import importlib.util

from rawproxy.errors import ConfigError
from rawproxy.store.address import parse_store
from rawproxy.store.verbs import SharedStore


def open_store(url: str) -> SharedStore:
    """The store at `url`, as `--store` takes it. Raises `ConfigError`."""
    address = parse_store(url)
    if not address.url:
        from rawproxy.store.folder_store import FolderStore

        return FolderStore(address)
    if importlib.util.find_spec("redis") is None:
        text = "needs the library for Redis; type pip install 'rawproxy[store]'"
        raise ConfigError(f"--store {address.shown}: {text}")
    from rawproxy.store.redis_store import RedisStore

    return RedisStore(address)
