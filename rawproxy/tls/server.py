"""TLS towards clients: Mozilla's profiles, certificates chosen by SNI, client certificates.

The modern profile has only TLS 1.3; the intermediate one has 1.2 too. `openssl.cnf` sets their key
exchange groups; `__main__` names that file before `ssl` is first imported. Sites that ask for the
same client certificates, or for none, share one context. `sessions` says what can be resumed there.
Contexts that were made of the files of a capability are kept (`KeptContexts`), so that one new
certificate of a thousand costs one context.

This module never opens a socket and never asks anything on the terminal. Invariant: a context that
is returned has a certificate and the key that belongs to it. Raises `ConfigError`, which names the
option and the file.
"""

from __future__ import annotations

import datetime
import functools
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from rawproxy.config.capabilities import modules
from rawproxy.config.model import Certificate, Config, Site
from rawproxy.config.options import CAPABILITIES
from rawproxy.errors import ClientError, ConfigError
from rawproxy.routing.match import RouteEntry, Routes, Sites
from rawproxy.routing.route_targets import ClientCertPolicy, client_cert_policy
from rawproxy.tls.kept import KeptContexts
from rawproxy.tls.self_signed import LOCAL, load_self_signed
from rawproxy.tls.sessions import Sessions

ALPN = ("h2", "http/1.1")  # in the order of our preference
# Mozilla's guidelines 5.7, less the DHE suites: what cannot do ECDHE knows no TLS 1.2 with AEAD.
INTERMEDIATE = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    ":ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
EXPIRY_WARNING = datetime.timedelta(days=14)  # certbot renews at 30 days: by then it has failed
_CERTIFICATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----").search
_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----").search
# How OpenSSL says that a key belongs to another certificate: other numbers (the first), or another
# kind (two names).
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

Choose = Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], int | None]


class ServerContext(ssl.SSLContext):
    """A context for clients, and which certificates it asks them for."""

    client_cert_policy: ClientCertPolicy | None = None
    # Gives the context for the name in a ClientHello, if sites ask for different certificates. It
    # gets the ClientHello too.
    pick: Callable[[str, bytes], ServerContext] | None = None


def server_context(
    config: Config, throwaway: bytes | None = None, sessions: Sessions | None = None,
    kept: KeptContexts[ServerContext] | None = None,
) -> ServerContext:  # fmt: skip
    """The context of every https listener. Unknown names get the first certificate.

    The workers of one master share `throwaway`, the PEM for --self-signed and for names without
    their certificate, and `sessions`. `kept` is what was made the last time.
    """
    sessions = sessions or Sessions()
    kept = kept or KeptContexts()
    pending: list[str] = []
    by_policy: dict[ClientCertPolicy | None, list[Site]] = {}
    for site in config.sites:
        by_policy.setdefault(client_cert_policy(site), []).append(site)
    made = {
        one: _context_of_policy(config, one, sites, throwaway, sessions, kept, pending)
        for one, sites in by_policy.items()
    }
    kept.pending = tuple(pending)
    kept.know(
        (_leaf(pair.cert).not_valid_after_utc.timestamp(), pair.cert)
        for pair in config.certificates()
    )
    nameless = next((site for site in config.sites if not site.called()), config.sites[0])
    default = made[client_cert_policy(nameless)]
    default.pick = _by_name(config.sites, made, default) if len(made) > 1 else None
    for room in modules(CAPABILITIES, "contexts") if config.keepers else ():
        room.amend(config, default, functools.partial(_fresh, config, None, sessions))
    return default


def _context_of_policy(
    config: Config,
    client_cert_policy: ClientCertPolicy | None,
    sites: Sequence[Site],
    throwaway: bytes | None,
    sessions: Sessions,
    kept: KeptContexts[ServerContext],
    pending: list[str],
) -> ServerContext:
    """The context of the sites that ask for the same client certificates, or for none.

    `pending` gets the names for which a throw-away certificate answers.
    """
    contexts: list[tuple[ServerContext, Sequence[str]]] = []
    pairs = dict.fromkeys(pair for site in sites for pair in site.certificates)
    keeping = tuple(dict.fromkeys(one for site in sites for one in site.kept))
    own = tuple(pairs) or (() if config.self_signed or keeping else config.certificates())
    several = len(own) + len(keeping) + config.self_signed > 1 or config.strict_sni
    for pair in own:
        context = _fresh(config, client_cert_policy, sessions)
        load(context, pair)
        contexts.append((context, _names(pair.cert) if several else ()))
    fresh = functools.partial(_fresh, config, client_cert_policy, sessions)
    made = {one.name: kept.get(one, client_cert_policy, fresh) for one in keeping}
    contexts += [(context, (name,)) for name, context in made.items() if context is not None]
    waiting = [name for name, context in made.items() if context is None]
    pending += waiting
    if (waiting or not contexts) and not config.self_signed and config.has_certificate():
        # One for all of them, without their names: it tells a stranger nothing about the others.
        context = fresh()
        load_self_signed(context, (), throwaway)
        contexts.append((context, waiting))
    if config.self_signed:
        context = _fresh(config, client_cert_policy, sessions)
        names = config.server_names()
        load_self_signed(context, names, throwaway)
        contexts.append((context, (*LOCAL, *names)))
    if not contexts:
        raise ConfigError("no certificate: type --cert FILE --key FILE, or --self-signed")
    default = contexts[0][0]
    # A context of the last time may have been the first of several then.
    default.sni_callback = _by_sni(contexts, config.strict_sni) if several else None
    return default


def _by_name(
    sites: Sequence[Site],
    made: dict[ClientCertPolicy | None, ServerContext],
    default: ServerContext,
) -> Callable[[str, bytes], ServerContext]:
    """A function that chooses the context by the name that a client asks for."""
    table = Sites(
        [
            (site.names, Routes([RouteEntry(b"/", False, made[client_cert_policy(site)])]))
            for site in sites
        ]
    )

    def pick(name: str, _: bytes) -> ServerContext:
        try:
            return table.find(name.encode("latin-1"), b"/") if name else default
        except ClientError:
            return default

    return pick


def certificate_warnings(config: Config) -> list[str]:
    """What the admin should know about the certificates before clients see it."""
    warnings = []
    now = datetime.datetime.now(datetime.UTC)
    for pair in config.certificates():
        leaf = _leaf(pair.cert)
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if end <= now:
            warnings.append(f"--cert {pair.cert}: expired on {end:%Y-%m-%d}; renew it")
        elif begin > now:
            warnings.append(f"--cert {pair.cert}: not valid before {begin:%Y-%m-%d %H:%M} UTC")
        elif end - now < EXPIRY_WARNING:
            warnings.append(f"--cert {pair.cert}: expires on {end:%Y-%m-%d}; renew it soon")
    for site in config.sites:
        found = [] if site.client_ca is None else not_authorities(site.client_ca)
        warnings += [f"--client-ca {site.client_ca}: {text}" for text in found]
    if config.self_signed:
        warnings.append(
            "--self-signed: browsers will warn of this throw-away certificate;"
            " use --cert and --key for a real one"
        )
    return warnings


def _fresh(
    config: Config, client_cert_policy: ClientCertPolicy | None, sessions: Sessions
) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    tell_ends_apart(context)
    if config.tls == "intermediate":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(INTERMEDIATE)
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    # All suites of both profiles are good, and the client knows which one is fast for it (the
    # profiles say so too). Python would insist on AES-256, which is slow on phones without AES.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(ALPN if config.http2 else ALPN[1:])
    if client_cert_policy is not None:
        _ask(context, *client_cert_policy)
        context.client_cert_policy = client_cert_policy
    sessions.settle(context, client_cert_policy)
    return context


def tell_ends_apart(context: ssl.SSLContext) -> None:
    """Make an end without close_notify an error (RFC 8446 6.1): something may be missing.

    With some Pythons, Debian 12's among them, OpenSSL takes it for a clean end otherwise.
    """
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF


def _ask(context: ServerContext, ca: str, verify: str) -> None:
    """Ask clients for a certificate that `ca` signed."""
    try:
        context.load_verify_locations(ca)
    except OSError as error:  # SSLError is one
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"--client-ca {ca}: not a usable PEM bundle: {why}") from None
    context.verify_mode = ssl.CERT_REQUIRED if verify == "require" else ssl.CERT_OPTIONAL


def mistakes(config: Config) -> Iterator[tuple[Certificate, ConfigError]]:
    """All certificates that cannot be used, and why."""
    for pair in config.certificates():
        try:
            load(ServerContext(ssl.PROTOCOL_TLS_SERVER), pair)
        except ConfigError as error:
            yield pair, error


def load(context: ssl.SSLContext, pair: Certificate, prefix: str = "--") -> None:
    """Give `context` a certificate. The names of its options begin with `prefix`.

    Raises `ConfigError` that says what is wrong with it.
    """
    cert, key = f"{prefix}cert {pair.cert}", f"{prefix}key {pair.key}"
    if not _CERTIFICATE(_read(cert, pair.cert)):
        raise ConfigError(f"{cert}: no PEM certificate in it (BEGIN CERTIFICATE)")
    if not _KEY(_read(key, pair.key)):
        raise ConfigError(f"{key}: no PEM key in it (BEGIN PRIVATE KEY)")

    def encrypted() -> NoReturn:
        # OpenSSL asks for a password only if the key is encrypted. It would ask on the terminal.
        raise ConfigError(
            f"{key}: encrypted; decrypt it with: openssl pkey -in {pair.key} -out FILE"
        )

    try:
        context.load_cert_chain(pair.cert, pair.key, password=encrypted)
    except OSError as error:  # SSLError is one
        raise ConfigError(_why(pair, cert, key, error)) from None


def _why(pair: Certificate, cert: str, key: str, error: OSError) -> str:
    """Why OpenSSL did not take a pair. It often says no more than "PEM"."""
    reason = getattr(error, "reason", None) or str(error)
    if reason in _MISMATCH:
        return f"{key}: not the key of {cert}"
    _leaf(pair.cert, cert)
    try:
        serialization.load_pem_private_key(_read(key, pair.key), None)
    except (ValueError, UnsupportedAlgorithm):
        return f"{key}: damaged, or of an unknown kind"
    return f"{cert} {key}: OpenSSL refuses them: {reason}"


def not_authorities(path: str) -> list[str]:
    """Which certificates of a PEM bundle are their own issuer but cannot sign others, in words.

    A certificate that signs others has to say that it may (RFC 5280 4.2.1.9). OpenSSL makes an
    exception for version 1.
    """
    try:
        found = x509.load_pem_x509_certificates(_read(path, path))
    except (ConfigError, ValueError):
        return []  # the code that loads it says why
    return [
        f"{one.subject.rfc4514_string()} is no authority: it lacks basicConstraints with CA:TRUE,"
        " so what it signed does not verify; make it anew, as in"
        " openssl req -x509 -addext basicConstraints=critical,CA:TRUE"
        for one in found
        if one.subject == one.issuer and one.version is not x509.Version.v1 and not _may_sign(one)
    ]


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    except ValueError:  # odd extensions: OpenSSL has to judge them
        return True
    return found.value.ca


def _read(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{option}: {error.strerror}") from None


def _leaf(path: str, option: str = "") -> x509.Certificate:
    option = option or f"--cert {path}"
    try:
        return x509.load_pem_x509_certificates(_read(option, path))[0]
    except ValueError:
        raise ConfigError(f"{option}: damaged, or not a PEM certificate") from None


def _names(path: str) -> list[str]:
    """The DNS names of a certificate, in lower case. SNI has no addresses (RFC 6066 3)."""
    try:
        extension = _leaf(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise ConfigError(f"--cert {path}: its names cannot be read: {error}") from None
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _by_sni(contexts: Sequence[tuple[ServerContext, Sequence[str]]], strict: bool) -> Choose:
    """A function that gives a connection the certificate for the name that it asks for.

    `strict`: an unknown name, or no name, ends the handshake (RFC 6066 3).
    """
    # Reversed: if two certificates have the same name, the one given first wins.
    chosen = {name: context for context, names in reversed(contexts) for name in names}

    def choose(
        connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> int | None:
        name = (name or "").lower()
        # The exact name first, then the wildcard that covers it (RFC 6125 6.4.3).
        context = chosen.get(name) or chosen.get("*." + name.partition(".")[2])
        if context is not None:
            connection.context = context
        elif strict:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    return choose
