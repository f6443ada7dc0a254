"""Finds the servers behind the name of an upstream, and for how long that answer holds.

dnspython asks the DNS, because it tells the TTL (`getaddrinfo` does not) and knows SRV. The system
resolves what is not in the DNS: `localhost`, names of the hosts file, `.local`, and every name for
which the DNS has no answer. Such answers hold for `SYSTEM_TTL`. With `--resolver` only that server
is asked, about every name but `localhost`.

Each address is a server of its own, with its own connections and health: a name with three
addresses is usually three containers, not one machine with three cables. But a name with IPv4 and
IPv6 addresses means the same machines twice, and one of the two ways may be broken. So the servers
are the addresses of the family that has more of them (IPv6 if both have as many, RFC 8305 4). The
addresses of the other family are dialled a moment after each of these.

SRV (RFC 2782): the servers of the lowest priority number serve, and the others are backups. Weights
are weights.

This module never keeps an answer. It raises `DialError` and nothing else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rawproxy.config.model import Address, Upstream
from rawproxy.errors import DialError

SYSTEM_TTL = 30.0  # seconds; the system tells no TTL
LIFETIME = 5.0  # seconds for one question, with all DNS servers and repeats
MOST_SERVERS = 64  # servers that one name may stand for; more in an answer are left out
HOSTS = "/etc/hosts"

AddrInfo = tuple[int, int, int, str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """One server: numeric addresses and a port. The first address is its own; all lead to it."""

    addresses: tuple[str, ...]
    port: int
    weight: int = 1
    backup: bool = False

    @property
    def name(self) -> str:
        """Its name, which is the same in every worker and after every answer."""
        return shown(self.addresses[0], self.port)


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What a name stands for, and for how many seconds."""

    servers: tuple[Server, ...]
    ttl: float


class Resolver:
    """Asks the DNS server `source`, or those that the system uses."""

    def __init__(self, source: Address | None = None, hosts: str = HOSTS) -> None:
        self.source = source
        self.hosts = hosts
        self._made: Any = None

    async def servers(self, upstream: Upstream) -> DnsAnswer:
        """The servers behind `upstream`, which is a name. Raises `DialError`."""
        try:
            if upstream.srv:
                return await self._services(upstream)
            v6, v4, ttl = await self._addresses(upstream.host, upstream.port)
        except UnicodeError as error:
            raise DialError(f"the upstream's name cannot be resolved: {error}") from None
        chosen = by_family(v6, v4, upstream.port)
        if upstream.weight != 1 or upstream.backup:
            chosen = tuple(
                Server(server.addresses, server.port, upstream.weight, upstream.backup)
                for server in chosen
            )
        return DnsAnswer(chosen, ttl)

    async def _addresses(self, host: str, port: int) -> tuple[list[str], list[str], float]:
        """IPv6 addresses, IPv4 addresses and their TTL. There is at least one address."""
        if _is_local(host) or (self.source is None and _is_known(host, self.hosts)):
            return await _by_system(host, port)
        import dns.exception

        answers = await asyncio.gather(
            self._ask(host, "AAAA"), self._ask(host, "A"), return_exceptions=True
        )
        found: list[list[str]] = []
        ttls = []
        for answer in answers:
            if isinstance(answer, BaseException):
                if not isinstance(answer, dns.exception.DNSException | OSError):
                    raise answer
                found.append([])
            else:
                found.append(sorted(record.address for record in answer))
                ttls.append(answer.chaining_result.minimum_ttl)
        if ttls:
            return found[0], found[1], float(min(ttls))
        if self.source is None:
            return await _by_system(host, port)
        raise DialError(f"the upstream's name cannot be resolved: {_why(answers)}")

    async def _services(self, upstream: Upstream) -> DnsAnswer:
        import dns.exception

        try:
            answer = await self._ask(upstream.host, "SRV")
        except (dns.exception.DNSException, OSError) as error:
            why = _why([error])
            raise DialError(f"the upstream's SRV records cannot be found: {why}") from None
        # RFC 2782: a single "." says that the service is not available there.
        records = [record for record in answer if len(record.target) > 1][:MOST_SERVERS]
        if not records:
            raise DialError(f"there is no service called {upstream.host}")
        first = min(record.priority for record in records)
        reached = await asyncio.gather(
            *(self._addresses(str(record.target), record.port) for record in records),
            return_exceptions=True,
        )
        found: list[Server] = []
        ttl = float(answer.chaining_result.minimum_ttl)
        for record, addresses in zip(records, reached, strict=True):
            if isinstance(addresses, DialError):
                continue  # the other hosts still serve
            if isinstance(addresses, BaseException):
                raise addresses
            ttl = min(ttl, addresses[2])
            backup = upstream.backup or record.priority > first
            for server in by_family(*addresses[:2], record.port):
                found.append(Server(server.addresses, record.port, max(record.weight, 1), backup))
        if not found:
            raise DialError(f"none of the {len(records)} hosts of {upstream.host} has an address")
        found.sort(key=lambda server: server.name)
        return DnsAnswer(tuple(found), ttl)

    async def _ask(self, name: str, kind: str) -> Any:
        # Imported only here, as it takes 60 ms and many upstreams are addresses.
        import dns.asyncresolver

        if self._made is None:
            made = dns.asyncresolver.Resolver(configure=self.source is None)
            if self.source is not None:
                made.nameservers = [self.source.host or "127.0.0.1"]
                made.port = self.source.port
            self._made = made
        return await self._made.resolve(name, kind, lifetime=LIFETIME, search=self.source is None)


def by_family(v6: Sequence[str], v4: Sequence[str], port: int) -> tuple[Server, ...]:
    """The servers of the family with more addresses, each with addresses of the other family."""
    own, other = (v4, v6) if len(v4) > len(v6) else (v6, v4)
    made = []
    for index, address in enumerate(own[:MOST_SERVERS]):
        turn = index % len(other) if other else 0
        made.append(Server((address, *other[turn:], *other[:turn]), port))
    return tuple(made)


def shown(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_numeric(host: str) -> bool:
    """Whether `host` is an address, so that nothing has to be resolved.

    An address with a zone is left to the system.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def sockaddrs(server: Server) -> list[AddrInfo]:
    """What `getaddrinfo` gives for the server's addresses. Nobody is asked for that."""
    found: list[AddrInfo] = []
    for address in server.addresses:
        found += socket.getaddrinfo(
            address, server.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    return found


def _is_local(host: str) -> bool:
    # RFC 6761 6.3: such names always mean this machine.
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def _is_known(host: str, hosts: str) -> bool:
    """Whether the system has to resolve `host`: multicast names, zones, the hosts file."""
    name = host.rstrip(".").lower()
    if name.endswith(".local") or "%" in name:
        return True
    try:
        with open(hosts, encoding="utf-8", errors="replace") as lines:
            return any(name in line.partition("#")[0].lower().split()[1:] for line in lines)
    except OSError:
        return False


async def _by_system(host: str, port: int) -> tuple[list[str], list[str], float]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = error.strerror or error
        raise DialError(f"the upstream's name cannot be resolved: {reason}") from None
    v6 = [str(entry[4][0]) for entry in found if entry[0] == socket.AF_INET6]
    v4 = [str(entry[4][0]) for entry in found if entry[0] == socket.AF_INET]
    return sorted(set(v6)), sorted(set(v4)), SYSTEM_TTL


def _why(errors: Sequence[Any]) -> str:
    return "; ".join(dict.fromkeys(str(error).rstrip(".") for error in errors))
