"""What a master hands to its workers, and a new configuration to its master.

A worker is a fresh interpreter. It does not read options, environment and files by itself. They may
have changed since, half-edited perhaps, and all workers must agree, also one that replaces another
a week later. So one process reads the configuration: the command at the start, and at each reload
a *loader*, a fresh interpreter with the new code. It makes an `Order`, which travels as JSON:

    config       the `Config`, as `config/json_codec` writes it; only workers read it
    all others   what the master has to know, in plain values, whatever the age of its own code
    code         a fingerprint of the code that wrote the order

This module never opens a socket. Invariant: a `Config` that is unpacked was packed by this very
code. Raises `OrderError`, and `OtherCodeError` for an order of another code.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawproxy.config.collector import paused
from rawproxy.config.difference import group_files, tls_files
from rawproxy.config.json_codec import from_json, to_json
from rawproxy.config.model import Address, Config

CODE_CHANGED = 75  # exit code EX_TEMPFAIL: the order is of other code; a reload makes a new one


class OrderError(Exception):
    """The order cannot be read. The text says why; `code` is the exit code that goes with it."""

    code = 1


class OtherCodeError(OrderError):
    """The order was made by another version of the code."""

    code = CODE_CHANGED


@dataclass(frozen=True, slots=True)
class Order:
    """One configuration, as the master sees it."""

    config: Any  # plain JSON values; what they mean is known to the code that wrote them
    code: str
    workers: int
    listeners: tuple[tuple[str, str | None, int, str | None], ...]  # option, host, port, path
    drain: float
    throwaway: tuple[str, ...] | None  # names for --self-signed; None: not wanted
    keepers: tuple[str, ...] = ()  # rooms that work in a process of their own
    tunnel_drain: float = 0.0  # seconds for tunnels at a reload with new processes; 0: for ever
    has_sources: bool = False  # whether sources change it: who has read it stays, and watches them
    contents: tuple[tuple[str, str], ...] = ()  # of files that it names: fingerprints

    def wanted(self) -> list[tuple[str, Address]]:
        """Every address to listen on, each with its option."""
        return [(option, Address(host, port, path)) for option, host, port, path in self.listeners]

    def packed(self) -> dict[str, Any]:
        """The order as JSON values, for `unpacked`."""
        values: dict[str, Any] = to_json(self)
        return values


def order(config: Config) -> Order:
    """The order that makes workers serve `config`."""
    drain = config.deadlines.drain
    with paused():
        told = to_json(config)
    return Order(
        told,
        CODE,
        config.workers or cpus(),
        tuple((name, a.host, a.port, a.path) for name, a in addresses(config)),
        drain,
        # Names whose certificate is not there yet are not named in the one that stands in for it.
        config.server_names() if config.self_signed else () if config.keepers else None,
        tuple(room for room, _ in config.keepers),
        drain if config.deadlines.tunnel_drain < 0 else config.deadlines.tunnel_drain,
        config.has_sources,
        tuple(pair for path in sorted(named_files(config)) for pair in _content(path)),
    )


def named_files(config: Config) -> set[str]:
    """The files that a configuration names and that workers read by themselves."""
    found = tls_files(config)
    for group in config.groups:
        found.update(group_files(group))
    return found


def _content(path: str) -> Iterator[tuple[str, str]]:
    """The fingerprint of a file. It tells nothing of what is in a key."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):  # a pipe would keep us waiting
            with open(path, "rb") as file:
                yield path, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return  # a word like `auto`, or a file that somebody will miss


def other_files(known: Mapping[str, str], now: Iterable[tuple[str, str]]) -> list[str]:
    """The files that both name, with another content now."""
    return [path for path, content in now if known.get(path, content) != content]


def unpacked(packed: object) -> Order:
    """The order that `packed` was. Raises `OrderError`.

    Names that are new since our code was loaded are left out: the master may be older than those
    who write its orders.
    """
    try:
        if isinstance(packed, dict):
            packed = {name: packed[name] for name in Order.__slots__ if name in packed}
        return from_json(Order, packed)
    except ValueError as error:
        raise OrderError(f"the work order cannot be read: {error}") from None


def unpack_config(one: Order) -> Config:
    """The configuration itself. Raises `OrderError`."""
    if one.code != CODE:
        raise OtherCodeError("the code has changed since the configuration was read")
    try:
        with paused():
            return from_json(Config, one.config)
    except ValueError as error:
        raise OrderError(f"the work order cannot be read: {error}") from None


def addresses(config: Config) -> list[tuple[str, Address]]:
    """Every address to listen on, each with its option."""
    found = [("--https", address) for address in config.https]
    found += [("--http", address) for address in config.http]
    if config.admin is not None:
        found.append(("--admin", config.admin))
    return found


def cpus() -> int:
    """What `--workers auto` means: how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fingerprint() -> str:
    """A fingerprint of the files of this package. Whoever edits a file makes other code of it."""
    folder = Path(__file__).parents[1]
    files = sorted((*folder.rglob("*.py"), *folder.rglob("*.so")))
    facts = [
        (str(file.relative_to(folder)), found.st_size, found.st_mtime_ns)
        for file in files
        if (found := file.stat())
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


CODE = _fingerprint()  # when this module is loaded, as the files may change later
