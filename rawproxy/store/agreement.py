"""What machines agree upon by a store: whoever comes first decides, and all others take it over.

    secret     64 bytes that only they know: names of keys in rates and cookies are made of it
    tickets    the keys of TLS tickets, and when they were made: a day later somebody makes others
    pins       the upstreams' certificates that were accepted without an authority

Each is looked at, decided and put in the place of what was seen; if somebody else was faster, it is
looked at again. So no machine undoes what another one has decided, and none needs a lock. A store
that has lost a value gets back what the first machine knows of it.

It never keeps a connection. Invariant: what is returned is what the store has, at that moment.
Raises `StoreError`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rawproxy.errors import StoreError
from rawproxy.process import shared_memory, ticket_keys
from rawproxy.store.verbs import VALUE, SharedStore
from rawproxy.tls.fingerprints import Fingerprints, SharedFingerprints

SECRET, TICKETS, PINS = "secret", "tickets", "pins"  # the names of the values
TRIES: Final = 8  # more than that many machines in a row were faster: something else is wrong
EARLY: Final = 600.0  # seconds before keys are too old: a machine alone would make its own then
UPSTREAMS: Final = 4096  # whose pins are kept: the names of a store do not grow for ever

Pins = dict[str, SharedFingerprints]


class AgedKeys(NamedTuple):
    """The keys of tickets, and when they were made by the clock on the wall."""

    keys: bytes
    born: float


def settle(
    store: SharedStore, name: str, decide: Callable[[bytes | None], bytes | None]
) -> bytes | None:
    """The value of `name`, once it is as `decide` wants it: None leaves it as it is."""
    for _ in range(TRIES):
        found = store.get(name)
        wanted = decide(found)
        if wanted is None:
            return found
        if store.put(name, wanted, instead_of=found):
            return wanted
    raise StoreError(f"others change {name} all the time")


def secret(store: SharedStore, known: bytes = b"") -> bytes:
    """The secret; if there is none, the one that was `known`, or one that is drawn."""
    size = shared_memory.SECRET

    def decide(found: bytes | None) -> bytes | None:
        there = found is not None and len(found) == size
        return None if there else known or os.urandom(size)

    return settle(store, SECRET, decide) or b""


def tickets(store: SharedStore, wall: float, known: AgedKeys | None = None) -> AgedKeys:
    """The keys, at the time `wall` of the clock on the wall. If there are none, those `known`."""

    def decide(found: bytes | None) -> bytes | None:
        if _good(_keys(found), wall):
            return None
        keys, born = os.urandom(ticket_keys.SIZE), wall
        if known is not None and _good(known, wall):
            keys, born = known
        return json.dumps({"keys": keys.hex(), "born": born}).encode()

    there = _keys(settle(store, TICKETS, decide))
    if there is None:
        raise StoreError(f"what it has as {TICKETS} cannot be read")
    return there


def pins(store: SharedStore, told: Pins) -> Pins:
    """All pins there are, `told` among them as far as they may be accepted beside the others."""
    merged: Pins = {}

    def decide(found: bytes | None) -> bytes | None:
        nonlocal merged
        merged = _pins(found)
        before = json.dumps(merged)
        for key, one in told.items():
            known = Fingerprints(bool(one["strict"]))
            if key in merged:
                known.merge(merged.pop(key))
            known.merge(one)
            merged[key] = known.told()
        while len(merged) > UPSTREAMS or len(after := json.dumps(merged)) > VALUE:
            del merged[next(iter(merged))]
        return None if json.loads(after) == json.loads(before) else after.encode()

    settle(store, PINS, decide)
    return merged


def _good(keys: AgedKeys | None, wall: float) -> bool:
    return keys is not None and wall - keys.born < ticket_keys.LIFE - EARLY


def _keys(found: bytes | None) -> AgedKeys | None:
    """What `tickets` has put there; None for anything else."""
    try:
        value = json.loads(found or b"")
        keys, born = bytes.fromhex(value["keys"]), float(value["born"])
    except (ValueError, TypeError, KeyError):
        return None
    return AgedKeys(keys, born) if len(keys) == ticket_keys.SIZE else None


def _pins(found: bytes | None) -> Pins:
    """What `pins` has put there; what is not of that form is left out."""
    try:
        value = json.loads(found or b"{}")
    except ValueError:
        return {}
    pairs = value.items() if isinstance(value, dict) else ()
    return {key: one for key, one in pairs if _is_told(one)}


def _is_told(one: Any) -> bool:
    try:
        seen = one["seen"]
        lists = [one["verified"], *seen.values()]
        texts = all(isinstance(sha, str) for found in lists for sha in found)
        return texts and isinstance(one["strict"], bool) and all(type(x) is list for x in lists)
    except (TypeError, KeyError, AttributeError):
        return False
