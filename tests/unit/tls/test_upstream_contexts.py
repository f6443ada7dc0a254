"""Which versions and suites of TLS an upstream is offered, by each profile."""

import contextlib
import ssl

import pytest

from rawproxy.config.model import UPSTREAM_TLS
from rawproxy.net.openssl import context_door
from rawproxy.tls.upstream_contexts import UNSAFE_RENEGOTIATION, Contexts
from tests.unit.tls.upstream_peers import (
    TLS12,
    WEAK,
    Dialer,
    Peer,
    blocking,
    connect,
    loops,
    old_fashioned,
    over,
    run,
    serving,
    trust,
)


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
