"""How an upstream's certificate is judged, over real sockets in both loops."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
import threading
import warnings

import pytest
import trustme

from rawproxy import shake
from rawproxy.errors import ConfigError, DialError
from rawproxy.trust import SessionContext, UpstreamTrust

try:
    import uvloop

    LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
except ImportError:
    LOOPS = [asyncio.new_event_loop]

WAIT = 10.0  # seconds before a test that hangs fails instead
CA = trustme.CA()
LEAF = CA.issue_cert("up.test", "127.0.0.1")
OTHER = trustme.CA().issue_cert("up.test", "127.0.0.1")
THIRD = trustme.CA().issue_cert("up.test", "127.0.0.1")
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
UNVERIFIED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNVERIFIED.verify_message = "self-signed certificate"
UNVERIFIED.verify_code = 18

loops = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__module__)


def sha(leaf) -> str:
    der = leaf if isinstance(leaf, bytes) else ssl.PEM_cert_to_DER_cert(pem(leaf))
    return hashlib.sha256(der).hexdigest()


def pem(leaf) -> str:
    return leaf.cert_chain_pems[0].bytes().decode()


def trust(verify="auto", pins=(), name="up.test", url="https://up.test:9443") -> UpstreamTrust:
    return UpstreamTrust(verify, frozenset(pins), name, url)


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


async def connect(port: int, context: ssl.SSLContext, name: str):
    """As `asyncio.open_connection`, with the transport that rawproxy uses."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    sock = socket.create_connection(("127.0.0.1", port), WAIT)  # at once, on loopback
    sock.setblocking(False)
    transport = await shake.connect(sock, context, name, protocol, 1.0)
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


class Dialer:
    """What `upstream.py` does with a trust; the TLS object of the last connection."""

    def __init__(self, judge: UpstreamTrust, name="up.test") -> None:
        self.trust = judge
        self.name = name
        self.warnings: list[str] = []

    async def dial(self, peer: Peer) -> ssl.SSLSocket:
        context = self.trust.first()
        while True:
            try:
                return await self.attempt(peer, context)
            except (OSError, DialError) as error:
                context = self.trust.after(error, context)
                if context is None:
                    raise

    async def attempt(self, peer: Peer, context: ssl.SSLContext) -> ssl.SSLSocket:
        reader, writer = await connect(peer.port, context, self.name)
        peer.clients.append(writer)
        tls = writer.get_extra_info("ssl_object")
        assert tls.context is context
        warning = self.trust.judge(tls.getpeercert(binary_form=True), context)
        if warning is not None:
            self.warnings.append(warning)
        assert await reader.read(1) == b"x"
        self.trust.remember(context, tls)
        return tls


def run(loop, story) -> None:
    """One test in a fresh loop, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(WAIT):
            await story()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


# ── auto ────────────────────────────────────────────────────────────────────────────────────────


def test_an_end_without_close_notify_is_no_clean_one(monkeypatch):
    class Forgiving(SessionContext):
        """As some Pythons make every context."""

        def __new__(cls, protocol):
            context = super().__new__(cls, protocol)
            context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
            return context

    monkeypatch.setattr("rawproxy.trust.SessionContext", Forgiving)
    context = trust().first()
    assert isinstance(context, Forgiving)
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


@loops
def test_auto_is_content_with_the_store(loop, store):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            assert (await dialer.dial(peer)).getpeercert()["subjectAltName"]
            await dialer.dial(peer)
            assert len(peer.names) == 2
        assert (dialer.warnings, dialer.trust.pinned) == ([], None)

    run(loop, story)


@loops
def test_auto_pins_what_the_store_does_not_pass(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
            assert len(peer.names) == 2
            await dialer.dial(peer)
            assert len(peer.names) == 3  # pinned: one dial is enough
            assert peer.names == ["up.test"] * 3
            (warning,) = dialer.warnings
            assert "upstream https://up.test:9443: its certificate cannot be veri" in warning
            assert f"SHA-256 {sha(LEAF)}" in warning
            assert f"--upstream-pin {sha(LEAF)}" in warning

    run(loop, story)


@loops
def test_auto_pins_once_where_many_dial_at_once(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await asyncio.gather(*(dialer.dial(peer) for _ in range(5)))
        assert len(dialer.warnings) == 1

    run(loop, story)


def test_a_dial_that_began_before_another_pinned_goes_on():
    t = trust()
    mine, another = t.first(), t.first()
    assert t.after(UNVERIFIED, another) is t.lenient
    assert t.judge(b"leaf", t.lenient)
    assert t.after(UNVERIFIED, mine) is t.lenient
    assert t.judge(b"leaf", t.lenient) is None


@loops
def test_auto_refuses_another_certificate(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
        async with Peer(OTHER) as peer:
            with pytest.raises(DialError) as caught:
                await dialer.dial(peer)
        assert caught.value.status == 502
        assert f"changed from SHA-256 {sha(LEAF)} to {sha(OTHER)}" in caught.value.detail
        assert "unable to get local issuer certificate" in caught.value.detail
        assert f"restart rawproxy, or start it with --upstream-pin {sha(OTHER)}" in str(
            caught.value
        )
        async with Peer() as peer:
            await dialer.dial(peer)
        assert len(dialer.warnings) == 1

    run(loop, story)


@loops
def test_auto_lets_the_store_replace_the_pinned_one(loop, store):
    async def story():
        dialer = Dialer(trust())
        async with Peer(OTHER) as old, Peer() as new:
            await dialer.dial(old)
            await dialer.dial(new)
            assert len(new.names) == 2  # by the pin, then by the store
            await dialer.dial(new)
            assert len(new.names) == 3  # by the store at once
            await dialer.dial(old)  # and the pin still holds
            async with Peer(THIRD) as third:
                with pytest.raises(DialError, match=f"from SHA-256 {sha(OTHER)} to {sha(THIRD)}"):
                    await dialer.dial(third)
        assert len(dialer.warnings) == 1

    run(loop, story)


@loops
def test_auto_does_not_fall_from_a_verified_certificate_to_any(loop, store):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            await dialer.dial(peer)
        async with Peer(OTHER) as peer:
            with pytest.raises(DialError, match=f"from SHA-256 {sha(LEAF)} to {sha(OTHER)}"):
                await dialer.dial(peer)
        assert dialer.trust.pinned is None

    run(loop, story)


def test_auto_goes_on_with_a_certificate_that_verified_once_and_has_expired():
    t = trust()
    assert t.judge(b"leaf", t.strict) is None
    assert t.after(UNVERIFIED, t.first()) is t.lenient
    assert f"--upstream-pin {sha(b'leaf')}" in t.judge(b"leaf", t.lenient)
    assert t.first() is t.lenient


def test_auto_excuses_no_other_failure():
    t = trust()
    for context in (t.strict, t.lenient, t.recheck):
        assert t.after(ConnectionRefusedError(), context) is None


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
    t = trust(verify)
    assert t.after(UNVERIFIED, t.first()) is None
    assert t.judge(b"any", t.first()) is None


def test_no_certificate_is_none_to_pin():
    t = trust()
    with pytest.raises(DialError, match="shows no certificate"):
        t.judge(b"", t.lenient)
    assert t.pinned is None


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
def test_a_resumed_connection_is_judged_too(loop):
    async def story():
        dialer = Dialer(trust())
        async with Peer() as peer:
            made = [await dialer.dial(peer) for _ in range(2)]
            assert [tls.session_reused for tls in made] == [False, True]
        async with Peer(OTHER, port=peer.port) as peer:
            with pytest.raises(DialError, match="changed from"):
                await dialer.dial(peer)

    run(loop, story)


@loops
def test_the_session_of_one_name_is_not_offered_to_another(loop, bundle):
    """A resumed handshake checks no name: with the session, the wrong one would pass."""

    async def story():
        dialer = Dialer(trust(bundle))
        async with Peer() as peer:
            await dialer.dial(peer)
            dialer.name = "down.test"
            with pytest.raises(ssl.SSLCertVerificationError):
                await dialer.dial(peer)

    run(loop, story)


@loops
def test_two_trusts_share_no_session(loop):
    async def story():
        async with Peer() as peer:
            assert not (await Dialer(trust("off")).dial(peer)).session_reused
            assert not (await Dialer(trust("off")).dial(peer)).session_reused

    run(loop, story)


@loops
def test_the_tickets_of_a_resumed_connection_are_let_go(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            await dialer.dial(peer)
            kept = dialer.trust.first().session
            assert (await dialer.dial(peer)).session_reused
            assert dialer.trust.first().session is kept

    run(loop, story)


@loops
def test_a_failed_dial_forgets_the_session(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            await dialer.dial(peer)
        with pytest.raises(OSError):
            await dialer.dial(peer)
        assert dialer.trust.first().session is None

    run(loop, story)


@loops
def test_a_session_without_a_ticket_is_not_kept(loop):
    async def story():
        dialer = Dialer(trust("off"))
        async with Peer() as peer:
            peer.context.num_tickets = 0
            await dialer.dial(peer)
        assert dialer.trust.first().session is None

    run(loop, story)


@loops
def test_only_the_session_of_that_context_is_kept(loop):
    async def story():
        dialer = Dialer(trust("off"))
        t = dialer.trust
        async with Peer() as peer:
            tls = await dialer.dial(peer)
            kept = t.first().session
            other = trust("off").first()
            t.remember(other, tls)
            assert other.session is None  # with it, every dial of that one would fail
            t.remember(tls.context, None)
            t.remember(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)
            assert t.first().session is kept
            assert (await dialer.dial(peer)).session_reused

    run(loop, story)


def test_a_foreign_context_has_no_session_to_forget():
    foreign = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert trust("off").after(OSError(), foreign) is None


# ── explanations ────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def blocking(speak):
    """A server in a thread, for one connection: unlike asyncio's it does send its alerts."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(WAIT)
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
        (over(old_fashioned()), "speaks neither TLS 1.2 nor 1.3"),
        (over(mutual()), "or it asks for a client certificate"),
        (over(particular()), "does not know the name up.test; use --upstream-name NAME"),
    ],
)
def test_what_the_loops_raise_is_explained(loop, speak, words, bundle):
    t = trust(bundle)

    async def story():
        with blocking(speak) as port, pytest.raises(OSError) as caught:
            await connect(port, t.first(), "up.test")
        text = t.explain(caught.value)
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
        text = t.explain(caught.value)
        assert f"not valid for '{name}'; use --upstream-name NAME" in text
        assert "--upstream-verify FILE" in text
        assert "--upstream-pin" in text

    run(loop, story)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UNVERIFIED, "self-signed certificate; use --upstream-verify FILE with its CA, or --up"),
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
    assert words in trust().explain(error)


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
    assert trust(url=url).explain(error).endswith(f"use --upstream {plain}")
