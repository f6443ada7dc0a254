"""The header fields that tell the upstream who a client is, by its certificate.

They have the names that ingress-nginx uses, and nginx in authentik's guide. This module never
verifies a certificate: TLS has done that. Invariant: each field is one line of printable ASCII,
whatever the certificate contains.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

NOBODY = b"SSL-Client-Verify: NONE\r\n"
_ODD = re.compile(rb"[^ -~]").sub


def lines(certificate: bytes | None) -> bytes:
    """The fields for a client whose certificate (DER) was verified, or that has none."""
    if not certificate:
        return NOBODY
    leaf = x509.load_der_x509_certificate(certificate)
    pem = leaf.public_bytes(serialization.Encoding.PEM).decode()
    facts = (
        ("Verify", b"SUCCESS"),
        ("Subject-DN", _text(leaf.subject)),
        ("Issuer-DN", _text(leaf.issuer)),
        ("Serial", b"%X" % leaf.serial_number),
        ("Fingerprint", leaf.fingerprint(hashes.SHA256()).hex().encode()),
        ("Cert", quote(pem, safe="").encode()),
    )
    return b"".join(b"SSL-Client-%b: %b\r\n" % (name.encode(), value) for name, value in facts)


def _text(name: x509.Name) -> bytes:
    """The name as RFC 4514 (which replaced 2253) writes it.

    What is not printable ASCII becomes escaped bytes (2.4).
    """
    text = name.rfc4514_string().encode("utf-8", "surrogatepass")
    return _ODD(lambda match: b"\\%02X" % match[0][0], text).strip()
