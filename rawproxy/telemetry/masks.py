"""What the logs leave out of what they know about clients, if the administrator wants that.

    --access-log-mask NAME           the value of that query parameter becomes ***
    --access-log-short-addresses     192.0.2.7 becomes 192.0.2.0, 2001:db8:1:2::3 2001:db8:1::
    --access-log-no-paths            what was asked for becomes -, a Referer its origin

That holds also for lines of the error log that name a request, and for the query of a Referer,
which is the URL of the page before. This module never changes what an upstream gets. Invariants: a
parameter is masked in every spelling of its name that a server may accept. What cannot be read is
left out.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote_to_bytes

from rawproxy.config.model import Config
from rawproxy.protocol.http.head import RequestHead

MASK: Final = b"***"
NOTHING: Final = b"-"
IPV6: Final = ~((1 << 80) - 1)  # a site has 48 bits of its own


class Masks:
    """What a configuration leaves out of the logs."""

    __slots__ = ("_names", "_no_paths", "_short")

    def __init__(self, names: frozenset[bytes], short: bool, no_paths: bool) -> None:
        self._names = names
        self._short = short
        self._no_paths = no_paths

    def target(self, target: bytes) -> bytes:
        """The target of a request, masked."""
        if self._no_paths:
            return NOTHING
        path, mark, query = target.partition(b"?")
        return path + mark + self._query(query) if mark and self._names else target

    def referer(self, referer: bytes) -> bytes:
        """The value of a Referer, masked."""
        if self._no_paths:
            scheme, mark, rest = referer.partition(b"://")
            host = rest.partition(b"/")[0].partition(b"?")[0].partition(b"#")[0]
            return scheme + mark + host.rpartition(b"@")[2] if mark else b""
        return self.target(referer)

    def address(self, shown: bytes) -> bytes:
        """The address of a client, shortened. The path of a unix socket is no address."""
        if not self._short:
            return shown
        if b":" not in shown:
            return shown.rpartition(b".")[0] + b".0"
        try:
            number = int(ipaddress.IPv6Address(shown.decode("latin-1")))
        except ValueError:
            return shown if shown == b"unix:" else NOTHING
        return str(ipaddress.IPv6Address(number & IPV6)).encode()

    def _query(self, query: bytes) -> bytes:
        return b"&".join([self._pairs(pairs) for pairs in query.split(b"&")])

    def _pairs(self, pairs: bytes) -> bytes:
        """The text between two `&`, masked.

        For some servers a `;` in it ends a parameter, for others not.
        """
        kept: list[bytes] = []
        for pair in pairs.split(b";"):
            name, mark, _ = pair.partition(b"=")
            if mark and unquote_to_bytes(name).strip(b" +").lower() in self._names:
                kept.append(name + mark + MASK)
                break  # to the end: the rest may belong to the value
            kept.append(pair)
        return b";".join(kept)


def of(config: Config) -> Masks | None:
    """The masks of a configuration; None if it leaves nothing out."""
    names = frozenset(name.lower().encode() for name in config.access_log_mask)
    short, no_paths = config.access_log_short_addresses, config.access_log_no_paths
    return Masks(names, short, no_paths) if names or short or no_paths else None


def subject(masks: Masks | None, head: RequestHead | None, peer: bytes) -> str:
    """Who has asked for what, as the error log may show it. `head`: None where none was read."""
    who = b"from " + (peer if masks is None else masks.address(peer))
    if head is not None:
        target = head.target if masks is None else masks.target(head.target)
        who = b"%b %b%b %b" % (head.method, head.host, target.partition(b"?")[0], who)
    return who.decode("latin-1")
