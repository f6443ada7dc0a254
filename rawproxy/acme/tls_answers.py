"""TLS-ALPN-01 (RFC 8737): the certificate that answers, and the context that shows it.

    the keeper    makes the certificate and puts it down (`made`)
    a worker      shows it to whoever offers `acme-tls/1` for that name, and to nobody else

A ClientHello is looked at before the handshake only while there is something to answer; else this
costs a connection nothing. It never talks to an authority. Invariant: no visitor's browser ever
gets such a certificate, as none offers that protocol.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rawproxy.acme import answers
from rawproxy.acme.answers import ACME_TLS, ALPN
from rawproxy.protocol import client_hello
from rawproxy.telemetry.error_log import log
from rawproxy.tls.server import ServerContext

IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # id-pe-acmeIdentifier, RFC 8737 6.1


def made(name: str, words: str) -> bytes:
    """Key and certificate, in PEM, which prove that whoever shows them knows `words`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rawproxy acme-tls/1")])
    now = datetime.datetime.now(datetime.UTC)
    # An ASN.1 OCTET STRING of 32 bytes.
    value = b"\x04\x20" + hashlib.sha256(words.encode()).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(IDENTIFIER, value), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def amend(folder: str, context: ServerContext) -> None:
    """Have `context`, the one of every https listener, answer what is in the folder now."""
    pending: dict[str, ServerContext] = {}
    for name in answers.names_in(folder):
        one = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        one.set_alpn_protocols([ACME_TLS])
        try:
            one.load_cert_chain(os.path.join(folder, name + ALPN))
        except OSError as error:  # SSLError is one; it may just have gone
            log.debug("%s: an answer to TLS-ALPN-01 cannot be used: %s", name, error)
            continue
        pending[name] = one
    if not pending:
        return
    before = context.pick

    def pick(name: str, hello: bytes) -> ServerContext:
        found = pending.get(name)
        if found is not None and ACME_TLS.encode() in client_hello.protocols(hello):
            return found
        return context if before is None else before(name, hello)

    context.pick = pick
