"""Names: every kind of answer, the system's own, and what is kept fresh of it."""

import asyncio
import contextlib
import logging

import pytest

from rawproxy.config.model import Address, Upstream
from rawproxy.errors import DialError
from rawproxy.upstream import resolver
from rawproxy.upstream.name_watch import NameWatch
from rawproxy.upstream.resolver import (
    SYSTEM_TTL,
    Resolver,
    Server,
    by_family,
    is_numeric,
    sockaddrs,
)
from tests.names import NameServer

from .rig import LOOPS, run


def web(host: str = "web.test", **facts) -> Upstream:
    return Upstream(f"http://{host}", False, host, 80, **facts)


def test_addresses_of_a_family_are_servers_and_the_other_family_a_way_there():
    v4, v6 = ["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["fd00::1", "fd00::2"]
    assert by_family(v6, v4, 80) == (
        Server(("10.0.0.1", "fd00::1", "fd00::2"), 80),
        Server(("10.0.0.2", "fd00::2", "fd00::1"), 80),
        Server(("10.0.0.3", "fd00::1", "fd00::2"), 80),
    )
    assert by_family(["::1"], ["127.0.0.1"], 80) == (Server(("::1", "127.0.0.1"), 80),)
    assert by_family(["::1"], [], 80)[0].name == "[::1]:80"
    assert len(by_family([], [f"10.0.{n}.1" for n in range(100)], 80)) == 64


def test_what_an_address_is():
    assert is_numeric("10.0.0.1") and is_numeric("::1")
    assert not is_numeric("web") and not is_numeric("fe80::1%eth0")
    assert [entry[4][:2] for entry in sockaddrs(Server(("10.0.0.1", "::1"), 8))] == [
        ("10.0.0.1", 8), ("::1", 8),
    ]  # fmt: skip


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_addresses_and_their_ttl(loop_factory):
    async def test():
        async with NameServer() as names:
            names.say("web.test", "10.0.0.2", "10.0.0.1", ttl=7)
            answer = await Resolver(names.address).servers(web(weight=3, backup=True))
            assert answer.ttl == 7
            assert [one.name for one in answer.servers] == ["10.0.0.1:80", "10.0.0.2:80"]
            assert all(one.weight == 3 and one.backup for one in answer.servers)
            names.say("web.test", "fd00::1", "10.0.0.1", ttl=5)
            (server,) = (await Resolver(names.address).servers(web())).servers
            assert server.addresses == ("fd00::1", "10.0.0.1")

    run(test(), loop_factory)


def test_services_have_hosts_ports_weights_and_backups():
    async def test():
        async with NameServer() as names:
            names.say_services(
                "_http._tcp.web.test", "10 5 81 a.test.", "10 0 82 b.test.", "20 1 83 a.test.",
                "10 1 84 gone.test.", ttl=9,
            )  # fmt: skip
            names.say("a.test", "10.0.0.1", ttl=4)
            names.say("b.test", "10.0.0.2", "10.0.0.3", ttl=8)
            answer = await Resolver(names.address).servers(web("_http._tcp.web.test", srv=True))
            assert answer.ttl == 4
            assert [(s.name, s.weight, s.backup) for s in answer.servers] == [
                ("10.0.0.1:81", 5, False),
                ("10.0.0.1:83", 1, True),
                ("10.0.0.2:82", 1, False),
                ("10.0.0.3:82", 1, False),
            ]

    run(test())


def test_every_way_of_not_being_there():
    async def test():
        async with NameServer() as names:
            ask = Resolver(names.address).servers
            with pytest.raises(DialError, match=r"cannot be resolved: .*does not exist"):
                await ask(web())
            service = web("_http._tcp.web.test", srv=True)
            with pytest.raises(DialError, match="SRV records cannot be found"):
                await ask(service)
            names.say_services("_http._tcp.web.test", "0 0 0 .")
            with pytest.raises(DialError, match="there is no service called _http"):
                await ask(service)
            names.say_services("_http._tcp.web.test", "0 0 80 gone.test.")
            with pytest.raises(DialError, match="none of the 1 hosts"):
                await ask(service)
            names.broken = True
            with pytest.raises(DialError, match="SERVFAIL"):
                await ask(web())
            with pytest.raises(DialError, match="cannot be resolved"):
                await ask(web("a..b"))

    run(test())


def test_what_is_the_systems_business():
    async def test():
        nobody = Resolver(Address("127.0.0.1", 9))
        answer = await nobody.servers(web("localhost"))
        assert answer.ttl == SYSTEM_TTL
        assert {a for s in answer.servers for a in s.addresses} <= {"::1", "127.0.0.1"}
        assert (await Resolver().servers(web("localhost"))).servers == answer.servers

    run(test())


def test_the_hosts_file_comes_before_the_dns(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost web.test # other.test\n\n::1 ip6\n")

    def known(name: str, path: str = str(hosts)) -> bool:
        return resolver._is_known(name, path)

    assert known("Web.Test.") and known("printer.local") and known("fe80::1%lo")
    assert not known("other.test") and not known("web.test", str(tmp_path / "none"))


@contextlib.asynccontextmanager
async def watching(names: NameServer, upstream: Upstream):
    """A watch at work, the answers that it told, and its warnings."""
    told: asyncio.Queue = asyncio.Queue()
    said: list[str] = []
    watch = NameWatch(upstream, Resolver(names.address), told.put_nowait, said.append)
    task = asyncio.create_task(watch.run())
    yield watch, told, said
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("turns", range(8))
def test_a_question_cancelled_as_it_begins_lets_the_loop_close(turns):
    async def test():
        async with NameServer() as names, watching(names, web()):
            for _ in range(turns):  # of the loop, so that its sockets are being made somewhere
                await asyncio.sleep(0)

    run(test())


def test_a_change_is_told_within_the_ttl_and_nothing_else_is():
    async def test():
        async with NameServer() as names:
            names.say("web.test", "10.0.0.1")
            async with watching(names, web()) as (watch, told, said):
                assert [s.name for s in await told.get()] == ["10.0.0.1:80"]
                names.say("web.test", "10.0.0.2")
                assert [s.name for s in await told.get()] == ["10.0.0.2:80"]
                asked = watch.questions
                while watch.questions < asked + 1:  # the same answer once more
                    await asyncio.sleep(0.05)
                assert told.empty() and not said
                assert repr(watch) == "<NameWatch http://web.test servers=1 failures=0>"

    run(test())


def test_without_an_answer_the_last_good_one_stays_and_the_log_says_so_once():
    async def test():
        async with NameServer() as names:
            names.say("web.test", "10.0.0.1")
            async with watching(names, web()) as (watch, told, said):
                await told.get()
                names.broken = True
                while watch.failures < 2:
                    await asyncio.sleep(0.05)
                assert [s.name for s in await watch.known()] == ["10.0.0.1:80"]
                assert len(said) == 1 and said[0].endswith("; going on with 10.0.0.1:80")
                names.broken = False
                names.say("web.test", "10.0.0.1")
                watch.ask_again()
                while watch.failures:
                    await asyncio.sleep(0.05)
                assert said[1].endswith("is resolved again") and told.empty()

    run(test())


def test_a_name_that_is_not_there_yet_is_asked_for_by_whom_it_concerns():
    async def test():
        async with NameServer() as names, watching(names, web()) as (watch, told, said):
            with pytest.raises(DialError, match="does not exist"):
                await watch.known()
            names.say("web.test", "10.0.0.1")
            with contextlib.suppress(DialError):  # at most one question a second
                await watch.known()
            assert [s.name for s in await told.get()] == ["10.0.0.1:80"]
            assert len(said) == 1

    run(test())


def test_who_misses_an_address_waits_for_a_newer_answer():
    async def test():
        async with NameServer() as names:
            names.say("web.test", "10.0.0.1", ttl=600)
            async with watching(names, web()) as (watch, told, _):
                await told.get()
                names.say("web.test", "10.0.0.2", ttl=600)
                began = asyncio.get_running_loop().time()
                await asyncio.gather(*(watch.newer(began) for _ in range(20)))
                assert [s.name for s in told.get_nowait()] == ["10.0.0.2:80"]
                await watch.newer(began)  # that one will do
                assert watch.questions == 2
                assert watch._asked >= began  # and a second after the first

    run(test())


def test_a_name_server_that_does_not_answer_is_waited_for_only_so_long():
    async def test():
        silent = Resolver(Address("127.0.0.1", 9))
        watch = NameWatch(web(), silent, lambda servers: None, logging.getLogger("x").warning)
        with pytest.raises(DialError, match="not resolved yet"):
            await watch.known()  # nobody runs it

    run(test())
