"""Several upstreams behind one proxy: who is asked, who is passed over, who comes back."""

import asyncio
import collections
import contextlib
import ipaddress
import re
import ssl
import time

import pytest

from rawproxy.balancing.health import DOWN, DUE, EJECTED, UP
from rawproxy.config.model import Active, Passive, Upstream
from rawproxy.upstream.resolver import Server
from tests.names import NameServer
from tests.process import free_port

from .rig import Rig, always, get, read_head, read_response, response, run

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
QUICK = Passive(max_fails=2, window=10.0, back_off=0.2, back_off_max=1.0)


class Backend:
    """An upstream that answers by its name, or as it is told to."""

    def __init__(self, name: bytes, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.mode = "well"  # well | ill (503) | hangs | breaks
        self.asked = 0
        self.probed = 0
        self.held: list[asyncio.StreamWriter] = []
        self.seen = b""

    async def __aenter__(self) -> "Backend":
        self.server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self.stop()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        self.server.close()
        for writer in self.held:
            writer.transport.abort()

    def upstream(self, **facts) -> Upstream:
        return Upstream(f"http://{self.name.decode()}", False, self.host, self.port, **facts)

    async def _serve(self, reader, writer) -> None:
        self.held.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            while True:
                head = self.seen = await read_head(reader)
                if b"(health)" in head:
                    self.probed += 1
                else:
                    self.asked += 1
                if self.mode == "hangs":
                    await reader.read()
                elif self.mode == "breaks":
                    writer.transport.abort()
                elif self.mode == "ill":
                    writer.write(response(self.name, status=b"503 Ill"))
                elif b"Upgrade: websocket" in head:
                    key = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
                    lines = (b"Upgrade: websocket", b"Connection: Upgrade", key)
                    writer.write(b"\r\n".join((b"HTTP/1.1 101 S", *lines, b"", b"")))
                else:
                    writer.write(response(self.name))
        writer.close()


@contextlib.asynccontextmanager
async def fleet(count: int = 3, weights=(), backups=(), group=None, **options):
    """`count` backends a, b, c … and a proxy in front of them."""
    async with contextlib.AsyncExitStack() as stack:
        backends = [
            await stack.enter_async_context(Backend(b"abcdefgh"[n : n + 1])) for n in range(count)
        ]
        upstreams = [
            one.upstream(weight=(weights or [1] * count)[n], backup=n in backups)
            for n, one in enumerate(backends)
        ]
        facts = {"passive": QUICK, **(group or {})}
        rig = Rig(always(b""), upstreams=upstreams, group=facts, **options)
        yield await stack.enter_async_context(rig), backends


async def names(rig: Rig, count: int, *lines: bytes, method: bytes = b"GET") -> str:
    """Who answers, request by request, all over one connection; ! for an error."""
    reader, writer = await rig.client()
    said = ""
    for _ in range(count):
        writer.write(get(b"/", *lines, method=method))
        head, body = await read_response(reader)
        said += body.decode() if head.startswith(b"HTTP/1.1 200") else "!"
    writer.close()
    return said


async def until(condition) -> None:
    """Wait for what another part does; the test's own bound ends it."""
    while not condition():
        await asyncio.sleep(0.01)


def endpoint(rig: Rig, number: int):
    return rig.service.groups["default"].endpoints[number]


@pytest.mark.parametrize("policy", ["round-robin", "least-connections", "cookie"])
def test_by_weight(policy):
    async def test():
        async with fleet(weights=(3, 2, 1), group={"policy": policy}) as (rig, _):
            said = await names(rig, 60)
            counted = collections.Counter(said)
            if policy == "least-connections":  # nothing else is going on: by weight, the first
                assert counted["a"] == 60
            else:
                assert counted == {"a": 30, "b": 20, "c": 10}
                assert "aaa" not in said  # smoothly

    run(test())


def test_two_choices_reaches_everybody():
    async def test():
        async with fleet(group={"policy": "two-choices"}) as (rig, _):
            assert set(await names(rig, 60)) == set("abc")

    run(test())


def test_least_connections_passes_the_busy_one():
    async def test():
        async with fleet(2, group={"policy": "least-connections"}) as (rig, backends):
            backends[0].mode = "hangs"
            waiting = []
            for _ in range(2):  # one of them goes to each
                _, writer = await rig.client()
                writer.write(get())
                waiting.append(writer)
            await until(lambda: sum(one.asked for one in backends) == 2)
            assert set(await names(rig, 20)) == {"b"}

    run(test())


def test_a_client_stays_with_one_and_moves_when_it_dies():
    async def test():
        async with fleet(group={"policy": "client-hash"}, trusted_proxies=LOOPBACK) as (rig, them):
            took = {}
            for n in range(30):
                client = b"X-Forwarded-For: 10.0.0.%d" % n
                first, *others = await names(rig, 3, client)
                assert set(others) == {first}
                took[client] = first
            assert set(took.values()) == set("abc")
            them[0].stop()
            for client, before in took.items():
                (now,) = await names(rig, 1, client)
                assert now == before if before != "a" else now in "bc"

    run(test())


def cookie_of(head: bytes) -> bytes:
    return re.search(rb"Set-Cookie: (rawproxy=\w+)", head)[1]


def test_a_cookie_names_the_upstream_till_it_is_gone():
    async def test():
        async with fleet(group={"policy": "cookie"}) as (rig, backends):
            head, first = await rig.ask(get())
            assert head.count(b"Set-Cookie") == 1
            assert b"; Path=/; HttpOnly; SameSite=Lax\r\n" in head  # no Secure over plain http
            assert len(cookie_of(head)) > 24  # opaque
            cookie = b"Cookie: theme=dark; " + cookie_of(head)
            for _ in range(6):
                head, name = await rig.ask(get(b"/", cookie))
                assert name == first and b"Set-Cookie" not in head
            head, _ = await rig.ask(get(b"/", b"Cookie: rawproxy=forged"))
            assert b"Set-Cookie" in head
            next(one for one in backends if one.name == first).stop()
            head, name = await rig.ask(get(b"/", cookie))
            assert name != first
            cookie = b"Cookie: " + cookie_of(head)
            assert set(await names(rig, 6, cookie)) == {name.decode()}

    run(test())


def test_those_who_have_cookies_find_out_too_if_nobody_else_does():
    async def test():
        async with fleet(2, group={"policy": "cookie"}) as (rig, backends):
            cookie = b"Cookie: " + cookie_of((await rig.ask(get()))[0])
            stays = (await names(rig, 1, cookie)).encode()
            other = next(n for n, one in enumerate(backends) if one.name != stays)
            backends[other].mode = "ill"
            await names(rig, 6)
            assert endpoint(rig, other).health.state is not UP
            backends[other].mode = "well"
            while endpoint(rig, other).health.state is not UP:
                await names(rig, 1, cookie)

    run(test())


def test_a_websocket_gets_a_cookie_too():
    async def test():
        async with fleet(group={"policy": "cookie"}) as (rig, _):
            reader, writer = await rig.client()
            lines = (
                b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            )  # fmt: skip
            writer.write(get(b"/ws", *lines))
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 101") and cookie_of(head)
            writer.close()

    run(test())


def test_backups_serve_while_nobody_else_can():
    async def test():
        async with fleet(backups=(2,)) as (rig, backends):
            assert set(await names(rig, 10)) == set("ab")
            backends[0].stop()
            backends[1].stop()
            assert await names(rig, 10) == "c" * 10

    run(test())


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_one_that_refuses_costs_no_request(method):
    async def test():
        async with fleet() as (rig, backends):
            backends[1].stop()
            lines = (b"Content-Length: 0",) if method == b"POST" else ()
            said = await names(rig, 30, *lines, method=method)
            assert set(said) == set("ac")
            assert endpoint(rig, 1).health.state is not UP
            # The first requests found out; from then on it was left alone but for trials.
            assert endpoint(rig, 1).tally.dials <= QUICK.max_fails + 3
            assert endpoint(rig, 1).tally.ejections >= 1
            assert any("http://b is out for" in line for line in rig.problems)

    run(test())


def test_one_that_answers_503_is_left_alone_and_tried_again():
    async def test():
        async with fleet() as (rig, backends):
            backends[1].mode = "ill"
            said = await names(rig, 30)
            assert QUICK.max_fails <= said.count("!") <= QUICK.max_fails + 2  # and trials
            backends[1].mode = "well"
            while "b" not in await names(rig, 3):
                await asyncio.sleep(0.01)
            assert endpoint(rig, 1).health.state is UP
            assert any("http://b is back" in line for line in rig.problems)
            assert set(await names(rig, 6)) == set("abc")

    run(test())


def test_a_trial_goes_out_on_a_safe_request_unless_none_comes():
    async def test():
        async with fleet(2, every=30.0) as (rig, backends):
            backends[1].mode = "ill"
            await names(rig, 6)
            assert endpoint(rig, 1).health.state is EJECTED
            backends[1].mode = "well"
            group, clock = rig.service.groups["default"], rig.service.clock
            clock.now += 1.0
            group.tick(clock.now)
            assert endpoint(rig, 1).health.state is DUE
            assert await names(rig, 3, b"Content-Length: 0", method=b"POST") == "aaa"
            group.tick(clock.now)
            assert await names(rig, 1, b"Content-Length: 0", method=b"POST") == "b"
            assert endpoint(rig, 1).health.state is UP

    run(test())


@pytest.mark.parametrize("mode", ["hangs", "breaks"])
def test_one_that_hangs_or_breaks_loses_a_few_requests_and_no_more(mode):
    async def test():
        deadlines = {"response_head": 0.1}
        async with fleet(group={"passive": Passive(2, back_off=30.0)}, deadlines=deadlines) as (
            rig,
            backends,
        ):
            backends[1].mode = mode
            said = await names(rig, 30)
            assert said.count("!") == 2 and "b" not in said

    run(test())


def test_when_nobody_is_well_all_are_tried():
    async def test():
        group = {"passive": Passive(2, back_off=30.0)}
        async with fleet(2, group=group) as (rig, backends):
            for one in backends:
                one.mode = "ill"
            assert await names(rig, 8) == "!" * 8
            assert any("no upstream of group default is well" in line for line in rig.problems)
            for one in backends:
                one.mode = "well"
            assert set(await names(rig, 8)) == set("ab")

    run(test())


def test_one_alone_is_not_judged():
    async def test():
        async with fleet(1) as (rig, backends):
            backends[0].mode = "ill"
            await names(rig, 8)
            assert endpoint(rig, 0).health.state is UP
            backends[0].mode = "well"
            assert await names(rig, 3) == "aaa"

    run(test())


def test_a_full_one_is_passed_over_and_requests_wait_where_all_are_full():
    async def test():
        async with fleet(2, group={"max_upstream": 1, "keepalive": 1, "queue": 1}) as (rig, them):
            for one in them:
                one.mode = "hangs"
            clients = []
            for _ in range(5):
                reader, writer = await rig.client()
                writer.write(get())
                clients.append((reader, writer))
            await until(lambda: sum(len(e.pool.waiting) for e in rig.service.endpoints) == 2)
            await until(lambda: [one.asked for one in them] == [1, 1])  # neither was asked twice
            await until(lambda: [reader for reader, _ in clients if reader._buffer])
            refused = [reader for reader, _ in clients if reader._buffer]
            assert len(refused) == 1
            head, _ = await read_response(refused[0])
            assert head.startswith(b"HTTP/1.1 503")
            for _, writer in clients:
                writer.close()

    run(test())


ACTIVE = Active(path="/-/health/ready/", interval=0.05, timeout=1.0, rise=2, fall=2)


def test_probes_find_the_ill_one_before_a_request_does():
    async def test():
        async with fleet(group={"active": ACTIVE}) as (rig, backends):
            backends[2].mode = "ill"
            await until(lambda: endpoint(rig, 2).health.state is DOWN)
            assert set(await names(rig, 12)) == set("ab")
            assert backends[2].asked == 0
            assert any("was answered 503" in line for line in rig.problems)
            seen = backends[2].seen
            assert seen.startswith(b"GET /-/health/ready/ HTTP/1.1\r\nHost: 127.0.0.1:")
            backends[2].mode = "well"
            await until(lambda: endpoint(rig, 2).health.state is UP)
            assert set(await names(rig, 12)) == set("abc")
            assert endpoint(rig, 2).health.ejections == 1
            assert not any(one.pool.busy for one in rig.service.endpoints)  # no probe is counted

    run(test())


@pytest.mark.parametrize(
    ("mode", "words"),
    [("hangs", "no answer within 0.1 s"), ("breaks", "closed|reset"), ("stopped", "refused")],
)
def test_what_probes_say(mode, words):
    async def test():
        active = Active(interval=0.05, timeout=0.1, fall=1)
        async with fleet(2, group={"active": active}) as (rig, backends):
            if mode == "stopped":
                backends[1].stop()
            backends[1].mode = mode
            await until(lambda: endpoint(rig, 1).health.state is DOWN)
            assert any(re.search(words, line, re.IGNORECASE) for line in rig.problems)

    run(test())


def test_probes_go_over_tls_with_the_groups_trust():
    async def test():
        async def upstream(reader, writer):
            assert b"\r\nHost: sso.example.test\r\n" in await read_head(reader)
            writer.write(b"HTTP/1.1 103 Early\r\n\r\n" + response(b"", status=b"204 Ready"))

        active = Active(interval=0.05, host="sso.example.test", status=((204, 204),), fall=1)
        async with Rig(upstream, tls=True, group={"active": active}) as rig:
            await until(lambda: endpoint(rig, 0).health.good_probes >= 3)

    run(test())


def test_slow_start_gives_little_at_first():
    async def test():
        group = {"active": ACTIVE, "slow_start": 1000.0}
        async with fleet(2, group=group) as (rig, backends):
            backends[1].mode = "ill"
            await until(lambda: endpoint(rig, 1).health.state is DOWN)
            backends[1].mode = "well"
            await until(lambda: endpoint(rig, 1).health.state is UP)
            said = await names(rig, 44)
            assert said.count("b") == 4  # a tenth of the other's

    run(test())


# ── names ───────────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def twins(count: int):
    """Backends on one port of several addresses, and a name server that knows none of them."""
    async with contextlib.AsyncExitStack() as stack:
        dns = await stack.enter_async_context(NameServer())
        backends: list[Backend] = []
        port = free_port()  # the kernel's choice for one address may be taken on the next
        for n in range(count):
            one = Backend(b"abc"[n : n + 1], f"127.0.0.{n + 1}", port)
            backends.append(await stack.enter_async_context(one))
        yield dns, backends


def test_fifty_more_addresses_over_tls_load_nothing(monkeypatch):
    """The system's store takes 30 to 40 ms, in which nobody is served."""
    loaded: list[ssl.SSLContext] = []
    real = ssl.SSLContext.load_default_certs
    monkeypatch.setattr(
        ssl.SSLContext, "load_default_certs", lambda *a: (loaded.append(a[0]), real(*a))
    )

    async def test():
        upstream = Upstream("https://web.test", True, "web.test", 443)
        async with Rig(always(b""), upstreams=[upstream]) as rig:
            members = rig.service.groups["default"].members
            assert len(loaded) == 1
            servers = [Server((f"10.0.0.{n}",), 443) for n in range(50)]
            began = time.process_time()
            members._resolved(upstream, servers)
            spent = time.process_time() - began
            assert len(members.endpoints) == 50 and len(loaded) == 1
            assert len({id(one.trust) for one in members.endpoints}) == 1
            print(f"{spent * 1000:.1f} ms for 50 addresses")  # 3 ms when this was written
            assert spent < 0.05, "a second context would take longer"

    run(test())


def named(host: str = "web.test", port: int = 0, **facts) -> Upstream:
    return Upstream(f"http://{host}", False, host, port, **facts)


def test_a_name_that_moves_takes_its_requests_along():
    async def test():
        async with twins(2) as (dns, (a, b)):
            dns.say("web.test", "127.0.0.1")
            upstreams = [named(port=a.port)]
            async with Rig(always(b""), upstreams=upstreams, resolver=dns.address) as rig:
                assert await names(rig, 3) == "aaa"
                before = endpoint(rig, 0)
                dns.say("web.test", "127.0.0.2")
                while "b" not in await names(rig, 1):
                    await asyncio.sleep(0.05)
                assert await names(rig, 3) == "bbb"
                assert before.draining and not before.pool.idle
                assert b.asked == 4
                await until(lambda: before not in rig.service.endpoints)
                assert b"web.test (127.0.0.2:" in endpoint(rig, 0).label

    run(test())


def test_a_container_that_starts_again_elsewhere_costs_no_request():
    """The TTL says a minute; the first dial that fails finds out."""

    async def test():
        async with twins(2) as (dns, (a, _)):
            dns.say("web.test", "127.0.0.1", ttl=60)
            upstreams = [named(port=a.port)]
            async with Rig(always(b""), upstreams=upstreams, resolver=dns.address) as rig:
                assert await names(rig, 1) == "a"
                dns.say("web.test", "127.0.0.2", ttl=60)
                a.stop()
                assert await names(rig, 3) == "bbb"

    run(test())


def test_every_address_is_used_and_one_that_dies_is_passed_over():
    async def test():
        async with twins(3) as (dns, (a, _, _)):
            dns.say("web.test", "127.0.0.1", "127.0.0.2", "127.0.0.3")
            options = {"resolver": dns.address, "group": {"passive": QUICK, "slow_start": 5.0}}
            async with Rig(always(b""), upstreams=[named(port=a.port)], **options) as rig:
                await until(lambda: len(rig.service.groups["default"].endpoints) == 3)
                assert collections.Counter(await names(rig, 12)) == {"a": 4, "b": 4, "c": 4}
                first = endpoint(rig, 0)
                first.pool.busy += 1  # as if one of its requests took long
                dns.say("web.test", "127.0.0.2", "127.0.0.3")
                await until(lambda: len(rig.service.groups["default"].endpoints) == 2)
                assert set(await names(rig, 12)) == set("bc")
                dns.say("web.test", "127.0.0.1", "127.0.0.2", "127.0.0.3")
                await until(lambda: len(rig.service.groups["default"].endpoints) == 3)
                assert endpoint(rig, 0) is first and not first.draining
                first.pool.busy -= 1
                a.stop()
                assert set(await names(rig, 30)) == set("bc")
                assert first.tally is endpoint(rig, 1).tally

    run(test())


def test_services_say_ports_weights_and_backups():
    async def test():
        async with NameServer() as dns, Backend(b"a") as a, Backend(b"b") as b, Backend(b"c") as c:
            dns.say("one.test", "127.0.0.1")
            service = "_http._tcp.web.test"
            dns.say_services(
                service, f"1 3 {a.port} one.test.", f"1 1 {b.port} one.test.",
                f"2 1 {c.port} one.test.",
            )  # fmt: skip
            options = {"resolver": dns.address, "group": {"passive": QUICK}}
            async with Rig(always(b""), upstreams=[named(service, srv=True)], **options) as rig:
                await until(lambda: len(rig.service.groups["default"].endpoints) == 3)
                assert collections.Counter(await names(rig, 16)) == {"a": 12, "b": 4}
                a.stop()
                b.stop()
                assert await names(rig, 4) == "cccc"

    run(test())


def test_a_name_that_nobody_knows_is_502_until_somebody_does():
    async def test():
        async with NameServer() as dns, Backend(b"a") as a:
            options = {"resolver": dns.address, "group": {"active": ACTIVE}}
            async with Rig(always(b""), upstreams=[named(port=a.port)], **options) as rig:
                head, _ = await rig.ask(get())
                assert head.startswith(b"HTTP/1.1 502")
                dns.say("web.test", "127.0.0.1")
                while await names(rig, 1) != "a":
                    await asyncio.sleep(0.05)
                await until(lambda: a.probed > 1)  # probes begin once there is an address
                assert repr(endpoint(rig, 0)).startswith("<Endpoint http://web.test (127.0.0.1:")
                assert "web.test (127.0.0.1" in repr(rig.service.groups["default"])

    run(test())
