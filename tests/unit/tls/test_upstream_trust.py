"""How an upstream's certificate is judged, over real sockets in both loops."""

import asyncio
import ssl

import pytest

from rawproxy.errors import ConfigError, DialError
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_trust import Attempt, UpstreamTrust
from tests.unit.tls.upstream_peers import (
    LEAF,
    OTHER,
    PUBLIC,
    UNVERIFIED,
    Dialer,
    Peer,
    loops,
    pem,
    run,
    sha,
    trust,
)


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
