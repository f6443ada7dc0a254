"""The configuration: frozen dataclasses.

    Config                    one process: listeners, limits, trusted proxies, logs
    ├── sites   Site          some server names, with their certificates, HSTS and mTLS
    │           └── Route     a path of a site: where its requests go, which headers change
    └── groups  Group         upstreams that can replace each other, and how one is chosen
                └── Upstream  one server

A request finds its site by Host, its route by path, and by the route its group. The command line
alone makes one group and one site with one route: `single`. docs/options.md says what each option
means and which default it has. A field has the name of its option, or a comment names the option.

This module never checks anything: `problems` does. Invariant: no value is changed once it is made,
so all may share it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any, Final

# They are parts of a configuration, and every module asks this one for them.
from rawproxy.config.bounds import Deadlines as Deadlines
from rawproxy.config.bounds import Limits as Limits

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOST = "$host"  # as --upstream-name: the name that each request asks for
DEFAULT = "default"  # the group that --upstream fills, and that a route without a group means

POLICIES = ("round-robin", "least-connections", "two-choices", "client-hash", "cookie")
REDIRECTS = (301, 302, 303, 307, 308)
HANG_UP: Final = 444  # as the status of a `respond`: the connection ends without an answer
CLIENT_VERIFY = ("off", "optional", "require")
GATHER_OVER = ("refuse", "pass")
# Bytes of request bodies that are held, for all requests together, before these take an upstream
# connection: some hundreds of bodies. Beyond that a request takes its connection at once, and the
# pool knows how to take it back.
PARKED: Final = 16 * 1024 * 1024
TEXT = "text/plain; charset=utf-8"
UPSTREAM_TLS = ("modern", "intermediate", "legacy")


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: TCP `host`:`port`, or the unix socket `path`.

    `host` is None for `:port`, which means every IPv4 and IPv6 address.
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
    weight: int = 1  # its share of the requests, compared with the others of its group
    backup: bool = False  # whether it serves only if no other of the group can
    srv: bool = False  # whether `host` names SRV records, which say hosts, ports and weights


@dataclass(frozen=True, slots=True)
class Certificate:
    """One `--cert`/`--key` pair: the paths of two PEM files."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate that a capability keeps: key and chain for `name`, in one PEM file.

    While the file is not there, or cannot be used, a throw-away certificate answers.
    """

    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Passive:
    """Health as the requests show it: an upstream that fails gets no requests for a time."""

    max_fails: int = 3  # failures within the window without a success between; 0: never ill
    window: float = 10.0
    status: tuple[tuple[int, int], ...] = ((502, 504),)  # ranges of the upstream's failures
    back_off: float = 1.0  # seconds without requests at first; each further failure doubles it
    back_off_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Active:
    """Health as probes show it: we send requests of our own to every address of the group."""

    path: str = "/"
    method: str = "GET"
    status: tuple[tuple[int, int], ...] = ((200, 399),)  # ranges that count as healthy, inclusive
    host: str | None = None  # the Host to send; None: the upstream's own
    interval: float = 10.0
    timeout: float = 5.0
    rise: int = 2  # good answers in a row after which it is healthy
    fall: int = 3  # bad ones in a row after which it is ill


@dataclass(frozen=True, slots=True)
class Group:
    """Upstreams that can replace each other: `[group.NAME]`.

    `--upstream` fills the group `default`.
    """

    name: str
    upstreams: tuple[Upstream, ...] = ()
    policy: str = POLICIES[0]
    cookie: str = "rawproxy"  # the name of the cookie, for the policy `cookie`
    keepalive: int = 64
    max_upstream: int = 1024
    keepalive_idle: float = 60.0
    queue: int = 1024  # requests that wait for a connection to one upstream -> 503
    verify: str = "auto"  # --upstream-verify: auto | pin | system | off | path of a PEM bundle
    tls: str = "intermediate"  # --upstream-tls: one of `UPSTREAM_TLS`
    pins: frozenset[str] = frozenset()  # --upstream-pin: SHA-256 of leaf certificates, hex
    server_name: str | None = None  # --upstream-name
    client_cert: Certificate | None = None  # --upstream-cert and --upstream-key
    send_proxy: int = 0  # version of the PROXY protocol; 0: none
    passive: Passive = field(default_factory=Passive)
    active: Active | None = None
    slow_start: float = 0.0  # seconds in which one that is healthy again gets back its full share


@dataclass(frozen=True, slots=True)
class Redirect:
    """A response of our own that sends the client to another URL."""

    status: int  # one of `REDIRECTS`
    target: str  # a URL, with variables such as $host and $request_uri


@dataclass(frozen=True, slots=True)
class Respond:
    """A response of our own with a fixed status."""

    status: int
    body: str = ""  # with variables; none where the status has none (RFC 9110 6.4.1)
    type: str = TEXT


@dataclass(frozen=True, slots=True)
class ResponseMapping:
    """How an upstream's words about its own paths and hosts are passed on: pairs of FROM and TO."""

    locations: tuple[tuple[str, str], ...] = ()  # beginnings of Location and Refresh
    cookie_paths: tuple[tuple[str, str], ...] = ()  # beginnings of Path in Set-Cookie
    cookie_domains: tuple[tuple[str, str], ...] = ()  # whole Domain in Set-Cookie
    back: bool = True  # what `replace_prefix` took off comes on again


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What stands in the place of errors: a path of the site, a route by name, or a URL."""

    first: int  # the statuses: from here
    last: int  # to here, both included
    to: str  # /path, with variables; @name of a route; else a URL to send clients to
    answer: int = -1  # the status; 0: as the place answers; -1: that of the error


@dataclass(frozen=True, slots=True)
class Edits:
    """Changes to the fields of a head, in this order. Names are spelled as the admin wrote them."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()  # replaces every field of that name
    add: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """What happens to requests for `path`: they go to `group`, or we answer them ourselves."""

    path: str = "/"  # this path and everything below it, by whole segments
    exact: bool = False  # this path alone
    partial: bool = False  # whatever begins so: /apple as well as /app
    path_regex: str | None = None  # instead of `path`; tried in order, after the exact paths
    when: tuple[tuple[str, str], ...] = ()  # values and tests, as `conditions` reads them
    first: bool = False  # asked before all that are not, in the order of the file
    before_regex: bool = False  # if this is the longest path, no `path_regex` is tried
    replace_prefix: str | None = None  # what stands for `path` upstream; "/": nothing does
    rewrite: str | None = None  # the whole path that the upstream gets, with variables
    again: bool = False  # that path is looked up among the routes of the site
    internal: bool = False  # found by what is looked up again, and 404 for everybody else
    named: str | None = None  # instead of `path`: found by error pages alone
    error_pages: tuple[ErrorPage, ...] = ()  # the first that has the status counts
    intercept: bool = False  # they stand in the place of an upstream's errors too
    as_nginx: bool = False  # groups and prefixes are those of the path as nginx reads it
    mapping: ResponseMapping = field(default_factory=ResponseMapping)
    respond: Respond | None = None
    group: str | None = DEFAULT  # None: `redirect` or `respond` is set
    redirect: Redirect | None = None
    request_headers: Edits = field(default_factory=Edits)
    response_headers: Edits = field(default_factory=Edits)
    cache_control: str | None = None  # instead of the upstream's, of answers that succeed
    request_trailers: tuple[str, ...] = ()  # those that pass, lower case
    upgrades: tuple[str, ...] | None = None  # None: those of the process
    gather: int = 0  # bytes of a body of unknown length that are held, to send its length; 0: none
    gather_over: str = "refuse"  # one of `GATHER_OVER`: what becomes of longer bodies
    limits: Limits | None = None  # None: those of the process
    deadlines: Deadlines | None = None
    allow_trace: bool | None = None  # None: as the process
    # What the room `access` has made of its keys, in JSON values. None: everybody may pass.
    access: Any = None


@dataclass(frozen=True, slots=True)
class Site:
    """What is served under some server names."""

    names: tuple[str, ...] = ()  # --server-name; without any: all that no other site has
    routes: tuple[Route, ...] = (Route(),)
    certificates: tuple[Certificate, ...] = ()
    kept: tuple[KeptCertificate, ...] = ()
    hsts: str | None = "max-age=63072000"
    client_ca: str | None = None  # a PEM file: the authorities of client certificates
    client_verify: str = "off"  # one of `CLIENT_VERIFY`
    listeners: tuple[Address, ...] = ()  # the only ones it is served on; none: all of `Config`
    # --server-name-regex: names that no site has by `names`; asked in the order of the sites.
    patterns: tuple[str, ...] = ()

    def called(self) -> tuple[str, ...]:
        """Its names as `routing.match.Sites` takes them: a `~` stands before an expression."""
        if not self.patterns:
            return self.names
        return (*self.names, *(f"~{one}" for one in self.patterns))


@dataclass(frozen=True, slots=True)
class Config:
    """All that one process needs to know."""

    groups: tuple[Group, ...] = ()
    sites: tuple[Site, ...] = (Site(),)
    http: tuple[Address, ...] = ()
    https: tuple[Address, ...] = ()
    redirect: bool = True
    self_signed: bool = False
    tls: str = "modern"  # modern | intermediate
    strict_sni: bool = False
    http2: bool = True
    forwarded: str = "replace"  # replace | append
    trusted_proxies: tuple[Network, ...] = ()
    client_field: str = ""  # by which these name the client; empty: X-Forwarded-For
    send_forwarded: bool = False
    send_real_ip: bool = False
    accept_proxy: bool = False
    trust_unix: bool = False  # --trusted-proxy unix:
    send_via: bool = False
    allow_trace: bool = False
    underscores: str = "drop"  # drop | pass
    upgrades: tuple[str, ...] = ("websocket",)  # --upgrade: the protocols that become tunnels
    resolver: Address | None = None  # a DNS server; None: as the system is set up
    access_log: str = "-"  # path | - | off
    log_format: str = "combined"  # combined | extended | json
    access_log_mask: tuple[str, ...] = ()  # query parameters whose values are not logged
    access_log_short_addresses: bool = False
    access_log_no_paths: bool = False
    send_request_id: bool = False
    send_traceparent: bool = False
    parser: str = "auto"  # auto | h11
    workers: int = 1  # processes; 0: one for each CPU
    admin: Address | None = None  # the listener for metrics, health and the status page
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    file: str | None = None  # the path that --config named
    # Capabilities that work in a process of their own beside the workers: their rooms, and what
    # they are to do, in JSON values.
    keepers: tuple[tuple[str, Any], ...] = ()
    watched: tuple[str, ...] = ()  # folders that change with the certificates that are kept
    has_sources: bool = False  # whether somebody watches what changes it: `capabilities`

    def group(self, name: str) -> Group:
        """The group called `name`. `check` has made sure that it exists."""
        return next(group for group in self.groups if group.name == name)

    def certificates(self) -> tuple[Certificate, ...]:
        """The certificates of all sites, each once."""
        return tuple(dict.fromkeys(pair for site in self.sites for pair in site.certificates))

    def kept(self) -> tuple[KeptCertificate, ...]:
        """The certificates that capabilities keep, each once."""
        return tuple(dict.fromkeys(one for site in self.sites for one in site.kept))

    def has_certificate(self) -> bool:
        """Whether an https listener has something to show, be it a throw-away certificate."""
        return bool(self.certificates() or self.kept() or self.self_signed or self.keepers)

    def server_names(self) -> tuple[str, ...]:
        """The server names of all sites, as certificates have them: one star."""
        names = [name for site in self.sites for name in site.names]
        return tuple(name[1:] if name.startswith("**.") else name for name in names)


_OF_GROUP = {
    "keepalive": "keepalive",
    "max_upstream": "max_upstream",
    "keepalive_idle": "keepalive_idle",
    "upstream_verify": "verify",
    "upstream_tls": "tls",
    "upstream_pins": "pins",
    "upstream_name": "server_name",
    "upstream_cert": "client_cert",
    "send_proxy": "send_proxy",
}
_OF_SITE = {"server_names": "names", "certificates": "certificates", "hsts": "hsts"}


def single(upstreams: tuple[Upstream, ...], **options: Any) -> Config:
    """The configuration of a command line without a file: one group, one site, one route."""
    group = {field: options.pop(name) for name, field in _OF_GROUP.items() if name in options}
    site = {field: options.pop(name) for name, field in _OF_SITE.items() if name in options}
    limits: Limits = options.get("limits", Limits())
    return Config(
        groups=(Group(DEFAULT, upstreams, queue=limits.queue, **group),),
        sites=(Site(**site),),
        **options,
    )


Key = tuple[str | int, ...]  # a place in the configuration: ("group", NAME, OPTION), ("http",) …
