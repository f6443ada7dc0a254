"""What a master hands to its workers, and a new configuration to its master.

A worker is a fresh interpreter. It does not read options, environment and files by itself: they may
have changed since, half-edited perhaps, and all workers must agree, also one that replaces another
a week later. So whoever reads the configuration (the command at the start, a *loader*, a fresh
interpreter with the new code, at each reload) makes an `Order`: the `Config`, pickled, for workers
of the same code, and beside it in plain words what the master has to know, whatever its own code's
age. A worker whose code is another one than the order's says so (`Stale`) instead of guessing.

Pickles come from our own parent alone, through a socketpair that nobody else has. It never opens a
socket. Invariant: a `Config` that is unpacked was packed by this very code.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rawproxy.config.model import Address, Config

STALE = 75  # exit code EX_TEMPFAIL: the order is of another code; a reload makes a new one


class OtherCodeError(Exception):
    """The order was made by another version of the code."""


@dataclass(frozen=True, slots=True)
class Order:
    """One configuration, as the master sees it. Only plain values: it travels as JSON."""

    config: str  # for workers only
    code: str
    workers: int
    listeners: tuple[tuple[str, str | None, int, str | None], ...]  # option, host, port, path
    drain: float
    throwaway: tuple[str, ...] | None  # names for --self-signed; None: not wanted

    def wanted(self) -> list[tuple[str, Address]]:
        """Every address to listen on, with the option that named it."""
        return [(option, Address(host, port, path)) for option, host, port, path in self.listeners]

    def packed(self) -> dict[str, Any]:
        """For `unpacked`, via JSON."""
        return asdict(self)


def order(config: Config) -> Order:
    """The order that makes workers serve `config`."""
    return Order(
        base64.b85encode(pickle.dumps(config)).decode(),
        CODE,
        config.workers or cpus(),
        tuple((name, a.host, a.port, a.path) for name, a in addresses(config)),
        config.deadlines.drain,
        config.server_names() if config.self_signed else None,
    )


def unpacked(packed: dict[str, Any]) -> Order:
    """What `packed` was; names that are new since our code was loaded are left out."""
    known = {name: packed[name] for name in Order.__slots__}
    known["listeners"] = tuple(map(tuple, known["listeners"]))
    return Order(**known)


def unpack_config(one: Order) -> Config:
    """The configuration itself. Raises `OtherCodeError`."""
    if one.code != CODE:
        raise OtherCodeError
    config = pickle.loads(base64.b85decode(one.config))  # noqa: S301, our parent made it
    assert isinstance(config, Config)
    return config


def addresses(config: Config) -> list[tuple[str, Address]]:
    """Every address to listen on, with the option that named it."""
    found = [("--https", address) for address in config.https]
    found += [("--http", address) for address in config.http]
    if config.admin is not None:
        found.append(("--admin", config.admin))
    return found


def cpus() -> int:
    """What `--workers auto` means: the CPUs that we may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fingerprint() -> str:
    """Of the files of this package: another version is other code, and so is an edited one."""
    folder = Path(__file__).parents[1]
    files = sorted((*folder.rglob("*.py"), *folder.rglob("*.so")))
    facts = [
        (str(file.relative_to(folder)), stat.st_size, stat.st_mtime_ns)
        for file in files
        if (stat := file.stat())
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


CODE = _fingerprint()  # taken when the code is loaded, not when it is asked for
