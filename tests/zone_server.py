"""A name server of the tests: every name leads to 127.0.0.1, and one zone takes signed changes."""

import contextlib
import socket
import struct
import threading

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset


class ZoneServer:
    """It serves `zone`, by UDP and by TCP on the same port; `ring` has the key of changes.

    If it is not `signed`, it takes changes without a key too. `refuse` is a code (`dns.rcode`) that
    every change gets.
    """

    def __init__(self, zone: str, ring: dict, *, signed: bool = True) -> None:
        self.signed, self.refuse = signed, dns.rcode.NOERROR
        self.seen: list[str] = []  # the zones of changes that were sent
        self.zone = dns.name.from_text(zone)
        self.ring = ring
        self.records: set[tuple[str, str]] = set()
        self.ever: set[tuple[str, str]] = set()
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for work in (self._by_tcp, self._by_udp):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for sock in (self.tcp, self.udp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _by_udp(self) -> None:
        while True:
            try:
                data, peer = self.udp.recvfrom(4096)
                if not data:  # it is closed
                    return
                self.udp.sendto(self._answer(data), peer)
            except OSError:
                return

    def _by_tcp(self) -> None:
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError, dns.exception.DNSException):
                size = struct.unpack("!H", client.recv(2, socket.MSG_WAITALL))[0]
                answer = self._answer(client.recv(size, socket.MSG_WAITALL))
                client.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, wire: bytes) -> bytes:
        message = dns.message.from_wire(wire, keyring=self.ring)
        answer = dns.message.make_response(message)
        if message.opcode() == dns.opcode.UPDATE:
            self.seen.append(str(message.zone[0].name))
            if self.refuse:
                answer.set_rcode(self.refuse)
            elif (self.signed and not message.had_tsig) or message.zone[0].name != self.zone:
                answer.set_rcode(dns.rcode.REFUSED)
            else:
                self._change(message)
            return answer.to_wire()
        question = message.question[0]
        name, kind = question.name, question.rdtype
        if kind == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(name, 1, "IN", "A", "127.0.0.1"))
        elif kind == dns.rdatatype.TXT:
            found = [text for owner, text in self.records if owner == str(name).lower()]
            if found:
                answer.answer.append(dns.rrset.from_text(name, 1, "IN", "TXT", *found))
        elif kind == dns.rdatatype.SOA and name == self.zone:
            text = f"ns.{self.zone} me.{self.zone} 1 2 3 4 5"
            answer.answer.append(dns.rrset.from_text(name, 1, "IN", "SOA", text))
        return answer.to_wire()

    def _change(self, message) -> None:
        for found in message.update:
            for one in found:
                change = (str(found.name), one.to_text())
                if found.deleting is not None:
                    self.records.discard(change)
                else:
                    self.records.add(change)
                    self.ever.add(change)
