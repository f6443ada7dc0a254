"""`upstream` blocks and the targets of `proxy_pass` as groups.

A group is made for each target together with how it is spoken to, so two locations that verify one
server in different ways get two. It never reads a location's path. Invariant: two locations share
a group, and so its pool, exactly where nginx would talk to the same server in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.values import Refusal, seconds

_TARGET: Final = re.compile(
    r"(https?)://(unix:[^:]+(?::|$)|\[[^\]]+\](?::\d+)?|[^/?#]+)(/.*)?"
).fullmatch
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+").sub
_REMOTE: Final = ("$remote_addr", "$binary_remote_addr")


class Target:
    """What a `proxy_pass` says."""

    __slots__ = ("authority", "path", "scheme")

    def __init__(self, text: str) -> None:
        match = _TARGET(text)
        if match is None:
            raise Refusal(f"{text}: type http://host:port or https://host:port")
        self.scheme, self.path = match[1], match[3] or ""
        self.authority = match[2].removesuffix(":") if match[2].startswith("unix:") else match[2]


class Groups:
    """The groups of a file, made as locations need them."""

    def __init__(self, upstreams: Mapping[str, Directive]) -> None:
        self._upstreams = upstreams
        self._made: dict[tuple[Any, ...], str] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.places: dict[str, str] = {}  # of each group: where it comes from

    def name_of(self, target: Target, location: Blocks, place: str) -> str:
        """The name of the group that a location talks to."""
        how = _how(target, location)
        key = (target.scheme, target.authority, *sorted(how.items()))
        name = self._made.get(key)
        if name is None:
            table = self._servers(target)
            name = self._made[key] = self._free(_NAME("-", target.authority).strip("-") or "group")
            self.tables[name] = table | how
            block = self._upstreams.get(target.authority)
            self.places[name] = block.place if block is not None else place
        return name

    def _free(self, wish: str) -> str:
        name, number = wish, 2
        while name in self.tables:
            name, number = f"{wish}-{number}", number + 1
        return name

    def _servers(self, target: Target) -> dict[str, Any]:
        block = self._upstreams.get(target.authority)
        if block is None:
            return {"upstream": [_url(target.scheme, target.authority)]}
        return _of_block(block, target.scheme)


def _url(scheme: str, authority: str) -> str:
    if authority.startswith("unix:"):
        if scheme == "https":
            raise Refusal("TLS over a unix socket is not spoken here")
        return authority
    return f"{scheme}://{authority}"


def _of_block(block: Directive, scheme: str) -> dict[str, Any]:
    """The table of an `upstream`."""
    inner = block.block or ()
    servers = [one for one in inner if one.name == "server"]
    table: dict[str, Any] = {"upstream": []}
    for one in inner:
        if one.name == "server":
            server = _server(one, scheme)
            table["upstream"] += [] if server is None else [server]
        elif one.name == "keepalive":
            table["keepalive"] = int(one.args[0])
        elif one.name == "keepalive_timeout":
            table["keepalive-idle"] = seconds(one.args[0])
        elif one.name == "queue":
            table["queue"] = int(one.args[0])
        elif _policy(one):
            table["policy"] = _policy(one)
    if not table["upstream"]:
        raise Refusal(f"{block.place}: no server of upstream {block.args[0]} is up")
    up = [one for one in servers if "down" not in one.args]
    most = int(_common(block, up, "max_conns", "0"))
    if most:
        table |= {"max-upstream": most, "keepalive": min(table.get("keepalive", most), most)}
    start = seconds(_common(block, up, "slow_start", "0"))
    if start:
        table["slow-start"] = start
    if len(table["upstream"]) > 1:
        count = int(_common(block, up, "max_fails", "1"))
        window = seconds(_common(block, up, "fail_timeout", "10"))
        table["passive"] = {"max-fails": count, "window": window, "back-off": window}
    return table


def _common(block: Directive, servers: list[Directive], name: str, default: str) -> str:
    """What all servers say by NAME=…."""
    found = {default}
    for at, one in enumerate(servers):
        said = [text.partition("=")[2] for text in one.args[1:] if text.startswith(f"{name}=")]
        found = (set() if at == 0 else found) | set(said[-1:] or (default,))
    if len(found) > 1:
        raise Refusal(f"{block.place}: type the same {name} for all servers")
    return found.pop()


def _server(one: Directive, scheme: str) -> dict[str, Any] | str | None:
    authority, *parameters = one.args
    port = "" if ":" in authority.rpartition("]")[2] or authority.startswith("unix:") else ":80"
    facts: dict[str, Any] = {"url": _url(scheme, authority + port)}
    for parameter in parameters:
        name, _, said = parameter.partition("=")
        if name == "weight":
            facts["weight"] = int(said)
        elif name == "backup":
            facts["backup"] = True
        elif name == "down":
            return None
        elif name not in ("max_fails", "fail_timeout", "max_conns", "slow_start", "resolve"):
            raise Refusal(f"{one.place}: {parameter} is not done here")
    return facts if len(facts) > 1 else facts["url"]


def _policy(one: Directive) -> str:
    if one.name == "hash" and one.args[0] not in _REMOTE:
        raise Refusal(f"{one.place}: hash {one.args[0]}: of $remote_addr alone")
    return {
        "least_conn": "least-connections",
        "least_time": "least-connections",
        "ip_hash": "client-hash",
        "hash": "client-hash",
        "random": "two-choices",
    }.get(one.name, "")


def _how(target: Target, location: Blocks) -> dict[str, Any]:
    """How the servers of a group are spoken to."""
    how: dict[str, Any] = {}
    if target.scheme == "https":
        how["upstream-verify"] = "off"
        if location.is_on("proxy_ssl_verify"):
            how["upstream-verify"] = location.first_of("proxy_ssl_trusted_certificate", "system")
        name = location.first_of("proxy_ssl_name", "")
        if name in ("$host", "$http_host"):
            how["upstream-name"] = "$host"
        elif name and name not in ("$proxy_host", "$ssl_server_name"):
            how["upstream-name"] = name
        certificate = location.first_of("proxy_ssl_certificate", "")
        if certificate:
            how["upstream-cert"] = certificate
            how["upstream-key"] = location.first_of("proxy_ssl_certificate_key", certificate)
    return how
