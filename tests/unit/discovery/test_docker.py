"""The containers as a source: what is reported, and when."""

import asyncio
import json

import pytest

from rawproxy.config.model import Address
from rawproxy.config.toml_file import Document
from rawproxy.discovery import docker
from rawproxy.discovery.docker import DockerSource
from rawproxy.discovery.source import SourceError
from rawproxy.discovery.sources import docker_address, sources_of
from rawproxy.errors import ConfigError
from tests.process import PATIENCE
from tests.unit.discovery.test_docker_engine import FakeEngine, run
from tests.unit.discovery.test_docker_labels import listed

WEB = listed("web", {"host": "a.test", "group": "g"})
NEW = listed("new", {"host": "a.test", "group": "g"}, ip="172.20.0.7", created=5)


def event(action: str, name: str, **attributes: str) -> dict:
    actor = {"ID": f"{name:0<64}", "Attributes": attributes}
    return {"Type": "container", "Action": action, "Actor": actor}


class Heard:
    """What a source has reported."""

    def __init__(self, source: DockerSource) -> None:
        self.reports: list = []
        self._news = asyncio.Event()
        self.task = asyncio.ensure_future(source.run(self._report))

    def _report(self, fragments) -> None:
        self.reports.append(fragments)
        self._news.set()

    async def until(self, text: str, *, absent: bool = False) -> None:
        """Until the newest report has it, or has it no more."""
        while not self.reports or (text in str(self.reports[-1])) == absent:
            self._news.clear()
            await self._news.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def source(tmp_path):
    address = Address(path=str(tmp_path / "docker.sock"))
    return DockerSource(f"unix:{address.path}", address)


def test_now(tmp_path, source):
    with pytest.raises(SourceError, match=r"\[discovery\] docker unix:.*is Docker running"):
        source.now()

    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            fake.listed = json.dumps([WEB]).encode()
            assert "group g" in await asyncio.to_thread(source.now)
            fake.listed = b'{"message": "no"}'
            with pytest.raises(SourceError, match="not a list of containers"):
                await asyncio.to_thread(source.now)

    run(work())


def test_containers_come_and_go(tmp_path, source):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            heard = Heard(source)
            await heard.until("{}")
            fake.listed = json.dumps([WEB]).encode()
            fake.say(event("start", "web"))
            await heard.until("172.20.0.2")
            fake.listed = b"[]"
            fake.say(event("die", "web"))
            await heard.until("172.20.0.2", absent=True)
            await heard.stop()
            await asyncio.wait_for(fake.left.wait(), PATIENCE)  # the stream of events is closed

    run(work())


def test_a_burst_is_one_list(tmp_path, source):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            heard = Heard(source)
            await heard.until("{}")
            fake.listed = json.dumps([WEB]).encode()
            before = len(fake.asked)
            fake.say(*[event("start", "web")] * 50)
            await heard.until("172.20.0.2")
            await asyncio.sleep(4 * docker.MOMENT)
            assert len(fake.asked) - before <= 2
            await heard.stop()

    run(work())


def test_who_was_told_to_stop_takes_nothing_new_unless_it_is_the_last(tmp_path, source):
    async def work() -> None:
        async with FakeEngine(tmp_path) as fake:
            fake.listed = json.dumps([WEB, NEW]).encode()
            heard = Heard(source)
            await heard.until("172.20.0.2")
            fake.say(event("kill", "web", signal="15"))
            await heard.until("172.20.0.2", absent=True)
            assert "172.20.0.7" in str(heard.reports[-1])
            fake.say(event("kill", "new", signal="SIGTERM"))
            await heard.until("172.20.0.2")
            assert "172.20.0.7" in str(heard.reports[-1]), "somebody has to serve"
            fake.say(event("start", "web"), event("kill", "web", signal="1"))
            await heard.until("172.20.0.7", absent=True)
            assert "172.20.0.2" in str(heard.reports[-1]), "SIGHUP stops nobody"
            await heard.stop()

    run(work())


def test_docker_may_be_away_and_what_is_known_stays(tmp_path, source, caplog, monkeypatch):
    caplog.set_level("INFO", "rawproxy")
    monkeypatch.setattr(docker, "PAUSE", 0.02)
    monkeypatch.setattr(docker, "LONGEST_PAUSE", 0.05)

    async def work() -> None:
        heard = Heard(source)
        await asyncio.sleep(0.3)
        assert heard.reports == []
        async with FakeEngine(tmp_path) as fake:
            fake.listed = json.dumps([WEB]).encode()
            await heard.until("172.20.0.2")
        before = len(heard.reports)
        await asyncio.sleep(0.3)
        assert len(heard.reports) == before, "nothing is reported that nobody knows"
        (tmp_path / "docker.sock").unlink(missing_ok=True)
        async with FakeEngine(tmp_path) as fake:
            fake.listed = json.dumps([NEW]).encode()
            await heard.until("172.20.0.7")
        await heard.stop()

    run(work())
    assert [record.getMessage().split(": ")[0].split(" ", 2)[2] for record in caplog.records] == [
        "is away", "is back", "is away", "is back",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/var/run/docker.sock", Address(path="/var/run/docker.sock")),
        ("http://socket:2375", Address("socket", 2375)),
        ("http://[::1]:2375/", Address("::1", 2375)),
    ],
)
def test_where_an_engine_is(text, address):
    assert docker_address("o", text) == address


@pytest.mark.parametrize("text", ["", "/var/run/docker.sock", "tcp://h:1", "http://h", "unix:x"])
def test_where_none_can_be(text):
    with pytest.raises(
        ConfigError, match=r"^o: type unix:/var/run/docker\.sock, or http://HOST:2375"
    ):
        docker_address("o", text)


def test_the_file_names_it_and_the_network():
    document = Document(
        "f.toml", '[discovery]\ndocker = "unix:/run/d.sock"\ndocker-network = "front"\n'
    )
    (one,) = sources_of(document)
    assert isinstance(one, DockerSource)
    assert (one.name, one._network) == ("docker unix:/run/d.sock", "front")
