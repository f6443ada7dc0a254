"""TLS towards clients: one context, Mozilla's modern profile, certificates chosen by SNI.

The modern profile is TLS 1.3 alone; its key exchange groups are set by `openssl.cnf`, which
`__main__` names before `ssl` is first imported. It never opens a socket. Invariant: a context
that is returned has a certificate and its matching key.
Raises `ConfigError` that names the option and the file.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .config import Certificate, Config
from .errors import ConfigError

ALPN = ["http/1.1"]
SELF_SIGNED_DAYS = 90
EXPIRY_WARNING = datetime.timedelta(days=14)  # certbot renews at 30 days: by then it has failed
_LOCAL = ("localhost", "127.0.0.1", "::1")


def server_context(config: Config) -> ssl.SSLContext:
    """The context of every https listener; the first certificate serves unknown names."""
    contexts: list[tuple[ssl.SSLContext, list[str]]] = []
    for pair in config.certificates:
        context = _modern()
        _load(context, pair)
        contexts.append((context, _names(pair.cert)))
    if config.self_signed:
        context = _modern()
        load_self_signed(context, config.server_names)
        contexts.append((context, [*_LOCAL, *config.server_names]))
    default = contexts[0][0]
    if len(contexts) > 1:
        chosen = {name: context for context, names in reversed(contexts) for name in names}

        def choose(
            connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
        ) -> None:
            context = _by_name(chosen, name)
            if context is not None:
                connection.context = context

        default.sni_callback = choose
    return default


def load_self_signed(context: ssl.SSLContext, names: Sequence[str]) -> None:
    """Give `context` a throw-away certificate for this machine and `names`."""
    cert, key = self_signed(names)
    # ssl loads files only; this one is ours alone (0600) and gone at once.
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(key + cert)
        file.flush()
        context.load_cert_chain(file.name)


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
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
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
    for pair in config.certificates:
        end = _leaf(pair.cert).not_valid_after_utc
        if end <= now:
            warnings.append(f"--cert {pair.cert}: expired on {end:%Y-%m-%d}; renew it")
        elif end - now < EXPIRY_WARNING:
            warnings.append(f"--cert {pair.cert}: expires on {end:%Y-%m-%d}; renew it soon")
    if config.self_signed:
        warnings.append(
            "--self-signed: browsers will warn of this throw-away certificate;"
            " use --cert and --key for a real one"
        )
    return warnings


def _modern() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(ALPN)
    return context


def _load(context: ssl.SSLContext, pair: Certificate) -> None:
    for option, path in (("--cert", pair.cert), ("--key", pair.key)):
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as error:
            raise ConfigError(f"{option} {path}: {error.strerror}") from None
        if b"-----BEGIN " not in text:
            raise ConfigError(f"{option} {path}: not a PEM file (no -----BEGIN line)")
        if option == "--key" and b"ENCRYPTED" in text:
            raise ConfigError(f"--key {path}: encrypted; decrypt it with: openssl pkey -in {path}")
    try:
        context.load_cert_chain(pair.cert, pair.key, password=b"")
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error) or "key values mismatch" in str(error):
            raise ConfigError(f"--key {pair.key}: not the key of --cert {pair.cert}") from None
        raise ConfigError(f"--cert {pair.cert} --key {pair.key}: cannot be used: {error}") from None


def _leaf(path: str) -> x509.Certificate:
    try:
        with open(path, "rb") as file:
            return x509.load_pem_x509_certificates(file.read())[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--cert {path}: {error}") from None


def _names(path: str) -> list[str]:
    """The names a certificate is for: DNS names and addresses, lower case."""
    try:
        extension = _leaf(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return [name.lower() for name in names] + [str(address) for address in addresses]


def _by_name(chosen: dict[str, ssl.SSLContext], name: str | None) -> ssl.SSLContext | None:
    """The exact name first, then the wildcard that covers it (RFC 6125 6.4.3)."""
    if name is None:
        return None
    name = name.lower()
    return chosen.get(name) or chosen.get("*." + name.partition(".")[2])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
