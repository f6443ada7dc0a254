"""Talking to an Engine: answers and events, however they were cut; and one that says nonsense."""

import asyncio
import contextlib
import json
import pathlib

import pytest

from rawproxy.config.model import Address
from rawproxy.discovery import docker_engine
from rawproxy.discovery.docker_engine import DockerEngine, EngineError, EngineTalk, EventLines
from tests.process import PATIENCE

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_answer_however_it_was_cut(size):
    talk = EngineTalk()
    assert talk.request("/containers/json").startswith(b"GET /containers/json HTTP/1.1\r\n")
    data = HEAD + chunk(b'[{"Id":') + chunk(b'"x"}]') + b"0\r\n\r\n"
    body = b""
    for at in range(0, len(data), size):
        assert not talk.over
        body += b"".join(talk.feed(data[at : at + size]))
    assert talk.over
    assert json.loads(body) == [{"Id": "x"}]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "it answers 403 Forbidden"),
        (b"SSH-2.0-x\r\n\r\n", "not an answer of HTTP"),
        (b"", "not an answer of HTTP"),
    ],
)
def test_what_is_no_answer(data, why):
    talk = EngineTalk()
    talk.request("/")
    with pytest.raises(EngineError, match=why):
        talk.feed(data)


def test_events_are_lines():
    lines = EventLines()
    assert lines.feed(b'{"a": 1}\n{"b"') == [{"a": 1}]
    assert lines.feed(b': 2}\n\n{"c": 3}\n') == [{"b": 2}, {"c": 3}]


@pytest.mark.parametrize(
    ("data", "why"), [(b"x\n", "no JSON"), (b"[]\n", "no object"), (b"x" * (2 << 20), "longer")]
)
def test_what_is_no_event(data, why):
    with pytest.raises(EngineError, match=why):
        EventLines().feed(data)


class FakeEngine:
    """Answers as told, over a socket file or a port."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "docker.sock")
        self.listed = b"[]"
        self.asked: list[bytes] = []
        self.streams: list[asyncio.StreamWriter] = []
        self.silent = False
        self.left = asyncio.Event()  # whoever heard of events hears no more

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ")[1]
            self.asked.append(target)
            if self.silent:
                self.streams.append(writer)
                return
            writer.write(HEAD)
            if target.startswith(b"/events"):
                self.streams.append(writer)
                await reader.read()
                self.left.set()
                return
            writer.write(chunk(self.listed) + b"0\r\n\r\n")
            await writer.drain()
            writer.close()

    async def __aenter__(self) -> "FakeEngine":
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        self.tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.tcp.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_) -> None:
        self.hang_up()
        self.server.close()
        self.tcp.close()

    def say(self, *events: dict) -> None:
        for writer in self.streams:
            writer.write(b"".join(chunk(json.dumps(one).encode() + b"\n") for one in events))

    def hang_up(self) -> None:
        for writer in self.streams:
            writer.close()
        self.streams.clear()


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


@pytest.mark.parametrize("tcp", [False, True])
def test_asking_both_ways(tmp_path, tcp):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            fake.listed = b'[{"Id": "x"}]'
            address = Address("127.0.0.1", fake.port) if tcp else Address(path=fake.path)
            engine = DockerEngine(address)
            assert await engine.ask() == [{"Id": "x"}]
            assert await asyncio.to_thread(engine.listed) == [{"Id": "x"}]
            assert fake.asked == [b"/containers/json"] * 2

    run(work())


def test_events_come_until_the_connection_ends(tmp_path):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            engine = DockerEngine(Address(path=fake.path))
            found = []

            async def hear() -> None:
                async for event in engine.events():
                    found.append(event)
                    if len(found) == 1:
                        fake.say({"Action": "start"}, {"Action": "die"})
                    if len(found) == 3:
                        fake.hang_up()

            with pytest.raises(EngineError):
                await hear()
            assert found == [{}, {"Action": "start"}, {"Action": "die"}]
            assert b"health_status" in fake.asked[0]

    run(work())


def test_an_engine_that_is_not_there_or_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_engine, "PATIENCE", 0.2)
    nobody = DockerEngine(Address(path=str(tmp_path / "none")))
    with pytest.raises(EngineError, match="No such file"):
        nobody.listed()

    async def work() -> None:
        with pytest.raises(EngineError, match="No such file"):
            await nobody.ask()
        async with FakeEngine(tmp_path) as fake:
            fake.silent = True
            engine = DockerEngine(Address(path=fake.path))
            with pytest.raises(EngineError, match="does not answer"):
                await engine.ask()
            with pytest.raises(EngineError, match="timed out"):
                await asyncio.to_thread(engine.listed)

    run(work())


def test_an_answer_has_a_bound_and_is_json(tmp_path, monkeypatch):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            engine = DockerEngine(Address(path=fake.path))
            fake.listed = b"nonsense"
            with pytest.raises(EngineError, match="no JSON"):
                await engine.ask()
            monkeypatch.setattr(docker_engine, "ANSWER", 4)
            for ask in (engine.ask(), asyncio.to_thread(engine.listed)):
                with pytest.raises(EngineError, match="longer than 4 bytes"):
                    await ask

    run(work())
