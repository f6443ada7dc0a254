"""Contexts towards clients, and the judgement of an upstream's certificate."""

import datetime
import hashlib
import os
import shutil
import ssl
import subprocess
import sys

import pytest
import trustme

from rawproxy import tls
from rawproxy.config import Certificate, Config
from rawproxy.errors import ConfigError, DialError
from rawproxy.trust import UpstreamTrust

CA = trustme.CA()
LEAF = CA.issue_cert("a.test", "*.b.test", "127.0.0.1")
OTHER = CA.issue_cert("other.test")


def files(tmp_path, leaf, name="leaf", key=None):
    cert_path, key_path = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
    cert_path.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key_path.write_bytes((key or leaf).private_key_pem.bytes())
    return Certificate(str(cert_path), str(key_path))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Both sides of a handshake in memory; the client's object."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert len(done) == 2
    # TLS 1.3 tickets come with the first data.
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    return ours


def trusting(alpn=("http/1.1",)) -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    context.set_alpn_protocols(list(alpn))
    return context


def test_the_modern_profile(tmp_path):
    context = tls.server_context(Config((), certificates=(files(tmp_path, LEAF),)))
    peer = handshake(context, trusting(), "a.test")
    assert peer.version() == "TLSv1.3"
    assert peer.selected_alpn_protocol() == "http/1.1"
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(context, old, "a.test")


def test_sni_chooses(tmp_path):
    pairs = (files(tmp_path, OTHER, "other"), files(tmp_path, LEAF))
    context = tls.server_context(Config((), certificates=pairs))
    assert handshake(context, trusting(), "a.test")
    assert handshake(context, trusting(), "x.b.test")
    assert handshake(context, trusting(), "OTHER.test")
    lax = trusting()
    lax.check_hostname = False
    for name in ("unknown.test", None):
        names = handshake(context, lax, name).getpeercert()["subjectAltName"]
        assert names == (("DNS", "other.test"),)


def test_self_signed():
    context = tls.server_context(Config((), self_signed=True, server_names=("a.test", "10.0.0.1")))
    lax = ssl.create_default_context()
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    assert handshake(context, lax, "localhost").getpeercert(binary_form=True)
    assert "--self-signed" in tls.certificate_warnings(Config((), self_signed=True))[0]


def test_bad_certificates(tmp_path):
    good = files(tmp_path, LEAF)
    text, other = tmp_path / "text", files(tmp_path, LEAF, "mixed", key=OTHER)
    text.write_text("not a certificate")
    locked = tmp_path / "locked"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for cert, key, words in [
        ("/nowhere", good.key, "--cert /nowhere: No such file"),
        (good.cert, "/nowhere", "--key /nowhere: No such file"),
        (str(text), good.key, "not a PEM file"),
        (good.cert, str(locked), "openssl pkey"),
        (good.cert, other.key, "not the key of --cert"),
        (str(broken), good.key, "cannot be used"),
    ]:
        with pytest.raises(ConfigError, match=words):
            tls.server_context(Config((), certificates=(Certificate(cert, key),)))
    with pytest.raises(ConfigError, match="--cert"):
        tls.certificate_warnings(Config((), certificates=(Certificate("/nowhere", ""),)))


def test_expiry(tmp_path):
    now = datetime.datetime.now(datetime.UTC)
    for days, word in [(-1, "expired"), (3, "renew it soon"), (60, None)]:
        leaf = CA.issue_cert(
            "a.test",
            not_after=now + datetime.timedelta(days=days),
            not_before=now - datetime.timedelta(days=9),
        )
        warnings = tls.certificate_warnings(Config((), certificates=(files(tmp_path, leaf),)))
        assert [word in text for text in warnings] == ([True] if word else [])


def test_a_certificate_without_names(tmp_path):
    leaf = CA.issue_cert(common_name="plain")
    pairs = (files(tmp_path, LEAF), files(tmp_path, leaf, "plain"))
    assert handshake(tls.server_context(Config((), certificates=pairs)), trusting(), "a.test")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the Debian package openssl")
@pytest.mark.parametrize(
    ("group", "good"), [("X25519", True), ("P-256", True), ("P-521", False), ("X448", False)]
)
def test_groups_of_the_modern_profile(tmp_path, group, good):
    """A process that serves, as `rawproxy` starts it, with its OPENSSL_CONF."""
    pair = files(tmp_path, LEAF)
    code = (
        "import socket, ssl; from rawproxy import tls; from rawproxy.config import *\n"
        f"c = tls.server_context(Config((), certificates=(Certificate({pair.cert!r}, {pair.key!r}),)))\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
        "s.settimeout(10); p, _ = s.accept()\n"
        "try: c.wrap_socket(p, server_side=True).close()\n"
        "except ssl.SSLError: pass\n"
    )
    conf = os.path.join(os.path.dirname(tls.__file__), "openssl.cnf")
    environment = os.environ | {"OPENSSL_CONF": conf}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        port = server.stdout.readline().strip()
        client = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-groups", group],
            input="", capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        assert ("New, TLSv1.3" in client.stdout) is good


# ── the upstream's certificate ──────────────────────────────────────────────────────────────────

UNVERIFIED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNVERIFIED.verify_message = "self-signed certificate"


def trust(verify="auto", pins=(), name="up") -> UpstreamTrust:
    return UpstreamTrust(verify, frozenset(pins), name, "https://up:9443")


def sha(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def test_auto_verifies_first():
    t = trust()
    assert t.first() is t.strict
    assert t.judge(b"leaf", t.strict) is None
    assert t.first() is t.strict


def test_auto_pins_what_does_not_verify():
    t = trust()
    assert t.after(UNVERIFIED, t.first()) is t.lenient
    warning = t.judge(b"leaf", t.lenient)
    assert f"--upstream-pin {sha(b'leaf')}" in warning
    assert "https://up:9443" in warning
    assert t.first() is t.lenient
    assert t.judge(b"leaf", t.lenient) is None
    with pytest.raises(DialError, match="changed from") as caught:
        t.judge(b"new", t.lenient)
    # One try with the strict context: a certificate that verifies may replace the pinned one.
    assert t.after(caught.value, t.lenient) is t.strict
    assert t.after(UNVERIFIED, t.strict) is None
    assert t.judge(b"new", t.strict) is None


def test_auto_does_not_excuse_other_failures():
    t = trust()
    assert t.after(ConnectionRefusedError(), t.strict) is None
    assert t.after(ConnectionResetError(), t.lenient) is None


@pytest.mark.parametrize("verify", ["system", "off"])
def test_no_second_try(verify):
    t = trust(verify)
    assert t.after(UNVERIFIED, t.first()) is None
    assert (t.first() is t.lenient) is (verify == "off")
    assert t.judge(b"any", t.first()) is None


def test_pins():
    t = trust(pins=[sha(b"leaf")])
    assert t.first() is t.lenient
    assert t.judge(b"leaf", t.lenient) is None
    with pytest.raises(DialError, match=f"--upstream-pin {sha(b'new')}") as caught:
        t.judge(b"new", t.lenient)
    assert t.after(caught.value, t.lenient) is None


def test_a_bundle(tmp_path):
    pem = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(pem))
    server = tls.server_context(Config((), certificates=(files(tmp_path, LEAF),)))
    assert handshake(server, trust(str(pem)).first(), "a.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trust(str(pem)).first(), "wrong.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, trust("system").first(), "a.test")
    for bad in ("/nowhere.pem", __file__):
        with pytest.raises(ConfigError, match="--upstream-verify"):
            trust(bad)


def test_a_session_is_resumed(tmp_path):
    server = tls.server_context(Config((), certificates=(files(tmp_path, LEAF),)))
    t = trust("off")
    first = handshake(server, t.first(), "a.test")
    assert not first.session_reused
    t.remember(t.first(), first)
    again = handshake(server, t.first(), "a.test")
    assert again.session_reused
    assert again.getpeercert(binary_form=True) == first.getpeercert(binary_form=True)
    t.remember(t.first(), None)
    assert handshake(server, t.first(), "a.test").session_reused


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            "--upstream http://up:9443",
        ),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT] alert"), "the TLS handshake with the upstream failed"),
        (UNVERIFIED, "self-signed certificate; use --upstream-verify FILE"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot connect: Connection refused"),
        (ConnectionResetError(), "cannot connect: ConnectionResetError"),
    ],
)
def test_explanations_say_what_to_type(error, words):
    assert words in trust().explain(error)
