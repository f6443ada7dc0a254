"""The configuration: frozen dataclasses, validated once at start.

It never reads a file or a clock, and never resolves a name. Invariant: a `Config` that exists is
valid; whatever is wrong was raised as a `ConfigError` that names the option.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: TCP `host`:`port`, or the unix socket `path`.

    `host` is None for `:port`, meaning every IPv4 and IPv6 address.
    """

    host: str | None = None
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream server, as `--upstream` names it."""

    url: str  # as the admin wrote it: for messages and logs
    tls: bool
    host: str = ""  # empty for a unix socket
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One `--cert`/`--key` pair: paths of PEM files."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what a peer may make us hold, each beside its reason."""

    start_line: int = 16 * 1024  # nginx allows 8k; SAML redirects are longer -> 414
    head: int = 64 * 1024  # big cookies and tokens pass, floods do not -> 431
    fields: int = 128  # HAProxy allows 101, browsers send about 20 -> 431
    response_head: int = 256 * 1024  # "upstream sent too big header": 64 KiB must pass with room
    chunk_line: int = 4096  # a chunk-size line with its extensions (RFC 9112 7.1.1)
    trailers: int = 16 * 1024
    replay: int = 64 * 1024  # a request body wholly held for a retry
    drain: int = 256 * 1024  # request body read and dropped after an early response (9112 9.3)
    queue: int = 1024  # requests that wait for an upstream connection -> 503


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on every wait, in seconds; swept about once a second, so up to a second late."""

    tls_handshake: float = 10.0
    request_head: float = 30.0  # from its first byte -> 408
    request_body: float = 60.0  # without one byte of progress -> 408
    connect: float = 10.0  # dial and TLS handshake, all addresses together -> 504
    queue: float = 10.0  # waiting for a connection -> 503
    response_head: float = 60.0  # nginx proxy_read_timeout -> 504
    response_body: float = 60.0  # between two reads, either side
    client_idle: float = 75.0  # keep-alive, as nginx
    tunnel_idle: float = 3600.0  # an hour, not nginx's 60 s
    linger: float = 5.0  # after our last byte, for the client's to arrive
    drain: float = 30.0  # from SIGTERM till what remains is cut


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one process needs to know."""

    upstreams: tuple[Upstream, ...]
    http: tuple[Address, ...] = ()
    https: tuple[Address, ...] = ()
    redirect: bool = True
    certificates: tuple[Certificate, ...] = ()
    self_signed: bool = False
    server_names: tuple[str, ...] = ()
    hsts: str | None = "max-age=63072000"
    upstream_verify: str = "auto"  # auto | system | off | path of a PEM bundle
    upstream_pins: frozenset[str] = frozenset()  # SHA-256 of leaf certificates, 64 hex digits
    upstream_name: str | None = None
    keepalive: int = 64
    max_upstream: int = 1024
    keepalive_idle: float = 60.0
    forwarded: str = "replace"  # replace | append
    trusted_proxies: tuple[Network, ...] = ()
    access_log: str = "-"  # path | - | off
    parser: str = "auto"  # auto | h11
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
