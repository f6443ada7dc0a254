"""Who a client is: one line a field, whatever stands in its certificate."""

import datetime
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from rawproxy.tls.client_identity import NOBODY, lines

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def certificate(*names: tuple[x509.ObjectIdentifier, str], serial: int = 0xABC) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(serial)
        .public_key(KEY.public_key()).not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )  # fmt: skip
    return builder.sign(KEY, hashes.SHA256())


def der(leaf: x509.Certificate) -> bytes:
    return leaf.public_bytes(serialization.Encoding.DER)


def test_the_fields():
    oid = x509.NameOID
    leaf = certificate(
        (oid.COUNTRY_NAME, "DE"), (oid.ORGANIZATION_NAME, "A, B"), (oid.COMMON_NAME, "Zoë")
    )
    fields = dict(line.split(": ", 1) for line in lines(der(leaf)).decode().split("\r\n") if line)
    pem = fields.pop("SSL-Client-Cert")
    assert x509.load_pem_x509_certificate(unquote(pem).encode()) == leaf
    assert fields == {
        "SSL-Client-Verify": "SUCCESS",
        "SSL-Client-Subject-DN": r"CN=Zo\C3\AB,O=A\, B,C=DE",
        "SSL-Client-Issuer-DN": r"CN=Zo\C3\AB,O=A\, B,C=DE",
        "SSL-Client-Serial": "ABC",
        "SSL-Client-Fingerprint": leaf.fingerprint(hashes.SHA256()).hex(),
    }


def test_nobody():
    assert lines(None) == lines(b"") == NOBODY == b"SSL-Client-Verify: NONE\r\n"


@settings(max_examples=30)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_no_name_ends_its_line(text):
    block = lines(der(certificate((x509.NameOID.COMMON_NAME, text))))
    assert block.count(b"\r\n") == 6 and block.endswith(b"\r\n")
    assert all(0x20 <= byte < 0x7F for byte in block.replace(b"\r\n", b""))
