"""The throw-away certificate of --self-signed and of the demo.

Nobody vouches for it, and browsers say so. Invariant: it never outlives the process that made it.
The key is in a file only while OpenSSL loads it, because `ssl` loads nothing but files.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rawproxy.errors import ConfigError

SELF_SIGNED_DAYS: Final = 90
LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def load_self_signed(
    context: ssl.SSLContext, names: Sequence[str], pem: bytes | None = None
) -> None:
    """Give `context` the throw-away certificate `pem`, or a new one.

    A new one is for this machine and `names`. Raises `ConfigError`.
    """
    pem = pem or b"".join(self_signed(names))
    try:
        # Nobody else can read it (0600), and it is deleted at once.
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
    except OSError as error:
        raise ConfigError(f"--self-signed: no temporary file can be written: {error}") from None


def self_signed(names: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate for localhost, its addresses and `names`, and its key, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rawproxy self-signed")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [_general_name(name) for name in dict.fromkeys((*LOCAL, *names))]
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
        # Apple's clients refuse a server certificate without this.
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


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
