"""The configuration: frozen dataclasses, validated once at start.

It never reads a file or a clock, and never resolves a name. Invariant: a `Config` that exists is
valid; whatever is wrong was raised as a `ConfigError` that names the option.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from .errors import ConfigError

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?").fullmatch
# One directive, RFC 6797 6.1. ASCII by name: \d and \s would let other digits and line ends in.
_DIRECTIVE = re.compile(r'([A-Za-z0-9_-]+)(?:=(?:[A-Za-z0-9_-]+|"[A-Za-z0-9 _-]*"))?').fullmatch
_MAX_AGE = re.compile(r'(?i:max-age)=(?:[0-9]{1,10}|"[0-9]{1,10}")').fullmatch
_NAME_LIMIT = 253  # characters of a host name in text (RFC 1035 2.3.4)
_UNIX_LIMIT = 107  # bytes of sun_path less its NUL: connect and bind refuse more

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
    body: int = 0  # of a request; 0: any size, as 413 at 1 MB is nginx's most common complaint
    rate: int = 256  # bytes a second that a body must make either way, on average -> 408
    connections: int = 0  # of clients, in total; 0: half of the file descriptors
    per_client: int = 0  # of one address that is no trusted proxy; 0: any, offices share one
    requests: int = 100_000  # on one connection: then it is renewed, and with it what it gathered
    tunnels: int = 0  # at once -> 503; 0: as many as there are connections
    h2_streams: int = 128  # at once on one connection, as nginx; browsers are content with 100
    h2_budget: int = 10_000  # frames that serve no request, in a burst; a twentieth each second


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on every wait, in seconds; swept about once a second, so up to a second late."""

    tls_handshake: float = 10.0
    request_head: float = 30.0  # from its first byte -> 408
    request_body: float = 60.0  # the stretch over which `Limits.rate` must be kept -> 408
    connect: float = 10.0  # dial and TLS handshake, all addresses together -> 504
    queue: float = 10.0  # waiting for a connection -> 503
    response_head: float = 60.0  # nginx proxy_read_timeout -> 504
    response_body: float = 60.0  # between two reads of it; of the client as in `request_body`
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
    send_forwarded: bool = False
    send_real_ip: bool = False
    accept_proxy: bool = False
    send_proxy: int = 0  # version of the PROXY protocol; 0: none
    access_log: str = "-"  # path | - | off
    parser: str = "auto"  # auto | h11
    http2: bool = True
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)


def parse_upstream(text: str) -> Upstream:
    """One `--upstream`. Raises `ConfigError`."""
    option = f"--upstream {text}"
    if text.startswith("unix:"):
        return Upstream(text, tls=False, path=_unix_path(option, text))
    scheme, separator, rest = text.rpartition("://")
    scheme = scheme.lower() or "https"
    if scheme not in ("http", "https"):
        raise ConfigError(f"{option}: {scheme}:// is not known; type https://, http:// or unix:")
    rest = rest.removesuffix("/")
    if "/" in rest or "?" in rest or "#" in rest:
        raise ConfigError(f"{option}: a path cannot be given here; type {scheme}://host:port")
    if "@" in rest:
        raise ConfigError(f"{option}: no user or password here; type {scheme}://host:port")
    host, port = _host_port(option, rest)
    if not host:
        raise ConfigError(f"{option}: no host; type host:port")
    if port is None:
        if not separator:
            raise ConfigError(f"{option}: no port; type {text}:9443 or https://{text}")
        port = 443 if scheme == "https" else 80
    if port == 0:
        raise ConfigError(f"{option}: port 0 cannot be dialled; type a port from 1 to 65535")
    return Upstream(text, tls=scheme == "https", host=host, port=port)


def parse_address(option: str, text: str) -> Address:
    """One `--http` or `--https`. Raises `ConfigError`."""
    usual = 8443 if option == "--https" else 8080
    option = f"{option} {text}"
    if text.startswith("unix:"):
        return Address(path=_unix_path(option, text))
    if "/" in text:
        raise ConfigError(f"{option}: not an address; type host:port, [v6]:port or :port")
    port_alone = text.removeprefix("*:")
    if port_alone.isascii() and port_alone.isdigit():
        raise ConfigError(f"{option}: type :{port_alone} for every address of this machine")
    host, port = _host_port(option, text)
    if port is None:
        raise ConfigError(f"{option}: no port; type {text}:{usual}")
    return Address(host or None, port)


def parse_network(text: str) -> Network:
    """One `--trusted-proxy`. Raises `ConfigError`."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"--trusted-proxy {text}: not an address or network; type 10.0.0.0/8, say"
        ) from None


def parse_pin(text: str) -> str:
    """One `--upstream-pin`, with or without colons. Raises `ConfigError`."""
    digits = text.replace(":", "").lower()
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ConfigError(
            f"--upstream-pin {text}: not a SHA-256; it is 64 hex digits, as this prints:"
            " openssl x509 -noout -fingerprint -sha256 -in cert.pem"
        )
    return digits


def parse_server_name(text: str) -> str:
    """One `--server-name`, lower case. Raises `ConfigError`."""
    name = text.lower().removesuffix(".")
    if not name.isascii():
        raise ConfigError(f"--server-name {text}: type its ASCII form, xn--…")
    if not _is_name(name.removeprefix("*.")):
        raise ConfigError(f"--server-name {text}: not a host name; type name.tld or *.name.tld")
    return name


def parse_upstream_name(text: str) -> str:
    """`--upstream-name`: a host name or an address, no port. Raises `ConfigError`."""
    option = f"--upstream-name {text}"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if ":" in text:
            raise ConfigError(f"{option}: type the name alone, without a port") from None
    if not text:
        raise ConfigError(f"{option}: no name; type a host name, or leave the option out")
    _check_host(option, text)
    return text.lower().removesuffix(".")


_LEAST = {"start-line": 64, "head": 1024, "response-head": 1024, "fields": 8, "requests": 1}
_OR_NONE = ("body", "rate", "connections", "per-client", "tunnels", "queue")
_SIZE = re.compile(r"([0-9]{1,15})([kmg]?)").fullmatch
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def limit_names() -> list[str]:
    """What `--limit` can set; the others have options of their own."""
    return [f.name.replace("_", "-") for f in fields(Limits) if not f.name.startswith("h2_")]


def timeout_names() -> list[str]:
    """What `--timeout` can set."""
    return [f.name.replace("_", "-") for f in fields(Deadlines)]


def parse_limits(texts: Iterable[str], **others: int) -> Limits:
    """Every `--limit NAME=N`, the last of a name counts. Raises `ConfigError`."""
    found = dict(others)
    for text in texts:
        name, value = _named("--limit", text, limit_names())
        match = _SIZE(value.lower())
        least = 0 if name in _OR_NONE else _LEAST.get(name, 1)
        if match is None or int(match[1]) * _UNITS[match[2]] < least:
            raise ConfigError(
                f"--limit {text}: type {name}=N, {least} or more; k, m and g are known"
            )
        found[name.replace("-", "_")] = int(match[1]) * _UNITS[match[2]]
    return Limits(**found)


def parse_timeouts(texts: Iterable[str]) -> Deadlines:
    """Every `--timeout NAME=SECONDS`, the last of a name counts. Raises `ConfigError`."""
    found: dict[str, float] = {}
    for text in texts:
        name, value = _named("--timeout", text, timeout_names())
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:  # false for nan too
            raise ConfigError(f"--timeout {text}: type {name}=SECONDS, more than 0")
        found[name.replace("-", "_")] = seconds
    return Deadlines(**found)


def _named(option: str, text: str, names: list[str]) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{option} {text}: {hint}known are {', '.join(names)}")
    return name, value


def parse_file(option: str, text: str, words: str = "") -> str:
    """A path, or one of the option's own `words`; whether it can be read shows later.

    Raises `ConfigError` for an empty one: what an unset shell variable leaves behind.
    """
    if not text:
        raise ConfigError(f"{option}: empty; type {words}the path of a file")
    return text


def check_hsts(value: str) -> str:
    """`--hsts`, RFC 6797 6.1. Raises `ConfigError`.

    Invariant: the value is printable ASCII, so it cannot end the header line it is put into.
    """
    directives = [part.strip(" ") for part in value.split(";")]
    matches = [_DIRECTIVE(directive) for directive in directives if directive]
    names = [match[1].lower() for match in matches if match]
    ages = [directive for directive in directives if _MAX_AGE(directive)]
    # A browser ignores the whole header where a directive stands twice (6.1, rule 2).
    if not all(matches) or len(set(names)) != len(names) or len(ages) != 1:
        raise ConfigError(
            f"--hsts {value!r}: type max-age=SECONDS, as in --hsts max-age=63072000, or --no-hsts"
        )
    return value


def check(config: Config) -> Config:
    """What one option cannot know of another. Raises `ConfigError`."""
    if not config.upstreams:
        raise ConfigError("--upstream is missing: type --upstream host:9443, say")
    if config.https and not (config.certificates or config.self_signed):
        raise ConfigError(
            "--https needs a certificate: type --cert FILE --key FILE, or --self-signed for a trial"
        )
    if not config.http and not config.https:
        raise ConfigError("nothing to listen on: type --http :8080, say")
    if config.upstream_pins and config.upstream_verify != "auto":
        raise ConfigError(
            "--upstream-pin is a verification of its own: leave --upstream-verify out"
        )
    if not any(upstream.tls for upstream in config.upstreams):
        for option, given in (
            ("--upstream-verify", config.upstream_verify != "auto"),
            ("--upstream-pin", bool(config.upstream_pins)),
            ("--upstream-name", config.upstream_name is not None),
        ):
            if given:
                raise ConfigError(
                    f"{option} is for https upstreams and none is given:"
                    " leave it out, or type --upstream https://host"
                )
    if config.accept_proxy and not config.trusted_proxies:
        raise ConfigError(
            "--accept-proxy believes trusted peers only: type --trusted-proxy 10.0.0.0/8, say"
        )
    _check_numbers(config)
    return config


def _check_numbers(config: Config) -> None:
    if config.max_upstream < 1:
        raise ConfigError(f"--max-upstream {config.max_upstream}: type 1 or more")
    if not 0 <= config.keepalive <= config.max_upstream:
        raise ConfigError(
            f"--keepalive {config.keepalive}: type a number from 0 to"
            f" --max-upstream, {config.max_upstream}"
        )
    if not 0 < config.keepalive_idle < math.inf:  # false for nan too
        raise ConfigError(
            f"--keepalive-idle {config.keepalive_idle}: type seconds, as in --keepalive-idle 60"
        )


def _unix_path(option: str, text: str) -> str:
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/"):
        raise ConfigError(f"{option}: no absolute path; type unix:/path/of/the.sock")
    if len(path.encode("utf-8", "surrogateescape")) > _UNIX_LIMIT:
        raise ConfigError(f"{option}: longer than {_UNIX_LIMIT} bytes; type a shorter path")
    return path


def _is_name(name: str) -> bool:
    """Whether `name`, lower case, is a host name that a resolver takes. Underscores pass."""
    return len(name) <= _NAME_LIMIT and all(map(_LABEL, name.split(".")))


def _check_host(option: str, host: str) -> None:
    """Refuse what `getaddrinfo` would choke on. Raises `ConfigError`."""
    if not host.isascii():
        raise ConfigError(f"{option}: type the ASCII form of {host}, xn--…")
    name = host.lower().removesuffix(".")
    if not _is_name(name):
        raise ConfigError(f"{option}: {host!r} is not a host name")
    # No top-level domain is a number: it is a mistyped address (RFC 3696 2), and the short forms
    # that inet_aton takes (127.1) are known to few.
    if name.rpartition(".")[2].isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ConfigError(f"{option}: {host} is not an IPv4 address; type all of it") from None


def _host_port(option: str, text: str) -> tuple[str, int | None]:
    """Host without brackets, and port or None."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ConfigError(f"{option}: no IPv6 address in brackets; type [::1]:port") from None
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{option}: type [{host}]:port")
        digits = rest[1:] if rest else None
    else:
        host, colon, tail = text.partition(":")
        if ":" in tail:
            raise ConfigError(f"{option}: an IPv6 address goes in brackets: [{text}]:port")
        digits = tail if colon else None
        if host:
            _check_host(option, host)
    if digits is None:
        return host, None
    # Five digits at most: leading zeros must not smuggle a larger number past the comparison.
    if not digits.isascii() or not digits.isdigit() or len(digits) > 5 or int(digits) > 65535:
        raise ConfigError(f"{option}: {digits!r} is not a port; type a number up to 65535")
    return host, int(digits)
