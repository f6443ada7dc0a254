"""The host names under which `--admin` answers.

They keep web pages from reading it (DNS rebinding).

A page of `evil.example` may let its name point at an address of this machine or network. Then it
can send requests there from the browser of a visitor who can reach that address. But it cannot
choose the Host field: that is always its own name. So it matters whether somebody else may own the
name in Host:

    --admin is bound to     Host that is answered
    ──────────────────────  ────────────────────────────────────────────────────────────────────
    a loopback address      any address, localhost and *.localhost (RFC 6761)
    anything else           these; a name without a dot (Docker, Kubernetes, /etc/hosts); names
                            that nobody can register (.internal, .local, .home.arpa, …); the
                            machine's own name, that of --admin itself, and every --server-name
    a socket file           any: no browser gets there

A request without Host (HTTP/1.0) is answered, since browsers always send one. On loopback a name
without a dot is not enough: anybody in the same network may answer for it (LLMNR, mDNS).

This module never resolves a name. Invariant: a name that can be registered in the public DNS is
answered only if the administrator has written it down.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# RFC 6761, 6762, 8375, and what ICANN has reserved for good.
PRIVATE = ("localhost", "local", "internal", "home.arpa", "test", "invalid")


class AdminHostNames:
    """The names that one admin listener answers to.

    `bound` are the addresses of its sockets; there is none if it is a socket file.
    """

    def __init__(self, bound: Iterable[str], known: Iterable[str] = ()) -> None:
        self._bound = tuple(bound)
        self.local = all(map(is_loopback, self._bound))  # no other machine can reach it
        self._known = {name.lower().rstrip(".") for name in known}

    def answers(self, host: str) -> bool:
        """Whether a request is answered that has this Host, without its port."""
        name = host.strip("[]").lower().rstrip(".")
        if not name or not self._bound or name == "localhost" or address_of(name) is not None:
            return True
        if self.local:
            return name.endswith(".localhost")
        known = name in self._known or "*." + name.partition(".")[2] in self._known
        return "." not in name or known or name.endswith(tuple("." + end for end in PRIVATE))


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address in `text`, without its zone; None if `text` is no address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach `text`."""
    address = address_of(text)
    return address is not None and address.is_loopback
