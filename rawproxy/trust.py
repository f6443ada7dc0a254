"""How the certificate of an https upstream is judged.

    system, FILE   by the system's store, or by that bundle alone
    off            not at all
    pins           the leaf's SHA-256 must be one of --upstream-pin
    auto           by the system's store; where that fails, the first certificate seen is pinned
                   for the life of the process; another is refused unless the store passes it

Decisions only: it never dials. The dialer asks `first` for a context, tells `after` of a failure
(which may give a context for another try), and lets `judge` look at the certificate before a byte
is sent. In auto mode which context it was says how far a dial has come; several are under way at
once, so nothing else may:

    strict   --verification fails--> lenient        (passes: the leaf is known as verified)
    lenient  --judge refuses-------> recheck        (passes: pinned, or the pinned one)
    recheck  --verification fails--> DialError      (passes: as strict)

Invariant: in no mode but `off` does a connection carry a request whose certificate was neither
verified nor pinned. A session is offered again only to the name and by the context it came from.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import socket
import ssl
from collections.abc import Callable

from .config import Certificate
from .errors import ConfigError, DialError
from .tls import load, tell_ends_apart

ALPN = ("http/1.1",)
_NAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
# What OpenSSL's reasons mean to an admin; the names differ from version to version.
_MEANINGS = (
    (
        (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "HTTPS_PROXY_REQUEST",
            "RECORD_LAYER_FAILURE",
            "PACKET_LENGTH_TOO_LONG",
        ),
        "the upstream speaks plain HTTP on that port; use --upstream {plain}",
    ),
    (
        ("CERTIFICATE_REQUIRED",),
        "the upstream asks for a client certificate; use --upstream-cert FILE --upstream-key FILE",
    ),
    (
        ("UNRECOGNIZED_NAME",),
        "the upstream does not know the name {name}; use --upstream-name NAME",
    ),
    (
        ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"),
        "the upstream speaks neither TLS 1.2 nor 1.3",
    ),
    (
        ("NO_APPLICATION_PROTOCOL",),
        "the upstream does not speak HTTP/1.1 on that port",
    ),
    (
        ("HANDSHAKE_FAILURE",),
        "the upstream refuses the TLS handshake: no cipher suite or key exchange group in common,"
        " or it asks for a client certificate (--upstream-cert)",
    ),
    (
        ("UNEXPECTED_EOF", "EOF_OCCURRED"),
        "the upstream closed the connection within the TLS handshake;"
        " if it speaks plain HTTP on that port, use --upstream {plain}",
    ),
)


class _Mode(enum.Enum):
    STORE = "system or FILE"
    OFF = "off"
    PINS = "pins"
    AUTO = "auto"


class SessionContext(ssl.SSLContext):
    """A client context that offers the last good session again: one round trip, no signature.

    Only where it wraps a socket: the loops' own transports know nothing of sessions.
    """

    session: ssl.SSLSession | None = None
    session_name: str | None = None

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """TLS over `sock`, its session resumed if there is one."""
        # The name is not checked again on a resumed connection, so it must be the same.
        if session is None and server_hostname == self.session_name:
            session = self.session
        return super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname,
            session,
        )  # fmt: skip

    def remember(self, connection: ssl.SSLSocket) -> None:
        """Keep the session of `connection`, on which data has come, for the next one."""
        # A resumed connection's own tickets are let go: by them a certificate, looked at once,
        # would be good for ever. As it is, for as long as one ticket lives (RFC 8446: 7 days).
        if connection.session_reused:
            return
        session = connection.session
        if session is not None and session.has_ticket:
            self.session, self.session_name = session, connection.server_hostname


class UpstreamTrust:
    """What one upstream's certificate must be: one for each upstream and process.

    Raises `ConfigError` for an unusable bundle or name.
    """

    def __init__(
        self,
        verify: str,
        pins: frozenset[str],
        server_name: str,
        url: str,
        certificate: Certificate | None = None,
    ) -> None:
        self.url = url
        self.server_name = server_name
        self.pins = pins
        self.verify = verify
        self.mode = _mode(verify, pins)
        self.pinned: str | None = None  # auto: the unverifiable certificate seen first
        self._verified: str | None = None  # auto: the last one that the store passed
        self._refused = ""
        self.on_pin: Callable[[], object] = int  # the first time must be one for all workers
        self.certificate = certificate  # our own
        self.lenient = _lenient(certificate)
        self._usual = self.strict if self.mode in (_Mode.STORE, _Mode.AUTO) else self.lenient
        try:
            self._usual.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=server_name)
        except ValueError:  # UnicodeError is one
            raise ConfigError(
                f"--upstream-name {server_name}: not a name that a certificate can have"
            ) from None

    @functools.cached_property
    def strict(self) -> SessionContext:
        """Verifies chain and name."""
        return _strict(self.verify, self.certificate)

    @functools.cached_property
    def recheck(self) -> SessionContext:
        """As `strict`, for a certificate that `judge` refused; loading a store takes 50 ms."""
        return _strict(self.verify, self.certificate)

    def first(self) -> ssl.SSLContext:
        """The context to dial with: in auto mode the one that did last."""
        return self._usual

    def after(self, error: BaseException, context: ssl.SSLContext) -> ssl.SSLContext | None:
        """A dial with `context` ended in `error`: with what to try once more, if at all.

        `error` is that of the handshake, or the `DialError` of `judge`. Raises `DialError` (502)
        where another certificate than the one known does not verify either.
        """
        if isinstance(context, SessionContext):
            context.session = None  # should it be to blame, it is so but once
        if self.mode is not _Mode.AUTO:
            return None
        if context is self.lenient:
            return self.recheck if isinstance(error, DialError) else None
        if not isinstance(error, ssl.SSLCertVerificationError):
            return None
        if context is self.strict:
            return self.lenient
        raise DialError(self._changed(f"cannot be verified ({_unverified(error)})"))

    def judge(self, leaf: bytes, context: ssl.SSLContext) -> str | None:
        """Look at the leaf (DER) after a handshake with `context`.

        Gives the warning to print when a certificate is pinned. Raises `DialError` (502).
        """
        if self.mode in (_Mode.STORE, _Mode.OFF):
            return None
        if not leaf:
            raise DialError("the upstream shows no certificate")
        seen = hashlib.sha256(leaf).hexdigest()
        if self.mode is _Mode.PINS:
            if seen not in self.pins:
                raise DialError(
                    f"the upstream's certificate (SHA-256 {seen}) is not one of --upstream-pin;"
                    f" if it is the right one, use --upstream-pin {seen}"
                )
            return None
        if context is not self.lenient:
            self._verified = seen
            self._usual = self.strict
            return None
        return self._judge_unverified(seen)

    def _judge_unverified(self, seen: str) -> str | None:
        # What the store once passed is known too: else whoever comes between us and an upstream
        # with a public certificate had but to show any other, and auto would be no protection.
        # The same certificate, expired since, goes on.
        known = self.pinned or self._verified
        if known is not None and seen != known:
            self._refused = seen
            raise DialError(self._changed("is not the one known"))
        self._usual = self.lenient
        if self.pinned is not None:
            return None
        self.pinned = seen
        self.on_pin()
        return (
            f"upstream {self.url}: its certificate cannot be verified; trusting the one seen"
            f" first, SHA-256 {seen}, until this process ends."
            f" To make that permanent: --upstream-pin {seen}"
        )

    def remember(self, context: ssl.SSLContext, tls: ssl.SSLSocket | None) -> None:
        """Keep the session of a connection that `judge` passed for the next dial with `context`.

        To be called once data has come: TLS 1.3 sends its tickets after the handshake.
        """
        # A session of another context would make every later dial fail.
        if tls is not None and isinstance(context, SessionContext) and tls.context is context:
            context.remember(tls)

    def _changed(self, why: str) -> str:
        return (
            f"the upstream's certificate changed from SHA-256 {self.pinned or self._verified} to"
            f" {self._refused}, which {why}; if that is right, restart"
            f" rawproxy, or start it with --upstream-pin {self._refused}"
        )

    def explain(self, error: BaseException) -> str:
        """Why a handshake failed, and what to type."""
        if isinstance(error, ssl.SSLCertVerificationError):
            name = ""
            if getattr(error, "verify_code", None) in _NAME_MISMATCH:
                name = " --upstream-name NAME with a name it has,"
            return (
                f"the upstream's certificate does not verify: {_unverified(error)};"
                f" use{name} --upstream-verify FILE with its CA, or --upstream-pin SHA256"
            )
        text = str(error)
        # An asyncio server that fails a handshake hangs up without the alert that would say why;
        # both loops make of it a ConnectionResetError without a number.
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            text = "EOF_OCCURRED"
        said = text.upper().replace(" ", "_")
        for signs, meaning in _MEANINGS:
            if any(sign in said for sign in signs):
                return meaning.format(plain=_plain(self.url), name=self.server_name)
        if isinstance(error, ssl.SSLError):
            reason = getattr(error, "reason", None) or text
            return f"the TLS handshake with the upstream failed: {reason}"
        number = getattr(error, "errno", None)
        return f"cannot connect: {os.strerror(number) if number else text or type(error).__name__}"


def _mode(verify: str, pins: frozenset[str]) -> _Mode:
    if pins:
        return _Mode.PINS
    return {"auto": _Mode.AUTO, "off": _Mode.OFF}.get(verify, _Mode.STORE)


def _unverified(error: ssl.SSLCertVerificationError) -> str:
    # OpenSSL's own errors have these attributes, those made in Python do not.
    return str(getattr(error, "verify_message", None) or error).rstrip(".")


def _plain(url: str) -> str:
    """The plain upstream at the very place where `url` expects TLS."""
    place = (url.partition("://")[2] or url).rstrip("/")
    port = "" if ":" in place.rpartition("]")[2] else ":443"
    return f"http://{place}{port}"


def _client(certificate: Certificate | None) -> SessionContext:
    context = SessionContext(ssl.PROTOCOL_TLS_CLIENT)
    tell_ends_apart(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    if certificate is not None:
        load(context, certificate, "--upstream-")
    return context


def _strict(verify: str, certificate: Certificate | None) -> SessionContext:
    context = _client(certificate)
    if verify in ("auto", "system"):
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(verify)
    except OSError as error:  # SSLError is one
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"--upstream-verify {verify}: not a usable PEM bundle: {why}") from None
    # Whatever the admin put there is trusted as it stands, be it the leaf itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _lenient(certificate: Certificate | None) -> SessionContext:
    context = _client(certificate)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
