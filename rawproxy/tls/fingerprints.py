"""Which certificates one upstream may show: verified ones, and ones that nobody vouches for.

    look, accept   what an unverifiable certificate at an address is      KNOWN FIRST CHANGED
                                                                          EXPIRED REFUSED
    verify         the system's store has accepted this certificate
    told           all that is known, for the other workers
    merge          the master takes over what a worker accepted, unless another was accepted first
    obey           a worker takes over what the master says, which settles who was first

The rule: if a certificate of the upstream has verified once, it must go on verifying. From then on
an unverifiable certificate is accepted only if it is one that has verified and has expired since.
Before that, an upstream may show any certificate at an address of this machine or of a private
network: applications make themselves a new certificate at each start, and whoever can answer at
such an address is inside already. At any other address, and everywhere with `pin`, only a
certificate that was shown before is accepted: an attacker on the way, or a forged DNS answer, would
look just as new.

This module never sees a certificate, only its SHA-256, and never decides how to dial. Invariants:
at most `ADDRESSES` addresses are remembered, with `EACH` certificates each. While anything is in
`verified`, nothing is in `seen`.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Any, Final

ADDRESSES: Final = 256  # of one upstream; a name stands for 64 servers at the most, at a time
EACH: Final = 16  # certificates at one address: replicas behind a load balancer or a Service
# Addresses of this machine or its owner's network. Python's `is_private` would also allow the
# networks for documentation and benchmarks. 100.64/10 belongs to carriers (RFC 6598), but an
# upstream there is in a Tailscale network or among a cloud's pods.
LOCAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "100.64.0.0/10", "::1/128", "fe80::/10", "fc00::/7",
    )
)  # fmt: skip
# {"verified": [SHA-256, …], "seen": {address: [SHA-256, …], …}}
SharedFingerprints = dict[str, Any]


class CertificateVerdict(enum.Enum):
    """What a certificate is that does not verify."""

    KNOWN = "accepted before"
    FIRST = "the first one"
    CHANGED = "another one, and accepted"
    EXPIRED = "one that verified once"
    REFUSED = "another one, and refused"


KNOWN: Final[CertificateVerdict] = CertificateVerdict.KNOWN
FIRST: Final[CertificateVerdict] = CertificateVerdict.FIRST
CHANGED: Final[CertificateVerdict] = CertificateVerdict.CHANGED
EXPIRED: Final[CertificateVerdict] = CertificateVerdict.EXPIRED
REFUSED: Final[CertificateVerdict] = CertificateVerdict.REFUSED


class Fingerprints:
    """The fingerprints of one upstream. `strict`: no address counts as local."""

    __slots__ = ("expired", "news", "seen", "strict", "verified")

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.verified: list[str] = []  # the newest last
        self.seen: dict[str, list[str]] = {}  # by address; the newest last, in both
        self.expired: list[str] = []  # verified ones whose expiry the log has told
        self.news = False  # the master has not heard of something yet

    def __repr__(self) -> str:
        return f"<Fingerprints verified={len(self.verified)} seen={len(self.seen)}>"

    def any_accepted(self) -> bool:
        """Whether a certificate has been accepted that nobody vouches for."""
        return bool(self.seen or self.expired)

    def before(self, address: str) -> str:
        """The SHA-256 that a new one at `address` is compared with; empty if there is none."""
        if self.verified:
            return self.verified[-1]
        seen = self.seen.get(address) or next(reversed(self.seen.values()), None)
        return seen[-1] if seen else ""

    def look(self, sha: str, address: str) -> CertificateVerdict:
        """What the certificate `sha` is at `address`, though it does not verify."""
        if self.verified:
            if sha not in self.verified:
                return REFUSED
            return KNOWN if sha in self.expired else EXPIRED
        here = self.seen.get(address, [])
        if sha in here:
            return KNOWN
        if not self.strict and is_local(address):
            return CHANGED if here else FIRST
        if any(sha in known for known in self.seen.values()):
            return KNOWN
        return REFUSED if self.seen else FIRST

    def accept(self, sha: str, address: str) -> CertificateVerdict:
        """The same as `look`, and remember the certificate unless it is refused."""
        verdict = self.look(sha, address)
        if verdict is FIRST or verdict is CHANGED:
            self._note(sha, address)
        elif verdict is EXPIRED:
            self.expired = [*self.expired, sha][-EACH:]
        return verdict

    def verify(self, sha: str) -> None:
        """The store has accepted `sha`: what was accepted without the store is no longer good."""
        if sha not in self.verified:
            self.verified = [*self.verified, sha][-EACH:]
            self.seen.clear()
            self.news = True

    def _note(self, sha: str, address: str) -> None:
        known = self.seen.pop(address, [])
        self.seen[address] = [*known, sha][-EACH:]
        if len(self.seen) > ADDRESSES:
            del self.seen[next(iter(self.seen))]
        self.news = True

    # ── between workers ─────────────────────────────────────────────────────────────────────────

    def told(self) -> SharedFingerprints:
        """All that other workers have to know."""
        return {
            "strict": self.strict,
            "verified": list(self.verified),
            "seen": {address: list(known) for address, known in self.seen.items()},
        }

    def merge(self, told: SharedFingerprints) -> None:
        """Accept what a worker has accepted, if the rule allows it beside what others accepted."""
        for sha in told["verified"]:
            self.verify(sha)
        for address, known in told["seen"].items():
            for sha in known:
                self.accept(sha, address)

    def obey(self, told: SharedFingerprints) -> bool:
        """Take over what the master knows. True if it lacks something that was accepted here."""
        mine = [(sha, address) for address, known in self.seen.items() for sha in known]
        news = self.news
        self.seen = {}
        for address, known in told["seen"].items():
            for sha in known:
                self._note(sha, address)
        for sha in (*told["verified"], *self.verified):
            self.verify(sha)
        if self.verified:
            self.seen = {}
        for sha, address in mine:
            if not self.strict and is_local(address):
                self.accept(sha, address)  # the master has not heard of it yet, or will refuse it
        self.news = news
        return any(self.look(sha, address) is REFUSED for sha, address in mine)


def place(peer: tuple[Any, ...]) -> str:
    """The address of a socket's peer, as it is remembered and shown."""
    host, port = peer[0], peer[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(address: str) -> bool:
    """Whether a `place` is on this machine or in a private network."""
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in network for network in LOCAL)
