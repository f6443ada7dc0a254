"""Which certificates one upstream may show: those that verified, and those that nobody vouches for.

    look, accept   what an unverifiable certificate at an address is      KNOWN FIRST CHANGED
                                                                          EXPIRED REFUSED
    verify         one that the system's store passed
    told           all of it, for the other workers
    merge          the master: what a worker accepted, unless another was accepted first
    obey           a worker: what the master says goes, which settles who was first

The rule. What verified once must go on verifying: from then on nothing unverifiable is accepted but
one of the very certificates that verified, expired since. Until then an upstream may show, at an
address of this machine or of a private network, whatever it likes: applications make themselves a
new certificate at each start, and who can answer at such an address is inside already. At any other
address, or where the admin asked for `pin`, only what it has shown before is accepted: somebody on
the way, or a forged DNS answer, would look just as new.

It never sees a certificate, only its SHA-256, and never decides how to dial. Invariants: at most
`ADDRESSES` and `EACH` are remembered; while anything is in `verified`, nothing is in `seen`.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Any, Final

ADDRESSES: Final = 256  # of one upstream; a name stands for 64 servers at the most, at a time
EACH: Final = 16  # certificates at one address: the replicas behind a balancer's or a Service's
# Who answers there is this machine or its owner's network. `is_private` of Python's would let the
# documentation's and benchmarks' networks in; 100.64/10 is carriers' (RFC 6598), but whoever dials
# an upstream there means a Tailscale network or a cloud's pods.
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
    """What an unverifiable certificate is."""

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
    """Of one upstream. `strict`: as if none of its addresses were local."""

    __slots__ = ("expired", "news", "seen", "strict", "verified")

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.verified: list[str] = []  # the newest last
        self.seen: dict[str, list[str]] = {}  # by address; the newest last, of both
        self.expired: list[str] = []  # of the verified ones, those that were warned of
        self.news = False  # something has not been told yet

    def __repr__(self) -> str:
        return f"<Fingerprints verified={len(self.verified)} seen={len(self.seen)}>"

    def any_accepted(self) -> bool:
        """Whether one that nobody vouches for has been accepted."""
        return bool(self.seen or self.expired)

    def before(self, address: str) -> str:
        """The certificate that a new one at `address` is compared with; empty: there is none."""
        if self.verified:
            return self.verified[-1]
        seen = self.seen.get(address) or next(reversed(self.seen.values()), None)
        return seen[-1] if seen else ""

    def look(self, sha: str, address: str) -> CertificateVerdict:
        """What the certificate `sha`, which does not verify, is at `address`."""
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
        """The same, and remember it unless it is refused."""
        verdict = self.look(sha, address)
        if verdict is FIRST or verdict is CHANGED:
            self._note(sha, address)
        elif verdict is EXPIRED:
            self.expired = [*self.expired, sha][-EACH:]
        return verdict

    def verify(self, sha: str) -> None:
        """The store has passed this one: what was accepted without that is good no more."""
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
        """All that others are to know."""
        return {
            "strict": self.strict,
            "verified": list(self.verified),
            "seen": {address: list(known) for address, known in self.seen.items()},
        }

    def merge(self, told: SharedFingerprints) -> None:
        """What a worker has accepted, as far as it may be accepted beside what others have."""
        for sha in told["verified"]:
            self.verify(sha)
        for address, known in told["seen"].items():
            for sha in known:
                self.accept(sha, address)

    def obey(self, told: SharedFingerprints) -> bool:
        """What the master knows; True where something that was accepted here is not there."""
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
    """The address of a socket's peer as it is remembered and shown."""
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
