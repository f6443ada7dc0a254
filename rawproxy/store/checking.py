"""What `rawproxy check` says of the store: whether it can be reached, and how many share it.

It puts nothing there. Invariant: a store that is away is an error here, though a start does not
mind.
"""

from __future__ import annotations

from collections.abc import Iterator

from rawproxy.config.model import Config
from rawproxy.errors import ConfigError, StoreError
from rawproxy.store.agreement import SECRET
from rawproxy.store.opening import open_store


def look(config: Config) -> Iterator[str]:
    """A line for standard output. Raises `ConfigError`, which names the option."""
    told = dict(config.keepers).get("store")
    if told is None:
        return
    with open_store(told["url"]) as store:
        try:
            used = store.get(SECRET) is not None
        except StoreError as error:
            hint = "is it running, and may this machine reach it?"
            raise ConfigError(f"--store {store.shown}: {error}; {hint}") from None
        yield f"store {store.shown}: {'in use' if used else 'empty'}"
