"""A body that the kernel moves: whole, in order, and whatever the two ends do meanwhile."""

import asyncio
import errno
import os
import socket
import struct

import pytest

from rawproxy.net import kernel_relay
from rawproxy.net.backpressure import RELAYED, Valve
from rawproxy.net.kernel_relay import PIPES, PIPES_OF_ALL, ROOM, SPARE, Pipes, relay

BODY = bytes(range(251)) * 20_000  # five megabytes: more than two sockets and a pipe hold
RESET = struct.pack("ii", 1, 0)


class Side(asyncio.Protocol):
    """What a transport tells its protocol."""

    def __init__(self):
        self.got = bytearray()
        self.told = []

    def data_received(self, data):
        self.got += data

    def eof_received(self):
        self.told.append("end")

    def connection_lost(self, error):
        self.told.append("lost")

    def pause_writing(self):
        self.told.append("full")

    def resume_writing(self):
        self.told.append("room")


class Line:
    """A transport for each end, and the peer of each as a socket."""

    async def __aenter__(self):
        self.source, self.sender = await self._end()
        self.sink, self.receiver = await self._end()
        self.valve = Valve(self.source)
        self.relayed, self.over = 0, []
        self.used = PIPES_OF_ALL.used
        return self

    async def _end(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        ours.setblocking(False)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(Side, ours)
        return transport, peer

    async def __aexit__(self, *_):
        assert PIPES_OF_ALL.used == self.used
        for transport in (self.source, self.sink):
            transport.abort()
        await asyncio.sleep(0.01)
        self.sender.close()
        self.receiver.close()

    def relay(self, most):
        return relay(self.source, self.sink, self.valve, most, self._on_relayed, self.over.append)

    def _on_relayed(self, size):
        self.relayed += size

    async def have(self, data):
        """It is here before anything reads."""
        self.source.pause_reading()
        await self.send(data)
        await asyncio.sleep(0.01)
        self.source.resume_reading()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.sender, data)

    async def receive(self, size):
        got = bytearray()
        while len(got) < size:
            piece = await asyncio.get_running_loop().sock_recv(self.receiver, 65536)
            if not piece:
                break
            got += piece
        return bytes(got)

    @property
    def heard(self):
        return self.source.get_protocol(), self.sink.get_protocol()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_what_is_relayed_is_whole_and_the_transport_reads_what_follows(run):
    async def story():
        async with Line() as line:
            one = line.relay(len(BODY) - 1000)
            one.begin()
            assert line.valve.reasons == RELAYED
            _, got = await asyncio.gather(line.send(BODY), line.receive(len(BODY) - 1000))
            assert got == BODY[:-1000]
            source, _ = line.heard
            await until(lambda: len(source.got) == 1000)
            assert bytes(source.got) == BODY[-1000:]
            assert line.over == [len(BODY) - 1000] and line.relayed == len(BODY) - 1000
            assert not line.valve.reasons
            one.stop()
            assert len(line.over) == 1

    run(story)


def test_what_is_here_already_needs_nobody_who_waits(run):
    async def story():
        async with Line() as line:
            await line.have(BODY[:50_000])
            line.relay(50_000).begin()
            assert line.over == [50_000]  # within the call
            assert await line.receive(50_000) == BODY[:50_000]

    run(story)


def test_a_sink_that_takes_no_more_is_waited_for_and_its_protocol_knows(run):
    async def story():
        async with Line() as line:
            line.relay(len(BODY)).begin()
            sending = asyncio.ensure_future(line.send(BODY))
            _, sink = line.heard
            await until(lambda: sink.told)
            await asyncio.sleep(0.05)
            assert sink.told == ["full"] and line.relayed < len(BODY)
            assert await line.receive(len(BODY)) == BODY
            await sending
            await until(lambda: line.over)
            assert line.over == [len(BODY)] and line.relayed == len(BODY)
            assert sink.told[-1] == "room" and sink.told[::2] == ["full"] * (len(sink.told) // 2)

    run(story)


def test_what_was_queued_for_the_sink_goes_first(run):
    async def story():
        async with Line() as line:
            line.sink.write(b"head")
            line.relay(1000).begin()
            await line.send(BODY[:1000])
            assert await line.receive(1004) == b"head" + BODY[:1000]
            assert line.over == [1000]

    run(story)


def test_a_sink_that_is_full_at_the_beginning_gets_its_bytes_from_the_transport(run):
    async def story():
        async with Line() as line:
            line.sink.write(BODY)
            assert line.sink.get_write_buffer_size()
            line.relay(1000).begin()
            await until(lambda: line.over)
            assert line.over == [0]
            await line.send(b"x" * 1000)
            source, _ = line.heard
            await until(lambda: len(source.got) == 1000)

    run(story)


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_source_that_ends_too_early_is_the_transports_business(run, reset):
    async def story():
        async with Line() as line:
            line.relay(len(BODY)).begin()
            await line.send(b"x" * 1000)
            assert await line.receive(1000) == b"x" * 1000
            if reset:
                line.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            line.sender.close()
            source, _ = line.heard
            await until(lambda: source.told)
            assert line.over == [1000] and line.relayed == 1000
            assert source.told[0] in (("end", "lost") if reset else ("end",))

    run(story)


def test_nothing_follows_what_a_sink_did_not_take(run):
    async def story():
        async with Line() as line:
            line.relay(len(BODY)).begin()
            sending = asyncio.ensure_future(line.send(BODY))
            _, sink = line.heard
            await until(lambda: sink.told)
            line.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            line.receiver.close()
            await until(lambda: line.over and "lost" in sink.told)
            assert line.sink.is_closing()
            assert not line.valve.reasons
            await sending  # the source's transport reads again

    run(story)


def test_a_stop_leaves_the_rest_to_the_transport_and_no_bytes_in_a_pipe(run):
    async def story():
        async with Line() as line:
            one = line.relay(len(BODY))
            one.begin()
            sending = asyncio.ensure_future(line.send(BODY))
            _, sink = line.heard
            await until(lambda: sink.told)
            spare = len(PIPES_OF_ALL.spare)
            one.stop()
            (taken,) = line.over
            assert line.relayed < taken <= line.relayed + ROOM
            assert len(PIPES_OF_ALL.spare) <= spare  # what has bytes in it is not used again
            await sending
            source, _ = line.heard
            await until(lambda: len(source.got) == len(BODY) - taken)
            assert bytes(source.got) == BODY[taken:]
            await asyncio.sleep(0.01)
            assert sink.told == ["full"]

    run(story)


@pytest.mark.parametrize("call", [0, 1, 2, 3])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_cannot_it_is_read_and_written(run, monkeypatch, number, call):
    """A sandbox may say so of the source (an even call) or of the sink (an odd one)."""
    calls = []
    splice = os.splice

    def fails(*arguments, **more):
        calls.append(arguments)
        if len(calls) > call:
            raise OSError(number, "not here")
        return splice(*arguments, **more)

    async def story():
        async with Line() as line:
            calls.clear()
            monkeypatch.setattr(PIPES_OF_ALL, "able", True)
            monkeypatch.setattr(os, "splice", fails)
            await line.have(BODY[:ROOM])
            line.relay(2 * ROOM).begin()
            (taken,) = line.over
            source, _ = line.heard
            await until(lambda: len(source.got) == ROOM - taken)
            line.sink.write(bytes(source.got))
            assert await line.receive(ROOM) == BODY[:ROOM]
            assert line.relayed == taken
            assert line.relay(1000) is None  # nobody tries again
            monkeypatch.setattr(PIPES_OF_ALL, "able", True)
            monkeypatch.setattr(os, "splice", splice)

    run(story)


def test_a_system_that_cannot_any_more_leaves_nobody_waiting(run, monkeypatch):
    splice = os.splice

    def fails(*_, **__):
        raise OSError(errno.EINVAL, "not here")

    async def story():
        async with Line() as line:
            monkeypatch.setattr(PIPES_OF_ALL, "able", True)
            line.relay(len(BODY)).begin()
            sending = asyncio.ensure_future(line.send(BODY))
            source, sink = line.heard
            await until(lambda: sink.told)
            monkeypatch.setattr(os, "splice", fails)
            got = bytearray()
            while not line.over:  # it is called again when the sink has room
                got += await line.receive(65536)
            assert sink.told[:2] == ["full", "room"]
            (taken,) = line.over
            assert taken == line.relayed
            got += await line.receive(taken - len(got))
            await sending
            await until(lambda: len(source.got) == len(BODY) - taken)
            assert bytes(got + source.got) == BODY
            monkeypatch.setattr(PIPES_OF_ALL, "able", True)
            monkeypatch.setattr(os, "splice", splice)

    run(story)


def test_who_gets_no_pipe_is_read_and_written(run, monkeypatch):
    async def story():
        async with Line() as line:
            monkeypatch.setattr(PIPES_OF_ALL, "used", PIPES)
            assert line.relay(1000) is None
            monkeypatch.setattr(PIPES_OF_ALL, "used", PIPES - 1)
            last = line.relay(1000)
            assert last is not None and line.relay(1000) is None
            last.stop()
            monkeypatch.setattr(PIPES_OF_ALL, "used", line.used)
            line.sink.abort()
            assert line.relay(1000) is None

    run(story)


def test_pipes_are_few_empty_and_large(monkeypatch):
    pipes = Pipes()
    taken = [pipes.take() for _ in range(SPARE + 2)]
    assert pipes.used == len(taken)
    assert os.write(taken[0][1], b"x" * ROOM) == ROOM  # at once
    pipes.give_back(taken[0], False)
    for one in taken[1:]:
        pipes.give_back(one, True)
    assert len(pipes.spare) == SPARE and not pipes.used
    for number in taken[0]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)  # what has bytes in it is closed
    again = pipes.take()
    assert again in taken[1:]
    for pipe in (again, *pipes.spare):
        os.close(pipe[0])
        os.close(pipe[1])

    def none(flags):
        raise OSError(errno.EMFILE, "no descriptor is left")

    pipes.spare.clear()
    monkeypatch.setattr(os, "pipe2", none)
    assert pipes.take() is None


def test_where_descriptors_are_few_there_are_fewer_pipes():
    pipes = Pipes()
    pipes.most = 1
    pipe = pipes.take()
    assert pipe is not None and pipes.take() is None
    pipes.give_back(pipe, True)
    assert pipes.take() == pipe
    pipes.give_back(pipe, False)


def test_a_pipe_that_cannot_be_large_is_one_all_the_same(monkeypatch):
    def refuses(*_):
        raise PermissionError(errno.EPERM, "this user has too many")

    monkeypatch.setattr(kernel_relay.fcntl, "fcntl", refuses)
    pipes = Pipes()
    pipe = pipes.take()
    assert pipe is not None
    pipes.give_back(pipe, False)
