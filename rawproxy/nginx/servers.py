"""`server` blocks as sites, and their `listen`s as listeners.

A request finds its server as in nginx: by the address that it came in by, then by name; where no
name fits, the default server of that address serves. So a server that is the default of an address
stands twice: under its names, and there without names.

It never looks into a location. Invariant: each pair of address and name leads to one server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.values import Refusal, named_groups

_QUIET: Final = {
    "http2", "reuseport", "deferred", "bind", "fastopen", "so_keepalive", "ipv6only", "quic",
    "backlog", "rcvbuf", "sndbuf", "setfib", "accept_filter",
}  # fmt: skip


@dataclass(slots=True)
class ServerBlock:
    """One server."""

    block: Directive
    blocks: Blocks
    plain: list[str] = field(default_factory=list)  # addresses without TLS, as we write them
    secure: list[str] = field(default_factory=list)
    default_of: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)  # of names, as expressions
    kept: dict[str, int] = field(default_factory=dict)  # by the groups of an expression
    behind: list[str] = field(default_factory=list)  # before the * of one at the end
    said_name: str = ""  # what $server_name says
    proxy_protocol: bool = False

    def listens(self) -> list[str]:
        """All its addresses."""
        return [*self.plain, *self.secure]


def server_of(block: Directive, around: Blocks) -> ServerBlock:
    """A `server`, read as far as names and addresses go. Raises `Refusal`."""
    blocks = around.within(block.block or ())
    server = ServerBlock(block, blocks)
    for one in blocks.own("listen"):
        _listen(server, one)
    if not server.listens():
        server.plain.append(":80")
    for one in blocks.own("server_name"):
        for name in one.args:
            _name(server, name)
            server.said_name = server.said_name or name.lower().removeprefix(".")
    return server


def _listen(server: ServerBlock, one: Directive) -> None:
    address, *flags = one.args
    address = _address(address)
    secure = False
    for flag in flags:
        name = flag.partition("=")[0]
        if name == "ssl":
            secure = True
        elif name in ("default_server", "default"):
            server.default_of.add(address)
        elif name == "proxy_protocol":
            server.proxy_protocol = True
        elif name == "quic":
            return  # HTTP/3 is not spoken here; the same port over TCP has a listen of its own
        elif name not in _QUIET:
            raise Refusal(f"listen … {flag} is not done here")
    addresses = server.secure if secure else server.plain
    if address not in addresses:
        addresses.append(address)


def _address(text: str) -> str:
    """As we write it: `*:80`, `80` and `[::]:80` are all `:80`, which has both families."""
    if text.startswith("unix:"):
        return text
    if text.isdigit():
        return f":{text}"
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "80"
    if host in ("*", "0.0.0.0", "[::]"):
        return f":{port}"
    return f"{host}:{port}"


def _name(server: ServerBlock, text: str) -> None:
    """One name: as it is, or as an expression; a wildcard of nginx's stands for several labels."""
    if text.startswith("~"):
        pattern, names = named_groups(text[1:])
        server.kept.update(names)
        server.patterns.append(f"(?i){pattern}")
    elif text.endswith(".*"):
        server.behind.append(text[:-2].lower())
        server.patterns.append(rf"^{re.escape(text[:-2].lower())}\..+$")
    elif text.startswith("."):
        server.names += [text[1:].lower(), f"**{text.lower()}"]
    elif text.startswith("*."):
        server.names.append(f"*{text.lower()}")
    elif text and text != '""' and set(text) - {"_", "-"}:
        server.names.append(text.lower())


def settle(servers: list[ServerBlock]) -> None:
    """What nginx has another order for among names that are expressions is refused."""
    behind = [one for server in servers for one in server.behind]
    if any(one.startswith(f"{other}.") for one in behind for other in behind):
        raise Refusal("of two names that end with .* one begins the other: type the names")
    expressions = [one for server in servers for one in server.patterns]
    if behind and any(one.startswith("(?i)") for one in expressions):
        raise Refusal("server_name NAME.* beside regular expressions: type the names")


def defaults(servers: list[ServerBlock]) -> dict[str, ServerBlock]:
    """Which server serves what has no name, by address: the one that says so, or the first."""
    found: dict[str, ServerBlock] = {}
    for server in servers:
        for address in server.default_of:
            if address in found:
                raise Refusal(f"{server.block.place}: a second default_server for {address}")
            found[address] = server
    for server in servers:
        for address in server.listens():
            found.setdefault(address, server)
    return found


def tls_facts(server: ServerBlock) -> dict[str, Any]:
    """Certificates and HSTS of a site."""
    blocks = server.blocks
    facts: dict[str, Any] = {}
    if server.secure:
        certificates = [one.args[0] for one in blocks.all("ssl_certificate")]
        keys = [one.args[0] for one in blocks.all("ssl_certificate_key")]
        if certificates:
            facts |= {"cert": certificates, "key": keys}
        verify = blocks.first_of("ssl_verify_client", "off")
        if verify == "optional_no_ca":
            raise Refusal("ssl_verify_client optional_no_ca: type optional, and the authority")
        if verify in ("on", "optional"):
            facts["client-ca"] = blocks.first_of("ssl_client_certificate", "")
            facts["client-verify"] = "require" if verify == "on" else "optional"
        hsts = _hsts(server)
        facts |= {"hsts": hsts} if hsts else {"no-hsts": True}
    return facts


def _hsts(server: ServerBlock) -> str:
    """Of the server, or of its locations."""
    inner = [one.block or () for one in server.blocks.own("location")]
    for block in (server.blocks, *(server.blocks.within(one) for one in inner)):
        for one in block.all("add_header"):
            if one.args[0].lower() == "strict-transport-security":
                return one.args[1]
    return ""
