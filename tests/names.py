"""A small authoritative DNS server: what it says can be changed while it runs."""

import asyncio

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from rawproxy.config.model import Address


class NameServer(asyncio.DatagramProtocol):
    """Answers from `records`: (name, type) → (TTL, values). `broken` ones get SERVFAIL."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.broken = False
        self.questions: list[tuple[str, str]] = []

    async def __aenter__(self) -> "NameServer":
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        self.port = self.transport.get_extra_info("sockname")[1]
        self.address = Address("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_) -> None:
        self.transport.close()

    def say(self, name: str, *addresses: str, ttl: int = 1) -> None:
        """From now on `name` has exactly these addresses; none: it does not exist."""
        for kind in ("A", "AAAA"):
            mine = [one for one in addresses if (":" in one) == (kind == "AAAA")]
            self.records.pop((name, kind), None)
            if mine:
                self.records[name, kind] = ttl, mine

    def say_services(self, name: str, *values: str, ttl: int = 1) -> None:
        self.records[name, "SRV"] = ttl, list(values)

    def datagram_received(self, data: bytes, peer) -> None:
        self.transport.sendto(self.answer(data), peer)

    def answer(self, data: bytes) -> bytes:
        question = dns.message.from_wire(data)
        (asked,) = question.question
        name, kind = str(asked.name).rstrip("."), dns.rdatatype.to_text(asked.rdtype)
        self.questions.append((name, kind))
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        found = self.records.get((name, kind))
        if found is not None:
            answer.answer.append(dns.rrset.from_text(asked.name, found[0], "IN", kind, *found[1]))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()
