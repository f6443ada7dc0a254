"""How the certificate of an https upstream is judged.

    system, FILE   by the system's store, or by that bundle alone
    off            not at all
    pins           the leaf's SHA-256 must be one of --upstream-pin
    auto           by the system's store; where that fails, by what the upstream has shown before
                   and where it is (`fingerprints` has the rule)
    pin            the same, but another certificate than the first is refused wherever it is

This module only decides, and never dials. The dialler asks for a `Trial` and dials with its
context. If that fails, it tells the trial, which may want another try. If not, the trial looks at
the certificate before a byte is sent. In the modes `auto` and `pin` a trial has these states:

    KNOWN    --another certificate--> STRICT        (passes: it is one accepted before)
    STRICT   --verification fails---> ANY           (passes: the leaf is known as verified)
    ANY      --refused--------------> DialError     (passes: accepted, and a warning if it is new)

Invariants: except in mode `off`, a connection carries a request only if its certificate was
verified or accepted by `fingerprints`. A session is offered only to the address and name from which
it came, in the context from which it came. A connection that resumes it is judged by the
certificate of the session.
"""

from __future__ import annotations

import enum
import hashlib
import ssl
from collections.abc import Callable
from typing import Any

from rawproxy.errors import ConfigError, DialError, ignore
from rawproxy.tls.fingerprints import (
    ADDRESSES,
    CHANGED,
    KNOWN,
    REFUSED,
    Fingerprints,
    is_local,
    place,
)
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_words import Unverified, UpstreamWords, notice, reason, refusal


class _Mode(enum.Enum):
    STORE = "system or FILE"
    OFF = "off"
    PINS = "pins"
    FIRST = "auto or pin"


class Attempt(enum.Enum):
    """The states of a trial, as the module's docstring has them."""

    KNOWN = "known"
    STRICT = "strict"
    ANY = "any"


class UpstreamTrust:
    """What the certificate of one upstream must be; each process has one for each name.

    Raises `ConfigError` for a bundle or a name that cannot be used.
    """

    def __init__(
        self, contexts: Contexts, pins: frozenset[str], server_name: str, url: str
    ) -> None:
        self.contexts = contexts
        self.url = url
        self.server_name = server_name
        self.pins = pins
        self.words = UpstreamWords(contexts, server_name, url)
        self.mode = _mode(contexts.verify, pins)
        self.known = Fingerprints(strict=contexts.verify == "pin")
        self.key = f"{contexts.verify} {url} {server_name}"  # of `known`, for other workers
        self.on_news: Callable[[], object] = ignore  # all workers must accept the same
        # The last good session of each address, the oldest first. It saves a round trip.
        self._sessions: dict[str, tuple[ssl.SSLContext, ssl.SSLSession]] = {}
        usual = contexts.lenient if self.mode in (_Mode.OFF, _Mode.PINS) else contexts.strict
        try:
            usual.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=server_name)
        except ValueError:  # UnicodeError is one
            raise ConfigError(
                f"--upstream-name {server_name}: not a name that a certificate can have"
            ) from None

    def for_name(self, server_name: str) -> UpstreamTrust:
        """The same trust for another name, with sessions of its own. Raises `ConfigError`."""
        return UpstreamTrust(self.contexts, self.pins, server_name, self.url)

    def trial(self) -> Trial:
        """A new trial. Each dial begins with one."""
        return Trial(self)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────

    def session(self, address: str, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """The session to offer at `address`. One of another context would make each dial fail."""
        kept = self._sessions.get(address)
        return kept[1] if kept is not None and kept[0] is context else None

    def forget(self, address: str) -> None:
        """Forget the session of `address`: if it caused a failure, it does so only once."""
        self._sessions.pop(address, None)

    def remember(self, tls: ssl.SSLSocket) -> None:
        """Keep the session of a connection that was judged and has received data.

        Data matters because TLS 1.3 sends its tickets after the handshake.
        """
        # The tickets of a resumed connection are not kept: with them, a certificate that was looked
        # at once would be good for ever. So it is good for one ticket's life (RFC 8446: 7 days).
        if tls.session_reused or tls.server_hostname != self.server_name:
            return
        session = tls.session
        if session is not None and session.has_ticket:
            try:
                address = place(tls.getpeername())
            except OSError:  # the upstream has gone already
                return
            self._sessions.pop(address, None)
            self._sessions[address] = tls.context, session
            if len(self._sessions) > ADDRESSES:
                del self._sessions[next(iter(self._sessions))]

    # ── what other workers know ─────────────────────────────────────────────────────────────────

    def news(self) -> dict[str, Any] | None:
        """What is known, if the master has not heard all of it yet; else None."""
        if not self.known.news:
            return None
        self.known.news = False
        return self.known.told()

    def obey(self, told: dict[str, Any]) -> bool:
        """Take over what the master knows.

        True: connections may be open whose certificates would be refused now.
        """
        refused = self.known.obey(told)
        if refused:
            self._sessions.clear()
        return refused

    def how(self, address: str) -> str:
        """Why the certificate at `address` was accepted, in words for `rawproxy check`."""
        if self.mode is _Mode.OFF:
            return "is not checked"
        if self.mode is _Mode.PINS:
            return "is one of --upstream-pin"
        if not self.known.any_accepted():
            return "verifies"
        if not self.known.strict and is_local(address):
            return "does not verify; at a private address another is accepted too"
        return "does not verify; another will be refused"


class Trial:
    """One dial: which context comes next, and whether the certificate is accepted."""

    __slots__ = ("address", "attempt", "changed", "there", "trust", "warning", "why")

    def __init__(self, trust: UpstreamTrust) -> None:
        self.trust = trust
        self.attempt = Attempt.ANY
        if trust.mode is _Mode.STORE:
            self.attempt = Attempt.STRICT
        elif trust.mode is _Mode.FIRST:
            known = trust.known.any_accepted()
            self.attempt = Attempt.KNOWN if known else Attempt.STRICT
        self.address = ""
        self.there = False  # the upstream was reached, so a failure is one of TLS
        self.why = ""  # why the store did not accept the certificate
        self.warning = ""  # a line for the log
        self.changed = False  # another certificate was accepted

    @property
    def context(self) -> ssl.SSLContext:
        """The context to dial with."""
        contexts = self.trust.contexts
        return contexts.strict if self.attempt is Attempt.STRICT else contexts.lenient

    def session(self, peer: tuple[Any, ...]) -> ssl.SSLSession | None:
        """The TCP connection to `peer` is made. Returns the session to resume there, if any."""
        self.address = place(peer)
        self.there = True
        return self.trust.session(self.address, self.context)

    def failed(self, error: BaseException) -> bool:
        """The dial failed. Returns whether to try again, with another context."""
        self.trust.forget(self.address)
        if self.trust.mode is not _Mode.FIRST or self.attempt is not Attempt.STRICT:
            return False
        if not isinstance(error, ssl.SSLCertVerificationError):
            return False
        self.why = reason(error)
        self.there = False
        self.attempt = Attempt.ANY
        return True

    def passes(self, leaf: bytes) -> bool:
        """Judge the leaf (DER) after the handshake. False: close, and try again.

        Raises `DialError` (502).
        """
        mode = self.trust.mode
        if mode is _Mode.STORE or mode is _Mode.OFF:
            return True
        if not leaf:
            raise DialError("the upstream shows no certificate")
        sha = hashlib.sha256(leaf).hexdigest()
        if mode is _Mode.PINS:
            if sha not in self.trust.pins:
                raise DialError(
                    f"the upstream's certificate (SHA-256 {sha}) is not one of --upstream-pin;"
                    f" if it is the right one, use --upstream-pin {sha}, or, where it changes with"
                    " each restart of the upstream, --upstream-verify FILE with its CA"
                )
            return True
        known = self.trust.known
        if self.attempt is Attempt.STRICT:
            known.verify(sha)
        elif self.attempt is Attempt.KNOWN:
            if known.look(sha, self.address) is not KNOWN:
                self.attempt = Attempt.STRICT
                self.there = False
                return False
        else:
            self._judge(sha, known)
        if known.news:
            self.trust.on_news()
        return True

    def _judge(self, sha: str, known: Fingerprints) -> None:
        """Judge a certificate that the store did not accept. Raises `DialError`."""
        one = Unverified(sha, known.before(self.address), self.address, self.why)
        verdict = known.accept(sha, self.address)
        if verdict is REFUSED:
            self.trust.forget(self.address)
            raise DialError(refusal(one, known))
        if verdict is CHANGED:
            self.trust.forget(self.address)
            self.changed = True
        if verdict is not KNOWN:
            self.warning = f"upstream {self.trust.url}: {notice(one, known, verdict)}"


def _mode(verify: str, pins: frozenset[str]) -> _Mode:
    if pins:
        return _Mode.PINS
    words = {"auto": _Mode.FIRST, "pin": _Mode.FIRST, "off": _Mode.OFF}
    return words.get(verify, _Mode.STORE)
