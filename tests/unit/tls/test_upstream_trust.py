"""How an upstream's certificate is judged, over real sockets in both loops."""

import asyncio
import contextlib
import datetime
import hashlib
import socket
import ssl
import threading
import warnings

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rawproxy.config.model import UPSTREAM_TLS
from rawproxy.errors import ConfigError, DialError
from rawproxy.net import tls_handshake
from rawproxy.net.openssl import context_door
from rawproxy.tls.upstream_contexts import UNSAFE_RENEGOTIATION, Contexts
from rawproxy.tls.upstream_trust import Attempt, UpstreamTrust
from tests.process import PATIENCE

try:
    import uvloop

    LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]

CA = trustme.CA()
LEAF = CA.issue_cert("up.test", "127.0.0.1")
OTHER = trustme.CA().issue_cert("up.test", "127.0.0.1")
THIRD = trustme.CA().issue_cert("up.test", "127.0.0.1")
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
UNVERIFIED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNVERIFIED.verify_message = "self-signed certificate"
UNVERIFIED.verify_code = 18

WEAK = ssl.SSLCertVerificationError(1, "certificate verify failed")
WEAK.verify_message = "EE certificate key too weak"
WEAK.verify_code = 66

loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__module__)


def sha(leaf) -> str:
    der = leaf if isinstance(leaf, bytes) else ssl.PEM_cert_to_DER_cert(pem(leaf))
    return hashlib.sha256(der).hexdigest()


def pem(leaf) -> str:
    return leaf.cert_chain_pems[0].bytes().decode()


def trust(
    verify="auto", pins=(), name="up.test", url="https://up.test:9443", tls="intermediate"
) -> UpstreamTrust:
    return UpstreamTrust(Contexts(verify, None, tls), frozenset(pins), name, url)


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def store(bundle, monkeypatch):
    """The system's store, as OpenSSL finds it, is our CA."""
    monkeypatch.setenv("SSL_CERT_FILE", bundle)


def serving(leaf=LEAF, version=TLS13) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    leaf.configure_cert(context)
    return context


class Peer:
    """An upstream that says "x" once the handshake is done; counts connections and names asked."""

    def __init__(self, leaf=LEAF, version=TLS13, port=0) -> None:
        self.names: list[str | None] = []
        self.clients: list[asyncio.StreamWriter] = []
        self.port = port
        self.context = serving(leaf, version)
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.alpn: list[str | None] = []
        self.context.set_alpn_protocols(["http/1.1"])

    async def __aenter__(self) -> "Peer":
        # A client that hangs up within the handshake is no news here.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        self.server = await asyncio.start_server(
            self.speak, "127.0.0.1", self.port, ssl=self.context
        )
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self.server.close()
        for writer in self.clients:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def speak(self, reader, writer) -> None:
        self.alpn.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        with contextlib.suppress(OSError):
            writer.write(b"x")
            await reader.read()
            writer.close()


async def connect(port: int, context: ssl.SSLContext, name: str, session=None):
    """As `asyncio.open_connection`, with the transport that rawproxy uses."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)  # at once, on loopback
    sock.setblocking(False)
    transport = await tls_handshake.connect(sock, context, name, protocol, 1.0, session)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


class Dialer:
    """What `endpoint` does with a trust. `at`: the address that it takes the peer for."""

    def __init__(self, judge: UpstreamTrust, name="up.test", at=None) -> None:
        self.trust = judge
        self.name = name
        self.at = at
        self.warnings: list[str] = []
        self.changes = 0

    async def dial(self, peer: Peer) -> ssl.SSLSocket:
        trial = self.trust.trial()
        while True:
            try:
                tls, reader = await self.attempt(peer, trial)
            except OSError as error:
                if not trial.failed(error):
                    raise
                continue
            if trial.passes(tls.getpeercert(binary_form=True)):
                break
        if trial.warning:
            self.warnings.append(trial.warning)
        self.changes += trial.changed
        assert await reader.read(1) == b"x"
        self.trust.remember(tls)
        return tls

    async def attempt(self, peer: Peer, trial):
        there = (self.at or "127.0.0.1", peer.port)
        session = trial.session(there)
        reader, writer = await connect(peer.port, trial.context, self.name, session)
        peer.clients.append(writer)
        tls = writer.get_extra_info("ssl_object")
        assert tls.context is trial.context
        return tls, reader


def run(loop, story) -> None:
    """One test in a fresh loop, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


# ── auto ────────────────────────────────────────────────────────────────────────────────────────

PUBLIC = "203.0.113.7"


def test_an_end_without_close_notify_is_no_clean_one(monkeypatch):
    told: list[ssl.SSLContext] = []
    monkeypatch.setattr("rawproxy.tls.upstream_contexts.tell_ends_apart", told.append)
    contexts = Contexts()
    assert [contexts.strict, contexts.lenient] == told


@loops
def test_auto_is_content_with_the_store(loop, store):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            assert (await dialer.dial(peer)).getpeercert()["subjectAltName"]
            await dialer.dial(peer)
            assert len(peer.names) == 2
        assert (dialer.warnings, dialer.trust.known.verified) == ([], [sha(LEAF)])

    run(loop, story)


@loops
def test_auto_accepts_what_the_store_does_not_pass_at_a_private_address(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
            assert len(peer.names) == 2
            await dialer.dial(peer)
            assert len(peer.names) == 3  # known: one dial is enough
            assert peer.names == ["up.test"] * 3
            (warning,) = dialer.warnings
            assert warning.startswith("upstream https://up.test:9443: the certificate of 127.0.0.1")
            assert f"SHA-256 {sha(LEAF)}, cannot be verified (unable to get local issu" in warning
            assert "--upstream-verify FILE with its CA" in warning
            assert "--upstream-verify pin" in warning
            assert "--upstream-pin" not in warning, "the next restart would break it"

    run(loop, story)


@loops
def test_auto_warns_once_where_many_dial_at_once(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await asyncio.gather(*(dialer.dial(peer) for _ in range(5)))
        assert len(dialer.warnings) == 1
        async with Peer(OTHER, port=peer.port) as peer:
            await asyncio.gather(*(dialer.dial(peer) for _ in range(5)))
        assert (len(dialer.warnings), dialer.changes) == (2, 1)

    run(loop, story)


@loops
def test_auto_accepts_another_at_a_private_address_and_says_so(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
        async with Peer(OTHER, port=peer.port) as peer:
            await dialer.dial(peer)
            assert f"changed from SHA-256 {sha(LEAF)} to {sha(OTHER)}" in dialer.warnings[1]
            assert f"the certificate of 127.0.0.1:{peer.port}" in dialer.warnings[1]
            before = len(peer.names)
            await dialer.dial(peer)
            assert len(peer.names) == before + 1
        async with Peer(port=peer.port) as peer:
            await dialer.dial(peer)  # the first one again, as of two behind one address
        assert (len(dialer.warnings), dialer.changes) == (2, 1)

    run(loop, story)


@loops
@pytest.mark.parametrize(("verify", "at"), [("auto", PUBLIC), ("pin", None)])
def test_elsewhere_and_with_pin_another_is_refused(loop, verify, at):
    async def story():
        dialer = Dialer(trust(verify), at=at)
        async with Peer() as peer:
            await dialer.dial(peer)
        async with Peer(OTHER, port=peer.port) as peer:
            with pytest.raises(DialError) as caught:
                await dialer.dial(peer)
        assert caught.value.status == 502
        assert f"changed from SHA-256 {sha(LEAF)} to {sha(OTHER)}" in caught.value.detail
        assert "unable to get local issuer certificate" in caught.value.detail
        if verify == "pin":
            assert caught.value.detail.endswith("if that is right, restart rawproxy")
        else:
            assert "no private address" in caught.value.detail
            assert f"--upstream-pin {sha(OTHER)} if it stays the same" in caught.value.detail
        async with Peer(port=peer.port) as peer:
            await dialer.dial(peer)
        (warning,) = dialer.warnings
        assert f"--upstream-pin {sha(LEAF)} if it stays" in warning
        assert "trusted as the first one seen" in warning

    run(loop, story)


@loops
def test_auto_lets_the_store_replace_any(loop, store):
    async def story():
        dialer = Dialer(trust(), at=PUBLIC)
        async with Peer(OTHER) as old, Peer() as new:
            await dialer.dial(old)
            await dialer.dial(new)
            assert len(new.names) == 2  # as known, then by the store
            await dialer.dial(new)
            assert len(new.names) == 3  # by the store at once
            with pytest.raises(DialError, match=f"from SHA-256 {sha(LEAF)} to {sha(OTHER)}"):
                await dialer.dial(old)  # what was accepted without the store is good no more
        assert len(dialer.warnings) == 1

    run(loop, story)


@loops
def test_auto_does_not_fall_from_a_verified_certificate_to_any(loop, store):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
        async with Peer(OTHER) as peer:
            with pytest.raises(DialError, match=f"from SHA-256 {sha(LEAF)} to {sha(OTHER)}") as e:
                await dialer.dial(peer)
        assert "and the one before could" in e.value.detail
        assert dialer.trust.known.seen == {}

    run(loop, story)


def judged(t, leaf: bytes, attempt: Attempt, why="expired"):
    """A trial that has come to `attempt`, and looks at `leaf`."""
    trial = t.trial()
    trial.session(("127.0.0.1", 9443))
    trial.attempt, trial.why = attempt, why
    return trial, trial.passes(leaf)


def test_auto_goes_on_with_a_certificate_that_verified_once_and_has_expired():
    t = trust()
    assert judged(t, b"leaf", Attempt.STRICT)[1]
    trial = t.trial()
    assert trial.failed(UNVERIFIED)
    assert trial.passes(b"leaf")
    assert "verified once and does no more" in trial.warning
    assert t.trial().attempt is Attempt.KNOWN
    trial, passes = judged(t, b"leaf", Attempt.KNOWN)
    assert passes and not trial.warning


def test_auto_excuses_no_other_failure():
    for attempt in Attempt:
        trial = trust().trial()
        trial.attempt = attempt
        assert not trial.failed(ConnectionRefusedError())
    trial = trust().trial()
    trial.attempt = Attempt.ANY
    assert not trial.failed(UNVERIFIED)


def test_workers_hear_of_what_was_accepted_and_the_master_has_the_last_word():
    one, two, master = trust("pin"), trust("pin"), trust("pin").known
    told: list[str] = []
    one.on_news = lambda: told.append("one")
    assert judged(one, b"a", Attempt.ANY)[0].warning
    assert told == ["one"]
    assert judged(two, b"b", Attempt.ANY)[0].warning
    for worker in (one, two):
        master.merge(worker.news())
        assert worker.news() is None
    assert not one.obey(master.told())
    assert two.obey(master.told()), "whoever was second lets its connections go"
    assert one.key == two.key == "pin https://up.test:9443 up.test"
    with pytest.raises(DialError, match="changed from"):
        judged(two, b"b", Attempt.ANY)
    assert judged(two, b"a", Attempt.ANY)[1]


def test_contexts_are_loaded_once_for_all_names_and_addresses(monkeypatch):
    loaded: list[ssl.SSLContext] = []
    real = ssl.SSLContext.load_default_certs
    monkeypatch.setattr(
        ssl.SSLContext, "load_default_certs", lambda *a: (loaded.append(a[0]), real(*a))
    )
    contexts = Contexts()
    first = UpstreamTrust(contexts, frozenset(), "up.test", "https://up.test")
    for number in range(50):
        t = UpstreamTrust(contexts, frozenset(), f"{number}.test", "https://up.test")
        assert t.trial().context is first.trial().context
        assert first.for_name(f"n{number}.test").trial().context is first.trial().context
    assert len(loaded) == 1


# ── the other ways ──────────────────────────────────────────────────────────────────────────────


@loops
def test_a_bundle_is_the_only_authority(loop, bundle):
    async def story():
        async with Peer() as good, Peer(OTHER) as bad:
            assert await Dialer(trust(bundle)).dial(good)
            for peer, verify, name in [
                (bad, bundle, "up.test"),
                (good, bundle, "down.test"),
                (good, bundle, "127.0.0.2"),
                (good, "system", "up.test"),
            ]:
                dialer = Dialer(trust(verify, name=name), name)
                with pytest.raises(ssl.SSLCertVerificationError):
                    await dialer.dial(peer)

    run(loop, story)


@loops
def test_a_bundle_may_be_the_leaf_itself(loop, tmp_path):
    path = tmp_path / "leaf.pem"
    path.write_text(pem(LEAF))

    async def story():
        async with Peer() as peer:
            assert await Dialer(trust(str(path))).dial(peer)

    run(loop, story)


@loops
def test_an_address_is_no_server_name_yet_is_checked(loop, bundle):
    async def story():
        async with Peer() as peer:
            dialer = Dialer(trust(bundle, name="127.0.0.1"), "127.0.0.1")
            assert await dialer.dial(peer)
            assert await dialer.dial(peer)
            assert (peer.names, peer.alpn) == ([None] * 2, ["http/1.1"] * 2)

    run(loop, story)


@loops
def test_off_and_pins(loop):
    async def story():
        async with Peer(OTHER) as peer:
            assert await Dialer(trust("off")).dial(peer)
            # A pin is a verification of its own, before any other and whatever the name.
            dialer = Dialer(trust("system", {sha(OTHER), sha(LEAF)}, "down.test"), "down.test")
            assert await dialer.dial(peer)
            assert dialer.warnings == []
            refused = trust(pins={sha(LEAF)})
            with pytest.raises(DialError, match=f"use --upstream-pin {sha(OTHER)}"):
                await Dialer(refused).dial(peer)
            assert len(peer.names) == 3  # no second try

    run(loop, story)


@pytest.mark.parametrize("verify", ["system", "off"])
def test_no_second_try(verify):
    trial = trust(verify).trial()
    assert not trial.failed(UNVERIFIED)
    assert trial.passes(b"any")


def test_no_certificate_is_none_to_accept():
    t = trust()
    with pytest.raises(DialError, match="shows no certificate"):
        judged(t, b"", Attempt.ANY)
    assert not t.known.any_accepted()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("hello", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "no certificate in it"),
    ],
)
def test_unusable_bundles(tmp_path, text, words):
    path = tmp_path / "bundle.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        trust(str(path))
    assert str(caught.value).startswith(f"--upstream-verify {path}: ")


@pytest.mark.parametrize("name", [".up.test", "", "x" * 64])
def test_unusable_names(name):
    with pytest.raises(ConfigError, match="--upstream-name"):
        trust(name=name)


# ── sessions ────────────────────────────────────────────────────────────────────────────────────


@loops
@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("verify", ["off", "bundle"])
def test_sessions_are_resumed(loop, version, verify, bundle):
    async def story():
        dialer = Dialer(trust(bundle if verify == "bundle" else verify))
        async with Peer(version=version) as peer:
            made = [await dialer.dial(peer) for _ in range(3)]
            assert [tls.session_reused for tls in made] == [False, True, True]
            for tls in made:
                assert sha(tls.getpeercert(binary_form=True)) == sha(LEAF)
        # The same upstream after a restart knows the ticket no more: a whole handshake again.
        async with Peer(version=version, port=peer.port) as peer:
            made = [await dialer.dial(peer) for _ in range(2)]
            assert [tls.session_reused for tls in made] == [False, True]

    run(loop, story)


@loops
@pytest.mark.parametrize(("verify", "at"), [("auto", PUBLIC), ("pin", None)])
def test_a_resumed_connection_is_judged_too(loop, verify, at):
    async def story():
        dialer = Dialer(trust(verify), at=at)
        async with Peer() as peer:
            made = [await dialer.dial(peer) for _ in range(2)]
            # Kept for the real address, so it is not offered at the one that is pretended.
            assert [tls.session_reused for tls in made] == [False, at is None]
        async with Peer(OTHER, port=peer.port) as peer:
            with pytest.raises(DialError, match="changed from"):
                await dialer.dial(peer)

    run(loop, story)


@loops
def test_who_resumes_is_judged_by_the_certificate_of_its_session(loop):
    """A server with the same ticket keys and another certificate: what it had is what counts."""

    async def story():
        dialer = Dialer(trust("pin"))
        async with Peer(version=TLS12) as peer:
            await dialer.dial(peer)
            OTHER.configure_cert(peer.context)  # the context, and so its ticket keys, stay
            tls = await dialer.dial(peer)
            assert tls.session_reused
            assert sha(tls.getpeercert(binary_form=True)) == sha(LEAF)
            dialer.trust.forget(f"127.0.0.1:{peer.port}")
            with pytest.raises(DialError, match="changed from"):
                await dialer.dial(peer)

    run(loop, story)


@loops
def test_the_session_of_one_address_is_not_offered_to_another(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as one, Peer() as two:
            for peer, reused in ((one, False), (two, False), (one, True), (two, True)):
                assert (await dialer.dial(peer)).session_reused is reused

    run(loop, story)


@loops
def test_the_session_of_one_name_is_not_offered_to_another(loop, bundle):
    """A resumed handshake checks no name: with the session, the wrong one would pass."""

    async def story():
        dialer = Dialer(trust(bundle))
        async with Peer() as peer:
            await dialer.dial(peer)
            other = dialer.trust.for_name("down.test")
            with pytest.raises(ssl.SSLCertVerificationError):
                await Dialer(other, "down.test").dial(peer)
            tls = await dialer.dial(peer)
            other.remember(tls)
            assert other.session(f"127.0.0.1:{peer.port}", tls.context) is None

    run(loop, story)


@loops
def test_two_trusts_share_no_session(loop):
    async def story():
        async with Peer() as peer:
            assert not (await Dialer(trust("off")).dial(peer)).session_reused
            assert not (await Dialer(trust("off")).dial(peer)).session_reused

    run(loop, story)


def kept(dialer, peer):
    """The session that the next dial would offer."""
    return dialer.trust.session(f"127.0.0.1:{peer.port}", dialer.trust.trial().context)


@loops
def test_the_tickets_of_a_resumed_connection_are_let_go(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            await dialer.dial(peer)
            first = kept(dialer, peer)
            assert (await dialer.dial(peer)).session_reused
            assert kept(dialer, peer) is first

    run(loop, story)


@loops
def test_a_failed_dial_forgets_the_session(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            await dialer.dial(peer)
        assert kept(dialer, peer) is not None
        with pytest.raises(OSError):
            await dialer.dial(peer)
        assert kept(dialer, peer) is None

    run(loop, story)


@loops
def test_a_session_without_a_ticket_is_not_kept(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            peer.context.num_tickets = 0
            await dialer.dial(peer)
        assert kept(dialer, peer) is None

    run(loop, story)


@loops
def test_the_session_of_another_context_is_not_offered(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            await dialer.dial(peer)
            other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            assert dialer.trust.session(f"127.0.0.1:{peer.port}", other) is None

    run(loop, story)


class Gone:
    """An `SSLSocket` whose peer has reset the connection."""

    session_reused = False
    server_hostname = "up.test"

    class Session:
        has_ticket = True

    session = Session()

    def getpeername(self):
        raise OSError(107, "Transport endpoint is not connected")


def test_who_has_gone_leaves_no_session():
    t = trust("off")
    t.remember(Gone())
    assert t._sessions == {}


@loops
def test_sessions_are_bounded_and_who_has_gone_leaves_none(loop, monkeypatch):
    monkeypatch.setattr("rawproxy.tls.upstream_trust.ADDRESSES", 1)

    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as one, Peer() as two:
            await dialer.dial(one)
            tls = await dialer.dial(two)
            assert kept(dialer, one) is None and kept(dialer, two) is not None
            dialer.trust.forget(f"127.0.0.1:{two.port}")
            two.clients[-1].transport.abort()
            dialer.trust.remember(tls)
            assert kept(dialer, two) is None

    run(loop, story)


# ── explanations ────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def blocking(speak):
    """A server in a thread, for one connection: unlike asyncio's it does send its alerts."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            speak(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


def in_plain(answer: bytes):
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return speak


def over(context: ssl.SSLContext):
    def speak(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
        finally:
            # Unread bytes would make of the close a reset, and that might overtake the alert.
            with contextlib.suppress(OSError):
                connection.recv(65536)

    return speak


def old_fashioned() -> ssl.SSLContext:
    context = serving()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def mutual() -> ssl.SSLContext:
    context = serving(version=TLS12)
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    return context


def particular() -> ssl.SSLContext:
    context = serving()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return context


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


def client_hello(context: ssl.SSLContext) -> bytes:
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="up.test").do_handshake()
    return said.read()


def groups(hello: bytes) -> list[int]:
    """Of its extension supported_groups (RFC 8446 4.1.2, 4.2.7)."""
    at = 5 + 4 + 2 + 32  # two headers, version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2])  # suites
    at += 1 + hello[at] + 2  # compression, and how long all extensions are
    found = {}
    while at < len(hello):
        kind, size = (int.from_bytes(hello[at + n : at + n + 2]) for n in (0, 2))
        found[kind] = hello[at + 4 : at + 4 + size]
        at += 4 + size
    listed = found[10][2:]
    return [int.from_bytes(listed[n : n + 2]) for n in range(0, len(listed), 2)]


def test_what_old_devices_are_asked_fits_into_one_packet():
    assert context_door.door.find_out() is None
    hello = {tls: client_hello(Contexts("off", tls=tls).lenient) for tls in UPSTREAM_TLS}
    assert len(hello["legacy"]) < 1200
    assert groups(hello["legacy"]) == [0x1D, 0x17, 0x18, 0x19]
    hybrid = 0x11EC  # X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem)
    assert (hybrid in groups(hello["modern"])) is (ssl.OPENSSL_VERSION_INFO >= (3, 5))


@loops
@pytest.mark.parametrize("verify", ["off", "bundle"])
def test_legacy_reaches_old_devices(loop, verify, bundle):
    async def story():
        t = trust(bundle if verify == "bundle" else verify, tls="legacy")
        with blocking(over(old_fashioned())) as port:
            _, writer = await connect(port, t.trial().context, "up.test")
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.1"
            writer.close()

    run(loop, story)


@loops
def test_modern_is_tls_1_3_alone(loop):
    async def story():
        t = trust("off", tls="modern")
        with blocking(over(serving(version=TLS12))) as port, pytest.raises(OSError) as caught:
            await connect(port, t.trial().context, "up.test")
        assert "does not speak TLS 1.3; use --upstream-tls intermediate" in t.words.explain(
            caught.value
        )
        async with Peer() as peer:
            assert (await Dialer(t).dial(peer)).version() == "TLSv1.3"

    run(loop, story)


def test_what_the_profiles_allow():
    contexts = {tls: Contexts("off", None, tls).lenient for tls in UPSTREAM_TLS}
    assert [bool(one.options & UNSAFE_RENEGOTIATION) for one in contexts.values()] == [
        False, False, True,
    ]  # fmt: skip
    offered = {suite["name"] for suite in contexts["legacy"].get_ciphers()}
    assert {"AES128-SHA", "AES256-SHA"} <= offered
    assert not any("NULL" in name or "ADH" in name or "AECDH" in name for name in offered)
    old = ssl.SSLError(1, "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol")
    assert trust("off", tls="legacy").words.explain(old) == "the upstream does not speak TLS"
    assert "legacy" not in trust("off", tls="legacy").words.explain(WEAK)


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


def test_how_a_certificate_is_known():
    here, there = "127.0.0.1:9443", f"{PUBLIC}:443"
    assert trust("off").how(here) == "is not checked"
    assert trust(pins={sha(LEAF)}).how(here) == "is one of --upstream-pin"
    assert trust("system").how(here) == "verifies"
    for verify, address, words in [
        ("auto", here, "another is accepted too"),
        ("auto", there, "another will be refused"),
        ("pin", here, "another will be refused"),
    ]:
        t = trust(verify)
        t.known.accept("a", address)
        assert t.how(address).endswith(words)
        t.known.verify("b")
        assert t.how(address) == "verifies"
