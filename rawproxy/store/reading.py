"""`--store URL`: checked, and handed to the process that keeps in touch with it.

It never reaches the store: one that is away at the start is no mistake.
"""

from __future__ import annotations

from dataclasses import replace

from rawproxy.config.model import Config
from rawproxy.config.sources import Settings
from rawproxy.errors import ConfigError


def amend(settings: Settings, config: Config) -> Config:
    """The configuration, with what `keeper` is to be told where there is a store."""
    url = settings.values.get("store")
    if url is None:
        return config
    from rawproxy.store.opening import open_store

    try:
        open_store(url).close()
    except ConfigError as error:
        settings.refuse(("store",), error)
        return config
    return replace(config, keepers=(*config.keepers, ("store", {"url": url})))
