"""What all workers of one master have in common, so that none of them decides it alone.

    tickets       the keys of TLS tickets: a client resumes its session with any worker
    pins          the upstreams' certificates that a worker has accepted without an authority
    certificate   the one of --self-signed: the same for all workers, and over reloads
    secret        what only the machines that share a store know, where there is one
    memory        in which capabilities keep what all workers count together (`shared_memory`)

A worker hears of all this when it is ready (`greeting`), and of changes at once. This module never
sends anything: it gives messages of `channel`. Invariant: where two workers saw different
certificates first, all of them hear of the same one.
"""

from __future__ import annotations

from typing import Any

from rawproxy.process import shared_memory
from rawproxy.process.channel import Message
from rawproxy.process.ticket_keys import TicketKeys
from rawproxy.tls.fingerprints import Fingerprints, SharedFingerprints


class SharedByWorkers:
    """It lives as long as the master. `now` is a time that only grows."""

    def __init__(self, now: float) -> None:
        self.ticket_keys = TicketKeys(now)
        self.memory = shared_memory.make()  # a descriptor
        self._pins: dict[str, Fingerprints] = {}  # by upstream
        self._secret = ""  # in hexadecimal digits; empty: this machine shares nothing
        self._certificate: tuple[tuple[str, ...], str] | None = None

    def tickets(self) -> Message:
        """The message that brings the keys of tickets."""
        return {"tickets": self.ticket_keys.message()}

    def learn(self, pins: dict[str, SharedFingerprints]) -> Message:
        """Remember what a worker has accepted. The message is for all workers.

        It is for the one that said so too: it hears whether it was the first one.
        """
        for key, told in pins.items():
            self._pins.setdefault(key, Fingerprints(told["strict"])).merge(told)
        return {"pins": {key: self._pins[key].told() for key in pins}}

    def settle(self, found: dict[str, Any], now: float) -> list[Message]:
        """What holds on all machines of a store holds here too. The messages are for all children.

        Whoever says so has seen to it that nothing is lost of what was learned here.
        """
        messages: list[Message] = []
        if "tickets" in found:
            keys = bytes.fromhex(found["tickets"])
            if self.ticket_keys.take(keys, found.get("age", 0.0), now):
                messages.append(self.tickets())
        if found.get("secret", self._secret) != self._secret:
            self._secret = found["secret"]
            shared_memory.set_secret(self.memory, bytes.fromhex(self._secret))
            messages.append({"secret": self._secret})
        for key, told in found.get("pins", {}).items():
            known = self._pins[key] = Fingerprints(told["strict"])
            known.merge(told)
            messages.append({"pins": {key: known.told()}})
        return messages

    def greeting(self) -> list[Message]:
        """The messages for a worker that is ready: what may have changed since it was started."""
        pins = {key: known.told() for key, known in self._pins.items()}
        secret: list[Message] = [{"secret": self._secret}] if self._secret else []
        return [{"pins": pins}, self.tickets(), *secret]

    def certificate(self, names: tuple[str, ...] | None) -> str | None:
        """The certificate of --self-signed for these names, in PEM; None where none is wanted."""
        if names is None:
            return None
        if self._certificate is None or self._certificate[0] != names:
            from rawproxy.tls.self_signed import self_signed  # heavy, and seldom needed

            self._certificate = names, b"".join(self_signed(names)).decode()
        return self._certificate[1]
