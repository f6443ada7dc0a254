"""The store in Redis or Valkey, by the `redis` library.

    PREFIX:value:NAME    a value
    PREFIX:lock:NAME     a lock: who holds it, for as long as Redis keeps the key
    PREFIX:changes       a channel: the names of values that were put
    PREFIX:counts        a channel: what was counted (`amounts`)

What has to be seen and changed in one step is a script, which Redis runs as a whole. It never
retries: whoever calls decides that. Invariant: each call ends within `PATIENCE` for each round
trip. Raises `StoreError`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rawproxy.errors import StoreError
from rawproxy.store.address import StoreAddress
from rawproxy.store.amounts import Amounts, packed, unpacked
from rawproxy.store.verbs import (
    ANY,
    Event,
    Expected,
    SharedStore,
    StoreLease,
    StoreWatch,
    ValueChanged,
    checked,
)

T = TypeVar("T")
PATIENCE: Final = 1.0  # seconds for an answer: a store that is slower is as good as none
# KEYS: the value. ARGV: what is expected (any, none, or is), that; what to do (set or del), the
# value; milliseconds to keep it, or 0; the channel, and the name to say there.
_PUT: Final = """
local there = redis.call('GET', KEYS[1])
if ARGV[1] == 'none' and there then return 0 end
if ARGV[1] == 'is' and there ~= ARGV[2] then return 0 end
if ARGV[3] == 'del' then redis.call('DEL', KEYS[1])
elseif ARGV[5] == '0' then redis.call('SET', KEYS[1], ARGV[4])
else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
redis.call('PUBLISH', ARGV[6], ARGV[7])
return 1
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class RedisStore(SharedStore):
    """One Redis, and what stands under one prefix of it."""

    def __init__(self, address: StoreAddress) -> None:
        self.shown = address.shown
        self._prefix = address.prefix
        # The library's answers have types for its two ways of use at once: `Any` says less.
        self._client: Any = redis.Redis.from_url(
            address.url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}:{kind}:{name}" if name else f"{self._prefix}:{kind}"

    def get(self, name: str) -> bytes | None:
        key = self._key("value", checked(name))
        found: bytes | None = asked(lambda: self._client.get(key))
        return found

    def put(
        self, name: str, value: bytes | None, instead_of: Expected = ANY, keep: float | None = None
    ) -> bool:
        key = self._key("value", checked(name, (value,)))
        there = instead_of if isinstance(instead_of, bytes) else b""
        how = "is" if isinstance(instead_of, bytes) else "none" if instead_of is None else "any"
        words = [
            *[how, there, "del" if value is None else "set", value or b""],
            *[str(milliseconds(keep)), self._key("changes"), name],
        ]
        return bool(asked(lambda: self._client.eval(_PUT, 1, key, *words)))

    def watch(self) -> StoreWatch:
        return RedisWatch(self._client, self._key("changes"), self._key("counts"))

    def lock(self, name: str, seconds: float) -> StoreLease | None:
        key, token = self._key("lock", checked(name)), os.urandom(16).hex()
        held = asked(lambda: self._client.set(key, token, nx=True, px=milliseconds(seconds)))
        return RedisLease(self._client, key, token, seconds) if held else None

    def count(self, amounts: Amounts) -> None:
        asked(lambda: self._client.publish(self._key("counts"), packed(amounts)))

    def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            # The connection of a watch is its thread's, which closes it.
            self._client.connection_pool.disconnect(inuse_connections=False)


class RedisWatch(StoreWatch):
    """A connection of its own, which listens to the two channels."""

    def __init__(self, client: Any, changes: str, counts: str) -> None:
        self._changes = changes.encode()
        self._hearing: Any = client.pubsub(ignore_subscribe_messages=True)
        asked(lambda: self._hearing.subscribe(changes, counts))

    def wait(self, seconds: float) -> list[Event]:
        message = asked(lambda: self._hearing.get_message(timeout=seconds))
        found: list[Event] = []
        while message is not None:
            found += self._read(message)
            message = asked(lambda: self._hearing.get_message(timeout=0))
        return found

    def _read(self, message: dict[str, Any]) -> list[Event]:
        data: bytes = message["data"]
        try:
            if message["channel"] == self._changes:
                return [ValueChanged(checked(data.decode()))]
            return [unpacked(data)]
        except ValueError:
            return []  # somebody said there what is no message of ours

    def close(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            self._hearing.close()


class RedisLease(StoreLease):
    """A lock, as long as its key has our token."""

    def __init__(self, client: Any, key: str, token: str, seconds: float) -> None:
        self._client, self._key, self._token = client, key, token
        self._keep = milliseconds(seconds)

    def renew(self) -> bool:
        words = (_RENEW, 1, self._key, self._token, self._keep)
        return bool(asked(lambda: self._client.eval(*words)))

    def release(self) -> None:
        asked(lambda: self._client.eval(_RELEASE, 1, self._key, self._token))


def milliseconds(seconds: float | None) -> int:
    """As Redis wants them; 0 for none."""
    return 0 if seconds is None else max(round(seconds * 1000), 1)


def asked(call: Callable[[], T]) -> T:
    """What `call` returns. Raises `StoreError` for whatever the library raises."""
    try:
        return call()
    except (redis.RedisError, OSError) as error:
        raise StoreError(str(error) or type(error).__name__) from None
    except ValueError as error:  # an I/O operation on what another thread has closed
        raise StoreError(f"closed: {error}") from None
