"""What an admin is told of an upstream's TLS, over real sockets in both loops."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.tls.upstream_peers import (
    OTHER,
    UNVERIFIED,
    WEAK,
    Dialer,
    Peer,
    blocking,
    connect,
    in_plain,
    loops,
    mutual,
    old_fashioned,
    over,
    particular,
    run,
    serving,
    trust,
)

HTML = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>The plain HTTP request"


@loops
@pytest.mark.parametrize(
    ("speak", "words"),
    [
        (in_plain(HTML), "speaks plain HTTP on that port; use --upstream http://up.test:9443"),
        (in_plain(b"<html>bad</html>"), "speaks plain HTTP on that port; use --upstream http://"),
        (in_plain(b""), "closed the connection within the TLS handshake; if it speaks plain HTTP"),
        (in_plain(b"HT"), "closed the connection within the TLS handshake"),
        (over(serving(OTHER)), "does not verify: unable to get local issuer certificate; use"),
        (
            over(old_fashioned()),
            "does not speak TLS 1.2 or 1.3; if it is an old device, use --upst",
        ),
        (over(mutual()), "or it asks for a client certificate"),
        (over(particular()), "does not know the name up.test; use --upstream-name NAME"),
    ],
)
def test_what_the_loops_raise_is_explained(loop, speak, words, bundle):
    t = trust(bundle)

    async def story():
        with blocking(speak) as port, pytest.raises(OSError) as caught:
            await connect(port, t.trial().context, "up.test")
        text = t.words.explain(caught.value)
        assert words in text
        assert "\n" not in text

    run(loop, story)


@loops
@pytest.mark.parametrize("name", ["down.test", "127.0.0.2"])
def test_a_wrong_name_is_explained(loop, name, bundle):
    async def story():
        t = trust(bundle, name=name)
        async with Peer() as peer:
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await Dialer(t, name).dial(peer)
        text = t.words.explain(caught.value)
        assert f"not valid for '{name}'; use --upstream-name NAME" in text
        assert "--upstream-verify another FILE" in text
        assert "--upstream-pin" in text

    run(loop, story)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UNVERIFIED, "self-signed certificate; use --upstream-verify FILE with its CA, or --up"),
        (WEAK, "EE certificate key too weak; if it is an old device, use --upstream-tls legacy"),
        (ssl.SSLError(1, "[SSL: DH_KEY_TOO_SMALL] dh key too small"), "use --upstream-tls legacy"),
        (
            ssl.SSLError(1, "[SSL: UNSAFE_LEGACY_RENEGOTIATION_DISABLED] unsafe"),
            "too old (UNSAFE_LEGACY_RENEGOTIATION); if it is an old device, use --upstream-tls leg",
        ),
        (ssl.SSLCertVerificationError(1, "odd"), "does not verify: odd"),
        # As other versions of OpenSSL word it.
        (ssl.SSLError(1, "[SSL] record layer failure (_ssl.c:1000)"), "speaks plain HTTP"),
        (ssl.SSLError(1, "[SSL: PACKET_LENGTH_TOO_LONG] packet length too long"), "plain HTTP"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] x"), "a client certificate"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_NO_APPLICATION_PROTOCOL] x"), "not speak HTTP/1.1"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "closed the connection"),
        (BrokenPipeError(32, "Broken pipe"), "closed the connection"),
        (ssl.SSLError(1, "bad luck"), "the TLS handshake with the upstream failed: bad luck"),
        (ConnectionRefusedError(111, "Connect call failed"), "cannot connect: Connection refused"),
        (OSError("Multiple exceptions: a, b"), "cannot connect: Multiple exceptions: a, b"),
        (OSError(), "cannot connect: OSError"),
    ],
)
def test_explanations(error, words):
    assert words in trust().words.explain(error)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("up.test:9443", "http://up.test:9443"),
        ("https://up.test", "http://up.test:443"),  # http:// alone would be port 80
        ("HTTPS://[::1]/", "http://[::1]:443"),
        ("[::1]:9443", "http://[::1]:9443"),
    ],
)
def test_the_plain_place(url, plain):
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    assert trust(url=url).words.explain(error).endswith(f"use --upstream {plain}")


def signed_by_no_authority(tmp_path):
    """A bundle whose one certificate lacks basicConstraints, and a server with a leaf of it."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    found = []
    for name, issuer, key in (("root", "root", keys[0]), ("up.test", "root", keys[1])):
        builder = (
            x509.CertificateBuilder().serial_number(x509.random_serial_number())
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("up.test")]), critical=False)
        )  # fmt: skip
        found.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(Encoding.PEM))
    bundle, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    bundle.write_bytes(found[0])
    key = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    leaf.write_bytes(found[1] + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)
    return str(bundle), context


@loops
def test_a_bundle_without_basic_constraints_is_said_to_be_wrong(loop, tmp_path):
    bundle, context = signed_by_no_authority(tmp_path)

    async def story():
        t = trust(bundle)
        with blocking(over(context)) as port, pytest.raises(ssl.SSLError) as caught:
            await connect(port, t.trial().context, "up.test")
        text = t.words.explain(caught.value)
        assert f"in {bundle}, CN=root is no authority: it lacks basicConstraints" in text
        assert "-addext basicConstraints=critical,CA:TRUE" in text
        assert "--upstream-verify" not in text, "that is what was just done"

    run(loop, story)


def test_complaints_behind_the_handshake():
    t = trust()
    for reason, words in [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "asks for a client certificate; use --upstream-cert"),
        ("TLSV1_ALERT_UNKNOWN_CA", "refuses our certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "refuses our certificate"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "ended TLS: TLSV1_ALERT_INTERNAL_ERROR"),
    ]:
        error = ssl.SSLError(1, f"[SSL: {reason}] x")
        error.reason = reason
        assert words in t.words.complaint(error)
    for error in (None, ConnectionResetError(), ssl.SSLError(1, "odd"), ssl.SSLEOFError(8, "x")):
        assert t.words.complaint(error) == ""
