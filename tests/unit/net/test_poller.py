"""The epoll inside the loop's: who is called, and who is not."""

import asyncio
import functools
import socket
import struct
import types

import pytest

from rawproxy.net.poller import TURN, poller


def pair() -> tuple[socket.socket, socket.socket]:
    one, two = socket.socketpair()
    one.setblocking(False)
    return one, two


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_for_each_loop(run):
    async def story():
        seen.append(poller())
        assert poller() is seen[-1]

    seen = []
    run(story)
    run(story)
    assert seen[0] is not seen[1]


def test_readers_and_writers(run):
    async def story():
        one, two = pair()
        number, watch, calls = one.fileno(), poller(), []

        def read():
            calls.append(one.recv(10))

        def wrote():
            calls.append("room")
            assert watch.remove_writer(number)

        watch.add_reader(number, calls.clear)
        watch.add_reader(number, read)  # in place of the other
        await turns()
        assert calls == []
        two.send(b"a")
        await turns()
        assert calls == [b"a"]
        watch.add_writer(number, pytest.fail)
        watch.add_writer(number, wrote)
        await turns()
        assert calls == [b"a", "room"]
        watch.add_writer(number, wrote)
        assert watch.remove_reader(number)
        two.send(b"b")
        await turns()
        assert calls == [b"a", "room", "room"]
        assert not watch.remove_reader(number) and not watch.remove_writer(number)
        watch.add_writer(number, wrote)
        watch.add_reader(number, read)
        await turns()
        assert sorted(calls[3:], key=str) == [b"b", "room"]
        watch.remove_reader(number)
        one.close()
        two.close()

    run(story)


def test_an_error_is_reported_until_somebody_has_read_it(run):
    """uvloop's own `add_reader` reports it once: what came before it would stay unread."""

    async def story():
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            two, _ = server.accept()
        one.setblocking(False)
        two.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        two.close()
        calls = []
        poller().add_reader(one.fileno(), lambda: calls.append(1))
        await turns(10)
        assert len(calls) > 2
        poller().remove_reader(one.fileno())
        poller().add_writer(one.fileno(), lambda: calls.append(2))
        await turns()
        assert calls[-1] == 2
        poller().remove_writer(one.fileno())
        one.close()

    run(story)


def test_who_was_removed_within_a_turn_is_not_called(run):
    async def story():
        pairs = [pair() for _ in range(2)]
        watch, calls = poller(), []

        def first_come():
            calls.append(1)
            for one, _ in pairs:
                watch.remove_reader(one.fileno())

        for one, two in pairs:
            two.send(b"x")
            watch.add_reader(one.fileno(), first_come)
        await turns()
        assert calls == [1]
        for one, two in pairs:
            one.close()
            two.close()

    run(story)


def test_a_turn_has_an_end_and_nobody_starves(run):
    async def story():
        pairs = [pair() for _ in range(TURN + 10)]
        seen = set()
        for one, two in pairs:
            two.send(b"x")  # and nobody reads it
            poller().add_reader(one.fileno(), lambda one=one: seen.add(one.fileno()))
        await turns()
        assert len(seen) == len(pairs)
        for one, two in pairs:
            poller().remove_reader(one.fileno())
            one.close()
            two.close()

    run(story)


def test_who_is_watched_is_told_of_the_end_and_of_errors_once(run):
    async def story():
        one, two = pair()
        calls = []
        poller().watch(one.fileno(), lambda: calls.append("one"))
        two.send(b"x")
        two.shutdown(socket.SHUT_WR)
        await turns()
        assert calls == []  # it may still want an answer
        two.close()
        while not calls:
            await asyncio.sleep(0)
        await turns()
        assert calls == ["one"]
        one.close()

    run(story)


def test_who_is_watched_may_be_waited_for_as_well(run):
    async def story():
        one, two = pair()
        number, watch, calls = one.fileno(), poller(), []
        for first in ("watch", "writer"):
            if first == "watch":
                watch.watch(number, lambda: calls.append("gone"))
            watch.add_writer(number, lambda: calls.append("room"))
            if first == "writer":
                watch.watch(number, lambda: calls.append("gone"))
            await turns()
            assert calls and set(calls) == {"room"}
            watch.remove_writer(number)
            calls.clear()
            await turns()
            assert calls == []  # the kernel still tells of its end
        watch.add_writer(number, lambda: calls.append("room"))
        two.close()
        await turns()
        assert calls.count("gone") == 1
        calls.clear()
        await turns()
        assert set(calls) == {"room"}  # whoever waits finds out by trying
        watch.remove_writer(number)
        calls.clear()
        await turns()
        assert calls == []
        one.close()

    run(story)


def test_who_is_watched_no_more_is_left_alone(run):
    async def story():
        one, two = pair()
        calls = []
        first, second = (lambda: calls.append(1)), (lambda: calls.append(2))
        poller().watch(one.fileno(), first)
        poller().unwatch(one.fileno(), second)  # the number is somebody else's by now
        poller().unwatch(one.fileno(), first)
        poller().unwatch(one.fileno(), first)
        two.close()
        await turns()
        assert calls == []
        one.close()

    run(story)


def test_one_timer_for_all_who_are_looked_at_later(run):
    async def story():
        loop = asyncio.get_running_loop()
        timers, calls = [], []

        def call_later(seconds, callback):
            timers.append(seconds)
            return loop.call_soon(callback)

        watch = poller()
        clock = types.SimpleNamespace(call_later=call_later)
        for name in ("a", "b"):
            watch.look_later(functools.partial(calls.append, name), 0.5, clock)
        assert (timers, calls) == ([0.5], [])
        await turns()
        assert calls == ["a", "b"]
        watch.look_later(calls.clear, 0.5, clock)
        await turns()
        assert (timers, calls) == ([0.5, 0.5], [])

    run(story)
