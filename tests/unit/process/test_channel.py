"""Between the master and its workers: lines, sums, both ends of a socketpair."""

import asyncio
import contextlib
import socket

import pytest

from rawproxy.process import channel as module
from rawproxy.process.channel import ChildChannel, LineReader, MasterChannel, encode, first_message
from tests.process import PATIENCE


def test_lines_come_whole_however_they_are_cut():
    data = encode({"is": "ready"}) + encode({"a": "ü\n"})
    for cut in range(len(data)):
        lines = LineReader()
        assert lines.feed(data[:cut]) + lines.feed(data[cut:]) == [{"is": "ready"}, {"a": "ü\n"}]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n"])
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError):
        LineReader().feed(line)


def test_a_line_without_end_is_refused():
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        LineReader(10).feed(b"x" * 11)


def test_a_channel_never_blocks_and_forgets_who_has_gone():
    ours, theirs = socket.socketpair()
    channel = ChildChannel(ours)
    assert channel.receive() == []
    big = {"x": "y" * 1_000_000}
    channel.send(big)
    assert channel.unsent
    theirs.setblocking(False)
    lines, got = LineReader(), []
    while not got:
        channel.flush()
        got = lines.feed(theirs.recv(1 << 20))
    assert got == [big]
    assert not channel.unsent
    theirs.sendall(encode({"a": 1}))
    assert channel.receive() == [{"a": 1}]
    theirs.sendall(b"nonsense\n")
    assert channel.receive() is None
    theirs.close()
    assert channel.receive() is None
    channel.send(big)
    assert not channel.unsent
    ours.close()


def test_a_worker_that_does_not_read_is_not_written_to_for_ever():
    ours, theirs = socket.socketpair()
    channel = ChildChannel(ours, 1000)
    for _ in range(2000):
        channel.send({"x": "y" * 1000})
    assert len(channel.unsent) < 3000
    ours.close()
    theirs.close()


def test_first_waits_for_a_whole_message():
    ours, theirs = socket.socketpair()
    line = encode({"do": "load", "x": "y" * 1000})
    ours.sendall(line[:10])
    ours.sendall(line[10:])
    assert first_message(theirs)["do"] == "load"
    ours.close()
    with pytest.raises(EOFError):
        first_message(theirs)
    theirs.close()


def test_both_ends():
    async def test():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        channel, worker = ChildChannel(ours), MasterChannel()
        gone = asyncio.Event()
        drained = asyncio.Event()
        worker.gone = gone.set
        worker.orders["drain"] = drained.set
        worker.say({"said": "to nobody yet"})
        worker.snapshot = lambda: {"counters": {"requests": 3}}
        await loop.create_unix_connection(lambda: worker, sock=theirs)

        async def hear():
            while not (messages := channel.receive()):
                await asyncio.sleep(0.001)
            return messages

        channel.send({"do": "stats"})
        assert await hear() == [{"stats": {"counters": {"requests": 3}}, "pins": {}}]
        channel.send({"do": "something of a later version"})
        learnt = []
        worker.learn = learnt.append
        channel.send({"pins": {"a": "00"}})
        channel.send({"do": "drain"})
        await drained.wait()
        assert learnt == [{"a": "00"}]

        sums = asyncio.ensure_future(worker.sums())
        cancelled = asyncio.ensure_future(worker.sums())
        asked = []
        while len(asked) < 4:
            asked += await hear()
        assert asked[1] == asked[3] == {"ask": "sums"}
        cancelled.cancel()
        await asyncio.sleep(0)
        channel.send({"sums": {"workers": [1]}})
        channel.send({"sums": {"workers": [2]}})
        assert await sums == {"workers": [1]}

        last = asyncio.ensure_future(worker.sums())
        late = asyncio.ensure_future(worker.sums())
        await hear()
        late.cancel()
        ours.close()
        await gone.wait()
        with pytest.raises(ConnectionError):
            await last
        with pytest.raises(ConnectionError):
            await worker.sums()
        await worker.close()

    asyncio.run(test())


def test_close_sends_what_was_said():
    async def test():
        ours, theirs = socket.socketpair()
        worker = MasterChannel()
        await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=theirs)
        worker.report()
        await worker.close()
        ours.settimeout(PATIENCE)
        assert first_message(ours) == {"stats": {}, "pins": {}}
        ours.close()

    asyncio.run(test())


def test_a_master_that_does_not_read_is_asked_for_nothing(monkeypatch):
    monkeypatch.setattr(module, "UNREAD", 1 << 16)

    async def main():
        ours, theirs = socket.socketpair()
        control = MasterChannel()
        control.snapshot = lambda: {"x": "y" * 100_000}
        await asyncio.get_running_loop().create_unix_connection(lambda: control, sock=ours)
        asked = 0
        while not control.behind():
            asked += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(control.sums(), 0.001)
        with pytest.raises(ConnectionResetError, match="does not read"):
            await control.sums()
        assert asked < 100
        await control.close()
        theirs.close()

    asyncio.run(main())
