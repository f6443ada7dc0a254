"""Under which names `--admin` answers: what keeps web pages from reading it (DNS rebinding).

A page of `evil.example` may let that name point at an address of this machine, or of its network,
and then ask it in the browser of somebody who can reach it. It cannot choose what stands in Host:
that is its own name. So what counts is whether somebody else may own the name that was asked for:

    --admin is bound to     Host that is answered
    ──────────────────────  ────────────────────────────────────────────────────────────────────
    a loopback address      any address, localhost and *.localhost (RFC 6761)
    anything else           these; a name without a dot (Docker, Kubernetes, /etc/hosts); names
                            that nobody can register (.internal, .local, .home.arpa, …); the
                            machine's own name, that of --admin itself, and every --server-name
    a socket file           any: no browser gets there

Without a Host (HTTP/1.0) the answer is given: browsers send one always. On loopback a name without
a dot is not enough, since anybody in the same network may answer for it there (LLMNR, mDNS).

It never resolves a name. Invariant: a name that can be registered in the public DNS is answered
only where the administrator has written it down.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# RFC 6761, 6762, 8375, and what ICANN has reserved for good.
PRIVATE = ("localhost", "local", "internal", "home.arpa", "test", "invalid")


class Names:
    """What one admin listener answers to: `bound` are its addresses, empty for a socket file."""

    def __init__(self, bound: Iterable[str], known: Iterable[str] = ()) -> None:
        self._bound = tuple(bound)
        self.local = all(map(is_loopback, self._bound))  # no other machine can reach it
        self._known = {name.lower().rstrip(".") for name in known}

    def answers(self, host: str) -> bool:
        """Whether a request with this Host, less its port, is answered."""
        name = host.strip("[]").lower().rstrip(".")
        if not name or not self._bound or name == "localhost" or address_of(name) is not None:
            return True
        if self.local:
            return name.endswith(".localhost")
        known = name in self._known or "*." + name.partition(".")[2] in self._known
        return "." not in name or known or name.endswith(tuple("." + end for end in PRIVATE))


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in `text`, without its zone; None where it is none."""
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
