"""Values that name a host: upstreams, listeners, resolvers, networks, server names.

Each function takes the text of one option and returns a checked value. Other kinds of values are
read by `option_values`. This module never resolves a name and never looks at a second option.

Invariant: a socket or a resolver takes what is returned here. Raises `ConfigError`, which begins
with the option and says what to type.
"""

from __future__ import annotations

import ipaddress
import re

from rawproxy.config.model import HOST, Address, Network, Upstream
from rawproxy.errors import ConfigError

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?").fullmatch
_SERVICE = re.compile(r"_[a-z0-9-]+\._(?:tcp|tls)\..+").fullmatch  # RFC 2782
_NAME_LIMIT = 253  # characters of a host name in text (RFC 1035 2.3.4)
_UNIX_LIMIT = 107  # bytes of sun_path less its NUL: connect and bind refuse more


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
    if _SERVICE(host.lower()):
        if port is not None:
            raise ConfigError(f"{option}: SRV records say the port; type {scheme}://{host}")
        return Upstream(text, tls=scheme == "https", host=host, srv=True)
    if port is None:
        if not separator:
            raise ConfigError(f"{option}: no port; type {text}:9443 or https://{text}")
        port = 443 if scheme == "https" else 80
    if port == 0:
        raise ConfigError(f"{option}: port 0 cannot be dialled; type a port from 1 to 65535")
    return Upstream(text, tls=scheme == "https", host=host, port=port)


def parse_resolver(text: str) -> Address:
    """`--resolver`: the address of a DNS server; without a port, port 53. Raises `ConfigError`."""
    option = f"--resolver {text}"
    host, port = _host_port(option, text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(
            f"{option}: nobody could resolve its name; type an address, as in 127.0.0.11:53"
        ) from None
    if port == 0:
        raise ConfigError(f"{option}: port 0 cannot be asked; type a port from 1 to 65535")
    return Address(host, port or 53)


def parse_address(option: str, text: str) -> Address:
    """One `--http`, `--https` or `--admin`. Raises `ConfigError`."""
    usual = {"--https": 8443, "--admin": 9900}.get(option, 8080)
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


def parse_network(text: str) -> Network | str:
    """One `--trusted-proxy`.

    `unix:` stands for all who connect by a unix socket. Raises `ConfigError`.
    """
    if text == "unix:":
        return text
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"--trusted-proxy {text}: not an address or network; type 10.0.0.0/8, say, or unix:"
        ) from None


def parse_server_name(text: str) -> str:
    """One `--server-name`, in lower case. Raises `ConfigError`."""
    name = text.lower().removesuffix(".")
    if not name.isascii():
        raise ConfigError(f"--server-name {text}: type its ASCII form, xn--…")
    if not _is_name(name.removeprefix("*.").removeprefix("**.")):
        raise ConfigError(f"--server-name {text}: not a host name; type name.tld or *.name.tld")
    return name


def parse_upstream_name(text: str) -> str:
    """`--upstream-name`: a host name or an address without a port, or `HOST`.

    Raises `ConfigError`.
    """
    if text == HOST:
        return text
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


def parse_host(text: str) -> str:
    """The `host` of a health check: a name or an address, and a port if it has one."""
    if not _host_port(f"--host {text}", text)[0]:
        raise ConfigError(f"--host {text}: type a host name, and :port where it has one")
    return text


def _unix_path(option: str, text: str) -> str:
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/"):
        raise ConfigError(f"{option}: no absolute path; type unix:/path/of/the.sock")
    if len(path.encode("utf-8", "surrogateescape")) > _UNIX_LIMIT:
        raise ConfigError(f"{option}: longer than {_UNIX_LIMIT} bytes; type a shorter path")
    return path


def _is_name(name: str) -> bool:
    """Whether a resolver takes `name` (lower case) as a host name. Underscores are allowed."""
    return len(name) <= _NAME_LIMIT and all(map(_LABEL, name.split(".")))


def _check_host(option: str, host: str) -> None:
    """Refuse a host name that `getaddrinfo` cannot encode. Raises `ConfigError`."""
    if not host.isascii():
        raise ConfigError(f"{option}: type the ASCII form of {host}, xn--…")
    name = host.lower().removesuffix(".")
    if not _is_name(name):
        raise ConfigError(
            f"{option}: {host!r} is not a host name; type a name, as app.example.org, or an address"
        )
    # No top-level domain is a number (RFC 3696 2), so this is a mistyped address. The short forms
    # that inet_aton takes (127.1) are known to few, and are refused too.
    if name.rpartition(".")[2].isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ConfigError(f"{option}: {host} is not an IPv4 address; type all of it") from None


def _host_port(option: str, text: str) -> tuple[str, int | None]:
    """Split a text into a host without brackets and a port; None if it has no port."""
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
