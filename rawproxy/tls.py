"""TLS towards clients: one context, Mozilla's modern profile, certificates chosen by SNI.

The modern profile is TLS 1.3 alone; its key exchange groups are set by `openssl.cnf`, which
`__main__` names before `ssl` is first imported. It never opens a socket and never asks anything on
the terminal. Invariant: a context that is returned has a certificate and its matching key.
Raises `ConfigError` that names the option and the file.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
import tempfile
from collections.abc import Callable, Sequence
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .config import Certificate, Config
from .errors import ConfigError

ALPN = ("h2", "http/1.1")  # in the order of our preference
SELF_SIGNED_DAYS = 90
EXPIRY_WARNING = datetime.timedelta(days=14)  # certbot renews at 30 days: by then it has failed
_LOCAL = ("localhost", "127.0.0.1", "::1")
_CERTIFICATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----").search
_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----").search
# How OpenSSL says that a key is of another certificate: other numbers, or (two names) another kind.
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

Choose = Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], None]


def server_context(config: Config) -> ssl.SSLContext:
    """The context of every https listener; the first certificate serves unknown names."""
    contexts: list[tuple[ssl.SSLContext, Sequence[str]]] = []
    several = len(config.certificates()) + config.self_signed > 1
    for pair in config.certificates():
        context = _modern(config.http2)
        _load(context, pair)
        contexts.append((context, _names(pair.cert) if several else ()))
    if config.self_signed:
        context = _modern(config.http2)
        names = config.server_names()
        load_self_signed(context, names)
        contexts.append((context, (*_LOCAL, *names)))
    if not contexts:
        raise ConfigError("no certificate: type --cert FILE --key FILE, or --self-signed")
    default = contexts[0][0]
    if several:
        default.sni_callback = _by_sni(contexts)
    return default


def load_self_signed(context: ssl.SSLContext, names: Sequence[str]) -> None:
    """Give `context` a throw-away certificate for this machine and `names`."""
    cert, key = self_signed(names)
    try:
        # ssl loads files only; this one is ours alone (0600) and gone at once.
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(key + cert)
            file.flush()
            context.load_cert_chain(file.name)
    except OSError as error:
        raise ConfigError(f"--self-signed: no temporary file can be written: {error}") from None


def self_signed(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Certificate and key in PEM for localhost, its addresses and `names`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rawproxy self-signed")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [_general_name(name) for name in dict.fromkeys((*_LOCAL, *names))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # a client's clock may be behind
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Apple's clients refuse a server certificate that does not say it is one.
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def certificate_warnings(config: Config) -> list[str]:
    """What the admin should know about the certificates before their visitors do."""
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
    if config.self_signed:
        warnings.append(
            "--self-signed: browsers will warn of this throw-away certificate;"
            " use --cert and --key for a real one"
        )
    return warnings


def _modern(http2: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # All three suites of TLS 1.3 are good: the client knows which is fast for it (the profile too
    # says so). Python would insist on AES-256, which costs phones without AES most.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(ALPN if http2 else ALPN[1:])
    return context


def _load(context: ssl.SSLContext, pair: Certificate) -> None:
    if not _CERTIFICATE(_read("--cert", pair.cert)):
        raise ConfigError(f"--cert {pair.cert}: no PEM certificate in it (BEGIN CERTIFICATE)")
    if not _KEY(_read("--key", pair.key)):
        raise ConfigError(f"--key {pair.key}: no PEM key in it (BEGIN PRIVATE KEY)")

    def encrypted() -> NoReturn:
        # OpenSSL asks for the password only then; without an answer it would ask the terminal.
        raise ConfigError(
            f"--key {pair.key}: encrypted; decrypt it with: openssl pkey -in {pair.key} -out FILE"
        )

    try:
        context.load_cert_chain(pair.cert, pair.key, password=encrypted)
    except OSError as error:  # SSLError is one
        raise ConfigError(_why(pair, error)) from None


def _why(pair: Certificate, error: OSError) -> str:
    """Why OpenSSL did not take a pair whose files can be read; it often says no more than "PEM"."""
    reason = getattr(error, "reason", None) or str(error)
    if reason in _MISMATCH:
        return f"--key {pair.key}: not the key of --cert {pair.cert}"
    _leaf(pair.cert)
    try:
        serialization.load_pem_private_key(_read("--key", pair.key), None)
    except (ValueError, UnsupportedAlgorithm):
        return f"--key {pair.key}: damaged, or of an unknown kind"
    return f"--cert {pair.cert} --key {pair.key}: OpenSSL refuses them: {reason}"


def _read(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}") from None


def _leaf(path: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read("--cert", path))[0]
    except ValueError:
        raise ConfigError(f"--cert {path}: damaged, or not a PEM certificate") from None


def _names(path: str) -> list[str]:
    """The DNS names that a certificate is for, lower case. SNI has no addresses (RFC 6066 3)."""
    try:
        extension = _leaf(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise ConfigError(f"--cert {path}: its names cannot be read: {error}") from None
    return [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]


def _by_sni(contexts: Sequence[tuple[ssl.SSLContext, Sequence[str]]]) -> Choose:
    """What gives a connection the certificate of the name it asks for."""
    # Reversed: where two certificates have a name, the one given first is to stay.
    chosen = {name: context for context, names in reversed(contexts) for name in names}

    def choose(
        connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        if name is None:
            return
        name = name.lower()
        # The exact name first, then the wildcard that covers it (RFC 6125 6.4.3).
        context = chosen.get(name) or chosen.get("*." + name.partition(".")[2])
        if context is not None:
            connection.context = context

    return choose


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
