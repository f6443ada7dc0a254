"""How the certificate of an https upstream is judged.

    system, FILE   by the system's store, or by that bundle alone
    off            not at all
    pins           the leaf's SHA-256 must be one of --upstream-pin
    auto           by the system's store; where that fails, the first certificate seen is pinned
                   for the life of the process; another is refused unless the store passes it

Decisions only: it never dials. The dialer asks `first` for a context, tells `after` of a failure
(which may give a context for a second try), and lets `judge` look at the certificate before a byte
is sent. Invariant: in no mode but `off` does a connection carry a request whose certificate was
neither verified nor pinned.
"""

from __future__ import annotations

import hashlib
import ssl

from .errors import ConfigError, DialError

_PLAIN = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "HTTPS_PROXY_REQUEST",
    "wrong version number",
    "record layer failure",
    "packet length too long",
)


class SessionContext(ssl.SSLContext):
    """A client context that offers the last good session again.

    asyncio has no way to pass a session along, but every transport comes by here.
    """

    session: ssl.SSLSession | None = None

    def wrap_bio(  # type: ignore[no-untyped-def]
        self, incoming, outgoing, server_side=False, server_hostname=None, session=None
    ) -> ssl.SSLObject:
        """A TLS object over two memory buffers, its session resumed if there is one."""
        return super().wrap_bio(
            incoming, outgoing, server_side, server_hostname, session or self.session
        )


class UpstreamTrust:
    """What one upstream's certificate must be. Raises `ConfigError` for an unusable bundle."""

    def __init__(self, verify: str, pins: frozenset[str], server_name: str, url: str) -> None:
        self.url = url
        self.server_name = server_name
        self.pins = pins
        self.auto = verify == "auto" and not pins
        self.pinned: str | None = None  # auto: the certificate seen first
        self.strict = _strict(verify)
        self.lenient = _lenient()
        self.unchecked = verify == "off" and not pins

    def first(self) -> ssl.SSLContext:
        """The context to dial with."""
        if self.pins or self.unchecked or self.pinned is not None:
            return self.lenient
        return self.strict

    def after(self, error: BaseException, context: ssl.SSLContext) -> ssl.SSLContext | None:
        """A handshake with `context` ended in `error`: with what to try once more, if at all."""
        if not self.auto:
            return None
        if context is self.strict:
            unverified = isinstance(error, ssl.SSLCertVerificationError)
            return self.lenient if unverified and self.pinned is None else None
        return self.strict if isinstance(error, DialError) else None

    def judge(self, leaf: bytes, context: ssl.SSLContext) -> str | None:
        """Look at the leaf (DER) after a handshake with `context`.

        Gives the warning to print when a certificate is pinned. Raises `DialError` (502).
        """
        if context is self.strict or self.unchecked:
            return None
        seen = hashlib.sha256(leaf).hexdigest()
        if self.pins:
            if seen not in self.pins:
                raise DialError(
                    f"the upstream's certificate (SHA-256 {seen}) is not one of --upstream-pin;"
                    f" if it is the right one, use --upstream-pin {seen}"
                )
            return None
        if self.pinned is None:
            self.pinned = seen
            return (
                f"upstream {self.url}: its certificate cannot be verified; trusting the one seen"
                f" first, SHA-256 {seen}, until this process ends."
                f" To make that permanent: --upstream-pin {seen}"
            )
        if seen != self.pinned:
            raise DialError(
                f"the upstream's certificate changed from SHA-256 {self.pinned} to {seen}, and"
                " cannot be verified; if that is right, restart rawproxy or use"
                f" --upstream-pin {seen}"
            )
        return None

    def remember(self, context: ssl.SSLContext, tls: ssl.SSLObject | None) -> None:
        """Keep the session of a good connection for the next handshake with `context`.

        To be called once data has come: TLS 1.3 sends its tickets after the handshake.
        """
        if tls is not None and isinstance(context, SessionContext):
            context.session = tls.session

    def explain(self, error: BaseException) -> str:
        """Why a handshake failed, and what to type."""
        text = str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the upstream's certificate does not verify: {error.verify_message};"
                " use --upstream-verify FILE with its CA, or --upstream-pin SHA256"
            )
        if any(sign in text for sign in _PLAIN):
            plain = "http://" + self.url.removeprefix("https://")
            return f"the upstream speaks plain HTTP on that port; use --upstream {plain}"
        if isinstance(error, ssl.SSLError):
            reason = getattr(error, "reason", None) or text
            return f"the TLS handshake with the upstream failed: {reason}"
        return f"cannot connect: {getattr(error, 'strerror', None) or text or type(error).__name__}"


def _strict(verify: str) -> ssl.SSLContext:
    context = SessionContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if verify in ("auto", "system", "off"):
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(verify)
    except OSError as error:  # SSLError is one
        why = error.strerror or str(error)
        raise ConfigError(f"--upstream-verify {verify}: not a readable PEM bundle: {why}") from None
    return context


def _lenient() -> ssl.SSLContext:
    context = SessionContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
