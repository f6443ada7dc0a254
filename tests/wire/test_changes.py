"""Another configuration while clients are here: each kind of change, over both versions of HTTP.

What is under way ends as it began; the next request on the same connection goes by the new rules.
"""

import asyncio
import gc
import json
import time
from dataclasses import replace

import pytest

from rawproxy.access.rules import AccessRules, RateRule
from rawproxy.config.json_codec import to_json
from rawproxy.config.model import (
    Active,
    Address,
    Edits,
    Group,
    Limits,
    Redirect,
    Respond,
    Route,
    Site,
    Upstream,
)
from rawproxy.errors import ConfigError
from rawproxy.proxy.service_change import SLICE_TIME, ServiceChange, in_slices
from rawproxy.telemetry.counters import GONE, PAST, PastTallies, Tally

from .rig import Rig, get, read_head, read_response, response, run
from .test_sites import Http1, Http2, mirror
from .test_tunnel import ASK, echo

BOTH = pytest.mark.parametrize("client", [Http1, Http2], ids=["h1", "h2"])
ONE = Site(("one.test",))


def says(word: bytes):
    """An upstream that answers with its name."""

    async def script(reader, writer):
        while True:
            await read_head(reader)
            writer.write(response(word))

    return script


async def become(rig: Rig, config, files=frozenset()) -> ServiceChange:
    """What a worker does with another configuration."""
    change = ServiceChange(rig.service, config, files)
    await change.prepare([rig.listener.address], rig.service.recorder.write_log)
    rig.service.adopt(change)
    rig.listener.sites = change.for_new(rig.listener.address)
    return change


def with_sites(rig: Rig, *sites: Site):
    pair = rig.config.certificates()
    return replace(
        rig.service.config, sites=tuple(replace(one, certificates=pair) for one in sites)
    )


@BOTH
def test_sites_and_routes_come_and_go_on_a_connection_that_stays(client):
    async def test():
        async with Rig(mirror, tls=True, sites=[ONE]) as rig, client(rig) as one:
            assert (await one.ask("one.test", "/"))[0] == 200
            assert (await one.ask("two.test", "/"))[0] == 421
            two = Site(("two.test",), (Route(), Route("/old", group=None, respond=Respond(410))))
            await become(rig, with_sites(rig, ONE, two))
            assert (await one.ask("two.test", "/"))[0] == 200
            assert (await one.ask("two.test", "/old"))[0] == 410
            await become(rig, with_sites(rig, ONE, Site(("two.test",))))
            assert (await one.ask("two.test", "/old"))[0] == 200
            await become(rig, with_sites(rig, ONE))
            assert (await one.ask("two.test", "/"))[0] == 421
            assert (await one.ask("one.test", "/"))[0] == 200
        assert rig.connections <= 2, "the pool went on"

    run(test())


@BOTH
def test_the_only_route_changes_for_whoever_is_here(client):
    """A head that is byte for byte the one before must not go by the old rules."""

    async def test():
        async with Rig(mirror, tls=True) as rig, client(rig) as one:
            for _ in range(3):
                _, _, seen = await one.ask("h", "/x")
                assert b"X-New" not in seen
            edits = Edits(set=(("X-New", "1"),))
            await become(rig, with_sites(rig, Site(routes=(Route(request_headers=edits),))))
            for _ in range(3):
                _, _, seen = await one.ask("h", "/x")
                assert b"\r\nX-New: 1\r\n" in seen
            async with client(rig) as other:
                assert b"\r\nX-New: 1\r\n" in (await other.ask("h", "/x"))[2]
            route = Route(replace_prefix="/v1")
            await become(rig, with_sites(rig, Site(routes=(route,))))
            _, _, seen = await one.ask("h", "/x")
            assert seen.startswith(b"GET /v1/x ") and b"X-New" not in seen

    run(test())


@BOTH
def test_what_is_known_of_a_client_is_learnt_anew(client):
    async def test():
        async with Rig(mirror, tls=True) as rig, client(rig) as one:
            _, fields, seen = await one.ask("h", "/")
            assert b"Forwarded:" not in seen.replace(b"X-Forwarded", b"")
            assert "strict-transport-security" in fields
            config = with_sites(rig, Site(hsts=None))
            await become(rig, replace(config, send_forwarded=True, send_real_ip=True))
            _, fields, seen = await one.ask("h", "/")
            assert b"\r\nForwarded: for=127.0.0.1" in seen and b"\r\nX-Real-IP: 127.0.0.1" in seen
            assert "strict-transport-security" not in fields

    run(test())


def test_an_exchange_under_way_ends_by_the_rules_it_began_with():
    async def slow(reader, writer):
        while True:
            head = await read_head(reader)
            if b"/slow" in head:
                asked.set()
                await go.wait()
            writer.write(response(b"old", b"X-Theirs: 1"))

    async def test():
        global_edits = Edits(set=(("X-Ours", "old"),))
        site = Site(routes=(Route(response_headers=global_edits),))
        async with Rig(slow, sites=[site], others={"new": says(b"new")}) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/slow"))
            await asked.wait()
            new = Site(routes=(Route(group="new", response_headers=Edits(remove=("X-Ours",))),))
            config = replace(with_sites(rig, new), groups=rig.config.groups[1:])
            await become(rig, replace(config, limits=Limits(body=1)))
            assert [one.name for one in rig.service.gone] == ["default"]
            writer.write(get(b"/next"))  # pipelined: it begins when the other one has ended
            await asyncio.sleep(0.05)
            go.set()
            head, body = await read_response(reader)
            assert body == b"old" and b"X-Ours: old" in head
            _, body = await read_response(reader)
            assert body == b"new"
            while rig.service.gone:
                await asyncio.sleep(0.01)
            counted = rig.service.snapshot()["counters"]["upstreams"]
            assert counted["http://upstream"]["dials"] == 1, "what it had counted stays"

    asked, go = asyncio.Event(), asyncio.Event()
    run(test())


def test_a_change_of_the_client_side_closes_behind_the_request_that_waits():
    async def slow(reader, writer):
        await read_head(reader)
        asked.set()
        await go.wait()
        writer.write(response(b"old"))

    async def test():
        async with Rig(slow) as rig:
            reader, writer = await rig.client()
            writer.write(get(b"/"))
            await asked.wait()
            await become(rig, replace(rig.config, send_via=True))
            go.set()
            head, body = await read_response(reader)
            assert body == b"old" and b"Connection: close" in head
            assert await reader.read() == b""

    asked, go = asyncio.Event(), asyncio.Event()
    run(test())


def test_tunnels_do_not_notice():
    async def test():
        async with Rig(echo, others={"x": says(b"x")}) as rig:
            reader, writer = await rig.client()
            writer.write(ASK)
            await read_head(reader)
            assert await reader.readexactly(2) == b"hi"
            config = replace(
                rig.config, groups=rig.config.groups[1:], sites=(Site(routes=(Route(group="x"),)),)
            )
            await become(rig, config)
            for _ in range(3):
                writer.write(b"still here")
                assert await reader.readexactly(10) == b"still here"
                await asyncio.sleep(0.05)
            assert rig.service.gone, "as long as a tunnel is there"
            assert rig.service.counters.tunnels == 1
            assert (await rig.ask(get(b"/")))[1] == b"x"

    run(test())


def test_members_join_and_leave_and_those_that_stay_keep_what_they_have():
    async def test():
        async with Rig(says(b"a"), others={"b": says(b"b")}) as rig:
            group = rig.config.groups[0]
            a = group.upstreams[0]
            b = replace(rig.config.groups[1].upstreams[0], url="http://b")
            first = rig.service.groups["default"].endpoints[0]
            assert (await rig.ask(get()))[1] == b"a"
            pool, health, tally = first.pool, first.health, first.tally
            both = replace(group, upstreams=(a, b), max_upstream=7, keepalive=3)
            await become(rig, replace(rig.config, groups=(both,)))
            endpoints = rig.service.groups["default"].endpoints
            assert endpoints[0] is first and first.pool is pool and first.health is health
            assert (pool.limit, pool.keepalive) == (7, 3) and first.tally is tally
            assert {(await rig.ask(get()))[1] for _ in range(4)} == {b"a", b"b"}
            heavy = replace(group, upstreams=(replace(a, weight=3), b))
            await become(rig, replace(rig.config, groups=(heavy,)))
            assert rig.service.groups["default"].endpoints[0] is first and first.weight == 3
            assert [(await rig.ask(get()))[1] for _ in range(8)].count(b"a") == 6
            await become(rig, replace(rig.config, groups=(replace(group, upstreams=(b,)),)))
            assert {(await rig.ask(get()))[1] for _ in range(4)} == {b"b"}
            assert not pool.idle
            before = rig.service.snapshot()["counters"]["upstreams"]["http://upstream"]["dials"]
            await become(rig, replace(rig.config, groups=(both,)))
            assert {(await rig.ask(get()))[1] for _ in range(4)} == {b"a", b"b"}
            after = rig.service.snapshot()["counters"]["upstreams"]["http://upstream"]["dials"]
            assert before == 1 and after == 2, "it goes on where it was"

    run(test())


def test_another_policy_and_another_way_of_probing():
    async def test():
        async with Rig(says(b"a"), others={"b": says(b"b")}) as rig:
            group = rig.config.groups[0]
            b = replace(rig.config.groups[1].upstreams[0], url="http://b")
            both = (group.upstreams[0], b)
            probed = Active(interval=0.05, fall=1, rise=1, timeout=1.0)
            sticky = replace(group, upstreams=both, policy="cookie", cookie="c", active=probed)
            await become(rig, replace(rig.config, groups=(sticky,)))
            endpoints = rig.service.groups["default"].endpoints
            assert all(one.probing for one in endpoints)
            head, body = await rig.ask(get())
            cookie = head.partition(b"Set-Cookie: ")[2].partition(b";")[0]
            assert cookie.startswith(b"c=")
            answers = {(await rig.ask(get(b"/", b"Cookie: " + cookie)))[1] for _ in range(4)}
            assert answers == {body}
            ill = replace(sticky, active=replace(probed, status=((500, 599),)))
            await become(rig, replace(rig.config, groups=(ill,)))
            while any(one.health.state.value == "up" for one in endpoints):
                await asyncio.sleep(0.02)
            await become(rig, replace(rig.config, groups=(replace(ill, active=None),)))
            assert all(one.health.state.value == "up" for one in endpoints), "nobody asks any more"
            await asyncio.sleep(0.2)
            assert not any(one.probing for one in endpoints)

    run(test())


def test_another_trust_makes_connections_anew_and_keeps_pins(tmp_path):
    async def test():
        async with Rig(says(b"a"), tls=True) as rig:
            group = replace(rig.config.groups[0], verify="pin")
            await become(rig, replace(rig.config, groups=(group,)))
            assert (await rig.ask(get()))[1] == b"a"
            first = rig.service.groups["default"]
            (trust,) = (one.trust for one in first.members.shared.values())
            assert trust.known.any_accepted()
            modern = replace(group, tls="modern")
            await become(rig, replace(rig.config, groups=(modern,)))
            second = rig.service.groups["default"]
            assert second is not first and rig.connections == 1
            (other,) = (one.trust for one in second.members.shared.values())
            assert other.known is trust.known
            assert (await rig.ask(get()))[1] == b"a" and rig.connections == 2
            tally = second.endpoints[0].tally
            assert tally is first.endpoints[0].tally
            missing = replace(group, verify=str(tmp_path / "none.pem"))
            with pytest.raises(ConfigError, match=r"--upstream-verify .*none\.pem"):
                await become(rig, replace(rig.config, groups=(missing,)))
            assert rig.service.groups["default"] is second
            same = replace(rig.service.config, groups=(modern,))
            await become(rig, same, frozenset({"pin"}))
            assert rig.service.groups["default"] is not second, "a file of it is another one"

    run(test())


@BOTH
def test_limits_and_redirects(client):
    async def test():
        async with Rig(mirror, tls=True) as rig, client(rig) as one:
            assert (await one.ask("h", "/", "POST", b"12345"))[0] == 200
            await become(rig, replace(rig.config, limits=Limits(body=3)))
            assert (await one.ask("h", "/", "POST", b"12345"))[0] == 413
            async with client(rig) as other:
                await become(rig, rig.config)
                assert (await other.ask("h", "/", "POST", b"12345"))[0] == 200
                there = Route(redirect=Redirect(302, "https://else/"), group=None)
                await become(rig, with_sites(rig, Site(routes=(there,))))
                assert (await other.ask("h", "/"))[0] == 302

    run(test())


@BOTH
def test_a_rate_counts_on_when_something_else_changes(client):
    async def test():
        rules = AccessRules(rate=RateRule(2, 60.0, 1, "client", "zone"))
        guarded = Route(access=to_json(rules))
        async with Rig(mirror, tls=True) as rig, client(rig) as one:
            await become(rig, with_sites(rig, Site(routes=(guarded,)), ONE))
            assert [(await one.ask("h", "/"))[0] for _ in range(3)] == [200, 200, 429]
            await become(rig, with_sites(rig, Site(routes=(guarded, Route("/x"))), ONE))
            assert (await one.ask("h", "/"))[0] == 429
            assert (await one.ask("h", "/x"))[0] == 200
            await become(rig, with_sites(rig, Site(), ONE))
            assert (await one.ask("h", "/"))[0] == 200
            assert rig.service.snapshot()["counters"]["access"]["results"]["rate"] == 2

    run(test())


def test_a_status_that_has_no_name():
    async def test():
        nameless = Route(group=None, respond=Respond(289, "x"))
        async with Rig(mirror, sites=[Site(routes=(nameless,))]) as rig:
            head, body = await rig.ask(get())
            assert head.startswith(b"HTTP/1.1 289 \r\n") and body == b"x"

    run(test())


def test_another_log():
    async def test():
        async with Rig(mirror) as rig:
            await rig.ask(get(b"/first"))
            config = replace(rig.config, log_format="json", send_request_id=True)
            await become(rig, config)
            _, body = await rig.ask(get(b"/second"))
            first, second = rig.log
            assert b'"GET /first HTTP/1.1" 200' in first
            name = json.loads(second)["id"]
            assert f"X-Request-ID: {name}".lower().encode() in body.lower()
            assert rig.service.counters is rig.service.recorder.counters
            assert rig.service.counters.requests == 2

    run(test())


def test_each_listener_has_its_own_sites():
    here = Address(None, 0)

    async def test():
        async with Rig(mirror) as rig:
            reader, writer = await rig.client()
            elsewhere = Site(("one.test",), listeners=(here,))
            await become(rig, with_sites(rig, elsewhere, Site(("h",))))
            writer.write(get(b"/").replace(b"Host: h", b"Host: one.test"))
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 421")
            writer.write(get(b"/"))
            assert (await read_response(reader))[0].startswith(b"HTTP/1.1 200")

    run(test())


async def longest_turns(sites: int = 3000) -> tuple[float, float]:
    """Seconds of the loop's longest turn while one of so many sites is other, and while all are.

    That is processor time of the loop's thread: other programs are here too.
    """
    longest = 0.0

    async def beat():
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    async with Rig(mirror, sites=[ONE]) as rig:
        many = [
            Site((f"s{n}.test",), (Route(), Route("/api", limits=Limits(body=n + 1))))
            for n in range(sites)
        ]
        config = with_sites(rig, ONE, *many)
        await become(rig, config)
        # As a worker does when it begins to serve; and so much the less has this process.
        gc.collect()
        gc.freeze()
        rig.stack.callback(gc.unfreeze)
        beating = asyncio.create_task(beat())
        rig.stack.callback(beating.cancel)
        await asyncio.sleep(0)
        longest = 0.0
        before = rig.service.route_targets.all
        config = replace(config, sites=(*config.sites[:-1], Site(("last.test",))))
        await become(rig, config)
        one, after = longest, rig.service.route_targets.all
        assert len(after) == 2 * sites
        assert all(a is b for a, b in zip(after[:-1], before, strict=False))
        config = with_sites(rig, ONE, *(replace(site, hsts=None) for site in many))
        await asyncio.sleep(0)
        longest = 0.0
        await become(rig, config)
        beating.cancel()
    return one, longest


def test_thousands_of_sites_stop_the_loop_for_milliseconds():
    async def test():
        turns = await longest_turns()
        print(f"one site: {turns[0] * 1e3:.1f} ms, all sites: {turns[1] * 1e3:.1f} ms")
        assert max(turns) < 0.02

    run(test())


def test_slices_are_short_and_nothing_is_left_out():
    async def test():
        done = []
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())

        def work(item):
            time.sleep(SLICE_TIME / 2)
            done.append(item)

        await in_slices(range(10), work)
        counting.cancel()
        assert done == list(range(10)) and turns >= 4

    run(test())


def test_counters_of_upstreams_that_are_gone():
    past, kept = PastTallies(), Tally()
    kept.dials = 3
    past.keep("a", kept)
    past.keep("a", kept)
    assert past.counters(set())["a"]["dials"] == 3
    assert past.counters({kept}) == {}, "it is in use"
    assert past.again("b") is None
    assert past.again("a") is kept and past.again("a") is None
    for number in range(PAST + 2):
        one = Tally()
        one.dials = 1
        past.keep(f"u{number}", one)
    found = past.counters(set())
    assert found[GONE]["dials"] == 2 and len(found) == PAST + 1
    other = Tally()
    past.keep("u9", other)
    assert past.again("u9") is other and past.again("u9") is not None


def test_a_group_by_name_keeps_its_addresses():
    async def test():
        async with Rig(mirror) as rig:
            named = Upstream(
                "http://localhost", tls=False, host="localhost", port=rig.upstream_port
            )
            group = Group("default", (named,))
            await become(rig, replace(rig.config, groups=(group,)))
            assert (await rig.ask(get()))[0].startswith(b"HTTP/1.1 200")
            members = rig.service.groups["default"].members
            (watch,) = members.watches.values()
            endpoints = list(members.endpoints)
            heavy = replace(group, upstreams=(replace(named, weight=5),))
            await become(rig, replace(rig.config, groups=(heavy,)))
            assert list(members.watches.values()) == [watch] and members.endpoints == endpoints
            assert all(one.weight == 5 for one in watch.servers)
            await become(rig, rig.config)
            await asyncio.sleep(0.05)
            assert watch._over and not members.watches

    run(test())
