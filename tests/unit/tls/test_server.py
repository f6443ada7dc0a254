"""Contexts towards clients: the modern profile, SNI, and what is said of bad files."""

import contextlib
import datetime
import glob
import ipaddress
import os
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import rawproxy
from rawproxy.__main__ import HYBRID
from rawproxy.config.model import Certificate, Config, Site, single
from rawproxy.errors import ConfigError
from rawproxy.tls import self_signed
from rawproxy.tls import server as tls_server
from tests.process import PATIENCE

CA = trustme.CA()
LEAF = CA.issue_cert("a.test", "*.b.test", "127.0.0.1")
EXACT = CA.issue_cert("x.b.test")
OTHER = CA.issue_cert("other.test")
NOW = datetime.datetime.now(datetime.UTC)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def files(tmp_path, leaf, name="leaf", key=None):
    cert_path, key_path = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
    cert_path.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key_path.write_bytes((key or leaf).private_key_pem.bytes())
    return Certificate(str(cert_path), str(key_path))


def serving(*pairs, **options) -> ssl.SSLContext:
    return tls_server.server_context(single((), certificates=pairs, **options))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Both sides of a handshake in memory; the client's object."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
                done.add(side)
    assert len(done) == 2
    # TLS 1.3 tickets come with the first data.
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    return ours


def trusting(*alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    context.set_alpn_protocols(alpn or ["http/1.1"])
    return context


def lax() -> ssl.SSLContext:
    context = trusting()
    context.check_hostname = False
    return context


def blind() -> ssl.SSLContext:
    context = lax()
    context.verify_mode = ssl.CERT_NONE
    return context


def names(connection: ssl.SSLObject) -> list[str]:
    return [name for _, name in connection.getpeercert()["subjectAltName"]]


def pem(key, password: bytes | None = None, form=serialization.PrivateFormat.PKCS8) -> bytes:
    lock = serialization.BestAvailableEncryption(password) if password else None
    return key.private_bytes(serialization.Encoding.PEM, form, lock or serialization.NoEncryption())


def handmade(tmp_path, key, *extensions: x509.ExtensionType) -> Certificate:
    """A certificate that no sane authority would issue."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plain")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
        .public_key(key.public_key()).not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )  # fmt: skip
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    path = tmp_path / "handmade.pem"
    certificate = builder.sign(key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + pem(key))
    return Certificate(str(path), str(path))


# ── the modern profile ──────────────────────────────────────────────────────────────────────────


def test_the_modern_profile(tmp_path):
    context = serving(files(tmp_path, LEAF))
    peer = handshake(context, trusting("h3", "http/1.1"), "a.test")
    assert (peer.version(), peer.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        handshake(context, old, "a.test")


def test_an_end_without_close_notify_is_no_clean_one(tmp_path, monkeypatch):
    class Forgiving(tls_server.ServerContext):
        """As some Pythons make every context."""

        def __new__(cls, protocol):
            context = super().__new__(cls, protocol)
            context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
            return context

    monkeypatch.setattr(tls_server, "ServerContext", Forgiving)
    context = serving(files(tmp_path, LEAF))
    assert isinstance(context, Forgiving)
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


def test_the_intermediate_profile(tmp_path):
    context = serving(files(tmp_path, LEAF), tls="intermediate")
    assert handshake(context, trusting(), "a.test").version() == "TLSv1.3"
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(context, old, "a.test").version() == "TLSv1.2"
    for weak in ("ECDHE+AES128+SHA256", "AES128-GCM-SHA256", "ECDHE+AES256+SHA"):
        old.set_ciphers(weak)
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake|no_shared|no shared"):
            handshake(context, old, "a.test")


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("x", "no certificate in it")])
def test_a_bad_client_ca(tmp_path, text, why):
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    site = Site(certificates=(files(tmp_path, LEAF),), client_ca=str(path), client_verify="require")
    with pytest.raises(ConfigError, match=f"^--client-ca {path}: not a usable PEM bundle: {why}"):
        tls_server.server_context(Config(sites=(site,)))


def test_the_site_without_names_is_for_unknown_ones(tmp_path):
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pair = files(tmp_path, LEAF)
    asking = {"client_ca": str(tmp_path / "ca.pem"), "client_verify": "require"}
    named = Site(("a.test", "*.b.test"), certificates=(pair,), **asking)
    context = tls_server.server_context(Config(sites=(named, Site(certificates=(pair,)))))
    assert context.client_cert_policy is None and context.pick is not None
    assert context.pick("x.b.test", b"").verify_mode is ssl.CERT_REQUIRED
    assert context.pick("a.test", b"").client_cert_policy == (str(tmp_path / "ca.pem"), "require")
    for other in ("", "c.test", "\u00ff"):
        assert context.pick(other, b"") is context
    both = (named, Site(("c.test",), certificates=(pair,)))
    first = tls_server.server_context(Config(sites=both))
    assert (
        first.pick("c.test", b"").client_cert_policy is None and first.pick("d.test", b"") is first
    )
    assert tls_server.server_context(Config(sites=(named,))).pick is None


def test_a_site_without_a_certificate_of_its_own_has_the_others(tmp_path):
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asking = Site(("b.test",), client_ca=str(tmp_path / "ca.pem"), client_verify="optional")
    one = Site(("a.test",), certificates=(files(tmp_path, LEAF),))
    context = tls_server.server_context(Config(sites=(one, asking)))
    assert context.pick("b.test", b"").verify_mode is ssl.CERT_OPTIONAL


def test_the_client_chooses_among_the_three_suites(tmp_path):
    context = serving(files(tmp_path, LEAF))
    offered = {suite["name"] for suite in context.get_ciphers() if suite["protocol"] == "TLSv1.3"}
    assert offered == {
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
    }
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_no_alpn_in_common_goes_on_without(tmp_path):
    # Python's ssl cannot send the alert of RFC 7301 3.2; a client that insists hangs up itself.
    peer = handshake(serving(files(tmp_path, LEAF)), trusting("nothing/9"), "a.test")
    assert peer.selected_alpn_protocol() is None


def test_sessions_are_resumed(tmp_path):
    context, client = serving(files(tmp_path, LEAF)), trusting()
    first = handshake(context, client, "a.test")
    assert first.session.has_ticket
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = client.wrap_bio(to_client, to_server, server_hostname="a.test", session=first.session)
    theirs = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (again, theirs, again, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert again.session_reused


# The server is a process of its own: OpenSSL reads OPENSSL_CONF once, when it is loaded.
SERVER = """
import socket, ssl, sys
from rawproxy.config.model import Certificate, single
from rawproxy.tls.server import server_context
context = server_context(single((), certificates=(Certificate(*sys.argv[1:]),)))
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.settimeout(60)
    try:
        connection = context.wrap_socket(connection, server_side=True)
        connection.recv(1)
    except OSError:
        pass
    connection.close()
"""


@pytest.fixture(scope="module")
def server_port(tmp_path_factory):
    """A process that serves with the house's OpenSSL configuration, as `rawproxy` starts it."""
    pair = files(tmp_path_factory.mktemp("tls"), LEAF)
    name = "openssl-3.5.cnf" if ssl.OPENSSL_VERSION_INFO >= HYBRID else "openssl.cnf"
    conf = os.path.join(os.path.dirname(rawproxy.__file__), name)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, pair.cert, pair.key],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENSSL_CONF": conf},
    ) as server:
        yield int(server.stdout.readline())
        server.kill()


def s_client(port: int, *options: str) -> str:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
        input="", capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_groups_of_the_modern_profile(server_port, group):
    assert "New, TLSv1.3" in s_client(server_port, "-groups", group)


@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048"])
def test_no_other_group(server_port, group):
    assert "New, (NONE)" in s_client(server_port, "-groups", group)


def test_no_tls_1_2(server_port):
    assert "New, (NONE)" in s_client(server_port, "-tls1_2")


# ── several certificates ────────────────────────────────────────────────────────────────────────


def test_sni_chooses(tmp_path):
    context = serving(
        files(tmp_path, OTHER, "other"), files(tmp_path, LEAF), files(tmp_path, EXACT, "exact")
    )
    assert "a.test" in names(handshake(context, trusting(), "a.test"))
    assert "a.test" in names(handshake(context, trusting(), "Y.b.TEST"))  # by the wildcard
    assert names(handshake(context, trusting(), "x.b.test")) == ["x.b.test"]  # exact before it
    for name in ("unknown.test", "z.y.b.test", "127.0.0.1", None):
        assert names(handshake(context, lax(), name)) == ["other.test"]


def test_the_first_certificate_of_a_name_stays(tmp_path):
    twin = CA.issue_cert("a.test", "twin.test")
    context = serving(
        files(tmp_path, OTHER, "other"), files(tmp_path, twin, "twin"), files(tmp_path, LEAF)
    )
    assert names(handshake(context, trusting(), "a.test")) == ["a.test", "twin.test"]


def test_a_certificate_without_names_can_only_be_the_default(tmp_path):
    context = serving(handmade(tmp_path, EC_KEY), files(tmp_path, LEAF))
    assert handshake(context, trusting(), "a.test")
    for name in ("plain", "other.test"):
        der = handshake(context, blind(), name).getpeercert(binary_form=True)
        assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=plain"


def test_names_that_cannot_be_read(tmp_path):
    """An address of five bytes: OpenSSL does not look at it before it has to, cryptography does."""
    odd = b"\x30\x07\x87\x05\x01\x02\x03\x04\x05"
    names_of_it = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, odd)
    pair = handmade(tmp_path, EC_KEY, names_of_it)
    assert serving(pair)  # alone it needs no names
    with pytest.raises(ConfigError, match="its names cannot be read"):
        serving(pair, files(tmp_path, LEAF))


# ── --self-signed ───────────────────────────────────────────────────────────────────────────────


def test_self_signed():
    context = serving(self_signed=True, server_names=("a.test", "*.c.test", "10.0.0.1"))
    der = handshake(context, blind(), "localhost").getpeercert(binary_form=True)
    leaf = x509.load_der_x509_certificate(der)
    (extension,) = (e for e in leaf.extensions if e.oid == x509.SubjectAlternativeName.oid)
    assert extension.value.get_values_for_type(x509.DNSName) == ["localhost", "a.test", "*.c.test"]
    assert extension.value.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", "10.0.0.1")
    ]
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert "--self-signed" in tls_server.certificate_warnings(single((), self_signed=True))[0]


def test_self_signed_serves_its_names_beside_a_certificate(tmp_path):
    context = serving(files(tmp_path, LEAF), self_signed=True, server_names=("mine.test",))
    seen = {
        name: handshake(context, blind(), name).getpeercert(binary_form=True)
        for name in ("a.test", "other.test", "localhost", "mine.test")
    }
    assert seen["a.test"] == seen["other.test"] != seen["localhost"] == seen["mine.test"]


def test_self_signed_verifies_once_it_is_trusted(tmp_path):
    cert, key = self_signed.self_signed(["a.test"])
    path = tmp_path / "both.pem"
    path.write_bytes(cert + key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=cert.decode())
    for name in ("a.test", "localhost", "127.0.0.1", "::1"):
        assert handshake(serving(Certificate(str(path), str(path))), client, name)


def test_the_key_of_self_signed_is_on_disk_for_a_moment_and_ours_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes = []

    class Watched(ssl.SSLContext):
        def load_cert_chain(self, certfile, *rest, **more):
            modes.append(stat.S_IMODE(os.stat(certfile).st_mode))
            super().load_cert_chain(certfile, *rest, **more)

    self_signed.load_self_signed(Watched(ssl.PROTOCOL_TLS_SERVER), ())
    assert modes == [0o600]
    assert glob.glob(str(tmp_path / "*")) == []


def test_no_place_for_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="--self-signed: no temporary file can be written"):
        serving(self_signed=True)


# ── bad files ───────────────────────────────────────────────────────────────────────────────────


def test_nothing_to_serve():
    with pytest.raises(ConfigError, match="--cert FILE --key FILE, or --self-signed"):
        serving()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"--cert \S+: No such file"),
        (b"hello", "no PEM certificate in it"),
        (b"-----BEGIN PRIVATE KEY-----\n", "no PEM certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
    ],
)
def test_bad_certificate_files(tmp_path, text, words):
    path = tmp_path / "bad.pem"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=words) as caught:
        serving(Certificate(str(path), files(tmp_path, LEAF).key))
    assert f"--cert {path}: " in str(caught.value)


TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        (b"hello", "no PEM key in it"),
        (LEAF.cert_chain_pems[0].bytes(), "no PEM key in it"),
        (pem(EC_KEY), "not the key of --cert "),
        (pem(RSA_KEY), "not the key of --cert "),
        (pem(EC_KEY, b"secret"), "encrypted; decrypt it with: openssl pkey -in "),
        (pem(RSA_KEY, b"secret", TRADITIONAL), "encrypted; decrypt it with: openssl pkey -in "),
        (pem(EC_KEY)[:60], "damaged, or of an unknown kind"),
    ],
)
def test_bad_key_files(tmp_path, text, words):
    path = tmp_path / "bad.key"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=words) as caught:
        serving(Certificate(files(tmp_path, LEAF).cert, str(path)))
    assert f"--key {path}: " in str(caught.value)


def test_good_files_that_openssl_refuses(tmp_path):
    """A key that is too short by today's measure."""
    pair = handmade(tmp_path, rsa.generate_private_key(public_exponent=65537, key_size=1024))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=2")  # what Debian builds in and others do not
    with pytest.raises(ConfigError, match="OpenSSL refuses them: EE_KEY_TOO_SMALL"):
        tls_server.load(context, pair)


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (-9, -1, "expired on "),
        (-9, 3, "renew it soon"),
        (2, 60, "not valid before "),
        (-9, 60, None),
    ],
)
def test_certificate_warnings(tmp_path, begin, end, words):
    leaf = CA.issue_cert(
        "a.test",
        not_before=NOW + datetime.timedelta(days=begin),
        not_after=NOW + datetime.timedelta(days=end),
    )
    config = single((), certificates=(files(tmp_path, leaf),))
    assert tls_server.server_context(config)  # it is served all the same
    warnings = tls_server.certificate_warnings(config)
    assert [words in text for text in warnings] == ([True] if words else [])


def test_warnings_of_a_missing_file():
    with pytest.raises(ConfigError, match="--cert /nowhere: No such file"):
        tls_server.certificate_warnings(single((), certificates=(Certificate("/nowhere", ""),)))


@pytest.mark.parametrize("several", [False, True])
def test_strict_sni_refuses_names_that_no_certificate_has(tmp_path, several):
    pairs = [files(tmp_path, LEAF), *([files(tmp_path, OTHER, "other")] if several else [])]
    context = serving(*pairs, strict_sni=True)
    for name in ("a.test", "Y.b.test", *(["other.test"] if several else [])):
        assert handshake(context, lax(), name)
    for name in ("unknown.test", "z.y.b.test", "b.test", "127.0.0.1", None):
        with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
            handshake(context, lax(), name)


# ── authorities ─────────────────────────────────────────────────────────────────────────────────


def basic(ca: bool) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=ca, path_length=None)


def test_certificates_that_can_sign_nothing_are_named(tmp_path):
    for extensions in ((), (basic(False),)):
        (text,) = tls_server.not_authorities(handmade(tmp_path, EC_KEY, *extensions).cert)
        assert text.startswith("CN=plain is no authority: it lacks basicConstraints with CA:TRUE")
    assert tls_server.not_authorities(handmade(tmp_path, EC_KEY, basic(True)).cert) == []
    path = tmp_path / "leaf.pem"
    path.write_bytes(LEAF.cert_chain_pems[0].bytes())
    assert tls_server.not_authorities(str(path)) == [], "signed by another: it stands for itself"
    path.write_text("hello")
    assert (
        tls_server.not_authorities(str(path))
        == tls_server.not_authorities(str(tmp_path / "none"))
        == []
    )
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"odd")
    assert tls_server.not_authorities(handmade(tmp_path, EC_KEY, odd).cert) == []


def test_a_client_ca_that_is_none_is_warned_of(tmp_path):
    ca = handmade(tmp_path, EC_KEY).cert
    site = Site(certificates=(files(tmp_path, LEAF),), client_ca=ca, client_verify="require")
    (text,) = tls_server.certificate_warnings(Config(sites=(site,)))
    assert text.startswith(f"--client-ca {ca}: CN=plain is no authority")
