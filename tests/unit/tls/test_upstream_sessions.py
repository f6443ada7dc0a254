"""Which TLS sessions are offered to an upstream again, over real sockets in both loops."""

import ssl

import pytest

from rawproxy.errors import DialError
from tests.unit.tls.upstream_peers import (
    LEAF,
    OTHER,
    PUBLIC,
    TLS12,
    TLS13,
    Dialer,
    Peer,
    loops,
    run,
    sha,
    trust,
)


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
