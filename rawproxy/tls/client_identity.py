"""Who a client is, by its certificate: the fields that tell the upstream.

Their names are those of ingress-nginx, and of nginx in authentik's guide. It never verifies: TLS
has done that. Invariant: whatever stands in a certificate, a field is one line of printable ASCII.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

NOBODY = b"SSL-Client-Verify: NONE\r\n"
_ODD = re.compile(rb"[^ -~]").sub


def lines(certificate: bytes | None) -> bytes:
    """The fields for a verified client with this certificate (DER), or with none."""
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
    """RFC 4514, the successor of 2253; what is not printable ASCII as escaped bytes (2.4)."""
    text = name.rfc4514_string().encode("utf-8", "surrogatepass")
    return _ODD(lambda match: b"\\%02X" % match[0][0], text).strip()
