"""Says what a failure of TLS with an upstream means, and what to type.

    explain      why a handshake failed
    complaint    what an alert of the upstream after the handshake means
    refusal      why a certificate was not accepted
    notice       which certificate was accepted although nobody vouches for it

This module never judges and never dials. Invariant: each text says what is wrong in the admin's
words, not OpenSSL's, and what to type, if anything helps.
"""

from __future__ import annotations

import os
import ssl
from typing import Final, NamedTuple

from rawproxy.tls.fingerprints import CHANGED, EXPIRED, CertificateVerdict, Fingerprints, is_local
from rawproxy.tls.upstream_contexts import WORDS, Contexts

_NAME_MISMATCH: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_INVALID_CA: Final = (24, 79)  # X509_V_ERR_INVALID_CA, until OpenSSL 1.1.1 and since 3.0
# X509_V_ERR_EE_KEY_TOO_SMALL, CA_KEY_TOO_SMALL, CA_MD_TOO_WEAK: below OpenSSL's security level.
_TOO_WEAK: Final = (66, 67, 68)
# What OpenSSL's reasons mean to an admin; the names differ from version to version.
_MEANINGS: Final = (
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
        (
            "ALERT_UNKNOWN_CA",
            "ALERT_BAD_CERTIFICATE",
            "ALERT_CERTIFICATE_",
            "ALERT_UNSUPPORTED_CERT",
        ),
        "the upstream refuses our certificate; check --upstream-cert FILE, and that the"
        " upstream knows its authority",
    ),
    (
        ("UNRECOGNIZED_NAME",),
        "the upstream does not know the name {name}; use --upstream-name NAME",
    ),
    (
        ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"),
        "the upstream does not speak {versions}{older}",
    ),
    (
        (
            "UNSAFE_LEGACY_RENEGOTIATION",
            "DH_KEY_TOO_SMALL",
            "EE_KEY_TOO_SMALL",
            "CA_MD_TOO_WEAK",
            "CA_KEY_TOO_SMALL",
            "WRONG_SIGNATURE_TYPE",
            "UNKNOWN_CIPHER_RETURNED",
            "WRONG_CIPHER_RETURNED",
        ),
        "the upstream's TLS is too old ({reason}){older}",
    ),
    (
        ("NO_APPLICATION_PROTOCOL",),
        "the upstream does not speak HTTP/1.1 on that port",
    ),
    (
        ("HANDSHAKE_FAILURE",),
        "the upstream refuses the TLS handshake: no cipher suite or key exchange group in common,"
        " or it asks for a client certificate (--upstream-cert){older}",
    ),
    (
        ("UNEXPECTED_EOF", "EOF_OCCURRED"),
        "the upstream closed the connection within the TLS handshake;"
        " if it speaks plain HTTP on that port, use --upstream {plain}",
    ),
)
_VERSIONS: Final = {"modern": "TLS 1.3", "intermediate": "TLS 1.2 or 1.3", "legacy": "TLS"}
_OLDER: Final = {
    "modern": "; use --upstream-tls intermediate",
    "intermediate": "; if it is an old device, use --upstream-tls legacy",
    "legacy": "",
}


class UpstreamWords:
    """The texts about one upstream."""

    __slots__ = ("_contexts", "_name", "_url")

    def __init__(self, contexts: Contexts, server_name: str, url: str) -> None:
        self._contexts = contexts
        self._name = server_name
        self._url = url

    def explain(self, error: BaseException) -> str:
        """Why a handshake failed, and what to type."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._unverified(error)
        text = str(error)
        # If an asyncio server fails a handshake, it hangs up without the alert that would say why.
        # Both loops raise a ConnectionResetError without a number then.
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            text = "EOF_OCCURRED"
        meaning = self._meaning(text)
        if meaning:
            return meaning
        if isinstance(error, ssl.SSLError):
            reason = getattr(error, "reason", None) or text
            return f"the TLS handshake with the upstream failed: {reason}"
        number = getattr(error, "errno", None)
        return f"cannot connect: {os.strerror(number) if number else text or type(error).__name__}"

    def complaint(self, error: BaseException | None) -> str:
        """What a TLS alert of the upstream after the handshake means; empty if there is none.

        In TLS 1.3 the server judges a client certificate when the handshake is over for the client.
        """
        reason = getattr(error, "reason", None) or ""
        if not isinstance(error, ssl.SSLError) or "ALERT" not in reason:
            return ""
        return self._meaning(reason) or f"the upstream ended TLS: {reason}"

    def _meaning(self, text: str) -> str:
        said = text.upper().replace(" ", "_")
        for signs, meaning in _MEANINGS:
            for sign in signs:
                if sign in said:
                    return meaning.format(
                        plain=_plain(self._url), name=self._name, reason=sign,
                        versions=_VERSIONS[self._contexts.tls], older=_OLDER[self._contexts.tls],
                    )  # fmt: skip
        return ""

    def _unverified(self, error: ssl.SSLCertVerificationError) -> str:
        said = f"the upstream's certificate does not verify: {reason(error)};"
        code = getattr(error, "verify_code", None)
        flaw = self._contexts.flaw() if code in _INVALID_CA else ""
        if flaw:
            return f"{said} {flaw}"
        if code in _TOO_WEAK and _OLDER[self._contexts.tls]:
            return f"{said} if it is an old device, use --upstream-tls legacy"
        name = " --upstream-name NAME with a name it has," if code in _NAME_MISMATCH else ""
        file = "another FILE" if self._contexts.verify not in WORDS else "FILE"
        return (
            f"{said} use{name} --upstream-verify {file} with its CA,"
            " or --upstream-pin SHA256 if it never changes"
        )


class Unverified(NamedTuple):
    """A certificate that the store did not accept."""

    sha: str
    before: str  # SHA-256 of the one that it is compared with; empty: there is none
    address: str
    why: str


def refusal(one: Unverified, known: Fingerprints) -> str:
    """Why a certificate was not accepted, and what to type if it should be."""
    changed = (
        f"the upstream's certificate changed from SHA-256 {one.before} to {one.sha}"
        f" ({one.address}), which cannot be verified ({one.why})"
    )
    if known.verified:
        why = "and the one before could"
    elif known.strict:
        why = "and --upstream-verify pin lets no other in; if that is right, restart rawproxy"
        return f"{changed}, {why}"
    else:
        why = "and that is no private address, so it may be anybody"
    return (
        f"{changed}, {why}; if that is right, use --upstream-verify FILE with its CA,"
        f" or --upstream-pin {one.sha} if it stays the same when the upstream restarts"
    )


def notice(one: Unverified, known: Fingerprints, verdict: CertificateVerdict) -> str:
    """Which certificate was accepted unverified, why, and what to type instead."""
    if verdict is EXPIRED:
        return (
            f"its certificate, SHA-256 {one.sha}, verified once and does no more ({one.why});"
            " it goes on with this one alone: renew it"
        )
    if verdict is CHANGED:
        first = f"the certificate of {one.address} changed from SHA-256 {one.before} to {one.sha}"
        first += f" and cannot be verified ({one.why})"
    else:
        first = f"the certificate of {one.address}, SHA-256 {one.sha},"
        first += f" cannot be verified ({one.why})"
    if not known.strict and is_local(one.address):
        return (
            f"{first}; trusted, as that is a private address, where another one would be too."
            " For more: --upstream-verify FILE with its CA; or --upstream-verify pin, which"
            " refuses any other until rawproxy is restarted"
        )
    return (
        f"{first}; trusted as the first one seen, until rawproxy is restarted; any other is"
        " refused. To make that permanent: --upstream-verify FILE with its CA,"
        f" or --upstream-pin {one.sha} if it stays the same when the upstream restarts"
    )


def reason(error: ssl.SSLCertVerificationError) -> str:
    """Why OpenSSL did not verify a certificate."""
    # Errors of OpenSSL have these attributes; errors that Python makes do not.
    return str(getattr(error, "verify_message", None) or error).rstrip(".")


def _plain(url: str) -> str:
    """The URL of a plain upstream at the place where `url` expects TLS."""
    place = (url.partition("://")[2] or url).rstrip("/")
    port = "" if ":" in place.rpartition("]")[2] else ":443"
    return f"http://{place}{port}"
