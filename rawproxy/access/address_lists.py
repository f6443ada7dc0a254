"""Which addresses may pass a route: `allow` and `deny`.

    allow = ["!10.0.0.7", "10.0.0.0/8"]     the first that fits counts; who fits none is refused
    deny = ["192.0.2.0/24"]                 the first that fits counts; who fits none may pass

An entry is an address, a network, `all`, or `unix:` for clients that come by a socket file. One
with a `!` says the opposite of its list. It never learns an address by itself: it is told the
client's own, behind trusted proxies the one that they speak for. Invariant: an address that cannot
be read is refused wherever there is a list.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from rawproxy.access.rules import AddressRule
from rawproxy.errors import ConfigError

ALL: Final = "all"
UNIX: Final = "unix:"
# Verdicts that are remembered: a client asks again and again, and to read an address costs more
# than a request can spare. Some 100 bytes each.
KNOWN: Final = 4096


def parse_rule(option: str, text: str, allow: bool) -> AddressRule:
    """An entry of `allow` or `deny`. Raises `ConfigError`."""
    name = text.removeprefix("!")
    allow = allow is not text.startswith("!")
    if name == UNIX:
        return AddressRule(allow, ())
    if name == ALL:
        return AddressRule(allow, tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0"))))
    try:
        return AddressRule(allow, (ipaddress.ip_network(name, strict=False),))
    except ValueError:
        raise ConfigError(
            f"{option} {text}: not an address or network; type 10.0.0.0/8, say, all, or unix:"
        ) from None


class AddressList:
    """The rules of one route, in their order."""

    __slots__ = ("_known", "_rest", "_rules")

    def __init__(self, rules: tuple[AddressRule, ...], rest: bool) -> None:
        """`rest`: whether whoever fits no rule may pass."""
        self._rules = rules
        self._rest = rest
        self._known: dict[bytes, bool] = {}

    def allows(self, client: bytes) -> bool:
        """Whether `client` may pass: an address in text, or `unix:`."""
        verdict = self._known.get(client)
        if verdict is None:
            if len(self._known) >= KNOWN:
                self._known.clear()
            verdict = self._known[client] = self._judge(client)
        return verdict

    def _judge(self, client: bytes) -> bool:
        text = client.decode("latin-1")
        if text == UNIX:
            by_file = [rule.allow for rule in self._rules if not rule.networks]
            return by_file[0] if by_file else self._rest
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = address if mapped is None else mapped
        for rule in self._rules:
            if any(address in network for network in rule.networks):
                return rule.allow
        return self._rest
