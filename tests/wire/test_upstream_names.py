"""`--upstream-name $host`: each request's Host is the name its upstream is asked for over TLS."""

import asyncio
import contextlib
import ssl

import pytest

from rawproxy.config.model import HOST, Active
from rawproxy.upstream.endpoints_by_name import NAMES
from tests.process import PATIENCE

from .rig import LEAF, LOOPS, Rig, get, read_head, read_response, response, run


class Named(Rig):
    """An upstream that answers by the name that its connection asked for, and counts those."""

    def __init__(self, **group) -> None:
        super().__init__(self._answer, True, group={"server_name": HOST, **group})
        self.asked: list[str | None] = []
        self.upstream_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        LEAF.configure_cert(self.upstream_context)
        self.upstream_context.sni_callback = self._note

    def _note(self, connection, name, _) -> int | None:
        self.asked.append(name)
        connection.context.name = name
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name == "no.example.test" else None

    async def _answer(self, reader, writer) -> None:
        mine = self.asked[-1]
        while True:
            await read_head(reader)
            writer.write(response(str(mine).encode()))

    @property
    def members(self):
        return self.service.groups["default"].members

    async def said(self, *hosts: bytes) -> list[str]:
        """What the upstream answers, all over one client connection."""
        reader, writer = await self.client()
        found = []
        for host in hosts:
            writer.write(get().replace(b"Host: h", b"Host: " + host))
            head, body = await read_response(reader)
            found.append(body.decode() if b" 200 " in head.split(b"\r\n")[0] else "!")
        writer.close()
        return found


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_each_name_has_connections_of_its_own(loop_factory):
    async def test():
        async with Named() as rig:
            hosts = [b"a.example.test", b"B.Example.test:8443", b"a.example.test.", b"localhost"]
            assert await rig.said(*hosts) == [
                "a.example.test", "b.example.test", "a.example.test", "localhost",
            ]  # fmt: skip
            assert rig.asked == ["a.example.test", "b.example.test", "localhost"]
            assert await rig.said(*hosts[::-1]) == [
                "localhost", "a.example.test", "b.example.test", "a.example.test",
            ]  # fmt: skip
            assert len(rig.asked) == 3, "connections are kept, each for its own name"
            (state,) = rig.service.snapshot()["gauges"]["upstreams"].values()
            assert (state["idle"], state["busy"], state["views"]) == (3, 0, 1)

    run(test(), loop_factory)


def test_what_no_certificate_can_be_for_is_the_upstreams_own_name():
    async def test():
        async with Named() as rig:
            assert await rig.said(b"[::1]", b"127.0.0.1:8443", b"a" * 64 + b".test") == ["None"] * 3
            assert rig.asked == [None], "an address is no SNI"

    run(test())


def test_a_name_that_fails_is_nobody_elses_failure():
    async def test():
        async with Named() as rig:
            names = [b"other.test", b"no.example.test"] * 5
            assert await rig.said(*names) == ["!"] * 10
            (first,) = rig.members.endpoints
            assert first.health.fails == [] and first.tally.failures == 0
            assert not first.refused
            assert await rig.said(b"a.example.test") == ["a.example.test"]
            assert any("within the TLS handshake" in line for line in rig.problems)
            assert any("not valid for 'other.test'" in line for line in rig.problems)

    run(test())


def test_a_session_is_not_resumed_under_another_name():
    async def test():
        async with Named() as rig:
            for _ in range(2):
                assert await rig.said(b"a.example.test") == ["a.example.test"]
                rig.members.close_idle()
            assert await rig.said(b"other.test") == ["!"]

    run(test())


def test_names_are_bounded_and_who_is_forgotten_leaves_nothing_open():
    async def test():
        async with Named(verify="off") as rig:
            hosts = [f"n{number}.test" for number in range(NAMES + 5)]
            assert await rig.said(*(host.encode() for host in hosts)) == hosts
            (known,) = rig.members.namesakes.values()
            assert list(known.known) == [f"n{n}.test" for n in range(5, NAMES + 5)]
            rig.members.tick(0.0)
            assert known.leaving == []
            (first,) = rig.members.endpoints
            assert sum(len(pool.idle) for pool in rig.members.pools(first)) == NAMES

    run(test())


def test_who_is_forgotten_while_it_serves_ends_with_its_request():
    async def test():
        async with Named(verify="off") as rig:
            (first,) = rig.members.endpoints
            busy = rig.members.named(first, b"busy.test")
            busy.pool.busy += 1
            for number in range(NAMES):
                rig.members.named(first, b"n%d.test" % number)
            rig.members.tick(0.0)
            assert busy in rig.members.everybody() and busy.draining
            rig.members._retire(first)
            rig.members.endpoints = []
            rig.members.tick(0.0)
            assert first in rig.members.retired, "one of its names is in use"
            busy.pool.busy -= 1
            rig.members.tick(0.0)
            rig.members.tick(0.0)
            assert rig.members.everybody() == []

    run(test())


def test_probes_ask_for_the_name_that_they_are_given():
    async def test():
        active = Active(interval=0.05, host="sso.example.test:443")
        async with Named(active=active) as rig:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    while not rig.members.endpoints[0].health.good_probes:
                        await asyncio.sleep(0.01)
            assert set(rig.asked) == {"sso.example.test"}

    run(test())
