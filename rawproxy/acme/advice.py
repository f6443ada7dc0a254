"""An authority's refusal in words: what it said, about which name, and what to look at.

It never decides anything. Invariant: a line that is made here names the server name or the
authority, has the authority's own words where it had any, and ends with something to check or type.
"""

from __future__ import annotations

from typing import Final

from rawproxy.acme.timing import Trouble

LONGEST: Final = 400  # characters of an authority's words: some have a whole page of a web server
# By the error's type (RFC 8555 6.7), what to look at. {name} is the server name.
_ELSEWHERE: Final = "does {where} lead to this rawproxy, and not to another server or machine?"
_CHECK: Final = {
    "connection": "can the authority reach {name}, on {port}, from the internet? Look at firewalls"
    " and at the addresses of its A and AAAA records",
    "dns": "does {name} have an A or AAAA record that leads here, and do its name servers answer?",
    "unauthorized": _ELSEWHERE,
    "incorrectResponse": _ELSEWHERE,
    "tls": "does port 443 of {name} lead to an --https listener of this rawproxy?",
    "caa": "a CAA record of {name} or of a domain above it names other authorities: change it, or"
    " type --acme-ca URL of one that it names",
    "rejectedIdentifier": "this authority gives no certificates for {name}: type another"
    " --acme-ca URL, or leave {name} out",
    "rateLimited": "wait: it is tried again by itself",
    "externalAccountRequired": "the authority wants its own key: type eab-key-id and eab-key under"
    " [certificates] in the file",
    "invalidContact": "type another address behind --acme",
    "unsupportedContact": "type another address behind --acme",
    "userActionRequired": "read what it says, perhaps new terms, and agree there",
    "badCSR": "this is a fault of rawproxy or of the authority: report it",
    "serverInternal": "nothing: it is tried again by itself",
}
_PORTS: Final = {
    "http-01": "port 80", "tls-alpn-01": "port 443", "dns-01": "port 53 of its name servers",
}  # fmt: skip
_WHERE: Final = {
    "http-01": "http://{name}/.well-known/acme-challenge/",
    "tls-alpn-01": "port 443 of {name}",
    "dns-01": "the TXT record of _acme-challenge.{base}, at all of its name servers,",
}
_LIMITED: Final = ("rateLimited",)
_AWAY: Final = ("serverInternal", "badNonce")


class IssueError(Exception):
    """No certificate came of a try: whose fault it was, in words, and how long to wait."""

    def __init__(
        self, trouble: Trouble, words: str, wait: float = 0.0, challenge: str = ""
    ) -> None:
        super().__init__(words)
        self.trouble = trouble
        self.words = words
        self.wait = wait  # seconds that the authority asked for
        self.challenge = challenge  # the kind of challenge that failed


def fault_of(kind: str) -> Trouble:
    """Whose fault an error of that type is."""
    if kind in _LIMITED:
        return Trouble.LIMITED
    return Trouble.AWAY if kind in _AWAY else Trouble.REFUSED


def kind_of(typ: str) -> str:
    """The last part of an error's type: `dns` of urn:ietf:params:acme:error:dns."""
    return typ.rpartition(":")[2]


def refusal(name: str, kind: str, said: str, challenge: str = "http-01") -> str:
    """A line for the log: the name, the authority's words, what to check."""
    words = " ".join(said.split())
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
    base = name.removeprefix("*.")
    fields = {
        "name": base,
        "base": base,
        "port": _PORTS.get(challenge, "port 80"),
        "where": _WHERE.get(challenge, _WHERE["http-01"]).format(name=base, base=base),
    }
    check = _CHECK.get(kind, "read what it says").format(**fields)
    by = f" ({challenge})" if challenge else ""
    return f"{name}: the authority says {kind}{by}: {words}; {check}"


def away(url: str, why: str) -> str:
    """A line for an authority that cannot be reached, or whose certificate is not trusted."""
    why = " ".join(why.split())[:LONGEST]
    check = "is the URL right, and may this machine connect there?"
    if "CERTIFICATE_VERIFY_FAILED" in why or "certificate verify failed" in why:
        check = "type --acme-ca-root FILE with the authority that its own certificate is of"
    elif "invalid path" in why or "Could not find a suitable TLS CA" in why:
        check = "type --acme-ca-root FILE of a PEM file that is there"
    return f"{url}: cannot be reached: {why}; {check}"


def clock_is_off(url: str, seconds: float) -> str:
    """A line for a clock that differs from the authority's by so much that orders make no sense."""
    way = "behind" if seconds > 0 else "ahead"
    hours = abs(seconds) / 3600
    return (
        f"the clock of this machine is {hours:.1f} hours {way} that of {url}: set it (timedatectl);"
        " until then nothing is ordered"
    )
